//! `AdminService`.

use std::sync::Arc;

use ragstone_proto::v1;
use ragstone_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::convert::stats;
use super::reply;
use crate::app::App;
use crate::app::admin::resident_bytes;

pub(super) struct Admin(pub(super) Arc<App>);

#[tonic::async_trait]
impl AdminService for Admin {
    async fn get_server_info(
        &self,
        _: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        let embedders = self.0.embedders().into_iter().map(|embedder| {
            // One that isn't loaded yet says only its name.
            let info = embedder.info;
            v1::Embedder {
                name: embedder.name,
                dimension: info.as_ref().map_or(0, |info| info.dimension),
                max_tokens: info
                    .as_ref()
                    .map_or(0, |info| u32::try_from(info.max_tokens).unwrap_or(u32::MAX)),
                fingerprint: info.map(|info| info.fingerprint).unwrap_or_default(),
            }
        });
        reply(Ok(v1::GetServerInfoResponse {
            version: env!("CARGO_PKG_VERSION").into(),
            api: "ragstone.v1".into(),
            embedders: embedders.collect(),
        }))
    }

    async fn get_stats(
        &self,
        request: Request<v1::GetStatsRequest>,
    ) -> Result<Response<v1::GetStatsResponse>, Status> {
        let name = &request.get_ref().collection;
        let stats = self.0.stats(Some(name.as_str()).filter(|name| !name.is_empty())).await;
        reply(stats.map(|stats| v1::GetStatsResponse {
            collections: stats.into_iter().map(|(name, stats)| stats::collection(name, stats)).collect(),
            rss_bytes: resident_bytes(),
            uptime_s: self.0.uptime().as_secs(),
            embedding: Some(stats::embedding(self.0.embedding_stats())),
        }))
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Result<Response<v1::FlushResponse>, Status> {
        let flushed = self.0.flush(&request.get_ref().collection).await;
        reply(flushed.map(|(seq_no, segments)| v1::FlushResponse { seq_no, segments }))
    }

    async fn compact(
        &self,
        request: Request<v1::CompactRequest>,
    ) -> Result<Response<v1::CompactResponse>, Status> {
        let report = self.0.compact(&request.get_ref().collection).await;
        reply(report.map(|report| v1::CompactResponse {
            segments_before: report.segments_before,
            segments_after: report.segments_after,
            reclaimed_rows: report.reclaimed_rows,
        }))
    }
}
