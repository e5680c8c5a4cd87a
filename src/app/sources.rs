//! Watched folders: added, removed, listed, and kept for the next start as ledger entries of their collection.

use std::path::{Path, PathBuf};

use ragstone_index::collection::Collection;
use ragstone_index::write::{Change, WriteRequest};
use ragstone_ingest::document::IngestOptions;
use ragstone_ingest::source::{FileState, FileStatus, FilesPage, FolderSource, SourceStatus};
use serde::{Deserialize, Serialize};

use super::App;
use super::collections::SchemaDraft;
use super::error::{Error, Result};
use crate::config::WatchConfig;

/// A folder that is to be watched.
#[derive(Debug, Clone, Default)]
pub struct SourceDraft {
    /// Absolute.
    pub path: PathBuf,
    /// Patterns in `.gitignore` form.
    pub ignore: Vec<String>,
    /// Changes are found by scans only.
    pub poll: bool,
    /// How its files are read.
    pub options: IngestOptions,
    /// A file of the server's machine with passwords; absolute.
    pub password_file: Option<PathBuf>,
}

/// Files of a source.
#[derive(Debug, Default)]
pub struct LinkedFiles {
    /// The files.
    pub page: FilesPage,
    /// For each the document of the same content that it is linked to.
    pub linked_to: Vec<Option<String>>,
}

/// Ledger keys of sources start with this.
const KEY_PREFIX: &str = "source/";

/// A source in the ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "version")]
enum StoredSource {
    #[serde(rename = "1")]
    V1(FolderSource),
}

impl App {
    /// Watches a folder. Adding what is there already changes nothing, or its patterns and options; its documents are
    /// made again where new options ask for that.
    pub async fn add_source(&self, collection: &str, draft: SourceDraft) -> Result<SourceStatus> {
        self.collection(collection)?;
        let SourceDraft { path, ignore, poll, options, password_file } = draft;
        options.chunk.check("chunk")?;
        let source =
            FolderSource { options, poll, password_file, ..FolderSource::new(collection, &path, ignore)? };
        source.check_root().await?;
        source.check_passwords().await?;
        let _one_at_a_time = self.source_changes.lock().await;
        let status = match self.sources.status(&source.id) {
            Ok(there) if there.source == source => return Ok(there),
            Ok(_) => {
                self.sources.remove(&source.id, false).await?;
                self.sources.add_changed(source.clone())?
            }
            Err(_) => self.sources.add(source.clone())?,
        };
        if let Err(error) = self.remember(source).await {
            // It would be gone after a restart: then it isn't there now either.
            self.sources.remove(&status.source.id, false).await?;
            return Err(error);
        }
        Ok(status)
    }

    /// Stops watching. Returns the number of documents deleted with it.
    pub async fn remove_source(&self, id: &str, delete_documents: bool) -> Result<u64> {
        let _one_at_a_time = self.source_changes.lock().await;
        let collection = self.sources.status(id)?.source.collection;
        let deleted = self.sources.remove(id, delete_documents).await?;
        let forget = Change::DeleteLedger { key: format!("{KEY_PREFIX}{id}") };
        self.change_ledger(&collection, forget).await?;
        Ok(deleted)
    }

    /// All sources, or those of a collection.
    pub fn list_sources(&self, collection: Option<&str>) -> Result<Vec<SourceStatus>> {
        if let Some(name) = collection {
            self.collection(name)?;
        }
        Ok(self.sources.list(collection))
    }

    /// Files of a source that are linked to documents of the same content.
    pub fn linked_files(&self, source: &FolderSource) -> u64 {
        self.collection(&source.collection)
            .map_or(0, |collection| collection.linked_of_source(&source.id) as u64)
    }

    /// Files of a source whose state is wanted.
    pub async fn source_files(
        &self,
        id: String,
        after: Option<String>,
        limit: usize,
        wanted: impl Fn(&FileState) -> bool + Send + 'static,
    ) -> Result<LinkedFiles> {
        let sources = std::sync::Arc::clone(&self.sources);
        let collection = self.collection(&sources.status(&id)?.source.collection)?;
        let job = move || {
            let page = sources.files_where(&id, after.as_deref(), limit, wanted)?;
            let linked_to = |file: &FileStatus| {
                let record = collection.document(&file.document_id)?;
                record.linked_to().map(str::to_owned)
            };
            let linked_to = page.files.iter().map(linked_to).collect();
            Ok(LinkedFiles { page, linked_to })
        };
        self.workers.read.run(job).await
    }

    /// Compares a source with its folder now. Returns how many outdated documents are made again.
    pub fn scan_source(&self, id: &str, reingest_outdated: bool, accept_loss: bool) -> Result<u64> {
        if accept_loss {
            self.sources.accept_loss(id)?;
        }
        if reingest_outdated {
            return Ok(self.sources.reingest_outdated(id)?);
        }
        self.sources.rescan(id)?;
        Ok(0)
    }

    /// Tries files of a source that failed again: those at `paths`, or all when there are none. Returns how many.
    pub async fn retry_source_files(&self, id: &str, paths: &[String]) -> Result<u64> {
        Ok(self.sources.retry(id, paths).await?)
    }

    /// Takes files that failed for good off the list of failures. Returns how many.
    pub async fn clear_source_failures(&self, id: &str, paths: &[String]) -> Result<u64> {
        Ok(self.sources.clear(id, paths).await?)
    }

    /// Starts the sources that the collections remember, and those of the configuration.
    pub(super) async fn start_sources(&self, configured: &[WatchConfig]) -> Result<()> {
        let store = std::sync::Arc::clone(&self.store);
        let stored = self
            .workers
            .read
            .run(move || Ok(store.collections().iter().flat_map(|c| remembered(c)).collect()));
        let stored: Vec<FolderSource> = stored.await?;
        let absolute = |path: &Path| std::path::absolute(path).map_err(|error| unusable(path, &error));
        let path_of = |watch: &WatchConfig| absolute(&watch.path);
        let mut ids = Vec::new();
        for watch in configured {
            ids.push(FolderSource::new(&watch.collection, &path_of(watch)?, Vec::new())?.id);
        }
        // The configuration knows what is not stored: a folder of both starts once, as configured.
        for source in stored.into_iter().filter(|source| !ids.contains(&source.id)) {
            if let Err(error) = self.sources.add(source.clone()) {
                tracing::error!(source = source.id, path = %source.root.display(), %error, "can't watch a folder");
            }
        }
        for watch in configured {
            let draft: Option<SchemaDraft> = None;
            self.create_collection(watch.collection.clone(), draft, true).await?;
            let draft = SourceDraft {
                path: path_of(watch)?,
                ignore: watch.ignore.clone(),
                poll: watch.poll,
                options: watch.options.clone(),
                password_file: watch.password_file.as_deref().map(absolute).transpose()?,
            };
            self.add_source(&watch.collection, draft).await?;
        }
        Ok(())
    }

    /// Stops the sources of a collection that is about to go.
    pub(super) async fn stop_sources_of(&self, collection: &str) -> Result<()> {
        let _one_at_a_time = self.source_changes.lock().await;
        for status in self.sources.list(Some(collection)) {
            self.sources.remove(&status.source.id, false).await?;
        }
        Ok(())
    }

    async fn remember(&self, source: FolderSource) -> Result<()> {
        let (key, collection) = (format!("{KEY_PREFIX}{}", source.id), source.collection.clone());
        let value = serde_json::to_vec(&StoredSource::V1(source))
            .map_err(|error| ragstone_index::Error::Internal(format!("a source as JSON: {error}")))?;
        self.change_ledger(&collection, Change::PutLedger { key, value }).await
    }

    async fn change_ledger(&self, collection: &str, change: Change) -> Result<()> {
        let collection = self.collection(collection)?;
        let request = WriteRequest { changes: vec![change], skip_bad_rows: false };
        self.workers.write.run(move || Ok(collection.write(request).map(drop)?)).await
    }
}

/// The sources that a collection remembers. One that can't be read is left out and told of.
fn remembered(collection: &Collection) -> Vec<FolderSource> {
    let read = |(key, value): (String, Vec<u8>)| match serde_json::from_slice(&value) {
        Ok(StoredSource::V1(source)) => Some(source),
        Err(error) => {
            tracing::error!(collection = collection.name(), key, %error, "can't read a stored source");
            None
        }
    };
    collection.ledger_prefix(KEY_PREFIX).into_iter().filter_map(read).collect()
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    Error::invalid("path", format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;

    #[test]
    fn the_stored_form_of_a_source_stays_readable() {
        let text = r#"{"version":"1","id":"folder-1","collection":"c","root":"/data","ignore":["*.log"]}"#;
        let StoredSource::V1(source) = serde_json::from_str(text).unwrap();
        let expect = FolderSource {
            id: "folder-1".into(),
            collection: "c".into(),
            root: "/data".into(),
            ignore: vec!["*.log".into()],
            poll: false,
            options: IngestOptions::default(),
            password_file: None,
        };
        assert_eq!(source, expect);
        let again: StoredSource =
            serde_json::from_slice(&serde_json::to_vec(&StoredSource::V1(expect.clone())).unwrap()).unwrap();
        let StoredSource::V1(again) = again;
        assert_eq!(again, expect);
    }
}
