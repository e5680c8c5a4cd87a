//! The threads that serve connections: one a core, each with an async runtime of its own. A call is read, answered and
//! written by the thread of its connection, so that a short query wakes no other thread on its way: on two cores the
//! wake-ups of a shared runtime cost as much as the search itself.
//!
//! Nothing here knows what is served.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::Connected;

use crate::grpc::router::Router;

/// Idle connections are asked whether they live after this time, and closed when they don't answer for as long again.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Calls of one connection at the same time.
const MAX_STREAMS: u32 = 1_024;
/// Bytes in flight of one call and of one connection: large enough that uploads aren't bound by the round trip.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Headers of a call.
const MAX_HEADER_BYTES: u32 = 32 << 10;
/// New connections that wait for their thread.
const MAX_WAITING: usize = 1_024;
/// After a connection could not be taken, as when there are no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The threads. They end when the drain that they were started with is cancelled and their calls are answered, or at
/// once when this is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    threads: Vec<Thread>,
    _abandon: DropGuard,
}

#[derive(Debug)]
struct Thread {
    connections: mpsc::Sender<std::net::TcpStream>,
    /// Connections that it serves.
    load: Arc<AtomicUsize>,
    ended: oneshot::Receiver<Result<(), tonic::transport::Error>>,
}

/// What a thread needs to start.
struct Start {
    router: Router,
    connections: mpsc::Receiver<std::net::TcpStream>,
    load: Arc<AtomicUsize>,
    drain: CancellationToken,
    abandon: CancellationToken,
}

impl Network {
    /// Starts the threads.
    pub(crate) fn start(router: &Router, drain: &CancellationToken) -> io::Result<Self> {
        let abandon = CancellationToken::new();
        let count = thread::available_parallelism().map_or(2, usize::from);
        let cores = cores_for(count);
        let threads = (0..count).map(|number| {
            let (sender, connections) = mpsc::channel(MAX_WAITING);
            let (done, ended) = oneshot::channel();
            let load = Arc::new(AtomicUsize::new(0));
            let start = Start {
                router: router.clone(),
                connections,
                load: Arc::clone(&load),
                drain: drain.clone(),
                abandon: abandon.clone(),
            };
            let core = cores.get(number).copied();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            thread::Builder::new().name(format!("network-{number}")).spawn(move || {
                core.into_iter().for_each(stay_on);
                let result = runtime.block_on(start.serve());
                // Calls that were abandoned go with it; a blocking job that one of them waits for goes on elsewhere.
                runtime.shutdown_background();
                let _nobody_waits = done.send(result);
            })?;
            Ok(Thread { connections: sender, load, ended })
        });
        let threads = threads.collect::<io::Result<Vec<_>>>()?;
        Ok(Self { threads, _abandon: abandon.drop_guard() })
    }

    /// Takes connections until this future is dropped.
    pub(crate) async fn accept(&self, listener: TcpListener) {
        loop {
            let taken = match listener.accept().await {
                Ok((stream, _)) => self.hand_over(stream).await,
                Err(error) => Err(error),
            };
            if let Err(error) = taken {
                // A client that is gone already is no reason to wait.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
                {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives a connection to the thread that has the fewest.
    async fn hand_over(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let stream = stream.into_std()?;
        let idlest = self.threads.iter().min_by_key(|thread| thread.load.load(Ordering::Relaxed));
        if let Some(thread) = idlest {
            thread.load.fetch_add(1, Ordering::Relaxed);
            if thread.connections.send(stream).await.is_err() {
                thread.load.fetch_sub(1, Ordering::Relaxed);
                return Err(io::Error::other("the thread that should serve it has ended"));
            }
        }
        Ok(())
    }

    /// Waits until all threads have ended, each after its last call.
    pub(crate) async fn ended(&mut self) -> Result<(), tonic::transport::Error> {
        for thread in &mut self.threads {
            // A thread that says nothing has panicked, which its panic message told.
            if let Ok(ended) = (&mut thread.ended).await {
                ended?;
            }
        }
        Ok(())
    }
}

/// The cores to keep `count` threads on: one each when that takes all cores that this process may use, else none.
///
/// A client on the same machine wakes the thread that it talks to, and the system likes to run it where the client runs:
/// threads gather on one core while another idles. Where the process may use more cores than it has threads, as under a
/// quota, others may sit on the first ones, and the system knows better.
#[cfg(target_os = "linux")]
fn cores_for(count: usize) -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};
    let allowed = sched_getaffinity(None).unwrap_or_default();
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if cores.len() == count { cores } else { Vec::new() }
}

#[cfg(not(target_os = "linux"))]
fn cores_for(_: usize) -> Vec<usize> {
    Vec::new()
}

/// Keeps this thread on a core; where that is not allowed it runs anywhere.
#[cfg(target_os = "linux")]
fn stay_on(core: usize) {
    let mut only = rustix::thread::CpuSet::new();
    only.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &only) {
        tracing::debug!(core, %error, "a network thread is not kept on its core");
    }
}

#[cfg(not(target_os = "linux"))]
fn stay_on(_: usize) {}

impl Start {
    fn serve(self) -> impl Future<Output = Result<(), tonic::transport::Error>> {
        let Self { router, connections, load, drain, abandon } = self;
        let incoming = ReceiverStream::new(connections).map(move |stream| Connection::new(stream, &load));
        let serve = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_with_incoming_shutdown(router, incoming, drain.cancelled_owned());
        async move {
            tokio::select! {
                served = serve => served,
                () = abandon.cancelled() => Ok(()),
            }
        }
    }
}

/// A connection that counts among those of its thread for as long as it lives.
struct Connection {
    stream: TcpStream,
    _counted: Counted,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Registers the stream with the runtime of this thread; it was counted when it was handed over.
    fn new(stream: std::net::TcpStream, load: &Arc<AtomicUsize>) -> io::Result<Self> {
        let counted = Counted(Arc::clone(load));
        Ok(Self { stream: TcpStream::from_std(stream)?, _counted: counted })
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
