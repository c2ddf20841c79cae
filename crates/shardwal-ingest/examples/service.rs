//! An HTTP service that answers 204 once a record is durable. Another status says why it is not.
//!
//! ```text
//! cargo run -p shardwal-ingest --example service
//! curl -i --data 'cpu 0.93' http://127.0.0.1:8080/append/7
//! ```

use std::{error::Error, sync::Arc, time::Duration};

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode as Status, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::{Router, body::Bytes, routing::post};
use shardwal::{Cause, Config, ShardedWal};
use tokio::{net::TcpListener, sync::Semaphore};

/// Maximum bytes of a body, and of all bodies that are not durable yet.
const BODY_BYTES_MAX: usize = 1 << 20;
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// Maximum time that a request waits for room in the queue of its shard.
const ROOM_TIME_MAX: Duration = Duration::from_millis(250);

struct App {
    log: ShardedWal,
    in_flight: Semaphore,
}

/// Says why a record may not be in the log, and when to send it again: records must be idempotent.
fn failed(cause: &Cause, why: &str) -> Response {
    let (status, seconds) = match cause {
        Cause::QueueFull | Cause::SegmentNotReady => (Status::SERVICE_UNAVAILABLE, "1"),
        // An operator must free space.
        Cause::DiskFull(_) | Cause::BelowFreeSpaceMin { .. } => {
            (Status::INSUFFICIENT_STORAGE, "30")
        }
        // The shard is out of service until this process opens the log again.
        _ => (Status::INTERNAL_SERVER_ERROR, "60"),
    };
    (status, [(RETRY_AFTER, seconds)], why.to_owned()).into_response()
}

async fn append(State(app): State<Arc<App>>, Path(series): Path<u64>, body: Bytes) -> Response {
    let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
    // Held until the answer, so that records in the log's queue count too.
    let Ok(_held) = app.in_flight.try_acquire_many(bytes) else {
        return failed(&Cause::QueueFull, "too many requests are in flight");
    };
    // Does not block the thread. If the time is up, the record is not appended.
    let room = tokio::time::timeout(ROOM_TIME_MAX, app.log.reserve(series, body.len())).await;
    let permit = match room {
        Ok(Ok(permit)) => permit,
        Ok(Err(refused)) => return failed(refused.cause(), &refused.to_string()),
        Err(_time_is_up) => return failed(&Cause::QueueFull, "no room in the queue"),
    };
    // The writer wakes this task after the fdatasync.
    match permit.append(body).await {
        Ok(_position) => Status::NO_CONTENT.into_response(),
        Err(error) => failed(error.cause(), &error.to_string()),
    }
}

/// Serves until `stop` resolves and the requests in flight are answered. Then closes the log.
pub(crate) async fn serve(
    listener: TcpListener,
    config: Config,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    // Open and close read and write the disk, so they run on threads that may block.
    let log = tokio::task::spawn_blocking(|| ShardedWal::open(config)).await??;
    let app = Arc::new(App { log, in_flight: Semaphore::new(IN_FLIGHT_BYTES_MAX) });
    let append = post(append).layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let router = Router::new().route("/append/{series}", append).with_state(Arc::clone(&app));
    axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    Ok(tokio::task::spawn_blocking(move || app.log.close()).await??)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    serve(TcpListener::bind("127.0.0.1:8080").await?, Config::new("data"), stop).await
}
