//! An HTTP service that answers 204 once a record is durable, and 503 while it cannot write.
//!
//! ```text
//! cargo run -p shardwal-ingest --example service
//! curl -i --data 'cpu 0.93' http://127.0.0.1:8080/append/7
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header::RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use shardwal::{Cause, Config, ShardedWal};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Maximum bytes of a body, and of all bodies together until they are durable.
const BODY_BYTES_MAX: usize = 1 << 20;
const IN_FLIGHT_BYTES_MAX: usize = 64 << 20;
/// Maximum time that a request waits for room in the queue of its shard.
const ROOM_TIME_MAX: Duration = Duration::from_millis(250);

struct App {
    log: ShardedWal,
    in_flight: Semaphore,
}

/// A 503: the client sends the record again, so records must be idempotent.
fn unavailable(why: impl ToString) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why.to_string()).into_response()
}

async fn append(State(app): State<Arc<App>>, Path(series): Path<u64>, body: Bytes) -> Response {
    // Held until the answer, so that records in the log's queue count too.
    let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let Ok(_held) = app.in_flight.try_acquire_many(bytes) else {
        return unavailable("too many requests are in flight");
    };
    // Does not block the thread. If the time is up, the record is not appended.
    let queued = tokio::time::timeout(ROOM_TIME_MAX, app.log.append_async(series, body)).await;
    let completion = match queued {
        Ok(Ok(completion)) => completion,
        Ok(Err(refused)) => return unavailable(refused.cause),
        Err(_time_is_up) => return unavailable(Cause::QueueFull),
    };
    // The writer wakes this task after the fdatasync.
    match completion.await {
        Ok(_position) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => unavailable(error),
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
