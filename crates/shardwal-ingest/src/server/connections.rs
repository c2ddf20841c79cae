//! Connections: a bounded number, each with limits on its buffers and its time. At shutdown,
//! requests in flight are finished. This file does not know what is served.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Maximum bytes that hyper buffers per connection.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// Maximum time that a connection may be idle, or take to send a request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// Pause after a failed accept, for example if descriptors are exhausted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Maximum time for requests in flight to finish at shutdown.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(15);

/// Serves until `ends` becomes true. Returns when no request is in flight.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    mut ends: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(connections_max));
    loop {
        let accepted = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = ends.wait_for(|ends| *ends) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve_one(stream, router.clone(), ends.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            Err(error) => {
                eprintln!("cannot accept connections: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    if tokio::time::timeout(DRAIN_TIME_MAX, permits.acquire_many(all)).await.is_err() {
        eprintln!("some requests did not finish in {DRAIN_TIME_MAX:?}");
    }
}

async fn serve_one(stream: TcpStream, router: Router, mut ends: watch::Receiver<bool>) {
    // Without this, small responses may wait for the client's acknowledgement.
    stream.set_nodelay(true).ok();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks off needs no report.
    tokio::select! {
        served = connection.as_mut() => return drop(served),
        _ = ends.wait_for(|ends| *ends) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}
