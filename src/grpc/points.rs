//! `PointService`.

use std::sync::Arc;

use bytes::Bytes;
use ragstone_index::collection::ScrollRequest;
use ragstone_index::search::{PointData, Select};
use ragstone_proto::v1;
use ragstone_proto::v1::delete_points_request::Selector as WireSelector;
use ragstone_proto::v1::point_service_server::PointService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{self, filter, point, select};
use super::{arrow_stream, converted, export, patience, reply, status};
use crate::app::App;
use crate::app::error::{Error, Result as AppResult};
use crate::app::points::{RejectedRow, Selector, Upserted};

/// Most refused rows that a reply names.
const MAX_REJECTED: usize = 1_000;

pub(super) struct Points(pub(super) Arc<App>);

#[tonic::async_trait]
impl PointService for Points {
    type ExportPointsStream = ReceiverStream<Result<v1::ExportPointsResponse, Status>>;

    async fn upsert_points(
        &self,
        request: Request<v1::UpsertPointsRequest>,
    ) -> Result<Response<v1::UpsertPointsResponse>, Status> {
        let v1::UpsertPointsRequest { collection, points, atomic } = request.into_inner();
        let upsert = async {
            let schema = self.0.collection(&collection)?.schema();
            let rows = self.0.compute(move || point::rows(points, &schema)).await?;
            self.0.upsert_points(&collection, rows, atomic).await
        };
        reply(upsert.await.map(|Upserted { seq_no, upserted, rejected }| v1::UpsertPointsResponse {
            seq_no,
            upserted,
            rejected: rejected.into_iter().map(row_error).collect(),
        }))
    }

    async fn upsert_arrow(
        &self,
        request: Request<Streaming<v1::UpsertArrowRequest>>,
    ) -> Result<Response<v1::UpsertArrowResponse>, Status> {
        let mut stream = request.into_inner();
        let Some(first) = stream.message().await.map_err(status::refused)? else {
            return reply(Err(Error::invalid("collection", "the stream has no message")));
        };
        let mut upload = Upload::to(first.collection.clone());
        let mut messages = 0;
        let mut next = Some(first);
        while let Some(message) = next {
            let at = format!("messages[{messages}].ipc");
            upload.message(&self.0, message.ipc, at).await.map_err(|error| status::status(&error))?;
            messages += 1;
            next = stream.message().await.map_err(status::refused)?;
        }
        reply(Ok(upload.reply))
    }

    async fn get_points(
        &self,
        request: Request<v1::GetPointsRequest>,
    ) -> Result<Response<v1::GetPointsResponse>, Status> {
        let patience = patience(&request);
        let v1::GetPointsRequest { collection, ids, with_payload, with_vectors, min_seq_no } =
            request.into_inner();
        let get = async {
            let ids = convert::ids(ids, convert::MAX_PAGE as usize, "ids")?;
            let select = point_select(with_payload, with_vectors)?;
            let points = self.0.get_points(&collection, ids, select, min_seq_no, patience).await?;
            wire_points(&self.0, points).await
        };
        reply(get.await.map(|points| v1::GetPointsResponse { points }))
    }

    async fn delete_points(
        &self,
        request: Request<v1::DeletePointsRequest>,
    ) -> Result<Response<v1::DeletePointsResponse>, Status> {
        let v1::DeletePointsRequest { collection, selector } = request.into_inner();
        let delete = async {
            let selector = match convert::required(selector, "selector")? {
                WireSelector::Ids(list) => {
                    Selector::Ids(convert::ids(list.ids, convert::MAX_IDS, "ids.ids")?)
                }
                WireSelector::DocumentIds(list) => {
                    Selector::Documents(convert::ids(list.ids, convert::MAX_IDS, "document_ids.ids")?)
                }
                WireSelector::Filter(wire) => Selector::Filter(conditions(filter::filter(wire, "filter")?)?),
            };
            self.0.delete_points(&collection, selector).await
        };
        reply(delete.await.map(|(seq_no, deleted)| v1::DeletePointsResponse { seq_no, deleted }))
    }

    async fn scroll_points(
        &self,
        request: Request<v1::ScrollPointsRequest>,
    ) -> Result<Response<v1::ScrollPointsResponse>, Status> {
        let v1::ScrollPointsRequest { collection, filter, limit, page, with_payload, with_vectors } =
            request.into_inner();
        let scroll = async {
            let request = ScrollRequest {
                filter: filter.map(|wire| filter::filter(wire, "filter")).transpose()?,
                limit: convert::page_limit(limit)?,
                after: Some(page).filter(|page| !page.is_empty()),
                select: point_select(with_payload, with_vectors)?,
            };
            let page = self.0.scroll_points(&collection, request).await?;
            let points = wire_points(&self.0, page.points).await?;
            Ok(v1::ScrollPointsResponse { points, next_page: page.next.unwrap_or_default() })
        };
        reply(scroll.await)
    }

    async fn count_points(
        &self,
        request: Request<v1::CountPointsRequest>,
    ) -> Result<Response<v1::CountPointsResponse>, Status> {
        let v1::CountPointsRequest { collection, filter } = request.into_inner();
        let count = async {
            let filter = filter.map(|wire| filter::filter(wire, "filter")).transpose()?;
            self.0.count_points(&collection, filter).await
        };
        reply(count.await.map(|count| v1::CountPointsResponse { count }))
    }

    async fn export_points(
        &self,
        request: Request<v1::ExportPointsRequest>,
    ) -> Result<Response<Self::ExportPointsStream>, Status> {
        reply(export::run(Arc::clone(&self.0), request.into_inner()).await)
    }
}

async fn wire_points(app: &App, points: Vec<PointData>) -> AppResult<Vec<v1::Point>> {
    converted(app, points.len(), points, |points| points.into_iter().map(select::point).collect()).await
}

/// What a point carries when it is read by id or page: no words were searched, so none are marked.
fn point_select(
    with_payload: Option<v1::PayloadSelector>,
    with_vectors: Option<v1::VectorSelector>,
) -> AppResult<Select> {
    let payload = select::payload_select(with_payload)?;
    Ok(Select { payload, vectors: select::vector_select(with_vectors), text: true, highlights: false })
}

/// A filter that is meant to delete has to say something: an empty one passes every point.
fn conditions(filter: ragstone_index::filter::Filter) -> AppResult<ragstone_index::filter::Filter> {
    if filter == ragstone_index::filter::Filter::default() {
        return Err(Error::invalid(
            "filter",
            "is empty and would delete every point; delete the collection instead",
        ));
    }
    Ok(filter)
}

fn row_error(rejected: RejectedRow) -> v1::RowError {
    v1::RowError {
        row: rejected.row as u64,
        id: rejected.id,
        field: rejected.field,
        message: rejected.message,
    }
}

/// What came of an Arrow upload so far.
pub(super) struct Upload {
    collection: String,
    rows: usize,
    pub(super) reply: v1::UpsertArrowResponse,
}

impl Upload {
    pub(super) fn to(collection: String) -> Self {
        Self { collection, rows: 0, reply: v1::UpsertArrowResponse::default() }
    }

    /// Writes the rows of an IPC stream; `at` is its path in the request.
    pub(super) async fn message(&mut self, app: &App, ipc: Bytes, at: String) -> AppResult<()> {
        let schema = app.collection(&self.collection)?.schema();
        let first_row = self.rows;
        let batches = app.compute(move || arrow_stream::decode(ipc, &schema, &at, first_row)).await?;
        for rows in batches {
            self.rows += rows.batch.num_rows() + rows.rejected.len();
            let Upserted { seq_no, upserted, rejected } = app.upsert_batch(&self.collection, rows).await?;
            self.reply.seq_no = seq_no;
            self.reply.upserted += upserted;
            self.reply.rejected_total += rejected.len() as u64;
            let room = MAX_REJECTED.saturating_sub(self.reply.rejected.len());
            self.reply.rejected.extend(rejected.into_iter().take(room).map(row_error));
        }
        Ok(())
    }
}
