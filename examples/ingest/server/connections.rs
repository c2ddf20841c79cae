//! Connections: so many at once, each with limits on its buffers and its time,
//! and an end that lets requests in flight finish.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// What hyper buffers of one connection at most.
const BUFFER_BYTES_MAX: usize = 64 << 10;

/// How long a connection may be idle or take to send a request's head.
const HEAD_TIME_MAX: Duration = Duration::from_secs(60);

/// How long to wait where no connection can be accepted: out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long requests in flight may take to finish once the server ends.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(15);

/// Serves until told to end, and returns when no request is in flight.
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
                eprintln!("no connection can be accepted: {error}");
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
    // Without it small answers may wait for the client's acknowledgement.
    stream.set_nodelay(true).ok();
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // A connection that breaks off is its client's affair.
    tokio::select! {
        served = connection.as_mut() => return drop(served),
        _ = ends.wait_for(|ends| *ends) => {}
    }
    connection.as_mut().graceful_shutdown();
    drop(connection.await);
}
