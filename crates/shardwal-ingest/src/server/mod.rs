//! The server: receives Prometheus remote write and InfluxDB's line protocol, and writes to a
//! storage on the log.
//!
//! ```text
//! cargo run --release -p shardwal-ingest -- serve --listen 127.0.0.1:9291 --dir D
//! ```
//!
//! The path of a request: `connections` -> `body` (within the `budget`) -> `remote_write` +
//! `protobuf`, or `influx` -> `batch` with the `series_cache` -> the storage. An error becomes a
//! `refusal`. The server listens at once, and responds 503 until the log is replayed.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{get, post};
use metrics_exporter_prometheus::PrometheusBuilder;
use shardwal::{Config, ReplayOptions, ReplayProgress};
use shardwal_timeseries::{Storage, StorageError, StorageOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::Failure;
use crate::progress::Progress;
use app::{App, Limits};
use refusal::DISK_FULL;
use schedule::{Due, Schedule, Seen};

mod app;
mod batch;
mod body;
mod budget;
mod connections;
mod history;
mod influx;
mod protobuf;
mod read;
mod refusal;
mod remote_write;
mod schedule;
mod selector;
mod series_cache;
mod status;

/// What the system sends for a write beyond a file size limit, on Linux and macOS.
const SIGXFSZ: i32 = 25;

/// Options of a server.
pub(crate) struct Options<'arguments> {
    /// The address to listen at.
    pub(crate) address: SocketAddr,
    /// The configuration of the log.
    pub(crate) config: Config,
    /// Maximum number of samples in memory.
    pub(crate) samples_max: u64,
    /// Number of samples after which a snapshot is taken and the log truncated.
    pub(crate) snapshot_samples: u64,
    /// The log's minimum of free space.
    pub(crate) free_space_min_bytes: u64,
    /// Limits on requests.
    pub(crate) limits: Limits,
    /// The replay waits while this file exists; for tests.
    pub(crate) replay_hold: Option<&'arguments Path>,
}

pub(crate) use app::Limits as ServerLimits;

/// Serves until SIGTERM or SIGINT. Blocks.
///
/// # Errors
/// The address is in use, or the log cannot be opened or closed.
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
    let listener = TcpListener::bind(options.address).await?;
    let address = listener.local_addr()?;
    println!("listening on http://{address}/");

    let app = Arc::new(App::new(options.limits, metrics));
    let opened = open(&app, &options);
    tokio::spawn(keep_history(Arc::clone(&app)));
    tokio::spawn(keep_log_short(
        Arc::clone(&app),
        options.snapshot_samples,
        options.free_space_min_bytes,
    ));
    let (end, ends) = watch::channel(false);
    let connections_max = options.limits.connections_max;
    let served = tokio::spawn(connections::serve(listener, router(&app), connections_max, ends));

    let stop = async {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let mut stop = std::pin::pin!(stop);
    let signal = tokio::select! {
        opened = opened => {
            app.open(opened??);
            println!("ready");
            stop.await
        }
        // Stopping is safe, because nothing is acknowledged before the replay is done.
        signal = stop.as_mut() => signal,
    };
    println!("{signal}: finishing requests in flight");
    app.begin_to_close();
    end.send(true)?;
    served.await?;
    if let Some(storage) = app.storage_if_open() {
        storage.close()?;
    }
    println!("closed");
    Ok(())
}

/// Opens the storage on a thread of its own, and reports the progress.
fn open(
    app: &Arc<App>,
    options: &Options<'_>,
) -> tokio::task::JoinHandle<Result<Storage, StorageError>> {
    let app = Arc::clone(app);
    let hold = options.replay_hold.map(Path::to_path_buf);
    let storage = StorageOptions::new(options.config.clone()).samples_max(options.samples_max);
    tokio::task::spawn_blocking(move || {
        while hold.as_ref().is_some_and(|file| file.exists()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let progress = Progress::start("replay", "bytes");
        let replay = ReplayOptions::default().progress(Arc::new(move |at: ReplayProgress| {
            progress.show(at.bytes_done, at.bytes_total);
            app.show_replay(at.bytes_done, at.bytes_total);
        }));
        Storage::open(storage.replay(replay))
    })
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
            println!("the disk is low on space: taking a snapshot to truncate the log");
        }
        let app = Arc::clone(&app);
        let snapshot =
            tokio::task::spawn_blocking(move || app.storage_if_open().map(Storage::snapshot));
        match snapshot.await {
            Ok(Some(Ok(report))) => {
                println!(
                    "snapshot: {} samples of {} series in {} bytes",
                    report.samples, report.series, report.bytes
                );
                schedule.taken(due, seen, report.bytes, Instant::now());
            }
            // The samples of a failed snapshot remain in the log.
            Ok(Some(Err(error))) => {
                eprintln!("snapshot: {error}");
                schedule.failed(Instant::now());
            }
            Ok(None) | Err(_) => schedule.failed(Instant::now()),
        }
    }
}

fn seen(app: &App, storage: &Storage) -> Seen {
    let stats = storage.log().stats();
    Seen {
        acknowledged: app.counters.samples(),
        logged_bytes: stats.total.bytes,
        refused_for_room: app.counters.refusals()[DISK_FULL],
        samples: storage.samples(),
        series: storage.series_count() as u64,
        free_bytes: stats.free_space.free_bytes,
        fs: stats.free_space.state,
    }
}

fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", get(status::page))
        .route("/status.json", get(status::numbers))
        .route("/metrics", get(status::metrics))
        .route("/api/v1/write", post(remote_write::write))
        .route("/api/v1/series", get(read::series))
        .route("/api/v1/export", get(read::export))
        .route("/write", post(influx::write))
        .route("/api/v2/write", post(influx::write))
        .with_state(Arc::clone(app))
}
