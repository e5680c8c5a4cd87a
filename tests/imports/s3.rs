//! An S3 server of the test's own, which counts what it hands out. It keeps its objects in a folder.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

/// Who may ask.
pub(crate) const KEY: &str = "ragstone-test-key";
/// What proves it.
pub(crate) const SECRET: &str = "ragstone-test-secret";

/// Folders whose name stands for an empty part of a key, and for one of two dots: on a disk there are no such names.
pub(crate) const EMPTY: &str = "~empty~";
pub(crate) const DOTS: &str = "~dots~";

/// A running server.
pub(crate) struct S3 {
    address: SocketAddr,
    asked: Arc<Asked>,
}

#[derive(Default)]
struct Asked {
    requests: AtomicU64,
    bytes: AtomicU64,
    /// Requests for an object without a range.
    whole: AtomicU64,
    /// Requests to refuse for a passing reason.
    failing: AtomicU64,
}

impl S3 {
    /// Starts one over a folder: its folders are the buckets.
    pub(crate) async fn start(folder: &Path) -> Self {
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
        builder.set_auth(SimpleAuth::from_single(KEY, SECRET));
        Self::serve(builder.build(), false).await
    }

    /// Starts one for whoever asks, whose keys may be odd: see [`EMPTY`] and [`DOTS`].
    pub(crate) async fn start_odd(folder: &Path) -> Self {
        let builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
        Self::serve(builder.build(), true).await
    }

    async fn serve(service: s3s::service::S3Service, is_odd: bool) -> Self {
        let asked = Arc::new(Asked::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (service, counter) = (service.clone(), Arc::clone(&counter));
                let counted = hyper::service::service_fn(move |request| {
                    let (service, counter) = (service.clone(), Arc::clone(&counter));
                    async move {
                        let request = if is_odd { with_names(request) } else { request };
                        let is_listing = is_listing(&request);
                        let answer = counter.answer(service, request).await?;
                        Ok::<_, s3s::HttpError>(if is_odd && is_listing {
                            without_names(answer)
                        } else {
                            answer
                        })
                    }
                });
                tokio::spawn(async move {
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), counted)
                        .await;
                });
            }
        });
        Self { address, asked }
    }

    /// The variables of the environment by which it is reached.
    pub(crate) fn environment<'a>(
        &'a self,
        endpoint: &'a mut String,
        secret: &'a str,
    ) -> Vec<(&'a str, &'a str)> {
        *endpoint = format!("http://{}", self.address);
        vec![
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ]
    }

    /// Those of one that lets everybody in.
    pub(crate) fn open_environment<'a>(&'a self, endpoint: &'a mut String) -> Vec<(&'a str, &'a str)> {
        *endpoint = format!("http://{}", self.address);
        vec![("AWS_ENDPOINT_URL", endpoint), ("AWS_REGION", "eu-central-1"), ("AWS_SKIP_SIGNATURE", "true")]
    }

    /// Refuses that many requests from now on, as a store does that has too much to do.
    pub(crate) fn fail(&self, requests: u64) {
        self.asked.failing.store(requests, Ordering::SeqCst);
    }

    /// Requests and bytes of objects since the last call. No object may have been asked for as a whole.
    pub(crate) fn asked(&self) -> (u64, u64) {
        assert_eq!(self.asked.whole.load(Ordering::SeqCst), 0, "an object was fetched without a range");
        (self.asked.requests.swap(0, Ordering::SeqCst), self.asked.bytes.swap(0, Ordering::SeqCst))
    }
}

impl Asked {
    async fn answer(
        &self,
        service: s3s::service::S3Service,
        request: hyper::Request<hyper::body::Incoming>,
    ) -> Result<s3s::HttpResponse, s3s::HttpError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let is_get = request.method() == hyper::Method::GET;
        let has_range = request.headers().contains_key("range");
        let is_failing =
            self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if is_failing.is_ok() {
            let mut refused = s3s::HttpResponse::new(s3s::Body::empty());
            *refused.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
            return Ok(refused);
        }
        let is_listing = is_listing(&request);
        let answer = hyper::service::Service::call(&service, request).await?;
        if is_get && !is_listing && answer.status().is_success() {
            self.whole.fetch_add(u64::from(!has_range), Ordering::SeqCst);
            let length = answer.headers().get("content-length").and_then(|length| length.to_str().ok());
            self.bytes
                .fetch_add(length.and_then(|length| length.parse().ok()).unwrap_or(0), Ordering::SeqCst);
        }
        Ok(answer)
    }
}

fn is_listing(request: &hyper::Request<hyper::body::Incoming>) -> bool {
    request.uri().query().is_some_and(|query| query.contains("list-type"))
}

/// Puts a name where a key has an empty part, in the path or the prefix that is asked for.
fn with_names(mut request: hyper::Request<hyper::body::Incoming>) -> hyper::Request<hyper::body::Incoming> {
    let uri = request.uri().to_string();
    let named = uri.replace("//", &format!("/{EMPTY}/")).replace("%2F%2F", &format!("%2F{EMPTY}%2F"));
    *request.uri_mut() = named.parse().unwrap();
    request
}

/// A listing with the keys that the names stand for.
fn without_names(mut answer: s3s::HttpResponse) -> s3s::HttpResponse {
    let body = std::mem::replace(answer.body_mut(), s3s::Body::empty()).bytes().unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap().replace(EMPTY, "").replace(DOTS, "..");
    answer.headers_mut().remove("content-length");
    *answer.body_mut() = body.into();
    answer
}
