//! The series of the `metrics` facade: names, units and descriptions, and one handle each.

use std::sync::OnceLock;

use metrics::{Counter, Gauge, Histogram, Label, Unit};

use super::late::Late;
use crate::error::Cause;
use crate::stats::counter::{COUNTERS, ROWS, Unit as CounterUnit};
use crate::stats::{self, CommitSample, FreeSpaceState};

/// What a series is to the recorder.
#[derive(Clone, Copy)]
enum Kind {
    Gauge,
    Histogram,
}

const REFUSED: &str = "shardwal_refused_total";
const REFUSED_ABOUT: &str = "Records that an append refused before they were queued, by cause.";

/// Every series that is no counter: its kind, name, unit and description.
#[rustfmt::skip]
const SERIES: [(Kind, &str, Unit, &str); 10] = [
    (Kind::Gauge, "shardwal_queue_depth", Unit::Count, "Records found in the queue at the last commit's drain."),
    (Kind::Gauge, "shardwal_poisoned", Unit::Count, "1 once a failed sync has ended the shard, else 0."),
    (Kind::Histogram, "shardwal_records_per_commit", Unit::Count, "Records in a commit."),
    (Kind::Histogram, "shardwal_queue_wait_seconds", Unit::Seconds, "From append to drain, of sampled records."),
    (Kind::Histogram, "shardwal_write_seconds", Unit::Seconds, "The write of a commit."),
    (Kind::Histogram, "shardwal_sync_seconds", Unit::Seconds, "A data sync."),
    (Kind::Histogram, "shardwal_acknowledged_seconds", Unit::Seconds, "From append to acknowledgement, of sampled records."),
    (Kind::Gauge, "shardwal_free_space_bytes", Unit::Bytes, "Bytes free on the log's file system."),
    (Kind::Gauge, "shardwal_free_space_low", Unit::Count, "1 while less is free than free_space_low_bytes or free_space_min_bytes, else 0."),
    (Kind::Gauge, "shardwal_free_space_refusing", Unit::Count, "1 while appends are refused because less is free than free_space_min_bytes, else 0."),
];

/// Describes every series of the log to the current recorder of the `metrics` facade: unit and
/// text. A log describes them itself when it is opened, and when it finds a recorder that was
/// installed later. Call this to have the descriptions before that. A second description has
/// no effect.
pub fn describe_metrics() {
    for (name, unit, about) in ROWS.map(|row| row.exported) {
        let unit = match unit {
            CounterUnit::Count => Unit::Count,
            CounterUnit::Bytes => Unit::Bytes,
            CounterUnit::Nanoseconds => Unit::Nanoseconds,
        };
        metrics::describe_counter!(name, unit, about);
    }
    metrics::describe_counter!(REFUSED, Unit::Count, REFUSED_ABOUT);
    for (kind, name, unit, about) in SERIES {
        match kind {
            Kind::Gauge => metrics::describe_gauge!(name, unit, about),
            Kind::Histogram => metrics::describe_histogram!(name, unit, about),
        }
    }
}

/// One shard's handles. They are registered once per recorder, and used once per commit.
struct Handles {
    /// By [`crate::stats::Counter`].
    counters: [Counter; COUNTERS],
    /// One per label of a cause, in the order of [`Cause::LABELS`].
    refused: [Counter; Cause::LABELS.len()],
    queue_depth: Gauge,
    poisoned: Gauge,
    records_per_commit: Histogram,
    queue_wait: Histogram,
    write: Histogram,
    sync: Histogram,
    acknowledged: Histogram,
}

impl Handles {
    fn register(labels: &[Label]) -> Self {
        describe_metrics();
        let gauge = |name: &'static str| metrics::gauge!(name, labels.to_vec());
        let histogram = |name: &'static str| metrics::histogram!(name, labels.to_vec());
        let refused = |cause: &'static str| {
            let labels = labels.iter().cloned().chain([Label::new("cause", cause)]);
            metrics::counter!(REFUSED, labels.collect::<Vec<_>>())
        };
        Self {
            counters: ROWS.map(|row| metrics::counter!(row.exported.0, labels.to_vec())),
            refused: Cause::LABELS.map(refused),
            queue_depth: gauge("shardwal_queue_depth"),
            poisoned: gauge("shardwal_poisoned"),
            records_per_commit: histogram("shardwal_records_per_commit"),
            queue_wait: histogram("shardwal_queue_wait_seconds"),
            write: histogram("shardwal_write_seconds"),
            sync: histogram("shardwal_sync_seconds"),
            acknowledged: histogram("shardwal_acknowledged_seconds"),
        }
    }
}

/// Exports the numbers of one shard.
#[derive(Debug)]
pub(in crate::stats) struct Metrics {
    handles: Late<Handles>,
    /// Set once the shard is poisoned, for a recorder that is installed later.
    has_failed: std::sync::Arc<OnceLock<()>>,
}

impl Metrics {
    pub(in crate::stats) fn new(log_name: &str, shard: usize) -> Self {
        let labels =
            [Label::new("log", log_name.to_owned()), Label::new("shard", shard.to_string())];
        let has_failed = std::sync::Arc::new(OnceLock::new());
        let failed = has_failed.clone();
        let handles = Late::new(move || {
            let handles = Handles::register(&labels);
            handles.poisoned.set(f64::from(u8::from(failed.get().is_some())));
            handles
        });
        Self { handles, has_failed }
    }

    pub(in crate::stats) fn count(&self, counter: stats::Counter, more: u64) {
        self.handles.get().counters[counter as usize].increment(more);
    }

    pub(in crate::stats) fn queue_waited(&self, nanos: u64) {
        self.handles.get().queue_wait.record(seconds(nanos));
    }

    pub(in crate::stats) fn acknowledged(&self, nanos: u64) {
        self.handles.get().acknowledged.record(seconds(nanos));
    }

    pub(in crate::stats) fn committed(&self, sample: CommitSample) {
        let handles = self.handles.get();
        handles.queue_depth.set(sample.queue_depth as f64);
        handles.records_per_commit.record(sample.records as f64);
        sample.write_nanos.iter().for_each(|nanos| handles.write.record(seconds(*nanos)));
    }

    pub(in crate::stats) fn synced(&self, nanos: u64) {
        self.handles.get().sync.record(seconds(nanos));
    }

    /// `cause` is an index of [`Cause::LABELS`].
    pub(in crate::stats) fn refused_appends(&self, cause: usize, records: u64) {
        self.handles.get().refused[cause].increment(records);
    }

    pub(in crate::stats) fn poisoned(&self) {
        self.has_failed.get_or_init(|| ());
        self.handles.get().poisoned.set(1.0);
    }
}

/// Exports the free space of a log's file system.
#[derive(Debug)]
pub(crate) struct SpaceGauges(Late<SpaceHandles>);

struct SpaceHandles {
    free: Gauge,
    low: Gauge,
    refusing: Gauge,
}

impl SpaceGauges {
    pub(crate) fn new(log_name: &str) -> Self {
        let label = Label::new("log", log_name.to_owned());
        Self(Late::new(move || {
            describe_metrics();
            let gauge = |name: &'static str| metrics::gauge!(name, vec![label.clone()]);
            SpaceHandles {
                free: gauge("shardwal_free_space_bytes"),
                low: gauge("shardwal_free_space_low"),
                refusing: gauge("shardwal_free_space_refusing"),
            }
        }))
    }

    pub(crate) fn set(&self, free_bytes: u64, state: FreeSpaceState) {
        let handles = self.0.get();
        handles.free.set(free_bytes as f64);
        handles.low.set(f64::from(u8::from(state != FreeSpaceState::Ok)));
        handles.refusing.set(f64::from(u8::from(state == FreeSpaceState::Refusing)));
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
