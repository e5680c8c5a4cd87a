//! `IngestService`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ragstone_ingest::document::{IngestOptions, PathFields, Resemblance, check_ttl};
use ragstone_ingest::source::{FileState, FileStatus, Noticing, SourceState, SourceStatus};
use ragstone_proto::v1;
use ragstone_proto::v1::ingest_service_server::IngestService;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{self, document};
use super::{import, ingest_stream, reply};
use crate::app::App;
use crate::app::error::Error;
use crate::app::sources::SourceDraft;

pub(super) struct Ingest(pub(super) Arc<App>);

#[tonic::async_trait]
impl IngestService for Ingest {
    type IngestDocumentsStream = ReceiverStream<Result<v1::IngestDocumentResponse, Status>>;
    type IngestStreamStream = ReceiverStream<Result<v1::IngestStreamReply, Status>>;
    type ImportStream = ReceiverStream<Result<v1::ImportProgress, Status>>;

    async fn ingest_document(
        &self,
        request: Request<v1::IngestDocumentRequest>,
    ) -> Result<Response<v1::IngestDocumentResponse>, Status> {
        let request = request.into_inner();
        let (collection, tag) = (request.collection.clone(), request.tag);
        let ingest = async {
            let raw = document::raw(request)?;
            self.0.ingest_document(&collection, raw).await
        };
        reply(ingest.await.map(|ingested| document::ingested(ingested, tag)))
    }

    async fn ingest_documents(
        &self,
        request: Request<Streaming<v1::IngestDocumentRequest>>,
    ) -> Result<Response<Self::IngestDocumentsStream>, Status> {
        reply(ingest_stream::documents(Arc::clone(&self.0), request.into_inner()))
    }

    async fn ingest_stream(
        &self,
        request: Request<Streaming<v1::IngestStreamRequest>>,
    ) -> Result<Response<Self::IngestStreamStream>, Status> {
        ingest_stream::open(Arc::clone(&self.0), request.into_inner()).await.map(Response::new)
    }

    async fn get_document(
        &self,
        request: Request<v1::GetDocumentRequest>,
    ) -> Result<Response<v1::GetDocumentResponse>, Status> {
        let v1::GetDocumentRequest { collection, document_id } = request.into_inner();
        let found = self.0.get_document(&collection, document_id).await;
        reply(found.map(|(record, copies)| {
            let (also_at, also_at_total) = document::locations(&copies);
            let document = v1::Document { also_at, also_at_total, ..document::document(record) };
            v1::GetDocumentResponse { document: Some(document) }
        }))
    }

    async fn list_documents(
        &self,
        request: Request<v1::ListDocumentsRequest>,
    ) -> Result<Response<v1::ListDocumentsResponse>, Status> {
        let v1::ListDocumentsRequest { collection, limit, page, prefix } = request.into_inner();
        let list = async {
            let limit = convert::page_limit(limit)?;
            let after = Some(page).filter(|page| !page.is_empty());
            self.0.list_documents(&collection, prefix, after, limit).await
        };
        reply(list.await.map(|page| v1::ListDocumentsResponse {
            documents: page.documents.into_iter().map(document::document).collect(),
            next_page: page.next.unwrap_or_default(),
        }))
    }

    async fn delete_documents(
        &self,
        request: Request<v1::DeleteDocumentsRequest>,
    ) -> Result<Response<v1::DeleteDocumentsResponse>, Status> {
        let v1::DeleteDocumentsRequest { collection, document_ids } = request.into_inner();
        let delete = async {
            let ids = convert::ids(document_ids, convert::MAX_IDS, "document_ids")?;
            self.0.delete_documents(&collection, ids).await
        };
        reply(delete.await.map(|(seq_no, deleted)| v1::DeleteDocumentsResponse { seq_no, deleted }))
    }

    async fn add_source(
        &self,
        request: Request<v1::AddSourceRequest>,
    ) -> Result<Response<v1::AddSourceResponse>, Status> {
        let request = request.into_inner();
        let v1::AddSourceRequest { collection, path, ignore, path_fields, chunk, poll, .. } = request;
        let (duplicates, near_duplicates) = (request.duplicates, request.near_duplicates);
        let (threshold, ttl_seconds) = (request.near_duplicate_threshold, request.ttl_seconds);
        let password_file = Some(request.password_file).filter(|path| !path.is_empty());
        let add = async {
            if path.is_empty() {
                return Err(Error::invalid("path", "is empty: name a folder of the server's machine"));
            }
            ttl_seconds.map_or(Ok(()), |seconds| check_ttl(seconds, "ttl_seconds"))?;
            let options = IngestOptions {
                path_fields: PathFields::parse_optional(&path_fields)?,
                chunk: convert::chunk::settings(chunk)?,
                duplicates: document::duplicates(duplicates)?,
                near_duplicates,
                near_duplicate_threshold: threshold.map(Resemblance::new).transpose()?,
                ttl_seconds,
                ..IngestOptions::default()
            };
            let password_file = password_file.map(PathBuf::from);
            let draft = SourceDraft { path: PathBuf::from(path), ignore, poll, options, password_file };
            self.0.add_source(&collection, draft).await
        };
        reply(add.await.map(|status| v1::AddSourceResponse { source: Some(self.source(status)) }))
    }

    async fn list_sources(
        &self,
        request: Request<v1::ListSourcesRequest>,
    ) -> Result<Response<v1::ListSourcesResponse>, Status> {
        let collection = request.into_inner().collection;
        let sources = self.0.list_sources(Some(collection.as_str()).filter(|name| !name.is_empty()));
        let sources = sources.map(|sources| sources.into_iter().map(|status| self.source(status)).collect());
        reply(sources.map(|sources| v1::ListSourcesResponse { sources }))
    }

    async fn remove_source(
        &self,
        request: Request<v1::RemoveSourceRequest>,
    ) -> Result<Response<v1::RemoveSourceResponse>, Status> {
        let v1::RemoveSourceRequest { source_id, delete_documents } = request.into_inner();
        let deleted = self.0.remove_source(&source_id, delete_documents).await;
        reply(deleted.map(|deleted_documents| v1::RemoveSourceResponse { deleted_documents }))
    }

    async fn list_source_files(
        &self,
        request: Request<v1::ListSourceFilesRequest>,
    ) -> Result<Response<v1::ListSourceFilesResponse>, Status> {
        let v1::ListSourceFilesRequest { source_id, limit, page, states } = request.into_inner();
        let list = async {
            let limit = convert::page_limit(limit)?;
            let wanted = move |state: &FileState| {
                states.is_empty() || states.contains(&i32::from(file_state(state).0))
            };
            self.0.source_files(source_id, Some(page).filter(|page| !page.is_empty()), limit, wanted).await
        };
        reply(list.await.map(|page| v1::ListSourceFilesResponse {
            files: page.page.files.into_iter().zip(page.linked_to).map(file).collect(),
            next_page: page.page.next.unwrap_or_default(),
        }))
    }

    async fn scan_source(
        &self,
        request: Request<v1::ScanSourceRequest>,
    ) -> Result<Response<v1::ScanSourceResponse>, Status> {
        let v1::ScanSourceRequest { source_id, reingest_outdated, accept_loss } = request.into_inner();
        let scan = self.0.scan_source(&source_id, reingest_outdated, accept_loss);
        reply(scan.map(|outdated| v1::ScanSourceResponse { outdated }))
    }

    async fn retry_source_files(
        &self,
        request: Request<v1::RetrySourceFilesRequest>,
    ) -> Result<Response<v1::RetrySourceFilesResponse>, Status> {
        let v1::RetrySourceFilesRequest { source_id, paths } = request.into_inner();
        let retry = async { self.0.retry_source_files(&source_id, &bounded(paths)?).await };
        reply(retry.await.map(|files| v1::RetrySourceFilesResponse { files }))
    }

    async fn clear_source_failures(
        &self,
        request: Request<v1::ClearSourceFailuresRequest>,
    ) -> Result<Response<v1::ClearSourceFailuresResponse>, Status> {
        let v1::ClearSourceFailuresRequest { source_id, paths } = request.into_inner();
        let clear = async { self.0.clear_source_failures(&source_id, &bounded(paths)?).await };
        reply(clear.await.map(|files| v1::ClearSourceFailuresResponse { files }))
    }

    async fn import(
        &self,
        request: Request<v1::ImportRequest>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        reply(import::job(request.into_inner()).and_then(|job| import::run(&self.0, job)))
    }
}

impl Ingest {
    fn source(&self, status: SourceStatus) -> v1::Source {
        let files_linked = self.0.linked_files(&status.source);
        v1::Source { files_linked, ..source(status) }
    }
}

fn source(status: SourceStatus) -> v1::Source {
    let state = match status.state {
        SourceState::Scanning => v1::SourceState::Scanning,
        SourceState::Watching => v1::SourceState::Watching,
        SourceState::Unavailable => v1::SourceState::Unavailable,
    };
    let options = status.source.options;
    let password_file = status.source.password_file.unwrap_or_default().to_string_lossy().into_owned();
    let has_events = status.noticing == Noticing::Events;
    v1::Source {
        id: status.source.id,
        collection: status.source.collection,
        path: status.source.root.to_string_lossy().into_owned(),
        ignore: status.source.ignore,
        state: state.into(),
        error: status.error.unwrap_or_default(),
        files_indexed: status.files.indexed,
        files_pending: status.files.pending,
        files_failed: status.files.failed,
        files_skipped: status.files.skipped,
        path_fields: options
            .path_fields
            .as_ref()
            .map(|fields| fields.pattern().to_owned())
            .unwrap_or_default(),
        chunk: convert::chunk::to_wire(&options.chunk),
        poll: status.source.poll,
        has_events,
        files_outdated: status.files.outdated,
        duplicates: document::duplicates_to_wire(options.duplicates),
        files_linked: 0,
        near_duplicates: options.near_duplicates,
        ttl_seconds: options.ttl_seconds,
        near_duplicate_threshold: options.near_duplicate_threshold.map(Resemblance::get),
        password_file,
        passwords: u32::try_from(status.passwords).unwrap_or(u32::MAX),
    }
}

/// Paths of a request, not too many.
fn bounded(paths: Vec<String>) -> Result<Vec<String>, Error> {
    if paths.len() > convert::MAX_IDS {
        let message = format!("{} are more than {}", paths.len(), convert::MAX_IDS);
        return Err(Error::invalid("paths", message));
    }
    Ok(paths)
}

fn file((file, linked_to): (FileStatus, Option<String>)) -> v1::SourceFile {
    let (state, reason) = file_state(&file.state);
    let reason = reason.to_owned();
    let retry_at = file.retry_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    let retry_at = retry_at.and_then(|since| i64::try_from(since.as_micros()).ok());
    v1::SourceFile {
        path: file.path,
        state: state.into(),
        reason,
        document_id: file.document_id,
        chunks: file.chunks,
        tries: file.tries,
        retry_at: retry_at.map(convert::rfc3339).unwrap_or_default(),
        linked_to: linked_to.unwrap_or_default(),
    }
}

fn file_state(state: &FileState) -> (v1::FileState, &str) {
    match state {
        FileState::Queued => (v1::FileState::Queued, ""),
        FileState::Extracting => (v1::FileState::Extracting, ""),
        FileState::Embedding => (v1::FileState::Embedding, ""),
        FileState::Indexed => (v1::FileState::Indexed, ""),
        FileState::Outdated => (v1::FileState::Outdated, ""),
        FileState::Failed { reason } => (v1::FileState::Failed, reason),
        FileState::Skipped { reason } => (v1::FileState::Skipped, reason),
    }
}
