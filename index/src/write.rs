//! What a caller writes, and what it gets back.

use arrow::array::RecordBatch;

use crate::document::DocumentRecord;
use crate::filter::Filter;

/// One change. The changes of a [`WriteRequest`] become durable and visible together or not at all.
#[derive(Debug, Clone)]
pub enum Change {
    /// Insert points; a point whose id exists is replaced. Columns as in [`crate::batch`]. Links in `also_at`, as exports have
    /// them, become records where there are none; one that can't be read is reported, and its row written without it.
    UpsertPoints(RecordBatch),
    /// Replace a document whole: every older point of it vanishes, these appear. The batch's `document_id` is set to
    /// the record's id. A record that failed or was skipped leaves older points alone and must come without points. So must
    /// a linked one, whose older points vanish; it is refused (`FailedPrecondition`) where no document holds its content.
    /// Points that documents are linked to never vanish with their document: one of those takes them over.
    PutDocument {
        /// Its record in the ledger.
        document: DocumentRecord,
        /// Its points; `None` for a record without points.
        points: Option<RecordBatch>,
    },
    /// Delete points by id. Unknown ids are ignored.
    DeletePoints(Vec<String>),
    /// Delete documents with their points and records. Unknown ids are ignored. As with a replaced document, points that
    /// others are linked to are taken over.
    DeleteDocuments(Vec<String>),
    /// Delete the points that match.
    DeleteByFilter(Filter),
    /// Remember something of ingestion (an import's checkpoint, a watched folder) in the same commit. What is remembered of a
    /// document (`document/ID`) is forgotten when it is deleted or replaced; a write that replaces it may put it anew. What is
    /// remembered of its next try (`retry/ID`) is forgotten with any write of it.
    PutLedger {
        /// Its key, 1 to 1,024 bytes.
        key: String,
        /// Its value, at most 1 MiB.
        value: Vec<u8>,
    },
    /// Forget a ledger entry. Unknown keys are ignored.
    DeleteLedger {
        /// Its key.
        key: String,
    },
}

/// An atomic write.
#[derive(Debug, Clone, Default)]
pub struct WriteRequest {
    /// Applied in order.
    pub changes: Vec<Change>,
    /// true: bad rows are left out and reported. false: one bad row refuses the whole request.
    pub skip_bad_rows: bool,
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// Which change of the request.
    pub change: usize,
    /// Row of its batch.
    pub row: usize,
    /// Point id, when it could be read.
    pub id: String,
    /// Column at fault.
    pub column: String,
    /// What was found and what was expected.
    pub message: String,
}

/// The acknowledgement: the write is on disk and visible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteReceipt {
    /// Sequence number of the write. A request that changes nothing gets the newest number.
    pub seq_no: u64,
    /// Points written.
    pub upserted: u64,
    /// Points deleted by request (not those that a newer version replaced).
    pub deleted_points: u64,
    /// Documents deleted by request.
    pub deleted_documents: u64,
    /// Rows left out.
    pub rejected: Vec<RowError>,
}
