//! Connections: a bounded number, each with limits on its buffers and its time. At shutdown,
//! requests in flight are finished. This file does not know what is served.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::activity::{Connection, Connections, InProgress};
use super::patient_stream::PatientStream;
use super::sender::Peer;
use super::tls::Tls;

/// Maximum bytes that hyper buffers per connection.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Maximum time that a client may take to agree on TLS.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Maximum time that a connection may be idle, or take to send a request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// Pause after a failed accept, for example if descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Maximum time for requests in flight to finish at shutdown.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(4);

/// At shutdown, connections that the kernel has queued are accepted until none comes for this time.
const QUEUED_PAUSE: Duration = Duration::from_millis(20);

/// Maximum time for accepting connections at shutdown.
const QUEUED_TIME_MAX: Duration = Duration::from_millis(500);

/// How long a connection that closes may take to send its first request.
const GRACE: Duration = Duration::from_millis(500);

/// Pause between two searches for an idle connection to close.
const SEARCH_PAUSE: Duration = Duration::from_millis(50);

/// Least number of connections that the kernel queues.
const BACKLOG_MIN: u32 = 1024;

/// Limits on connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Maximum number of connections. Further clients wait unaccepted.
    pub(crate) connections_max: usize,
    /// Maximum time that a write may wait for its client.
    pub(crate) write_time_max: Duration,
}

/// Listens at an address. The kernel queues at least as many connections as the server may have.
///
/// # Errors
/// The address is in use or invalid.
pub(crate) fn listen(address: SocketAddr, connections_max: usize) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(u32::try_from(connections_max).unwrap_or(u32::MAX).max(BACKLOG_MIN))
}

/// What all connections share.
#[derive(Clone)]
struct Server {
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    ends: watch::Receiver<bool>,
    open: Arc<Connections>,
    permits: Arc<Semaphore>,
}

/// Serves until `ends` becomes true, over TLS if there is a certificate. Then answers what was
/// accepted or queued by then. Returns when no request is in flight.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: Limits,
    mut ends: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let open = Arc::default();
    let server = Server { router, tls, limits, ends: ends.clone(), open, permits };
    let mut number = 0;
    let until = loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ends.wait_for(|ends| *ends) => break Instant::now() + DRAIN_TIME_MAX,
        };
        number += 1;
        let mut start = std::pin::pin!(server.start(number, accepted));
        tokio::select! {
            () = start.as_mut() => continue,
            _ = ends.wait_for(|ends| *ends) => {}
        }
        let until = Instant::now() + DRAIN_TIME_MAX;
        // It waits for room, which the end of another connection makes.
        tokio::time::timeout_at(until.into(), start).await.ok();
        break until;
    };
    let queued_until = Instant::now() + QUEUED_TIME_MAX;
    while Instant::now() < queued_until {
        let accepted = tokio::time::timeout(QUEUED_PAUSE, listener.accept()).await;
        let Ok(accepted) = accepted else { break };
        number += 1;
        if tokio::time::timeout_at(until.into(), server.start(number, accepted)).await.is_err() {
            break;
        }
    }
    drop(listener);
    let all = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    let all = server.permits.acquire_many(all);
    if tokio::time::timeout_at(until.into(), all).await.is_err() {
        tracing::error!(time_max = ?DRAIN_TIME_MAX, "some requests did not finish in time");
    }
}

impl Server {
    /// Serves a connection in a task of its own, once there is room for it.
    async fn start(&self, number: u64, accepted: io::Result<(TcpStream, SocketAddr)>) {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
                return tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        };
        let permit = self.permit().await;
        let server = self.clone();
        tokio::spawn(async move {
            let connection = server.open.add(number);
            server.serve_one(stream, Peer(peer.ip()), &connection).await;
            server.open.remove(number);
            drop(permit);
        });
    }

    /// Waits for room for a connection. Closes the connections that have been idle for the longest
    /// time, one after the other, until there is room.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
                return Some(permit);
            }
            self.open.close_longest_idle();
            let permit = Arc::clone(&self.permits).acquire_owned();
            if let Ok(permit) = tokio::time::timeout(SEARCH_PAUSE, permit).await {
                // The semaphore is never closed.
                return permit.ok();
            }
        }
    }

    async fn serve_one(&self, stream: TcpStream, peer: Peer, open: &Arc<Connection>) {
        // Without this, small responses may wait for the client's acknowledgement.
        stream.set_nodelay(true).ok();
        let stream = PatientStream::new(stream, self.limits.write_time_max);
        let Some(tls) = &self.tls else { return self.serve_stream(stream, peer, open).await };
        let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.acceptor().accept(stream));
        let mut ends = self.ends.clone();
        // A client that has just connected may still be answered, as below.
        let end = async {
            ends.wait_for(|ends| *ends).await.ok();
            tokio::time::sleep(GRACE).await;
        };
        // TLS itself reports a failed handshake to the client.
        tokio::select! {
            agreed = handshake => if let Ok(Ok(stream)) = agreed {
                self.serve_stream(stream, peer, open).await;
            },
            () = end => {}
            () = open.closes() => {}
        }
    }

    async fn serve_stream(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        peer: Peer,
        open: &Arc<Connection>,
    ) {
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            let _in_progress = open.begin();
            request.extensions_mut().insert(peer);
            let answer = router.call(request);
            async move { answer.await.map(|answer| answer.map(|body| Tracked { body, _in_progress })) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut ends = self.ends.clone();
        // A connection that breaks off needs no report.
        tokio::select! {
            served = connection.as_mut() => return drop(served),
            _ = ends.wait_for(|ends| *ends) => {}
            () = open.closes() => {}
        }
        // A client that has just connected may have sent a request that nobody has read yet. hyper
        // would close its connection at once.
        if open.is_silent() {
            tokio::select! {
                served = connection.as_mut() => return drop(served),
                () = open.begins() => {}
                () = tokio::time::sleep(GRACE) => {}
            }
        }
        connection.as_mut().graceful_shutdown();
        drop(connection.await);
    }
}

/// The body of a response. Its request is in progress until the body is sent or dropped.
struct Tracked {
    body: Body,
    /// Dropped with the body.
    _in_progress: InProgress,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
