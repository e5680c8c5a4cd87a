//! Points: written, read, deleted, paged through, counted.

use arrow::array::RecordBatch;
use ragstone_index::batch;
use ragstone_index::collection::{ScrollPage, ScrollRequest};
use ragstone_index::filter::Filter;
use ragstone_index::search::{PointData, Select};
use ragstone_index::write::{Change, RowError, WriteReceipt, WriteRequest};

use super::App;
use super::error::{Error, Result, Violation};
use super::visibility::Patience;

/// Rows made from the points of a request.
#[derive(Debug)]
pub struct PointRows {
    /// The rows.
    pub batch: RecordBatch,
    /// Which point of the request each row is.
    pub request_rows: Vec<usize>,
    /// Points that could not become rows.
    pub rejected: Vec<RejectedRow>,
}

/// A row that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// Row of the request.
    pub row: usize,
    /// Point id, when it could be read.
    pub id: String,
    /// Path of the field at fault.
    pub field: String,
    /// What was found and what was expected.
    pub message: String,
}

/// What became of an upsert.
#[derive(Debug, Default)]
pub struct Upserted {
    /// Sequence number of the write.
    pub seq_no: u64,
    /// Points written.
    pub upserted: u64,
    /// Rows refused, in order.
    pub rejected: Vec<RejectedRow>,
}

/// Which points to delete.
#[derive(Debug)]
pub enum Selector {
    /// Those of these ids.
    Ids(Vec<String>),
    /// Those of these documents, with the documents' records.
    Documents(Vec<String>),
    /// Those that pass.
    Filter(Filter),
}

impl App {
    /// Writes the points of a request; on return they are durable and visible. `atomic`: one bad point refuses all.
    pub async fn upsert_points(&self, collection: &str, rows: PointRows, atomic: bool) -> Result<Upserted> {
        let PointRows { batch, request_rows, mut rejected } = rows;
        if atomic && !rejected.is_empty() {
            return Err(all_refused(rejected));
        }
        let receipt = self
            .write_points(collection, batch, atomic)
            .await
            .map_err(|error| in_request(error, &request_rows))?;
        rejected.extend(receipt.rejected.into_iter().map(|error| {
            let row = request_rows.get(error.row).copied().unwrap_or(error.row);
            RejectedRow {
                row,
                id: error.id,
                field: request_field(row, &error.column),
                message: error.message,
            }
        }));
        rejected.sort_by_key(|rejected| rejected.row);
        Ok(Upserted { seq_no: receipt.seq_no, upserted: receipt.upserted, rejected })
    }

    /// Writes the good rows of a batch; refused ones are named by column.
    pub async fn upsert_batch(&self, collection: &str, rows: PointRows) -> Result<Upserted> {
        let PointRows { batch, request_rows, mut rejected } = rows;
        let receipt = self.write_points(collection, batch, false).await?;
        rejected.extend(receipt.rejected.into_iter().map(|error: RowError| RejectedRow {
            row: request_rows.get(error.row).copied().unwrap_or(error.row),
            id: error.id,
            field: error.column,
            message: error.message,
        }));
        rejected.sort_by_key(|rejected| rejected.row);
        Ok(Upserted { seq_no: receipt.seq_no, upserted: receipt.upserted, rejected })
    }

    async fn write_points(&self, name: &str, rows: RecordBatch, strict: bool) -> Result<WriteReceipt> {
        let collection = self.collection(name)?;
        if rows.num_rows() == 0 {
            return Ok(WriteReceipt { seq_no: collection.seq_no(), ..WriteReceipt::default() });
        }
        let rows = self.embedding.fill(&collection.schema(), rows).await?;
        let request = WriteRequest { changes: vec![Change::UpsertPoints(rows)], skip_bad_rows: !strict };
        self.workers.write.run(move || Ok(collection.write(request)?)).await
    }

    /// The points of these ids that exist, in the order asked.
    pub async fn get_points(
        &self,
        collection: &str,
        ids: Vec<String>,
        select: Select,
        min_seq_no: Option<u64>,
        patience: Patience,
    ) -> Result<Vec<PointData>> {
        let collection = self.collection(collection)?;
        patience.until_visible(&collection, min_seq_no).await?;
        self.workers.read.run(move || Ok(collection.get(&ids, &select, min_seq_no)?)).await
    }

    /// Deletes points. Returns the sequence number and how many there were.
    pub async fn delete_points(&self, collection: &str, selector: Selector) -> Result<(u64, u64)> {
        let collection = self.collection(collection)?;
        let change = match selector {
            Selector::Ids(ids) => Change::DeletePoints(ids),
            Selector::Documents(ids) => Change::DeleteDocuments(ids),
            Selector::Filter(filter) => Change::DeleteByFilter(filter),
        };
        let request = WriteRequest { changes: vec![change], skip_bad_rows: false };
        let receipt = self.workers.write.run(move || Ok(collection.write(request)?)).await?;
        Ok((receipt.seq_no, receipt.deleted_points))
    }

    /// A page of points.
    pub async fn scroll_points(&self, collection: &str, request: ScrollRequest) -> Result<ScrollPage> {
        let collection = self.collection(collection)?;
        self.workers.read.run(move || Ok(collection.scroll(&request)?)).await
    }

    /// Number of points that pass.
    pub async fn count_points(&self, collection: &str, filter: Option<Filter>) -> Result<u64> {
        let collection = self.collection(collection)?;
        self.workers.read.run(move || Ok(collection.count(filter.as_ref())?)).await
    }
}

/// The error of an atomic request with bad points.
fn all_refused(rejected: Vec<RejectedRow>) -> Error {
    Error::BadRequest(
        rejected.into_iter().map(|r| Violation { field: r.field, message: r.message }).collect(),
    )
}

/// Path in the request of a column of the engine's batch.
fn request_field(row: usize, column: &str) -> String {
    if let Some(space) = column.strip_prefix(batch::VECTOR_PREFIX) {
        return format!("points[{row}].vectors[\"{space}\"]");
    }
    let own = [batch::ID, batch::TEXT, batch::PAYLOAD];
    match own
        .iter()
        .any(|name| column.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    {
        true => format!("points[{row}].{column}"),
        false => format!("points[{row}].origin.{column}"),
    }
}

/// The engine names rows and columns of its batch (`points[3].vector:text`); the client knows `points[7].vectors["text"]`.
fn in_request(error: Error, request_rows: &[usize]) -> Error {
    let Error::Engine(ragstone_index::Error::InvalidArgument { field, message }) = &error else {
        return error;
    };
    let path = field.split_once("points[").and_then(|(_, rest)| {
        let (row, column) = rest.split_once("].")?;
        let row = request_rows.get(row.parse::<usize>().ok()?)?;
        Some(request_field(*row, column))
    });
    match path {
        Some(path) => Error::invalid(path, message),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_paths_of_the_request() {
        let check = |column: &str, expect: &str| assert_eq!(request_field(3, column), expect);
        check("id", "points[3].id");
        check("vector:text", "points[3].vectors[\"text\"]");
        check("payload.author.age", "points[3].payload.author.age");
        check("page", "points[3].origin.page");
    }

    #[test]
    fn the_engine_s_rows_become_the_request_s() {
        let engine = Error::from(ragstone_index::Error::invalid("points[1].vector:text", "is NaN"));
        assert_eq!(in_request(engine, &[4, 9]).to_string(), "points[9].vectors[\"text\"]: is NaN");
        let other = Error::from(ragstone_index::Error::invalid("filter", "x"));
        assert_eq!(in_request(other, &[4]).to_string(), "filter: x");
    }
}
