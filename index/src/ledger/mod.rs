//! The ledger: what is known of every document, and the small entries that ingestion remembers (an import's checkpoint,
//! a watched folder). All of it is in memory; changes since the last checkpoint are in the log.
//!
//! A checkpoint has two steps, so that writes go on meanwhile: [`Ledger::take_dirty`] freezes the changes at the moment
//! the memtable is frozen, and [`checkpoint`] writes them to a file. The ledger must not know points or segments.

mod files;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

pub use files::{LEDGER_FOLDER, checkpoint};

use crate::directory::Directory;
use crate::document::{DocumentRecord, DocumentState};
use crate::error::{Error, Result};

/// An entry whose key is this and the id of a document goes with the document, and with its replacement.
pub const DOCUMENT_NOTE_PREFIX: &str = "document/";

/// The key of a document's note.
pub fn note_key(document_id: &str) -> String {
    format!("{DOCUMENT_NOTE_PREFIX}{document_id}")
}

/// An entry whose key is this and the id of a document goes when that document is written, in whatever state, or deleted.
pub const DOCUMENT_RETRY_PREFIX: &str = "retry/";

/// The key of what is known of a document's next try.
pub fn retry_key(document_id: &str) -> String {
    format!("{DOCUMENT_RETRY_PREFIX}{document_id}")
}

/// Longest key of an entry, in bytes.
pub const MAX_LEDGER_KEY_BYTES: usize = 1_024;
/// Longest value of an entry, in bytes.
pub const MAX_LEDGER_VALUE_BYTES: usize = 1 << 20;

/// Documents and entries of a collection.
#[derive(Debug, Default)]
pub struct Ledger {
    documents: BTreeMap<String, Arc<DocumentRecord>>,
    /// Document ids by the source that brought them; documents without a source are in none.
    by_source: BTreeMap<String, BTreeSet<String>>,
    /// Documents that are linked to another, by that other.
    copies: BTreeMap<String, BTreeSet<String>>,
    /// Documents that hold content that others may be linked to.
    contents: BTreeSet<(u128, String)>,
    /// Linked documents by the source that brought them.
    linked_of_source: BTreeMap<String, usize>,
    failed_documents: usize,
    entries: BTreeMap<String, Arc<[u8]>>,
    /// Kept ready, so that taking it is one step however large it is: writes wait meanwhile.
    dirty: Delta,
}

/// The changes between two checkpoints: the last state of each document and entry that changed, `None` for deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    documents: BTreeMap<String, Option<Arc<DocumentRecord>>>,
    entries: BTreeMap<String, Option<Arc<[u8]>>>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty() && self.entries.is_empty()
    }
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the files of a manifest, oldest first.
    pub fn load(directory: &dyn Directory, files: &[String]) -> Result<Self> {
        let mut ledger = Self::new();
        for file in files {
            files::read_into(&mut ledger, directory, file)?;
        }
        Ok(ledger)
    }

    /// Remembers a document; returns what was known of it.
    pub fn put_document(&mut self, document: DocumentRecord) -> Option<Arc<DocumentRecord>> {
        let document = Arc::new(document);
        self.dirty.documents.insert(document.id.clone(), Some(Arc::clone(&document)));
        self.insert_document(document)
    }

    fn insert_document(&mut self, document: Arc<DocumentRecord>) -> Option<Arc<DocumentRecord>> {
        let old = self.documents.insert(document.id.clone(), Arc::clone(&document));
        if let Some(old) = &old {
            self.forget_indexed(old);
        }
        if !document.source_id.is_empty() {
            self.by_source.entry(document.source_id.clone()).or_default().insert(document.id.clone());
        }
        self.failed_documents += usize::from(is_failed(&document));
        if let Some(content) = held_content(&document) {
            self.contents.insert((content, document.id.clone()));
        }
        if let Some(to) = document.linked_to() {
            self.copies.entry(to.to_owned()).or_default().insert(document.id.clone());
            *self.linked_of_source.entry(document.source_id.clone()).or_default() += 1;
        }
        old
    }

    /// Forgets a document; returns what was known of it.
    pub fn delete_document(&mut self, id: &str) -> Option<Arc<DocumentRecord>> {
        let old = self.remove_document(id)?;
        self.dirty.documents.insert(id.to_owned(), None);
        Some(old)
    }

    fn remove_document(&mut self, id: &str) -> Option<Arc<DocumentRecord>> {
        let old = self.documents.remove(id)?;
        self.forget_indexed(&old);
        Some(old)
    }

    /// Takes a record that is no more out of what is derived from records.
    fn forget_indexed(&mut self, old: &DocumentRecord) {
        self.failed_documents -= usize::from(is_failed(old));
        if let Some(content) = held_content(old) {
            self.contents.remove(&(content, old.id.clone()));
        }
        if let Some(to) = old.linked_to() {
            if let Some(copies) = self.copies.get_mut(to) {
                copies.remove(&old.id);
                if copies.is_empty() {
                    self.copies.remove(to);
                }
            }
            if let Some(linked) = self.linked_of_source.get_mut(&old.source_id) {
                *linked = linked.saturating_sub(1);
            }
        }
        if let Some(ids) = self.by_source.get_mut(&old.source_id) {
            ids.remove(&old.id);
            if ids.is_empty() {
                self.by_source.remove(&old.source_id);
            }
        }
    }

    /// What is known of a document.
    pub fn document(&self, id: &str) -> Option<&Arc<DocumentRecord>> {
        self.documents.get(id)
    }

    /// At most `limit` documents in id order whose id starts with `prefix`, behind the id `after`.
    pub fn documents(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<Arc<DocumentRecord>> {
        with_prefix(&self.documents, prefix, after)
            .take(limit)
            .map(|(_, document)| Arc::clone(document))
            .collect()
    }

    /// All documents that a source brought, in id order. None for the empty source.
    pub fn documents_of_source(&self, source_id: &str) -> Vec<Arc<DocumentRecord>> {
        let ids = self.by_source.get(source_id).into_iter().flatten();
        ids.filter_map(|id| self.documents.get(id)).map(Arc::clone).collect()
    }

    /// Documents that are linked to this one, in id order.
    pub fn copies_of(&self, id: &str) -> impl ExactSizeIterator<Item = &str> + '_ {
        static NONE: BTreeSet<String> = BTreeSet::new();
        self.copies.get(id).unwrap_or(&NONE).iter().map(String::as_str)
    }

    /// All documents that others are linked to, with those.
    pub fn all_copies(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &str>)> {
        self.copies.iter().map(|(id, copies)| (id.as_str(), copies.iter().map(String::as_str)))
    }

    /// Whether any document is linked to another.
    pub fn has_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// Documents that hold this content, in id order.
    pub fn holders_of(&self, content: u128) -> impl Iterator<Item = &Arc<DocumentRecord>> + '_ {
        let holders = self.contents.range((content, String::new())..);
        holders.take_while(move |(other, _)| *other == content).filter_map(|(_, id)| self.documents.get(id))
    }

    /// Number of linked documents that a source brought.
    pub fn linked_of_source(&self, source_id: &str) -> usize {
        self.linked_of_source.get(source_id).copied().unwrap_or_default()
    }

    /// Number of documents.
    pub fn document_count(&self) -> usize {
        self.documents.len()
    }

    /// Number of documents whose last ingestion failed.
    pub fn failed_document_count(&self) -> usize {
        self.failed_documents
    }

    /// Remembers an entry. [`Error::InvalidArgument`] or [`Error::LimitExceeded`] when [`check_entry`] refuses it.
    pub fn put_entry(&mut self, key: &str, value: &[u8]) -> Result<()> {
        check_entry(key, value)?;
        let value: Arc<[u8]> = value.into();
        self.dirty.entries.insert(key.to_owned(), Some(Arc::clone(&value)));
        self.entries.insert(key.to_owned(), value);
        Ok(())
    }

    /// Forgets an entry; says whether there was one.
    pub fn delete_entry(&mut self, key: &str) -> bool {
        let existed = self.entries.remove(key).is_some();
        if existed {
            self.dirty.entries.insert(key.to_owned(), None);
        }
        existed
    }

    /// The value of an entry.
    pub fn entry(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(AsRef::as_ref)
    }

    /// Entries whose key starts with `prefix`, in key order.
    pub fn entries<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        with_prefix(&self.entries, prefix, None).map(|(key, value)| (key.as_str(), value.as_ref()))
    }

    /// Number of entries.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// The changes since the last call, which are the next checkpoint's. When that fails, [`Ledger::restore_dirty`]
    /// must give them back.
    pub fn take_dirty(&mut self) -> Delta {
        std::mem::take(&mut self.dirty)
    }

    /// Takes back the changes of a checkpoint that failed. What changed again meanwhile stays as it is now.
    pub fn restore_dirty(&mut self, delta: Delta) {
        for (id, document) in delta.documents {
            self.dirty.documents.entry(id).or_insert(document);
        }
        for (key, value) in delta.entries {
            self.dirty.entries.entry(key).or_insert(value);
        }
    }
}

/// Checks the bounds of an entry.
pub fn check_entry(key: &str, value: &[u8]) -> Result<()> {
    if key.is_empty() || key.len() > MAX_LEDGER_KEY_BYTES {
        let message = format!("{} bytes are not 1 to {MAX_LEDGER_KEY_BYTES}", key.len());
        return Err(Error::invalid("key", message));
    }
    if value.len() > MAX_LEDGER_VALUE_BYTES {
        return Err(Error::LimitExceeded {
            what: "bytes of a ledger entry",
            value: value.len() as u64,
            limit: MAX_LEDGER_VALUE_BYTES as u64,
        });
    }
    Ok(())
}

/// The content that others may be linked to.
fn held_content(document: &DocumentRecord) -> Option<u128> {
    document.content().filter(|_| document.state == DocumentState::Indexed && document.chunks > 0)
}

fn is_failed(document: &DocumentRecord) -> bool {
    matches!(document.state, DocumentState::Failed { .. })
}

/// Items whose key starts with `prefix`, behind `after`, in order.
fn with_prefix<'a, V>(
    map: &'a BTreeMap<String, V>,
    prefix: &'a str,
    after: Option<&'a str>,
) -> impl Iterator<Item = (&'a String, &'a V)> {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    map.range::<str, _>((start, Bound::Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
}
