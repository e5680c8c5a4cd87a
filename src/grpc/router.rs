//! The one place where a call is admitted: every call passes here before a service sees it. It bounds the calls in
//! flight and their time, gives each an id and a span, turns a panic into an error, and corrects what the transport
//! says of requests that can't be decoded. It knows the services only by name.

use std::collections::HashMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, HeaderValue, Request, Response};
use tonic::server::NamedService;
use tracing::Instrument as _;

use super::status;
use crate::app::error::Error;
use crate::app::workers::panic_message;

/// Header that carries the id of a call, in and out.
const REQUEST_ID: &str = "x-request-id";
/// Longest id that a client may give.
const MAX_REQUEST_ID_BYTES: usize = 64;
/// The part of a client's time that is left for the answer's way: with it the client learns why, where its own clock
/// would only tell that the time is over.
const DEADLINE_MARGIN: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(2)..=Duration::from_millis(50);

/// When a call has to be answered. In the extensions of each request.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(pub Instant);

/// How a method is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// By the server's request timeout and the client's.
    Call,
    /// By the client's timeout alone: streams, uploads, maintenance. They may take the time of a core, and don't run on
    /// the threads that serve connections.
    Long,
    /// Never refused: health and reflection.
    Probe,
}

type Handler = Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Routes calls to services by the first part of their path.
#[derive(Clone)]
pub struct Router {
    services: HashMap<&'static str, Handler>,
    admission: Arc<Semaphore>,
    limit: usize,
    timeout: Duration,
    bounds: fn(&str) -> Bounds,
    runtime: Handle,
    ids: Arc<AtomicU64>,
}

impl Router {
    /// A router without services. `bounds` says by path how a method is bounded; long ones run on `runtime`.
    pub fn new(max_in_flight: usize, timeout: Duration, bounds: fn(&str) -> Bounds, runtime: Handle) -> Self {
        // Ids of two runs of the server should differ in a log that holds both.
        let start = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            services: HashMap::new(),
            admission: Arc::new(Semaphore::new(max_in_flight)),
            limit: max_in_flight,
            timeout,
            bounds,
            runtime,
            ids: Arc::new(AtomicU64::new((start.as_millis() as u64) << 20)),
        }
    }

    /// Adds a service.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| {
            let call = service.clone().call(request);
            async move {
                match call.await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            .boxed()
        });
        self.services.insert(S::NAME, handler);
        self
    }

    fn admit(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let path = request.uri().path();
        let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let Some(handler) = self.services.get(service).map(Arc::clone) else {
            return std::future::ready(status::unimplemented(path).into_http()).boxed();
        };
        let bounds = (self.bounds)(path);
        if bounds == Bounds::Probe {
            return handler(request);
        }
        let id = self.request_id(request.headers());
        let span = tracing::info_span!("call", method = path, id = %id.to_str().unwrap_or_default());
        let Ok(permit) = Arc::clone(&self.admission).try_acquire_owned() else {
            let busy = Error::Busy { what: "calls in flight", limit: self.limit };
            return std::future::ready(status::status(&busy).into_http()).boxed();
        };
        let limit = time_limit(request.headers(), (bounds == Bounds::Call).then_some(self.timeout));
        let handler = if bounds == Bounds::Long { on(self.runtime.clone(), handler) } else { handler };
        async move {
            let started = Instant::now();
            let mut response = answer(handler, request, limit).await;
            drop(permit);
            response.headers_mut().insert(REQUEST_ID, id);
            let code =
                Status::from_header_map(response.headers()).map_or(tonic::Code::Ok, |status| status.code());
            tracing::debug!(?code, elapsed_us = started.elapsed().as_micros() as u64, "answered");
            response
        }
        .instrument(span)
        .boxed()
    }

    /// The client's id, when it is short and readable, else a new one.
    fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        let readable = |value: &&HeaderValue| {
            (1..=MAX_REQUEST_ID_BYTES).contains(&value.len())
                && value.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        headers.get(REQUEST_ID).filter(readable).cloned().unwrap_or_else(|| {
            let id = format!("{:012x}", self.ids.fetch_add(1, Ordering::Relaxed));
            HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("-"))
        })
    }
}

/// The same handler on another runtime than the one that serves its connection. It ends with the call.
fn on(runtime: Handle, handler: Handler) -> Handler {
    Arc::new(move |request| {
        let task = runtime.spawn(handler(request).instrument(tracing::Span::current()));
        let mut task = AbortOnDrop(task);
        async move {
            match (&mut task.0).await {
                Ok(response) => response,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => status::status(&Error::ShuttingDown).into_http(),
            }
        }
        .boxed()
    })
}

/// A task that nobody waits for any more is cancelled.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a handler within its time. Whatever happens, there is an answer.
async fn answer(handler: Handler, mut request: Request<Body>, limit: Option<Duration>) -> Response<Body> {
    if let Some(limit) = limit {
        request.extensions_mut().insert(Deadline(Instant::now() + limit));
    }
    // The handler's own state is gone after a panic; what calls share is locks that don't poison and the engine.
    let call = AssertUnwindSafe(async move { handler(request).await }).catch_unwind();
    let outcome = match limit {
        Some(limit) => tokio::time::timeout(limit, call).await,
        None => Ok(call.await),
    };
    match outcome {
        Ok(Ok(response)) => corrected(response),
        Ok(Err(panic)) => {
            tracing::error!(panic = panic_message(&*panic), "a handler panicked");
            status::status(&Error::Panicked).into_http()
        }
        Err(_) => {
            let text = format!("not done within {} ms", limit.unwrap_or_default().as_millis());
            status::status(&Error::DeadlineExceeded(text)).into_http()
        }
    }
}

/// The shorter of the client's time (`grpc-timeout`) and the server's.
fn time_limit(headers: &HeaderMap, server: Option<Duration>) -> Option<Duration> {
    let client = headers.get("grpc-timeout").and_then(|value| parse_timeout(value.to_str().ok()?));
    let client = client.map(|time| {
        let margin = (time / 20).clamp(*DEADLINE_MARGIN.start(), *DEADLINE_MARGIN.end());
        time.saturating_sub(margin)
    });
    match (client, server) {
        (Some(client), Some(server)) => Some(client.min(server)),
        (client, server) => client.or(server),
    }
}

/// `100m`: at most 8 digits and a unit (gRPC over HTTP/2, "Timeout").
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Puts the right code in place of the transport's for a request that could not be read.
fn corrected(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(refused) if refused.code() != tonic::Code::Ok && refused.details().is_empty() => {
            status::refused(refused).into_http()
        }
        _ => response,
    }
}

impl Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.admit(request).map(Ok).boxed()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use super::*;
    use tonic::Code;

    #[derive(Clone)]
    struct Service1(fn() -> Response<Body>, Duration);

    impl NamedService for Service1 {
        const NAME: &'static str = "test.Service";
    }

    impl Service<Request<Body>> for Service1 {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            let Self(answer, wait) = *self;
            async move {
                tokio::time::sleep(wait).await;
                Ok(answer())
            }
            .boxed()
        }
    }

    fn router(answer: fn() -> Response<Body>, wait_ms: u64) -> Router {
        Router::new(1, Duration::from_millis(200), |_| Bounds::Call, Handle::current())
            .with(Service1(answer, Duration::from_millis(wait_ms)))
    }

    async fn code(router: &Router, path: &str) -> Code {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = router.clone().call(request).await.unwrap();
        Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code())
    }

    fn ok() -> Response<Body> {
        Response::new(Body::empty())
    }

    #[tokio::test]
    async fn a_panic_is_internal_and_the_next_call_is_served() {
        let router = router(|| panic!("boom"), 0);
        assert_eq!(code(&router, "/test.Service/M").await, Code::Internal);
        assert_eq!(code(&router, "/test.Service/M").await, Code::Internal);
    }

    #[tokio::test]
    async fn an_unknown_service_is_unimplemented() {
        let router = router(ok, 0);
        assert_eq!(code(&router, "/other.Service/M").await, Code::Unimplemented);
        assert_eq!(code(&router, "/").await, Code::Unimplemented);
    }

    #[tokio::test]
    async fn a_slow_call_ends_and_a_second_one_is_refused_meanwhile() {
        let router = router(ok, 60_000);
        let (slow, second) =
            tokio::join!(code(&router, "/test.Service/M"), async { code(&router, "/test.Service/M").await });
        assert_eq!((slow, second), (Code::DeadlineExceeded, Code::ResourceExhausted));
    }

    #[test]
    fn timeouts_of_clients() {
        assert_eq!(parse_timeout("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3_600)));
        for bad in ["", "m", "100", "123456789S", "-1S", "1x", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn ids_of_clients_are_kept_when_they_are_harmless() {
        let router = router(ok, 0);
        let given = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::try_from(value).unwrap());
            router.request_id(&headers)
        };
        assert_eq!(given("abc-1"), "abc-1");
        assert_ne!(given("a b"), "a b");
        assert_ne!(given(&"x".repeat(65)), "x".repeat(65));
    }
}
