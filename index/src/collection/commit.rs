//! The write path: check outside every lock, then log, flush, apply and publish in groups.
//!
//! **Invariant:** nothing is visible before it is on disk, and nothing is acknowledged before it is visible.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::batch;
use crate::collection::also_at::{self, Adoption};
use crate::collection::links::{self, HandOver, Touch};
use crate::collection::record::{Logged, encode, encode_batch};
use crate::collection::state::{Resolved, State};
use crate::collection::{Collection, SchemaUpdate};
use crate::document::{DocumentRecord, DocumentState};
use crate::error::{Error, ErrorKind, Result};
use crate::filter::Filter;
use crate::ledger::{Ledger, check_entry};
use crate::schema::{CollectionSchema, MAX_PAYLOAD_FIELDS};
use crate::validate::{Checks, ValidBatch, type_canonical, validate};
use crate::write::{Change, RowError, WriteReceipt, WriteRequest};

/// Most changes of one write.
pub const MAX_CHANGES: usize = 10_000;
/// Most ids of one delete.
pub const MAX_DELETE_IDS: usize = 1_000_000;

/// A checked write on its way to the log.
#[derive(Debug)]
pub(crate) struct Pending {
    changes: Vec<Checked>,
    /// Links that came with its rows.
    adoptions: Vec<Adoption>,
    rejected: Vec<RowError>,
    /// The schema that it was checked with.
    schema: Arc<CollectionSchema>,
}

/// A checked change; batches are encoded already, outside the lock.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a few of them live, for the time of one write")]
enum Checked {
    Upsert(ValidBatch, Vec<u8>),
    PutDocument(DocumentRecord, Option<(ValidBatch, Vec<u8>)>),
    DeletePoints(Vec<String>),
    DeleteDocuments(Vec<String>),
    DeleteByFilter(Filter),
    /// Documents that had no points any more.
    Purge(Vec<String>),
    PutLedger(String, Vec<u8>),
    DeleteLedger(String),
    Schema(SchemaUpdate),
}

impl Pending {
    /// Checks a request against a schema.
    pub(crate) fn check(request: WriteRequest, schema: Arc<CollectionSchema>) -> Result<Self> {
        limit("changes of a write", request.changes.len(), MAX_CHANGES)?;
        let mut pending = Self::of(Vec::with_capacity(request.changes.len()), schema);
        for (index, change) in request.changes.into_iter().enumerate() {
            let checked = pending.check_change(index, change, request.skip_bad_rows)?;
            pending.changes.extend(checked);
        }
        Ok(pending)
    }

    /// Rows that it adds.
    pub(crate) fn rows(&self) -> u64 {
        let rows = |change: &Checked| match change {
            Checked::Upsert(valid, _) | Checked::PutDocument(_, Some((valid, _))) => {
                valid.batch.num_rows() as u64
            }
            _ => 0,
        };
        self.changes.iter().map(rows).sum()
    }

    /// Bytes that it adds to the log, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let batch = |change: &Checked| match change {
            Checked::Upsert(_, bytes) | Checked::PutDocument(_, Some((_, bytes))) => bytes.len(),
            _ => 256,
        };
        self.changes.iter().map(batch).sum()
    }

    /// What it does to documents.
    fn touches(&self) -> impl Iterator<Item = Touch<'_>> {
        self.changes.iter().filter_map(|change| match change {
            Checked::PutDocument(document, _) => Some(Touch::Put(document)),
            Checked::DeleteDocuments(ids) => Some(Touch::Delete(ids)),
            _ => None,
        })
    }

    /// Makes durable that documents have no points any more; those that have some by then stay.
    pub(crate) fn purge(documents: Vec<String>, schema: Arc<CollectionSchema>) -> Self {
        Self::of(vec![Checked::Purge(documents)], schema)
    }

    /// A change of the schema alone.
    pub(crate) fn schema(change: SchemaUpdate, schema: Arc<CollectionSchema>) -> Self {
        Self::of(vec![Checked::Schema(change)], schema)
    }

    fn of(changes: Vec<Checked>, schema: Arc<CollectionSchema>) -> Self {
        Self { changes, adoptions: Vec::new(), rejected: Vec::new(), schema }
    }

    fn check_change(&mut self, index: usize, change: Change, skip_bad_rows: bool) -> Result<Option<Checked>> {
        Ok(match change {
            Change::UpsertPoints(rows) => {
                let (rows, adoptions, errors) = also_at::taken_out(rows, index)?;
                if let Some(first) = errors.first().filter(|_| !skip_bad_rows) {
                    let place = format!("points[{}].{}", first.row, first.column);
                    return Err(Error::invalid(place, first.message.clone()));
                }
                self.adoptions.extend(adoptions);
                self.rejected.extend(errors);
                let checks = Checks { schema: &self.schema, change: index, skip_bad_rows, document_id: None };
                let (valid, rejected) = validate(&rows, &checks)?;
                self.rejected.extend(rejected);
                (valid.batch.num_rows() > 0)
                    .then(|| with_encoding(valid))
                    .transpose()?
                    .map(|(a, b)| Checked::Upsert(a, b))
            }
            Change::PutDocument { document, points } => {
                Some(self.check_document(index, document, points, skip_bad_rows)?)
            }
            Change::DeletePoints(ids) => {
                limit("ids of a delete", ids.len(), MAX_DELETE_IDS)?;
                (!ids.is_empty()).then_some(Checked::DeletePoints(ids))
            }
            Change::DeleteDocuments(ids) => {
                limit("ids of a delete", ids.len(), MAX_DELETE_IDS)?;
                (!ids.is_empty()).then_some(Checked::DeleteDocuments(ids))
            }
            Change::DeleteByFilter(filter) => Some(Checked::DeleteByFilter(filter)),
            Change::PutLedger { key, value } => {
                check_entry(&key, &value)?;
                Some(Checked::PutLedger(key, value))
            }
            Change::DeleteLedger { key } => Some(Checked::DeleteLedger(key)),
        })
    }

    fn check_document(
        &mut self,
        index: usize,
        document: DocumentRecord,
        points: Option<RecordBatch>,
        skip_bad_rows: bool,
    ) -> Result<Checked> {
        if document.id.is_empty() || document.id.len() > batch::MAX_DOCUMENT_ID_BYTES {
            return Err(Error::invalid(
                "document.id",
                format!(
                    "an id of {} bytes, expected 1 to {}",
                    document.id.len(),
                    batch::MAX_DOCUMENT_ID_BYTES
                ),
            ));
        }
        if document.state != DocumentState::Indexed && points.is_some() {
            return Err(Error::invalid("document.state", "a document that is not indexed can't have points"));
        }
        let Some(points) = points.filter(|points| points.num_rows() > 0) else {
            return Ok(Checked::PutDocument(document, None));
        };
        let checks =
            Checks { schema: &self.schema, change: index, skip_bad_rows, document_id: Some(&document.id) };
        let (valid, rejected) = validate(&points, &checks)?;
        self.rejected.extend(rejected);
        Ok(Checked::PutDocument(document, Some(with_encoding(valid)?)))
    }
}

fn with_encoding(valid: ValidBatch) -> Result<(ValidBatch, Vec<u8>)> {
    let bytes = encode_batch(&valid.batch)?;
    Ok((valid, bytes))
}

fn limit(what: &'static str, value: usize, limit: usize) -> Result<()> {
    if value > limit {
        return Err(Error::LimitExceeded { what, value: value as u64, limit: limit as u64 });
    }
    Ok(())
}

/// A write that is in the log and waits for the flush of its group.
struct Appended {
    place: usize,
    changes: Vec<Resolved>,
    rejected: Vec<RowError>,
}

impl Collection {
    /// Commits a group of writes; the result of each is at its place.
    pub(crate) fn commit_group(&self, group: Vec<Pending>) -> Vec<Result<WriteReceipt>> {
        let mut results: Vec<Option<Result<WriteReceipt>>> = group.iter().map(|_| None).collect();
        let mut state = self.state.lock();
        self.expire_if_due(&mut state);
        let mut appended: Vec<Appended> = Vec::new();
        for (place, pending) in group.into_iter().enumerate() {
            // What a filter matches, and which schema holds, depends on the writes before it in this group.
            let depends_on_links = !pending.adoptions.is_empty()
                || links::depends_on_links(pending.touches(), &self.ledger.read());
            if depends_on_links || needs_earlier_writes(&pending, &state) {
                self.flush_group(&mut state, &mut appended, &mut results);
            }
            // What they are linked to is seen here as the flush above left it.
            let links = depends_on_links.then(|| self.ledger.read());
            let result = append(&mut state, links.as_deref(), pending, appended.len() as u64);
            drop(links);
            match result {
                Ok(Outcome::Appended(changes, rejected)) => {
                    appended.push(Appended { place, changes, rejected })
                }
                Ok(Outcome::Nothing(receipt)) => fill(&mut results, place, Ok(receipt)),
                Err(error) => fill(&mut results, place, Err(error)),
            }
            if depends_on_links {
                self.flush_group(&mut state, &mut appended, &mut results);
            }
        }
        self.flush_group(&mut state, &mut appended, &mut results);
        self.freeze_if_full(&mut state);
        drop(state);
        let missing = || Err(Error::Internal("a write of the group has no result".into()));
        results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }

    /// Flushes the log, applies what was appended, and publishes it in one step.
    fn flush_group(
        &self,
        state: &mut State,
        appended: &mut Vec<Appended>,
        results: &mut [Option<Result<WriteReceipt>>],
    ) {
        if appended.is_empty() {
            return;
        }
        if let Err(error) = state.log.sync() {
            state.failed = Some(error.to_string());
            for write in appended.drain(..) {
                fill(results, write.place, Err(Error::LogFailed(error.to_string())));
            }
            return;
        }
        let mut ledger = self.ledger.write();
        for write in appended.drain(..) {
            state.tables.seq_no += 1;
            let result = state.tables.apply(&mut ledger, write.changes).map(|receipt| WriteReceipt {
                seq_no: state.tables.seq_no,
                rejected: write.rejected,
                ..receipt
            });
            if let Err(error) = &result {
                // Durable, but memory is behind the log: only opening the collection again brings them together.
                state.failed = Some(error.to_string());
            }
            fill(results, write.place, result);
        }
        drop(ledger);
        self.publish(state);
    }
}

fn fill(results: &mut [Option<Result<WriteReceipt>>], place: usize, result: Result<WriteReceipt>) {
    if let Some(slot) = results.get_mut(place) {
        *slot = Some(result);
    }
}

fn needs_earlier_writes(pending: &Pending, state: &State) -> bool {
    let filters =
        pending.changes.iter().any(|change| matches!(change, Checked::DeleteByFilter(_) | Checked::Purge(_)));
    let new_fields = pending.changes.iter().any(|change| match change {
        Checked::Upsert(valid, _) | Checked::PutDocument(_, Some((valid, _))) => !valid.new_fields.is_empty(),
        Checked::Schema(_) => true,
        _ => false,
    });
    filters || new_fields || !Arc::ptr_eq(&pending.schema, &state.tables.schema)
}

enum Outcome {
    Appended(Vec<Resolved>, Vec<RowError>),
    Nothing(WriteReceipt),
}

/// Resolves a write against the state and appends it to the log, `waiting` writes behind the newest applied one. `links`: the
/// ledger, for a write that depends on what is linked to what.
fn append(state: &mut State, links: Option<&Ledger>, mut pending: Pending, waiting: u64) -> Result<Outcome> {
    if let Some(reason) = &state.failed {
        return Err(Error::LogFailed(reason.clone()));
    }
    let handed_over = match links {
        Some(ledger) => follow_links(state, ledger, &mut pending)?,
        None => HandOver::default(),
    };
    let Pending { changes, adoptions, rejected, schema } = pending;
    let mut resolver = Resolver { state, known: schema, schema: None };
    let mut resolved = Vec::with_capacity(changes.len() + 1);
    for (document, points) in handed_over.puts {
        resolved.push(resolver.taken_over(document, points)?);
    }
    let notes = handed_over.notes.into_iter().map(|(key, value)| (Resolved::PutLedger { key, value }, None));
    resolved.extend(notes);
    if !handed_over.orphans.is_empty() {
        resolved.push((Resolved::DeleteDocuments(handed_over.orphans), None));
    }
    for change in changes {
        resolved.extend(resolver.resolve(change)?);
    }
    let schema = resolver.schema.take();
    let records = links.map(|ledger| also_at::records(adoptions, &state.tables, ledger));
    if let Some(records) = records.filter(|records| !records.is_empty()) {
        resolved.push((Resolved::PutRecords(records), None));
    }
    if resolved.is_empty() && schema.is_none() {
        return Ok(Outcome::Nothing(WriteReceipt {
            seq_no: state.tables.seq_no,
            rejected,
            ..WriteReceipt::default()
        }));
    }
    let mut logged: Vec<Logged<&[u8]>> = Vec::with_capacity(resolved.len() + 1);
    logged.extend(schema.as_deref().map(|schema| Logged::Schema(schema.clone())));
    logged.extend(resolved.iter().map(|(change, bytes)| logged_of(change, bytes.as_deref())));
    let payload = encode(&logged)?;
    drop(logged);
    if let Err(error) = state.log.append(state.tables.seq_no + waiting + 1, &payload) {
        if error.kind() == ErrorKind::ResourceExhausted {
            return Err(error);
        }
        state.failed = Some(error.to_string());
        return Err(Error::LogFailed(error.to_string()));
    }
    state.log_bytes += payload.len() as u64;
    let changes =
        schema.map(Resolved::Schema).into_iter().chain(resolved.into_iter().map(|(change, _)| change));
    Ok(Outcome::Appended(changes.collect(), rejected))
}

/// Names what linked records of a write are linked to, and finds who takes over what it ends.
fn follow_links(state: &State, ledger: &Ledger, pending: &mut Pending) -> Result<HandOver> {
    let touched = links::touched(pending.touches());
    let handed_over = links::hand_over(pending.touches(), &touched, &state.tables.snapshot(), ledger)?;
    let touched: HashSet<String> = touched.into_iter().map(str::to_owned).collect();
    for change in &mut pending.changes {
        if let Checked::PutDocument(document, _) = change
            && document.linked_to().is_some()
        {
            *document = links::linked(document.clone(), &touched, ledger)?;
        }
    }
    Ok(handed_over)
}

fn logged_of<'a>(change: &Resolved, bytes: Option<&'a [u8]>) -> Logged<&'a [u8]> {
    match change {
        Resolved::Schema(schema) => Logged::Schema((**schema).clone()),
        Resolved::Upsert(_) => Logged::Upsert(bytes.unwrap_or_default()),
        Resolved::PutDocument { document, .. } => {
            Logged::PutDocument { document: document.clone(), points: bytes }
        }
        Resolved::DeletePoints(ids) => Logged::DeletePoints(ids.clone()),
        Resolved::DeleteDocuments(ids) => Logged::DeleteDocuments(ids.clone()),
        Resolved::PutLedger { key, value } => Logged::PutLedger { key: key.clone(), value: value.clone() },
        Resolved::DeleteLedger { key } => Logged::DeleteLedger { key: key.clone() },
        Resolved::PutRecords(records) => Logged::PutRecords(records.clone()),
    }
}

/// Turns checked changes into ones that replay without a look at anything else.
struct Resolver<'a> {
    state: &'a State,
    /// The schema that the changes were checked with.
    known: Arc<CollectionSchema>,
    /// The schema as this write changes it.
    schema: Option<Arc<CollectionSchema>>,
}

impl Resolver<'_> {
    fn resolve(&mut self, change: Checked) -> Result<Option<(Resolved, Option<Vec<u8>>)>> {
        Ok(Some(match change {
            Checked::Upsert(valid, bytes) => (Resolved::Upsert(self.retyped(valid)?), Some(bytes)),
            Checked::PutDocument(document, None) => (Resolved::PutDocument { document, points: None }, None),
            Checked::PutDocument(document, Some((valid, bytes))) => {
                (Resolved::PutDocument { document, points: Some(self.retyped(valid)?) }, Some(bytes))
            }
            Checked::DeletePoints(ids) => (Resolved::DeletePoints(ids), None),
            Checked::DeleteDocuments(ids) => (Resolved::DeleteDocuments(ids), None),
            Checked::Purge(mut ids) => {
                ids.retain(|id| self.state.tables.has_no_points(id));
                if ids.is_empty() {
                    return Ok(None);
                }
                (Resolved::DeleteDocuments(ids), None)
            }
            Checked::DeleteByFilter(filter) => {
                let ids = matching_ids(self.state, &filter)?;
                if ids.is_empty() {
                    return Ok(None);
                }
                (Resolved::DeletePoints(ids), None)
            }
            Checked::PutLedger(key, value) => (Resolved::PutLedger { key, value }, None),
            Checked::DeleteLedger(key) => (Resolved::DeleteLedger { key }, None),
            Checked::Schema(change) => {
                self.change_schema(change)?;
                return Ok(None);
            }
        }))
    }

    /// A document that takes points over, which are canonical, or is linked to one that does.
    fn taken_over(
        &mut self,
        document: DocumentRecord,
        points: Option<RecordBatch>,
    ) -> Result<(Resolved, Option<Vec<u8>>)> {
        let Some(batch) = points else { return Ok((Resolved::PutDocument { document, points: None }, None)) };
        let (typed, new_fields) = type_canonical(&batch, self.current())?;
        let (valid, bytes) = with_encoding(ValidBatch { batch, typed, new_fields })?;
        Ok((Resolved::PutDocument { document, points: Some(self.joined(valid)?) }, Some(bytes)))
    }

    fn current(&self) -> &Arc<CollectionSchema> {
        self.schema.as_ref().unwrap_or(&self.state.tables.schema)
    }

    /// Reads the payloads again if the schema changed since they were checked, and lets new fields join it.
    fn retyped(&mut self, mut valid: ValidBatch) -> Result<ValidBatch> {
        if !Arc::ptr_eq(&self.known, self.current()) {
            (valid.typed, valid.new_fields) = type_canonical(&valid.batch, self.current())?;
        }
        self.joined(valid)
    }

    /// Lets new fields join the schema.
    fn joined(&mut self, mut valid: ValidBatch) -> Result<ValidBatch> {
        if !valid.new_fields.is_empty() {
            let mut schema = (**self.current()).clone();
            schema.payload.append(&mut valid.new_fields);
            limit("payload fields of a collection", schema.payload.len(), MAX_PAYLOAD_FIELDS)?;
            self.schema = Some(Arc::new(schema));
        }
        Ok(valid)
    }

    fn change_schema(&mut self, change: SchemaUpdate) -> Result<()> {
        let mut schema = (**self.current()).clone();
        for field in change.add_payload {
            match schema.payload_field(&field.name) {
                None => schema.payload.push(field),
                Some(known) if *known == field => {}
                Some(known) => {
                    return Err(Error::invalid(
                        "add_payload",
                        format!(
                            "field \"{}\" is of type {:?} and can't become {:?}",
                            field.name, known.field_type, field.field_type
                        ),
                    ));
                }
            }
        }
        schema.description = change.description.unwrap_or(schema.description);
        schema.dynamic_payload = change.dynamic_payload.unwrap_or(schema.dynamic_payload);
        for (i, (name, change)) in change.index.iter().enumerate() {
            let at = format!("update_vectors[{i}]");
            let space = schema.vectors.iter_mut().find(|space| space.name == *name);
            let space = space
                .ok_or_else(|| Error::invalid(format!("{at}.name"), format!("no vector space \"{name}\"")))?;
            space.index = space.index.changed(change);
            space.index.validate(&at)?;
        }
        schema.validate()?;
        if schema != **self.current() {
            self.schema = Some(Arc::new(schema));
        }
        Ok(())
    }
}

fn matching_ids(state: &State, filter: &Filter) -> Result<Vec<String>> {
    let snapshot = state.tables.snapshot();
    let checked = snapshot.check(Some(filter))?;
    let mut ids = Vec::new();
    for view in &snapshot.parts {
        let rows = match view.allowed(checked.as_ref())? {
            Some(rows) => rows,
            None => view.live(),
        };
        for row in &rows {
            ids.push(view.row(row)?.id().to_owned());
        }
    }
    Ok(ids)
}
