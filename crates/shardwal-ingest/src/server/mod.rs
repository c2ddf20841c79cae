//! The server: receives Prometheus remote write, InfluxDB's line protocol and OTLP metrics, and
//! writes to a storage on the log.
//!
//! ```text
//! cargo run --release -p shardwal-ingest -- serve --listen 127.0.0.1:9291 --dir D
//! ```
//!
//! The path of a request: `connections` -> `body` (within the `budget`) -> `remote_write`, `influx`
//! or `otlp` -> `batch` with the `series_cache` -> the storage. An error becomes a `refusal`. The
//! server listens at once, and responds 503 until the log is replayed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use metrics_exporter_prometheus::PrometheusBuilder;
use shardwal::{Config, ReplayOptions, ReplayProgress};
use shardwal_timeseries::{Storage, StorageError, StorageOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::Failure;
use crate::go_float;
use crate::notify;
use app::{App, Limits};
use influx::handshake;
use refusal::DISK_FULL;
use schedule::{Due, Schedule, Seen};

mod access;
mod activity;
mod app;
mod batch;
mod body;
mod budget;
mod compression;
mod connections;
mod counters;
mod excerpt;
mod gzip;
mod headers;
mod health;
mod history;
mod influx;
pub(crate) mod native_histogram;
mod otlp;
mod parameters;
mod patient_stream;
mod pieces;
mod protobuf;
mod read;
mod read_json;
mod read_limits;
mod refusal;
mod remote_read;
mod remote_write;
mod schedule;
mod search;
mod selector;
mod sender;
mod series_cache;
mod skipped;
mod status;
mod tenants;
mod times;
mod tls;
mod varint;

/// What the system sends for a write beyond a file size limit, on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// Options of a server.
pub(crate) struct Options<'arguments> {
    /// The address to listen at.
    pub(crate) address: SocketAddr,
    /// The configuration of the log.
    pub(crate) config: Config,
    /// Maximum number of series per shard.
    pub(crate) series_per_shard_max: u32,
    /// Number of samples after which a snapshot is taken and the log truncated.
    pub(crate) snapshot_samples: u64,
    /// The age at which samples leave memory. `None` keeps them for ever.
    pub(crate) retention: Option<Duration>,
    /// The log's minimum of free space.
    pub(crate) free_space_min_bytes: u64,
    /// Limits on requests.
    pub(crate) limits: Limits,
    /// How tenants are named and limited, if they are.
    pub(crate) tenants: Option<TenantSettings>,
    /// Limits on connections.
    pub(crate) connections: connections::Limits,
    /// Which requests are answered at all.
    pub(crate) access: Access,
    /// The certificate to serve TLS with. `None` serves plain HTTP.
    pub(crate) tls: Option<tls::Files>,
    /// The replay waits while this file exists; for tests.
    pub(crate) replay_hold: Option<&'arguments Path>,
}

pub(crate) use access::Access;
pub(crate) use app::Limits as ServerLimits;
pub(crate) use connections::Limits as ConnectionLimits;
pub(crate) use tenants::{TenantBy, TenantLimits, TenantSettings};
pub(crate) use tls::Files as TlsFiles;

/// Serves until SIGTERM, SIGINT or SIGHUP. Blocks.
///
/// # Errors
/// The certificate cannot be used, the address is in use, or the log cannot be opened or closed.
pub(crate) fn serve(options: Options<'_>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served = runtime.block_on(serve_until_signal(options));
    // Do not wait for a replay or an export that is still running.
    runtime.shutdown_background();
    served
}

async fn serve_until_signal(options: Options<'_>) -> Result<(), Failure> {
    let metrics = PrometheusBuilder::new().install_recorder()?;
    // A file size limit is a full disk then, and no end of the process.
    let _ignored = signal(SignalKind::from_raw(SIGXFSZ))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let tls = options.tls.clone().map(tls::Tls::start).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let listener = connections::listen(options.address, options.connections.connections_max)?;
    let address = listener.local_addr()?;
    tracing::info!(url = %format_args!("{scheme}://{address}/"), "listening");

    let tenants = options.tenants.clone().map(tenants::Tenants::new);
    let app = Arc::new(App::new(options.limits, tenants, metrics));
    let opened = open(&app, &options);
    spawn_upkeep(&app, &options);
    let (end, ends) = watch::channel(false);
    let router = router(&app, options.access.clone());
    let served = tokio::spawn(connections::serve(listener, router, tls, options.connections, ends));

    let stop = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hang_up.recv() => "SIGHUP",
        }
    };
    let mut stop = std::pin::pin!(stop);
    let signal = tokio::select! {
        opened = opened => {
            app.open(opened??);
            tracing::info!("ready");
            notify::ready();
            stop.await
        }
        // Stopping is safe, because nothing is acknowledged before the replay is done.
        signal = stop.as_mut() => signal,
    };
    tracing::info!(signal, "finishing the requests in flight");
    notify::stopping();
    app.begin_to_close();
    end.send(true)?;
    served.await?;
    if let Some(storage) = app.storage_if_open() {
        storage.close()?;
    }
    tracing::info!("closed");
    Ok(())
}

/// Opens the storage on a thread of its own, and reports the progress.
fn open(
    app: &Arc<App>,
    options: &Options<'_>,
) -> tokio::task::JoinHandle<Result<Storage, StorageError>> {
    let app = Arc::clone(app);
    let hold = options.replay_hold.map(Path::to_path_buf);
    let storage = StorageOptions::new(options.config.clone())
        .samples_max(options.limits.samples_max)
        .series_max(options.series_per_shard_max);
    let storage = match options.retention {
        Some(retention) => storage.retention(retention),
        None => storage,
    };
    tokio::task::spawn_blocking(move || {
        while hold.as_ref().is_some_and(|file| file.exists()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let replay = ReplayOptions::default().progress(Arc::new(move |at: ReplayProgress| {
            app.show_replay(at.bytes_done, at.bytes_total);
        }));
        Storage::open(storage.replay(replay))
    })
}

/// Starts what runs beside requests.
fn spawn_upkeep(app: &Arc<App>, options: &Options<'_>) {
    let Options { snapshot_samples, free_space_min_bytes, retention, .. } = options;
    tokio::spawn(keep_history(Arc::clone(app)));
    tokio::spawn(keep_log_short(Arc::clone(app), *snapshot_samples, *free_space_min_bytes));
    tokio::spawn(keep_memory_short(Arc::clone(app), *retention));
}

/// Records the history. Also keeps the memory of the metrics recorder bounded: the recorder
/// condenses its histograms only in its upkeep.
async fn keep_history(app: Arc<App>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        seconds.tick().await;
        app.metrics.run_upkeep();
        app.history.lock().unwrap_or_else(PoisonError::into_inner).take_second(&app);
    }
}

/// Takes snapshots, which truncate the log. This bounds the log and the next replay, and leaves
/// room on the disk for the snapshots themselves.
async fn keep_log_short(app: Arc<App>, samples: u64, free_space_min_bytes: u64) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut schedule = None;
    loop {
        seconds.tick().await;
        let Some(storage) = app.storage_if_open() else { continue };
        let schedule = schedule.get_or_insert_with(|| {
            let found = storage.log().recovery().shards.iter().map(|shard| shard.bytes).sum();
            Schedule::new(samples, free_space_min_bytes, found)
        });
        let seen = seen(&app, storage);
        let Some(due) = schedule.due(&seen, Instant::now()) else { continue };
        if due == Due::Room {
            tracing::warn!("the disk is low on space: taking a snapshot to truncate the log");
        }
        let app = Arc::clone(&app);
        let snapshot = tokio::task::spawn_blocking(move || app.snapshot());
        match snapshot.await {
            Ok(Some(Ok(report))) => {
                let (samples, series, bytes) = (report.samples, report.series, report.bytes);
                tracing::info!(samples, series, bytes, "took a snapshot");
                schedule.taken(due, seen, report.bytes, Instant::now());
            }
            // The samples of a failed snapshot remain in the log.
            Ok(Some(Err(error))) => {
                tracing::error!(%error, "the snapshot failed");
                schedule.failed(Instant::now());
            }
            Ok(None) | Err(_) => schedule.failed(Instant::now()),
        }
    }
}

/// Drops samples that are older than the retention, once a minute or more often, and what the
/// cache knows of series that have left.
async fn keep_memory_short(app: Arc<App>, retention: Option<Duration>) {
    let Some(retention) = retention else { return };
    let pause = (retention / 60).clamp(Duration::from_secs(1), Duration::from_secs(60));
    let mut pauses = tokio::time::interval(pause);
    loop {
        pauses.tick().await;
        let app = Arc::clone(&app);
        let dropped = tokio::task::spawn_blocking(move || app.drop_expired());
        if let Err(error) = dropped.await {
            tracing::error!(%error, "cannot drop old samples");
        }
    }
}

fn seen(app: &App, storage: &Storage) -> Seen {
    let stats = storage.log().stats();
    Seen {
        since_snapshot: storage.samples_since_snapshot(),
        logged_bytes: stats.total.bytes,
        refused_for_room: app.counters.refusals()[DISK_FULL],
        samples: storage.samples(),
        series: storage.series_count() as u64,
        free_bytes: stats.free_space.free_bytes,
        fs: stats.free_space.state,
    }
}

fn router(app: &Arc<App>, access: Access) -> Router {
    let check = middleware::from_fn_with_state(Arc::new(access), access::check);
    Router::new()
        .route("/", get(status::page))
        .route("/status.json", get(status::numbers))
        .route("/metrics", get(status::metrics))
        .route("/api/v1/write", post(remote_write::write))
        .route("/api/v1/read", post(remote_read::read))
        .route("/api/v1/series", get(read::series).post(read::series))
        .route("/api/v1/export", get(read::export).post(read::export))
        .route("/write", post(influx::write).layer(Extension(influx::Api::V2)))
        .route("/api/v2/write", post(influx::write).layer(Extension(influx::Api::V2)))
        .route("/api/v3/write_lp", post(influx::write).layer(Extension(influx::Api::V3)))
        .route("/v1/metrics", post(otlp::export))
        .route("/query", get(handshake::query).post(handshake::query))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(check)
        // These show nothing, and those who ask have no token.
        .route("/ping", get(handshake::ping))
        .route("/settings", get(handshake::settings))
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .with_state(Arc::clone(app))
}

/// Answers a request for a path that does not exist, once its body is read.
async fn not_found(headers: HeaderMap, body: Body) -> (StatusCode, &'static str) {
    body::discard_refused(&headers, body).await;
    (StatusCode::NOT_FOUND, "there is no such path\n")
}

/// Answers a request whose method its path does not have, once its body is read.
async fn not_allowed(headers: HeaderMap, body: Body) -> (StatusCode, &'static str) {
    body::discard_refused(&headers, body).await;
    (StatusCode::METHOD_NOT_ALLOWED, "the path does not have this method\n")
}
