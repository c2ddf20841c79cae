//! The counters of a shard, one row each.
//!
//! A new counter is a row here and a field of [`ShardStats`]. A row says which field it
//! fills and how the `metrics` feature exports it. This file does not know what is counted
//! when.

use super::ShardStats;

/// What one counter of [`ShardStats`] measures.
#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    Count,
    Bytes,
    Nanoseconds,
}

/// Where a counter is shown.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) counter: Counter,
    /// Its field of the stats.
    pub(super) field: fn(&mut ShardStats) -> &mut u64,
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "only `metrics` exports it"))]
    pub(super) exported: Exported,
}

/// A counter of the `metrics` crate: its name, its unit, its description.
pub(super) type Exported = (&'static str, Unit, &'static str);

macro_rules! counters {
    ($($counter:ident, $field:ident: $name:literal, $unit:ident, $about:literal;)*) => {
        /// A sum since the log was opened. It never falls.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Counter {
            $($counter,)*
        }

        /// The number of counters.
        pub(super) const COUNTERS: usize = [$(stringify!($counter)),*].len();

        /// All counters. `ROWS[counter as usize]` is the row of `counter`.
        pub(super) const ROWS: [Row; COUNTERS] = [$(Row {
            counter: Counter::$counter,
            field: |stats| &mut stats.$field,
            exported: ($name, Unit::$unit, $about),
        }),*];
    };
}

// Nanoseconds are exported as such, because the counters of `metrics` hold whole numbers.
counters! {
    Records, records: "shardwal_records_total", Count,
        "Records that commits have written.";
    Bytes, bytes: "shardwal_bytes_total", Bytes,
        "Payload bytes of the records written.";
    Commits, commits: "shardwal_commits_total", Count,
        "Commits that were written.";
    Syncs, syncs: "shardwal_syncs_total", Count,
        "Data syncs that succeeded.";
    Rolls, rolls: "shardwal_rolls_total", Count,
        "Segments begun after the first.";
    RefusedRecords, refused_records: "shardwal_refused_records_total", Count,
        "Records answered NotWritten.";
    BlockedNanos, blocked_nanos: "shardwal_blocked_nanoseconds_total", Nanoseconds,
        "Time that callers spent blocked on a full queue, summed over the callers.";
}
