//! Exports: a bounded number at once, since each keeps a snapshot and so the files that are in it; one batch in memory
//! each.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use ragstone_index::collection::Export;
use ragstone_index::filter::Filter;
use tokio::sync::OwnedSemaphorePermit;

use super::App;
use super::error::{Error, Result};
use super::workers::Lane;

/// Exports at the same time.
pub const MAX_EXPORTS: usize = 8;

/// An export under way. Dropping it ends it.
#[derive(Debug)]
pub struct RunningExport {
    /// `None` after an error.
    export: Option<Box<Export>>,
    schema: SchemaRef,
    rows: u64,
    seq_no: u64,
    lane: Lane,
    _permit: OwnedSemaphorePermit,
}

impl RunningExport {
    /// Schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows of the whole export.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The write up to which everything is in it.
    pub fn seq_no(&self) -> u64 {
        self.seq_no
    }

    /// The next batch, converted where it was read; `None` at the end.
    pub async fn next<T: Send + 'static>(
        &mut self,
        convert: impl FnOnce(RecordBatch) -> Result<T> + Send + 'static,
    ) -> Result<Option<T>> {
        let Some(mut export) = self.export.take() else { return Ok(None) };
        let job = move || {
            let next = export.next_batch()?;
            Ok((next.map(convert).transpose()?, export))
        };
        let (next, export) = self.lane.run(job).await?;
        self.export = Some(export);
        Ok(next)
    }
}

impl App {
    /// Begins an export of the points that pass.
    pub async fn export(&self, collection: &str, filter: Option<Filter>) -> Result<RunningExport> {
        let collection = self.collection(collection)?;
        let Ok(permit) = Arc::clone(&self.exports).try_acquire_owned() else {
            return Err(Error::Busy { what: "exports", limit: MAX_EXPORTS });
        };
        let export = self.workers.read.run(move || Ok(Box::new(collection.export(filter.as_ref())?))).await?;
        Ok(RunningExport {
            schema: Arc::clone(export.schema()),
            rows: export.rows(),
            seq_no: export.seq_no(),
            export: Some(export),
            lane: self.workers.read.clone(),
            _permit: permit,
        })
    }
}
