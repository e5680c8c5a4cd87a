//! Documents of the same content that are stored once: which document holds the points, which are linked to it, and who takes
//! the points over when it goes or changes.
//!
//! All of it is worked out before a write is logged, from the state that the write meets: the record says which document is
//! linked to which and holds the points that were taken over, so that replaying it needs nothing else. How content is
//! compared is not known here: equal hashes at the end of two versions say that it is the same.
//!
//! **Invariant:** points that a document is linked to are there as long as the document is, unless points were deleted by
//! themselves.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::filter_record_batch;

use crate::batch;
use crate::collection::Collection;
use crate::collection::read::points_of_document;
use crate::collection::snapshot::Snapshot;
use crate::document::{DocumentRecord, DocumentState};
use crate::error::{Error, Result};
use crate::ledger::{Ledger, note_key};
use crate::rows::Rows;
use crate::schema::{CollectionSchema, MAX_PAYLOAD_FIELDS};
use crate::validate::type_canonical;

/// Most documents that are linked to one: all of them are written again when another takes its points over.
pub const MAX_COPIES: usize = 10_000;

/// Most bytes of points that documents take over in one write, unless one document alone has more.
const MAX_TAKEN_OVER_BYTES: u64 = 128 << 20;

/// Documents that are linked to one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copies {
    /// The first of them, in id order.
    pub first: Vec<DocumentRecord>,
    /// How many there are.
    pub total: usize,
}

/// What a change does to documents.
#[derive(Debug, Clone, Copy)]
pub(super) enum Touch<'a> {
    /// Writes a record, with or without points.
    Put(&'a DocumentRecord),
    /// Deletes.
    Delete(&'a [String]),
}

/// What has to happen before the changes of a write.
#[derive(Debug, Default)]
pub(super) struct HandOver {
    /// Records to write: heirs with the points that they take over, the others without.
    pub(super) puts: Vec<(DocumentRecord, Option<RecordBatch>)>,
    /// Notes of documents, for their heirs.
    pub(super) notes: Vec<(String, Vec<u8>)>,
    /// Documents to forget: nothing is left of what they were linked to.
    pub(super) orphans: Vec<String>,
}

impl Collection {
    /// The documents that are linked to each of these, at most `limit` of each.
    pub fn copies<'a>(&self, ids: impl IntoIterator<Item = &'a str>, limit: usize) -> Vec<Copies> {
        let ledger = self.ledger.read();
        let copies = |id: &str| {
            let copies = ledger.copies_of(id);
            let total = copies.len();
            let first = copies.take(limit).filter_map(|id| ledger.document(id)).map(|copy| (**copy).clone());
            Copies { first: first.collect(), total }
        };
        ids.into_iter().map(copies).collect()
    }

    /// Whether another document than `id` holds this content.
    pub fn holds_content(&self, content: u128, id: &str) -> bool {
        self.ledger.read().holders_of(content).any(|holder| holder.id != id)
    }

    /// Number of linked documents that a source brought.
    pub fn linked_of_source(&self, source_id: &str) -> usize {
        self.ledger.read().linked_of_source(source_id)
    }
}

/// Whether what a write does depends on who is linked to whom: it has to see all writes before it, and all behind it have to
/// see it.
pub(super) fn depends_on_links<'a>(touches: impl IntoIterator<Item = Touch<'a>>, ledger: &Ledger) -> bool {
    let has_copies = |id: &str| ledger.copies_of(id).len() > 0;
    touches.into_iter().any(|touch| match touch {
        Touch::Put(document) => document.linked_to().is_some() || has_copies(&document.id),
        Touch::Delete(ids) => ids.iter().any(|id| has_copies(id)),
    })
}

/// Ids that a write touches: none of them takes points over in it, or is linked to by it.
pub(super) fn touched<'a>(touches: impl IntoIterator<Item = Touch<'a>>) -> HashSet<&'a str> {
    let mut ids = HashSet::new();
    for touch in touches {
        match touch {
            Touch::Put(document) => _ = ids.insert(document.id.as_str()),
            Touch::Delete(deleted) => ids.extend(deleted.iter().map(String::as_str)),
        }
    }
    ids
}

/// What follows for documents that are linked to those that a write deletes or replaces.
pub(super) fn hand_over<'a>(
    touches: impl IntoIterator<Item = Touch<'a>>,
    touched: &HashSet<&str>,
    snapshot: &Snapshot,
    ledger: &Ledger,
) -> Result<HandOver> {
    let mut leaving: Vec<&str> = Vec::new();
    for touch in touches {
        match touch {
            Touch::Put(document) if gives_up_points(document, ledger) => leaving.push(&document.id),
            Touch::Put(_) => {}
            Touch::Delete(ids) => leaving.extend(ids.iter().map(String::as_str)),
        }
    }
    let mut done = HashSet::new();
    let mut following = HandOver::default();
    for id in leaving {
        if done.insert(id) {
            leave(id, touched, snapshot, ledger, &mut following)?;
            check_size(&following)?;
        }
    }
    Ok(following)
}

/// Several documents whose points together are too much for one write have to go one by one.
fn check_size(following: &HandOver) -> Result<()> {
    let sizes = following.puts.iter().filter_map(|(_, points)| points.as_ref());
    let (count, bytes) = sizes
        .fold((0, 0), |(count, bytes), points| (count + 1, bytes + points.get_array_memory_size() as u64));
    if count > 1 && bytes > MAX_TAKEN_OVER_BYTES {
        return Err(Error::LimitExceeded {
            what: "bytes of points that linked documents take over in one write",
            value: bytes,
            limit: MAX_TAKEN_OVER_BYTES,
        });
    }
    Ok(())
}

/// Whether a record ends the points that are stored under its id now.
fn gives_up_points(document: &DocumentRecord, ledger: &Ledger) -> bool {
    match document.state {
        // Those of the older version stay.
        DocumentState::Failed { .. } | DocumentState::Skipped { .. } => false,
        DocumentState::Linked { .. } => true,
        DocumentState::Indexed => {
            let stored = ledger.document(&document.id).and_then(|stored| stored.content());
            stored.is_none() || stored != document.content()
        }
    }
}

fn leave(
    id: &str,
    touched: &HashSet<&str>,
    snapshot: &Snapshot,
    ledger: &Ledger,
    following: &mut HandOver,
) -> Result<()> {
    let copies = ledger.copies_of(id).filter(|copy| !touched.contains(copy));
    let mut copies = copies.filter_map(|copy| ledger.document(copy)).map(|copy| (**copy).clone());
    let Some(mut heir) = copies.next() else { return Ok(()) };
    let points = points_of_document(snapshot, id)?;
    let patch = match &heir.state {
        DocumentState::Linked { payload_patch, .. } => payload_patch.as_str(),
        _ => "",
    };
    let mut taken = taken_over(&points, id, &heir, patch)?;
    if taken.as_ref().is_some_and(|points| !fits(points, &snapshot.schema)) {
        // Nothing may keep a document from going: then the payload says where the points were before.
        taken = taken_over(&points, id, &heir, "")?;
    }
    let Some(points) = taken else {
        following.orphans.push(heir.id);
        following.orphans.extend(copies.map(|copy| copy.id));
        return Ok(());
    };
    heir.state = DocumentState::Indexed;
    let relinked = copies.map(|mut copy| {
        if let DocumentState::Linked { to, .. } = &mut copy.state {
            to.clone_from(&heir.id);
        }
        (copy, None)
    });
    let relinked: Vec<_> = relinked.collect();
    let note = ledger.entry(&note_key(id)).map(|note| (note_key(&heir.id), note.to_vec()));
    following.notes.extend(note);
    following.puts.push((heir, Some(points)));
    following.puts.extend(relinked);
    Ok(())
}

/// The points of a document as those of one that is linked to it. `None` when there are none.
fn taken_over(
    points: &RecordBatch,
    from: &str,
    heir: &DocumentRecord,
    patch: &str,
) -> Result<Option<RecordBatch>> {
    let rows = Rows::new(points)?;
    let count = points.num_rows();
    // A point that somebody else wrote beside the chunks has a name of its own, and goes with its document.
    let chunk = |row: usize| rows.id(row).strip_prefix(from).filter(|rest| rest.starts_with('#'));
    let is_chunk: Vec<bool> = (0..count).map(|row| chunk(row).is_some()).collect();
    let ids: StringArray =
        (0..count).map(|row| Some(format!("{}{}", heir.id, chunk(row).unwrap_or_default()))).collect();
    let same = |text: &str| -> ArrayRef {
        let value = Some(text).filter(|text| !text.is_empty());
        Arc::new((0..count).map(|_| value).collect::<StringArray>())
    };
    let payloads: StringArray =
        (0..count).map(|row| rows.payload(row).map(|payload| patched(payload, patch))).collect();
    let changed: [(&str, ArrayRef); 4] = [
        (batch::ID, Arc::new(ids)),
        (batch::DOCUMENT_ID, same(&heir.id)),
        (batch::URI, same(&heir.uri)),
        (batch::PAYLOAD, Arc::new(payloads)),
    ];
    let schema = points.schema();
    let columns = schema.fields().iter().zip(points.columns()).map(|(field, column)| {
        let new = changed.iter().find(|(name, _)| name == field.name());
        new.map_or_else(|| Arc::clone(column), |(_, column)| Arc::clone(column))
    });
    let arrow = |error: arrow::error::ArrowError| Error::Internal(format!("points taken over: {error}"));
    let columns: Vec<ArrayRef> = columns.collect();
    let all = RecordBatch::try_new(schema, columns).map_err(arrow)?;
    let all = filter_record_batch(&all, &BooleanArray::from(is_chunk)).map_err(arrow)?;
    Ok((all.num_rows() > 0).then_some(all))
}

/// Whether points are what a schema takes, with the fields that would join it.
fn fits(points: &RecordBatch, schema: &CollectionSchema) -> bool {
    let typed = type_canonical(points, schema);
    typed.is_ok_and(|(_, new_fields)| schema.payload.len() + new_fields.len() <= MAX_PAYLOAD_FIELDS)
}

/// A payload with a patch applied; as it was, where one of the two is no JSON object.
fn patched(payload: &str, patch: &str) -> String {
    type Object = serde_json::Map<String, serde_json::Value>;
    let (Ok(mut payload_fields), Ok(patch)) =
        (serde_json::from_str::<Object>(payload), serde_json::from_str::<Object>(patch))
    else {
        return payload.to_owned();
    };
    for (name, value) in patch {
        if value.is_null() {
            payload_fields.remove(&name);
        } else {
            payload_fields.insert(name, value);
        }
    }
    serde_json::Value::Object(payload_fields).to_string()
}

/// A linked record that names the document which holds its content.
pub(super) fn linked(
    mut document: DocumentRecord,
    touched: &HashSet<String>,
    ledger: &Ledger,
) -> Result<DocumentRecord> {
    let before = ledger.document(&document.id).and_then(|before| before.linked_to());
    let content = document.content();
    let holders = || content.into_iter().flat_map(|content| ledger.holders_of(content));
    let fits = |holder: &&Arc<DocumentRecord>| {
        let is_linked = before == Some(holder.id.as_str());
        !touched.contains(holder.id.as_str())
            && (is_linked || ledger.copies_of(&holder.id).len() < MAX_COPIES)
    };
    let holder = holders().find(|holder| before == Some(holder.id.as_str())).filter(fits);
    let Some(holder) = holder.or_else(|| holders().find(fits)) else {
        let id = &document.id;
        let message = format!("no document that \"{id}\" could be linked to holds its content");
        return Err(Error::FailedPrecondition(message));
    };
    document.chunks = holder.chunks;
    document.title.clone_from(&holder.title);
    document.media_type.clone_from(&holder.media_type);
    if let DocumentState::Linked { to, .. } = &mut document.state {
        to.clone_from(&holder.id);
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn a_patch_replaces_and_takes_away_and_never_fails() {
        let check = |payload: &str, patch: &str, expect: &str| assert_eq!(patched(payload, patch), expect);
        check(r#"{"a":1,"b":{"c":2}}"#, r#"{"a":null,"b":3,"d":[4]}"#, r#"{"b":3,"d":[4]}"#);
        check(r#"{"a":1}"#, r#"{"x":null}"#, r#"{"a":1}"#);
        check(r#"{"a":1}"#, "nonsense", r#"{"a":1}"#);
        check("[1]", r#"{"a":1}"#, "[1]");
    }
}
