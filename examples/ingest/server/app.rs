//! What all requests share: the storage once it is open, the budget, the
//! caches, and what is counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusHandle;
use shardwal::timeseries::Storage;

use super::batch::Complete;
use super::budget::{Budget, Reservation};
use super::history::History;
use super::refusal::{REASONS, Refusal};
use super::series_cache::SeriesCache;

/// What a request may be and what all of them may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The longest body, as it is sent and when it is decompressed.
    pub(crate) request_bytes_max: usize,
    /// All that is held of requests in flight.
    pub(crate) in_flight_bytes_max: usize,
    /// Connections; more wait unaccepted.
    pub(crate) connections_max: usize,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    /// By the bytes of a remote-write entry's labels.
    pub(crate) remote_series: SeriesCache,
    /// By the bytes of a line's measurement, tags and field.
    pub(crate) influx_series: SeriesCache,
    pub(crate) counters: Counters,
    pub(crate) history: Mutex<History>,
    pub(crate) metrics: PrometheusHandle,
    /// Reads go one after another: what one gathers is bounded only by what
    /// the storage holds.
    pub(crate) reads: tokio::sync::Semaphore,
    /// Set once, when the log is replayed.
    storage: OnceLock<Storage>,
    /// Bytes replayed, and to replay. Relaxed: they are only shown.
    replayed: [AtomicU64; 2],
    /// Whether the server has begun to end. Relaxed: it is only shown.
    closing: AtomicBool,
}

impl App {
    pub(crate) fn new(limits: Limits, metrics: PrometheusHandle) -> Self {
        Self {
            limits,
            budget: Budget::new(limits.in_flight_bytes_max),
            remote_series: SeriesCache::default(),
            influx_series: SeriesCache::default(),
            counters: Counters::default(),
            history: Mutex::default(),
            metrics,
            reads: tokio::sync::Semaphore::new(1),
            storage: OnceLock::new(),
            replayed: Default::default(),
            closing: AtomicBool::new(false),
        }
    }

    /// Lets requests in.
    pub(crate) fn open(&self, storage: Storage) {
        let opened = self.storage.set(storage);
        assert!(opened.is_ok(), "a server opens one storage");
    }

    /// Shows that the server ends; what is in flight is still taken.
    pub(crate) fn begin_to_close(&self) {
        // Relaxed: see the field.
        self.closing.store(true, Ordering::Relaxed);
    }

    /// The storage, if it is open.
    pub(crate) fn storage_if_open(&self) -> Option<&Storage> {
        self.storage.get()
    }

    /// The storage, for a request.
    ///
    /// # Errors
    /// While the log is replayed.
    pub(crate) fn storage(&self) -> Result<&Storage, Refusal> {
        self.storage.get().ok_or(Refusal::Replaying)
    }

    /// What the server does: `replaying`, `ready` or `closing`.
    pub(crate) fn phase(&self) -> &'static str {
        // Relaxed: see the field.
        match self.closing.load(Ordering::Relaxed) {
            true => "closing",
            false if self.storage.get().is_some() => "ready",
            false => "replaying",
        }
    }

    /// Says how far the replay is.
    pub(crate) fn show_replay(&self, done: u64, total: u64) {
        // Relaxed: see the field.
        self.replayed[0].store(done, Ordering::Relaxed);
        self.replayed[1].store(total, Ordering::Relaxed);
    }

    /// Bytes replayed, and to replay.
    pub(crate) fn replay_progress(&self) -> [u64; 2] {
        // Relaxed: see the field.
        [0, 1].map(|index| self.replayed[index].load(Ordering::Relaxed))
    }

    /// Writes a batch and returns when it is acknowledged. The reservation is
    /// held until then, so that what waits in the log's queues counts as well.
    ///
    /// # Errors
    /// If the log does not take it; part of it may be there nevertheless, and
    /// sending it again does no harm.
    pub(crate) async fn write(
        &self,
        mut batch: Complete<'_>,
        reservation: Reservation,
    ) -> Result<(), Refusal> {
        let samples = batch.contents.samples() as u64;
        if samples == 0 {
            return Ok(());
        }
        let storage = self.storage()?;
        let contents = &mut batch.contents;
        let completion = storage.try_write_batch(&contents.samples, &contents.new);
        contents.samples = Vec::new();
        let completion = completion.map_err(Refusal::Storage)?;
        completion.await.map_err(Refusal::Storage)?;
        batch.acknowledged(storage);
        drop(reservation);
        self.counters.count_samples(samples);
        Ok(())
    }
}

/// How many latencies are told apart: one in each power of two and its half,
/// in microseconds.
const LATENCY_BUCKETS: usize = 64;

/// What the server counts for its status page. Each is Relaxed: a count by
/// itself that is shown and decides nothing.
#[derive(Debug)]
pub(crate) struct Counters {
    samples: AtomicU64,
    requests: AtomicU64,
    refusals: [AtomicU64; REASONS.len()],
    latencies: [AtomicU64; LATENCY_BUCKETS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            samples: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            refusals: Default::default(),
            latencies: [const { AtomicU64::new(0) }; LATENCY_BUCKETS],
        }
    }
}

impl Counters {
    fn count_samples(&self, samples: u64) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
        metrics::counter!("ingest_samples_total").increment(samples);
    }

    /// Counts a request that has been answered, refused or not.
    pub(crate) fn count_request(
        &self,
        path: &'static str,
        began: Instant,
        refusal: Option<&Refusal>,
    ) {
        let took = began.elapsed();
        self.requests.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("ingest_requests_total", "path" => path).increment(1);
        match refusal {
            None => {
                self.latencies[latency_bucket(took)].fetch_add(1, Ordering::Relaxed);
                metrics::histogram!("ingest_request_seconds", "path" => path).record(took);
            }
            Some(refusal) => {
                let reason = refusal.reason();
                self.refusals[reason].fetch_add(1, Ordering::Relaxed);
                metrics::counter!("ingest_refusals_total", "reason" => REASONS[reason])
                    .increment(1);
            }
        }
    }

    /// Samples that were acknowledged.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Write requests that were answered.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Refused requests, by reason.
    pub(crate) fn refusals(&self) -> [u64; REASONS.len()] {
        self.refusals.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// The latency below which 99 of 100 requests since the last call were, in
    /// microseconds, and that of the median.
    pub(crate) fn take_latencies(&self) -> [u64; 2] {
        let counts = self.latencies.each_ref().map(|count| count.swap(0, Ordering::Relaxed));
        let total: u64 = counts.iter().sum();
        [99, 50].map(|percent| {
            let rank = (total * percent).div_ceil(100);
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= rank && rank > 0
            });
            bucket.map_or(0, latency_of_bucket)
        })
    }
}

fn latency_bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = micros.ilog2();
    let upper_half = power > 0 && micros >> (power - 1) & 1 == 1;
    (power as usize * 2 + usize::from(upper_half)).min(LATENCY_BUCKETS - 1)
}

/// The upper end of a bucket.
fn latency_of_bucket(bucket: usize) -> u64 {
    let base = 1_u64 << (bucket / 2);
    if bucket.is_multiple_of(2) { base + base / 2 } else { base * 2 }
}
