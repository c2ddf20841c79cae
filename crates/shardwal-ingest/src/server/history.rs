//! History: one row per second of the last minutes, for the status page. It does not know how a row
//! is displayed.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::app::App;

/// Number of seconds kept.
const SECONDS_MAX: usize = 300;

/// The counts of each of the last seconds.
#[derive(Debug, Default)]
pub(crate) struct History {
    seconds: VecDeque<Second>,
    before: Totals,
}

/// The counters at the end of a second.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    samples: u64,
    requests: u64,
    refusals: u64,
    commits: u64,
    records: u64,
    syncs: u64,
    bytes: u64,
}

/// One second.
#[derive(Clone, Copy, Debug)]
struct Second {
    samples: u64,
    requests: u64,
    refusals: u64,
    records_per_commit: f64,
    syncs: u64,
    bytes: u64,
    queue_depth: u64,
    in_flight_bytes: usize,
    request_p50_micros: u64,
    request_p99_micros: u64,
}

impl History {
    /// Adds the second that has just passed.
    pub(crate) fn take_second(&mut self, app: &App) {
        let stats =
            app.storage_if_open().map(|storage| storage.log().stats().total).unwrap_or_default();
        let now = Totals {
            samples: app.counters.samples(),
            requests: app.counters.requests(),
            refusals: app.counters.refusals().iter().sum(),
            commits: stats.commits,
            records: stats.records,
            syncs: stats.syncs,
            bytes: stats.bytes,
        };
        let before = std::mem::replace(&mut self.before, now);
        let commits = now.commits - before.commits;
        let [p99, p50] = app.counters.take_latencies();
        if self.seconds.len() == SECONDS_MAX {
            self.seconds.pop_front();
        }
        self.seconds.push_back(Second {
            samples: now.samples - before.samples,
            requests: now.requests - before.requests,
            refusals: now.refusals - before.refusals,
            records_per_commit: (now.records - before.records) as f64 / commits.max(1) as f64,
            syncs: now.syncs - before.syncs,
            bytes: now.bytes - before.bytes,
            queue_depth: stats.queue_depth,
            in_flight_bytes: app.budget.in_use(),
            request_p50_micros: p50,
            request_p99_micros: p99,
        });
    }

    /// Returns one list per line of a plot, oldest value first.
    pub(crate) fn as_json(&self) -> Value {
        fn column<T: Into<Value>>(history: &History, of: impl Fn(&Second) -> T) -> Value {
            history.seconds.iter().map(|second| of(second).into()).collect::<Vec<Value>>().into()
        }
        json!({
            "samples": column(self, |second| second.samples),
            "requests": column(self, |second| second.requests),
            "refusals": column(self, |second| second.refusals),
            "records_per_commit": column(self, |second| second.records_per_commit),
            "syncs": column(self, |second| second.syncs),
            "bytes": column(self, |second| second.bytes),
            "queue_depth": column(self, |second| second.queue_depth),
            "in_flight_bytes": column(self, |second| second.in_flight_bytes),
            "request_p50_micros": column(self, |second| second.request_p50_micros),
            "request_p99_micros": column(self, |second| second.request_p99_micros),
        })
    }
}
