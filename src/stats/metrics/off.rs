//! Builds without the `metrics` feature: nothing is exported.

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
    pub(in crate::stats) fn refused_appends(&self, _cause: usize, _records: u64) {}
    pub(in crate::stats) fn poisoned(&self) {}
}

/// The empty gauges, for builds without the `metrics` feature.
#[derive(Debug)]
pub(crate) struct SpaceGauges;

impl SpaceGauges {
    pub(crate) fn new(_log_name: &str) -> Self {
        Self
    }
    pub(crate) fn set(&self, _free_bytes: u64, _state: FreeSpaceState) {}
}
