//! Objects of S3, Google Cloud Storage and Azure: which ones a URL means, and their bytes, by ranges. An object is never
//! fetched whole. It knows no formats of files.
//!
//! The reader of an import is a blocking thread; each request runs on the runtime that the thread belongs to, and ends
//! when the import is cancelled.

mod find;
mod keys;
mod read;
mod store;
#[cfg(test)]
mod tests;

pub(super) use find::{Found, find};
pub(super) use read::{ObjectInput, ObjectReader};
pub(super) use store::Stores;

use std::sync::Arc;

use object_store::ObjectMeta;

use store::Store;

/// An object as it was when the import was planned.
#[derive(Debug)]
pub(super) struct Object {
    store: Arc<Store>,
    meta: ObjectMeta,
}

impl Object {
    /// What tells this content from another under the same name.
    pub fn identity(&self) -> String {
        let tag = self.meta.e_tag.as_deref().unwrap_or_default();
        let version = self.meta.version.as_deref().unwrap_or_default();
        format!("{tag}\n{version}\n{}\n{}", self.meta.size, self.meta.last_modified.timestamp_micros())
    }
}
