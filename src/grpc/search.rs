//! `SearchService`.

use std::sync::Arc;

use ragstone_proto::v1;
use ragstone_proto::v1::search_service_server::SearchService;
use tonic::{Request, Response, Status};

use super::convert::search;
use super::{converted, patience, reply};
use crate::app::App;
use crate::app::error::{Error, Result as AppResult};
use crate::app::search::MAX_SEARCHES;

pub(super) struct Search(pub(super) Arc<App>);

#[tonic::async_trait]
impl SearchService for Search {
    async fn search(
        &self,
        request: Request<v1::SearchRequest>,
    ) -> Result<Response<v1::SearchResponse>, Status> {
        let patience = patience(&request);
        let search = async {
            let answer = self.0.search(search::query(request.into_inner())?, patience).await?;
            converted(&self.0, answer.hits.len(), answer, search::reply).await
        };
        reply(search.await)
    }

    async fn search_batch(
        &self,
        request: Request<v1::SearchBatchRequest>,
    ) -> Result<Response<v1::SearchBatchResponse>, Status> {
        let patience = patience(&request);
        let search = async {
            let answers = self.0.search_batch(queries(request.into_inner())?, patience).await?;
            let hits = answers.iter().map(|answer| answer.hits.len()).sum();
            converted(&self.0, hits, answers, |answers| answers.into_iter().map(search::reply).collect())
                .await
        };
        reply(search.await.map(|results| v1::SearchBatchResponse { results }))
    }
}

fn queries(batch: v1::SearchBatchRequest) -> AppResult<Vec<crate::app::search::Query>> {
    let count = batch.searches.len();
    if !(1..=MAX_SEARCHES).contains(&count) {
        return Err(Error::invalid(
            "searches",
            format!("{count} searches are not between 1 and {MAX_SEARCHES}"),
        ));
    }
    let queries = batch.searches.into_iter().enumerate();
    queries
        .map(|(i, one)| search::query(one).map_err(|error| error.within(&format!("searches[{i}]."))))
        .collect()
}
