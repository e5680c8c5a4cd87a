//! The gRPC surface: thin services over the application layer. A handler converts, calls [`crate::app::App`], converts
//! back; nothing of the engine's meaning lives here.
//!
//! Every call passes [`mod@router`]; every error becomes a status in [`status`].

mod admin;
pub mod arrow_stream;
mod collections;
pub mod convert;
mod export;
mod flight;
mod import;
mod ingest;
mod ingest_stream;
mod points;
pub mod router;
mod search;
pub mod status;

use std::sync::Arc;

use ragstone_proto::v1;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use self::router::{Bounds, Deadline, Router};
use crate::app::App;
use crate::app::visibility::Patience;
use crate::config::ServerConfig;

/// Items of a reply that are converted on the thread that serves the network.
const MAX_INLINE_ITEMS: usize = 100;

/// Methods that take as long as they take: streams, uploads, extraction, maintenance.
const LONG_METHODS: [&str; 12] = [
    "/ragstone.v1.PointService/UpsertPoints",
    "/ragstone.v1.PointService/UpsertArrow",
    "/ragstone.v1.PointService/DeletePoints",
    "/ragstone.v1.PointService/ExportPoints",
    "/ragstone.v1.IngestService/IngestDocument",
    "/ragstone.v1.IngestService/IngestDocuments",
    "/ragstone.v1.IngestService/IngestStream",
    "/ragstone.v1.IngestService/RemoveSource",
    "/ragstone.v1.IngestService/Import",
    "/ragstone.v1.CollectionService/DeleteCollection",
    "/ragstone.v1.AdminService/Flush",
    "/ragstone.v1.AdminService/Compact",
];

fn bounds(path: &str) -> Bounds {
    if path.starts_with("/grpc.") {
        Bounds::Probe
    } else if LONG_METHODS.contains(&path) || flight::LONG_METHODS.contains(&path) {
        Bounds::Long
    } else {
        Bounds::Call
    }
}

/// All services behind one router, and the handle that tells health.
pub fn router(
    app: &Arc<App>,
    config: &ServerConfig,
) -> Result<(Router, HealthReporter), tonic_reflection::server::Error> {
    let most = config.max_message_bytes;
    let health = HealthReporter::new();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let collections = collections::Collections(Arc::clone(app));
    let points = points::Points(Arc::clone(app));
    let search = search::Search(Arc::clone(app));
    let ingest = ingest::Ingest(Arc::clone(app));
    let admin = admin::Admin(Arc::clone(app));
    let runtime = app.runtime().clone();
    let router = Router::new(config.max_in_flight, config.request_timeout, bounds, runtime)
        .with(
            v1::collection_service_server::CollectionServiceServer::new(collections)
                .max_decoding_message_size(most),
        )
        .with(v1::point_service_server::PointServiceServer::new(points).max_decoding_message_size(most))
        .with(v1::search_service_server::SearchServiceServer::new(search).max_decoding_message_size(most))
        .with(v1::ingest_service_server::IngestServiceServer::new(ingest).max_decoding_message_size(most))
        .with(v1::admin_service_server::AdminServiceServer::new(admin).max_decoding_message_size(most))
        .with(flight::service(app, most))
        .with(HealthServer::new(HealthService::from_health_reporter(health.clone())))
        .with(reflection().build_v1()?)
        .with(reflection().build_v1alpha()?);
    Ok((router, health))
}

/// The reply to a call.
fn reply<T>(result: crate::app::error::Result<T>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status::status(&error))
}

/// Makes a reply of `count` items: a long one is work for another thread.
async fn converted<T, R>(
    app: &App,
    count: usize,
    items: T,
    convert: fn(T) -> R,
) -> crate::app::error::Result<R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    if count > MAX_INLINE_ITEMS { app.compute(move || Ok(convert(items))).await } else { Ok(convert(items)) }
}

/// How long the caller of a request can wait.
fn patience<T>(request: &Request<T>) -> Patience {
    Patience::until(request.extensions().get::<Deadline>().map(|deadline| deadline.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_methods_exist() {
        let descriptors = String::from_utf8_lossy(v1::FILE_DESCRIPTOR_SET).into_owned();
        for path in LONG_METHODS {
            let method = path.rsplit('/').next().unwrap_or_default();
            assert!(descriptors.contains(method), "{path}");
        }
    }
}
