//! The log's numbers, exported through the `metrics` facade.
//!
//! This file alone knows the `metrics` feature. Without it, [`Metrics`] and its methods
//! are empty. The library never installs a recorder. The handles go to the recorder
//! that is current when the log is opened. If there is none, the numbers are dropped.

#[cfg(not(feature = "metrics"))]
pub(super) use off::Metrics;
#[cfg(not(feature = "metrics"))]
pub(crate) use off::SpaceGauges;
#[cfg(feature = "metrics")]
pub(super) use on::Metrics;
#[cfg(feature = "metrics")]
pub(crate) use on::SpaceGauges;

#[cfg(feature = "metrics")]
mod on {
    use metrics::{Counter, Gauge, Histogram, Label, Unit};

    use crate::stats::counter::{COUNTERS, Exported, ROWS, Unit as CounterUnit};
    use crate::stats::{self, CommitSample, FreeSpaceState};

    /// One shard's handles. They are registered once, and used once per commit.
    #[derive(Debug)]
    pub(in crate::stats) struct Metrics {
        /// By [`crate::stats::Counter`].
        counters: [Counter; COUNTERS],
        queue_depth: Gauge,
        poisoned: Gauge,
        records_per_commit: Histogram,
        queue_wait: Histogram,
        write: Histogram,
        sync: Histogram,
        acknowledged: Histogram,
    }

    impl Metrics {
        pub(in crate::stats) fn new(log_name: &str, shard: usize) -> Self {
            let series = Series(vec![
                Label::new("log", log_name.to_owned()),
                Label::new("shard", shard.to_string()),
            ]);
            let gauge = |name, about| series.gauge(name, Unit::Count, about);
            let seconds = |name, about| series.histogram(name, Unit::Seconds, about);
            #[rustfmt::skip]
            let metrics = Self {
                counters: ROWS.map(|row| series.counter(row.exported)),
                queue_depth: gauge("shardwal_queue_depth", "Records found in the queue at the last commit's drain."),
                poisoned: gauge("shardwal_poisoned", "1 once a failed sync has ended the shard, else 0."),
                records_per_commit: series.histogram("shardwal_records_per_commit", Unit::Count, "Records in a commit."),
                queue_wait: seconds("shardwal_queue_wait_seconds", "From append to drain, of sampled records."),
                write: seconds("shardwal_write_seconds", "The write of a commit."),
                sync: seconds("shardwal_sync_seconds", "A data sync."),
                acknowledged: seconds("shardwal_acknowledged_seconds", "From append to acknowledgement, of sampled records."),
            };
            metrics.poisoned.set(0.0);
            metrics
        }

        pub(in crate::stats) fn count(&self, counter: stats::Counter, more: u64) {
            self.counters[counter as usize].increment(more);
        }

        pub(in crate::stats) fn queue_waited(&self, nanos: u64) {
            self.queue_wait.record(seconds(nanos));
        }

        pub(in crate::stats) fn acknowledged(&self, nanos: u64) {
            self.acknowledged.record(seconds(nanos));
        }

        pub(in crate::stats) fn committed(&self, sample: CommitSample) {
            self.queue_depth.set(sample.queue_depth as f64);
            self.records_per_commit.record(sample.records as f64);
            sample.write_nanos.iter().for_each(|nanos| self.write.record(seconds(*nanos)));
        }

        pub(in crate::stats) fn synced(&self, nanos: u64) {
            self.sync.record(seconds(nanos));
        }

        pub(in crate::stats) fn poisoned(&self) {
            self.poisoned.set(1.0);
        }
    }

    /// The handles of a log's free-space metrics.
    #[derive(Debug)]
    pub(crate) struct SpaceGauges {
        free: Gauge,
        low: Gauge,
        refusing: Gauge,
    }

    impl SpaceGauges {
        pub(crate) fn new(log_name: &str) -> Self {
            let series = Series(vec![Label::new("log", log_name.to_owned())]);
            let gauge = |name, unit, about| series.gauge(name, unit, about);
            #[rustfmt::skip]
            let gauges = Self {
                free: gauge("shardwal_free_space_bytes", Unit::Bytes, "Bytes free on the log's file system."),
                low: gauge("shardwal_free_space_low", Unit::Count, "1 while less is free than free_space_low_bytes or free_space_min_bytes, else 0."),
                refusing: gauge("shardwal_free_space_refusing", Unit::Count, "1 while appends are refused because less is free than free_space_min_bytes, else 0."),
            };
            gauges
        }

        pub(crate) fn found(&self, free_bytes: u64, state: FreeSpaceState) {
            self.free.set(free_bytes as f64);
            self.low.set(f64::from(u8::from(state != FreeSpaceState::Ok)));
            self.refusing.set(f64::from(u8::from(state == FreeSpaceState::Refusing)));
        }
    }

    fn seconds(nanos: u64) -> f64 {
        nanos as f64 / 1e9
    }

    /// Describes and registers metrics under one set of labels.
    ///
    /// Every shard describes its metrics again: the recorder may have changed since the
    /// first, and a second description has no effect.
    struct Series(Vec<Label>);

    impl Series {
        fn counter(&self, (name, unit, about): Exported) -> Counter {
            let unit = match unit {
                CounterUnit::Count => Unit::Count,
                CounterUnit::Bytes => Unit::Bytes,
                CounterUnit::Nanoseconds => Unit::Nanoseconds,
            };
            metrics::describe_counter!(name, unit, about);
            metrics::counter!(name, self.0.clone())
        }

        fn gauge(&self, name: &'static str, unit: Unit, about: &'static str) -> Gauge {
            metrics::describe_gauge!(name, unit, about);
            metrics::gauge!(name, self.0.clone())
        }

        fn histogram(&self, name: &'static str, unit: Unit, about: &'static str) -> Histogram {
            metrics::describe_histogram!(name, unit, about);
            metrics::histogram!(name, self.0.clone())
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod off {
    use crate::stats::{CommitSample, Counter, FreeSpaceState};

    /// The empty facade, for builds without the `metrics` feature.
    #[derive(Debug)]
    pub(in crate::stats) struct Metrics;

    impl Metrics {
        pub(in crate::stats) fn new(_log_name: &str, _shard: usize) -> Self {
            Self
        }
        pub(in crate::stats) fn count(&self, _counter: Counter, _more: u64) {}
        pub(in crate::stats) fn queue_waited(&self, _nanos: u64) {}
        pub(in crate::stats) fn acknowledged(&self, _nanos: u64) {}
        pub(in crate::stats) fn committed(&self, _sample: CommitSample) {}
        pub(in crate::stats) fn synced(&self, _nanos: u64) {}
        pub(in crate::stats) fn poisoned(&self) {}
    }

    /// The empty gauges, for builds without the `metrics` feature.
    #[derive(Debug)]
    pub(crate) struct SpaceGauges;

    impl SpaceGauges {
        pub(crate) fn new(_log_name: &str) -> Self {
            Self
        }
        pub(crate) fn found(&self, _free_bytes: u64, _state: FreeSpaceState) {}
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::collections::BTreeMap;

    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

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
            busy.blocked(9);
            busy.queue_waited(125_000_000);
            busy.acknowledged(4_000_000_000);
            idle.poisoned();
        });
        assert_eq!(report.len(), 2 * 14);
        for (name, expected) in [
            ("shardwal_records_total{ingest,0}", 40.0),
            ("shardwal_records_total{ingest,1}", 0.0),
            ("shardwal_bytes_total{ingest,0}", 4000.0),
            ("shardwal_commits_total{ingest,0}", 2.0),
            ("shardwal_syncs_total{ingest,0}", 1.0),
            ("shardwal_rolls_total{ingest,0}", 1.0),
            ("shardwal_refused_records_total{ingest,0}", 7.0),
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
}
