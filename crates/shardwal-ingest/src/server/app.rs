//! State shared by all requests: the storage once it is open, the budget, the caches and the
//! counters. It does not know the protocols.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusHandle;
use shardwal_timeseries::Storage;

use super::batch::Complete;
use super::budget::{Budget, Reservation};
use super::history::History;
use super::refusal::{REASONS, Refusal};
use super::series_cache::SeriesCache;

/// Limits on one request, and on all of them together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Maximum bytes of a body, before and after decompression.
    pub(crate) request_bytes_max: usize,
    /// Maximum bytes held for requests in flight.
    pub(crate) in_flight_bytes_max: usize,
    /// Maximum number of connections. Further clients wait unaccepted.
    pub(crate) connections_max: usize,
}

/// State shared by all requests.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    /// Keyed by the bytes of a remote-write entry's labels.
    pub(crate) remote_series: SeriesCache,
    /// Keyed by the bytes of a line's measurement, tags and field.
    pub(crate) influx_series: SeriesCache,
    pub(crate) counters: Counters,
    pub(crate) history: Mutex<History>,
    pub(crate) metrics: PrometheusHandle,
    /// Admits one read at a time. Only the size of the storage bounds the memory of a read.
    pub(crate) reads: tokio::sync::Semaphore,
    /// Set once, when the log is replayed.
    storage: OnceLock<Storage>,
    /// Bytes replayed, and bytes to replay. Relaxed: they are only displayed.
    replayed: [AtomicU64; 2],
    /// Whether the server is shutting down. Relaxed: it is only displayed.
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

    /// Publishes the storage, so that requests are served.
    pub(crate) fn open(&self, storage: Storage) {
        let opened = self.storage.set(storage);
        assert!(opened.is_ok(), "a server opens one storage");
    }

    /// Marks the server as shutting down. Requests in flight are still served.
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
    /// The log is still being replayed.
    pub(crate) fn storage(&self) -> Result<&Storage, Refusal> {
        self.storage.get().ok_or(Refusal::Replaying)
    }

    /// The server's phase: `replaying`, `ready` or `closing`.
    pub(crate) fn phase(&self) -> &'static str {
        // Relaxed: see the field.
        match self.closing.load(Ordering::Relaxed) {
            true => "closing",
            false if self.storage.get().is_some() => "ready",
            false => "replaying",
        }
    }

    /// Records the progress of the replay.
    pub(crate) fn show_replay(&self, done: u64, total: u64) {
        // Relaxed: see the field.
        self.replayed[0].store(done, Ordering::Relaxed);
        self.replayed[1].store(total, Ordering::Relaxed);
    }

    /// Bytes replayed, and bytes to replay.
    pub(crate) fn replay_progress(&self) -> [u64; 2] {
        // Relaxed: see the field.
        [0, 1].map(|index| self.replayed[index].load(Ordering::Relaxed))
    }

    /// Writes a batch and waits until it is acknowledged. The reservation is held until then, so
    /// that the budget includes what waits in the log's queues.
    ///
    /// # Errors
    /// The storage refuses the batch or does not acknowledge it. Parts of it may have been written.
    /// Sending it again is harmless.
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

/// Number of latency buckets: two per power of two, in microseconds.
const LATENCY_BUCKETS: usize = 64;

/// Counters of the status page. All are Relaxed: each count is displayed by itself and decides
/// nothing.
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

    /// Counts a request that was answered, refused or not.
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

    /// Number of acknowledged samples.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Number of answered write requests.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Number of refused requests, by reason.
    pub(crate) fn refusals(&self) -> [u64; REASONS.len()] {
        self.refusals.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Returns P99 and P50 of the latency since the last call, in microseconds.
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

/// The upper end of a bucket, in microseconds.
fn latency_of_bucket(bucket: usize) -> u64 {
    let base = 1_u64 << (bucket / 2);
    if bucket.is_multiple_of(2) { base + base / 2 } else { base * 2 }
}
