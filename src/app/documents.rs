//! Documents: taken in through the pipeline, listed, deleted.

use ragstone_index::collection::Copies;
use ragstone_index::document::DocumentRecord;
use ragstone_ingest::document::RawDocument;
use ragstone_ingest::pipeline::{Admission, Ingested};

use super::App;
use super::copies::MAX_SHOWN_COPIES;
use super::error::{Error, Result};
use super::sink;

/// Documents in id order.
#[derive(Debug, Default)]
pub struct DocumentPage {
    /// The records.
    pub documents: Vec<DocumentRecord>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<String>,
}

impl App {
    /// Makes `raw` the stored version of its document; on return it is durable and searchable.
    pub async fn ingest_document(&self, collection: &str, raw: RawDocument) -> Result<Ingested> {
        let admission = self.admit_document(raw.data.len()).await?;
        self.ingest_admitted(collection, raw, admission).await
    }

    /// Waits until the pipeline takes so many bytes more.
    pub async fn admit_document(&self, bytes: usize) -> Result<Admission> {
        Ok(self.pipeline.admit(bytes).await?)
    }

    /// Bytes that the pipeline would take at once.
    pub fn free_document_bytes(&self) -> usize {
        self.pipeline.free_bytes()
    }

    /// As [`Self::ingest_document`], for a document that was admitted.
    pub async fn ingest_admitted(
        &self,
        collection: &str,
        raw: RawDocument,
        admission: Admission,
    ) -> Result<Ingested> {
        let open = self.collection(collection)?;
        let mut ingested = self.pipeline.ingest_admitted(collection, raw, admission).await?;
        if ingested.seq_no == 0 {
            // Nothing was written; what is visible now holds the stored version.
            ingested.seq_no = open.seq_no();
        }
        Ok(ingested)
    }

    /// A document's record, and the documents that are linked to it.
    pub async fn get_document(&self, collection: &str, id: String) -> Result<(DocumentRecord, Copies)> {
        let collection = self.collection(collection)?;
        let job = move || {
            let missing = || ragstone_index::Error::NotFound {
                what: "document",
                name: id.chars().take(1_000).collect(),
            };
            let record = collection.document(&id).ok_or_else(missing)?;
            let copies = collection.copies([id.as_str()], MAX_SHOWN_COPIES);
            Ok((record, copies.into_iter().next().unwrap_or_default()))
        };
        self.workers.read.run(job).await
    }

    /// Documents whose id starts with `prefix`, behind `after`.
    pub async fn list_documents(
        &self,
        collection: &str,
        prefix: String,
        after: Option<String>,
        limit: usize,
    ) -> Result<DocumentPage> {
        let collection = self.collection(collection)?;
        let job = move || {
            let mut documents = collection.documents(&prefix, after.as_deref(), limit + 1);
            let more = documents.len() > limit;
            documents.truncate(limit);
            let next = documents.last().filter(|_| more).map(|last| last.id.clone());
            Ok(DocumentPage { documents, next })
        };
        self.workers.read.run(job).await
    }

    /// Deletes documents with their points. Returns the sequence number and how many there were.
    pub async fn delete_documents(&self, collection: &str, ids: Vec<String>) -> Result<(u64, u64)> {
        let collection = self.collection(collection)?;
        let delete = move || Ok::<_, Error>(sink::delete_documents(&collection, ids)?);
        let receipt = self.workers.write.run(delete).await?;
        Ok((receipt.seq_no, receipt.deleted_documents))
    }
}
