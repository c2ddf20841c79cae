//! State shared by all requests: the storage once it is open, the budget, the caches and the
//! counters. It does not know the protocols.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use metrics_exporter_prometheus::PrometheusHandle;
use shardwal_timeseries::{LabelLimits, SnapshotReport, Storage, StorageError, WriteError};

use super::batch::{Complete, Written};
use super::budget::{Budget, Reservation};
use super::counters::Counters;
use super::excerpt::excerpt;
use super::history::History;
use super::refusal::{REASONS, Refusal, SAMPLES_MAX, SERIES_MAX};
use super::sender::{Peer, Sender, Senders};
use super::series_cache::SeriesCache;
use super::skipped::{Skipped, SkippedCounters};
use super::tenants::{self, Admitted, Tenants};

/// Pieces of reads that are produced at a time. Others wait in line.
const READS_MAX: usize = 2;

/// Maximum number of reads that are not answered completely. Each holds the samples as they were
/// when it began.
const OPEN_READS_MAX: usize = 64;

/// Number of times that the log names the progress of a replay.
const REPLAY_REPORTS: u64 = 5;

/// Limits on one request, and on all of them together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Maximum bytes of a body, before and after decompression.
    pub(crate) request_bytes_max: usize,
    /// Maximum bytes held for requests in flight.
    pub(crate) in_flight_bytes_max: usize,
    /// Maximum number of samples in memory.
    pub(crate) samples_max: u64,
    /// Maximum time of a read.
    pub(crate) read_time_max: Duration,
    /// Maximum number of series. Each shard has an equal share.
    pub(crate) series_max: u64,
    /// Limits on the labels of a series.
    pub(crate) labels: LabelLimits,
}

/// State shared by all requests.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) limits: Limits,
    pub(crate) budget: Arc<Budget>,
    /// Keyed by the bytes of a remote-write entry's labels, or by the numbers of its symbols.
    pub(crate) remote_series: SeriesCache,
    /// Keyed by the bytes of a line's measurement, tags and field.
    pub(crate) influx_series: SeriesCache,
    /// Keyed by numbers of heads and the bytes of a point's attributes.
    pub(crate) otlp_series: SeriesCache,
    pub(crate) counters: Counters,
    pub(crate) skipped: SkippedCounters,
    pub(crate) senders: Senders,
    pub(crate) tenants: Option<Tenants>,
    pub(crate) history: Mutex<History>,
    pub(crate) metrics: PrometheusHandle,
    /// For what reads hold between two pieces. Apart, so that no read takes room from writes.
    pub(crate) read_budget: Arc<Budget>,
    /// Admits this number of pieces of reads at a time, in turn.
    pub(crate) reads: Arc<tokio::sync::Semaphore>,
    /// Reads that are not answered completely. Relaxed: the count protects no memory.
    open_reads: Arc<AtomicUsize>,
    /// Set once, when the log is replayed.
    storage: OnceLock<Storage>,
    /// Number of series that the caches have forgotten since, see `Storage::expired_series`.
    forgotten: AtomicU64,
    /// Bytes replayed, and bytes to replay. Relaxed: they are only displayed.
    replayed: [AtomicU64; 2],
    /// Reports of the replay so far.
    replay_reports: AtomicU64,
    /// When the server began.
    pub(crate) began: Instant,
    /// Whether the server is shutting down. Relaxed: it is only displayed.
    closing: AtomicBool,
}

impl App {
    pub(crate) fn new(limits: Limits, tenants: Option<Tenants>, metrics: PrometheusHandle) -> Self {
        Self {
            limits,
            budget: Budget::new(limits.in_flight_bytes_max),
            remote_series: SeriesCache::default(),
            influx_series: SeriesCache::default(),
            otlp_series: SeriesCache::default(),
            counters: Counters::default(),
            skipped: SkippedCounters::default(),
            senders: Senders::default(),
            tenants,
            history: Mutex::default(),
            metrics,
            read_budget: Budget::new(limits.in_flight_bytes_max / 2),
            reads: Arc::new(tokio::sync::Semaphore::new(READS_MAX)),
            open_reads: Arc::default(),
            storage: OnceLock::new(),
            forgotten: AtomicU64::new(0),
            replayed: Default::default(),
            replay_reports: AtomicU64::new(0),
            began: Instant::now(),
            closing: AtomicBool::new(false),
        }
    }

    /// Publishes the storage, so that requests are served.
    pub(crate) fn open(&self, storage: Storage) {
        let opened = self.storage.set(storage);
        assert!(opened.is_ok(), "a server opens one storage");
    }

    /// Counts a read until the result is dropped.
    ///
    /// # Errors
    /// Too many reads are open.
    pub(crate) fn open_read(&self) -> Result<OpenRead, Refusal> {
        let open = OpenRead(Arc::clone(&self.open_reads));
        // Relaxed: see the field.
        let before = self.open_reads.fetch_add(1, Ordering::Relaxed);
        if before >= OPEN_READS_MAX { Err(Refusal::Reads) } else { Ok(open) }
    }

    /// Number of reads that are not answered completely.
    pub(crate) fn open_reads(&self) -> usize {
        // Relaxed: see the field.
        self.open_reads.load(Ordering::Relaxed)
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

    /// Drops samples that are older than the retention. Blocks.
    pub(crate) fn drop_expired(&self) {
        if let Some(storage) = self.storage_if_open() {
            storage.drop_expired();
            self.forget_gone_series(storage);
        }
    }

    /// Takes a snapshot. `None` if the log is still being replayed. Blocks.
    pub(crate) fn snapshot(&self) -> Option<Result<SnapshotReport, StorageError>> {
        let storage = self.storage_if_open()?;
        let report = storage.snapshot();
        self.forget_gone_series(storage);
        Some(report)
    }

    /// Drops the names of series that have left the storage, if some have. A request that found one
    /// before is refused, and the client's next try defines the series again.
    fn forget_gone_series(&self, storage: &Storage) {
        let expired = storage.expired_series();
        // Relaxed: a name that stays too long is refused, not lost.
        if self.forgotten.swap(expired, Ordering::Relaxed) != expired {
            let caches = [&self.remote_series, &self.influx_series, &self.otlp_series];
            caches.into_iter().for_each(|cache| cache.drop_gone(|it| storage.is_current(it)));
        }
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

    /// The sender of a request with these headers.
    pub(crate) fn sender(&self, endpoint: &'static str, peer: Peer, headers: &HeaderMap) -> Sender {
        let tenant = self.tenants.as_ref().map(|tenants| tenants.of_request(headers));
        Sender::new(endpoint, peer, headers, tenant.unwrap_or_default())
    }

    /// Counts a write request that was answered, refused or not. Logs a refusal once per sender and
    /// reason.
    pub(crate) fn count_request(&self, sender: &Sender, began: Instant, refusal: Option<&Refusal>) {
        self.counters.count_request(sender.endpoint, began, refusal);
        let Some(refusal) = refusal else { return self.senders.count_request(sender, None) };
        let (reason, error) = (REASONS[refusal.reason()], excerpt(refusal));
        if self.senders.is_first(sender, reason) {
            tracing::warn!(
                sender = %sender.address,
                client = sender.client,
                endpoint = sender.endpoint,
                status = refusal.status().0.as_u16(),
                reason,
                samples = refusal.written().all(),
                error,
                "refused, see ingest_refusals_total"
            );
        }
        self.senders.count_request(sender, Some(error));
    }

    /// Records the progress of the replay, and logs it a few times.
    pub(crate) fn show_replay(&self, done: u64, total: u64) {
        let due = done * REPLAY_REPORTS / total.max(1);
        // Relaxed: no other data depends on it, and only one thread can raise it to a given value.
        if due > self.replay_reports.fetch_max(due, Ordering::Relaxed) {
            tracing::info!(bytes_done = done, bytes_total = total, "replaying the log");
        }
        // Relaxed: see the field.
        self.replayed[0].store(done, Ordering::Relaxed);
        self.replayed[1].store(total, Ordering::Relaxed);
    }

    /// Bytes replayed, and bytes to replay.
    pub(crate) fn replay_progress(&self) -> [u64; 2] {
        // Relaxed: see the field.
        [0, 1].map(|index| self.replayed[index].load(Ordering::Relaxed))
    }

    /// Writes a batch, as [`App::write_batch`] does. Counts what was skipped beside it, if it was
    /// written, for `sender`.
    ///
    /// # Errors
    /// See [`App::write_batch`].
    pub(crate) async fn write(
        &self,
        sender: &Sender,
        batch: Complete<'_>,
        skipped: Skipped,
        reservation: Reservation,
    ) -> Result<Written, Refusal> {
        let new_series = batch.contents.new.len();
        let written = self.write_batch(&sender.tenant, batch, reservation).await;
        if written.as_ref().err().is_none_or(Refusal::is_partial_write) {
            self.skipped.count(&self.senders, sender, skipped);
            let samples = written.as_ref().map_or_else(Refusal::written, |samples| *samples).all();
            self.senders.count_samples(sender, samples);
            tracing::debug!(
                sender = %sender.address,
                client = sender.client,
                endpoint = sender.endpoint,
                samples,
                new_series,
                "written"
            );
        }
        written
    }

    /// Writes a batch and waits until it is acknowledged. The reservation is held until then, so
    /// that the budget includes what waits in the log's queues. Returns what was written.
    ///
    /// # Errors
    /// A tenant is beyond its rate, or the storage refuses the batch or does not acknowledge it.
    /// Sending it again is harmless. [`Refusal::SeriesLimit`] if new series were left out, and the
    /// others were acknowledged, unless the batch is all or none.
    async fn write_batch(
        &self,
        tenant: &str,
        mut batch: Complete<'_>,
        mut reservation: Reservation,
    ) -> Result<Written, Refusal> {
        let found = batch.contents.count().all();
        if found == 0 {
            return Ok(Written::default());
        }
        let (max, limit) = (self.limits.samples_max, SAMPLES_MAX);
        if found > max {
            let what = "the number of samples";
            return Err(Refusal::TooLarge { what, found, max, limit });
        }
        let storage = self.storage()?;
        let contents = &mut batch.contents;
        let tenants = self.tenants.as_ref();
        let admitted = tenants.map(|tenants| tenants.admit(tenant, contents, storage));
        let admitted = admitted.transpose()?.unwrap_or_default();
        contents.shrink(&mut reservation);
        reservation.grow(contents.write_bytes())?;
        let mut written = contents.count();
        let prepared =
            storage.prepare_write(&contents.samples, &contents.histograms, &contents.new);
        (contents.samples, contents.histograms) = (Vec::new(), Vec::new());
        if matches!(prepared, Err(WriteError::SeriesGone)) {
            // A name was cached after the others of its kind were forgotten: look again.
            // Relaxed: see `forget_gone_series`.
            self.forgotten.store(u64::MAX, Ordering::Relaxed);
        }
        let prepared = prepared.map_err(Refusal::Storage)?;
        let series = prepared.left_out().iter().map(|index| &contents.new[*index]);
        series.for_each(|series| written.leave_out(series));
        let left_out = prepared.left_out().to_vec();
        let refusal = self.series_limit(&admitted, &batch, &left_out, written);
        if batch.all_or_none
            && let Some(refusal) = refusal
        {
            return Err(refusal);
        }
        prepared.write().await.map_err(Refusal::Storage)?;
        batch.acknowledged(storage);
        admitted.written(&left_out);
        drop(reservation);
        self.counters.count_samples(written.all());
        refusal.map_or(Ok(written), Err)
    }

    /// The refusal of a batch without the new series that are beyond a limit, of a tenant or of the
    /// storage. `left_out` are those beyond the storage's. `None` if there are none.
    fn series_limit(
        &self,
        admitted: &Admitted,
        batch: &Complete<'_>,
        left_out: &[usize],
        written: Written,
    ) -> Option<Refusal> {
        let first = left_out.first().map(|index| batch.contents.new[*index].labels.to_string());
        let of_storage = first.map(|first| (0, first, self.limits.series_max, SERIES_MAX));
        let of_tenant = admitted.left_out.clone();
        let of_tenant =
            of_tenant.map(|(count, first, max)| (count, first, max, tenants::SERIES_MAX));
        let (count, first, max, limit) = of_tenant.or(of_storage)?;
        Some(Refusal::SeriesLimit {
            count: count + left_out.len(),
            first,
            also: None,
            written,
            max,
            limit,
            others_written: !batch.all_or_none,
        })
    }
}

/// A read that is not answered completely.
#[derive(Debug)]
pub(crate) struct OpenRead(Arc<AtomicUsize>);

impl Drop for OpenRead {
    fn drop(&mut self) {
        // Relaxed: see `App::open_reads`.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
