//! The log's numbers, exported through the `metrics` facade.
//!
//! This folder alone knows the `metrics` feature. Without it, [`Metrics`] and its methods
//! are empty. The library never installs a recorder. The numbers go to the recorder that is
//! current when the log is opened. If there is none, they go to the first one that is
//! installed later, from its next report on.

#[cfg(feature = "metrics")]
mod late;
#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(feature = "metrics")]
mod on;

#[cfg(not(feature = "metrics"))]
pub(super) use off::Metrics;
#[cfg(not(feature = "metrics"))]
pub(crate) use off::SpaceGauges;
#[cfg(feature = "metrics")]
pub(super) use on::Metrics;
#[cfg(feature = "metrics")]
pub(crate) use on::SpaceGauges;
#[cfg(feature = "metrics")]
pub use on::describe_metrics;

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::collections::BTreeMap;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use crate::error::Cause;
    use crate::stats::{CommitSample, Observer, Recorder};

    /// The content of the facade's recorder, as `name{log,shard}` and a number. A
    /// histogram's number is the sum of its values.
    fn report(work: impl FnOnce()) -> BTreeMap<String, f64> {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        metrics::with_local_recorder(&recorder, work);
        let rows = snapshotter.snapshot().into_vec().into_iter();
        rows.map(|(key, unit, about, value)| {
            assert!(unit.is_some() && about.is_some(), "{key:?} is undescribed");
            let labels: Vec<_> = key.key().labels().map(|label| label.value()).collect();
            let number = match value {
                DebugValue::Counter(count) => count as f64,
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(values) => values.iter().map(|value| value.0).sum(),
            };
            (format!("{}{{{}}}", key.key().name(), labels.join(",")), number)
        })
        .collect()
    }

    #[test]
    fn the_facade_gets_each_shards_numbers_under_its_labels() {
        let report = report(|| {
            let (busy, idle) = (Recorder::new("ingest", 0), Recorder::new("ingest", 1));
            for records in [10, 30] {
                busy.committed(CommitSample {
                    records,
                    bytes: 100 * records,
                    queue_depth: records,
                    write_nanos: Some(250_000_000),
                });
            }
            busy.synced(2_000_000_000);
            busy.rolled();
            busy.refused(7);
            busy.refused_append(&Cause::QueueFull, 5);
            busy.refused_append(&Cause::Closed, 2);
            busy.blocked(9);
            busy.queue_waited(125_000_000);
            busy.acknowledged(4_000_000_000);
            idle.poisoned();
        });
        assert_eq!(report.len(), 2 * (14 + Cause::LABELS.len()));
        for (name, expected) in [
            ("shardwal_records_total{ingest,0}", 40.0),
            ("shardwal_records_total{ingest,1}", 0.0),
            ("shardwal_bytes_total{ingest,0}", 4000.0),
            ("shardwal_commits_total{ingest,0}", 2.0),
            ("shardwal_syncs_total{ingest,0}", 1.0),
            ("shardwal_rolls_total{ingest,0}", 1.0),
            ("shardwal_refused_records_total{ingest,0}", 7.0),
            ("shardwal_refused_total{ingest,0,queue_full}", 5.0),
            ("shardwal_refused_total{ingest,0,closed}", 2.0),
            ("shardwal_refused_total{ingest,1,closed}", 0.0),
            ("shardwal_blocked_nanoseconds_total{ingest,0}", 9.0),
            ("shardwal_queue_depth{ingest,0}", 30.0),
            ("shardwal_poisoned{ingest,0}", 0.0),
            ("shardwal_poisoned{ingest,1}", 1.0),
            ("shardwal_records_per_commit{ingest,0}", 40.0),
            ("shardwal_queue_wait_seconds{ingest,0}", 0.125),
            ("shardwal_write_seconds{ingest,0}", 0.5),
            ("shardwal_sync_seconds{ingest,0}", 2.0),
            ("shardwal_acknowledged_seconds{ingest,0}", 4.0),
        ] {
            assert_eq!(report[name], expected, "{name}");
        }
    }

    /// A recorder that is installed after the open gets what is reported from then on, and
    /// the state of a shard that has failed before.
    #[test]
    fn a_recorder_that_is_installed_late_gets_the_numbers_from_then_on() {
        let (busy, failed) = (Recorder::new("late", 0), Recorder::new("late", 1));
        busy.rolled();
        failed.poisoned();
        let report = report(|| {
            (0..3).for_each(|_| busy.rolled());
            failed.refused_append(&Cause::WriterPanicked, 4);
        });
        assert_eq!(report["shardwal_rolls_total{late,0}"], 3.0);
        assert_eq!(report["shardwal_poisoned{late,0}"], 0.0);
        assert_eq!(report["shardwal_poisoned{late,1}"], 1.0);
        assert_eq!(report["shardwal_refused_total{late,1,writer_panicked}"], 4.0);
    }
}
