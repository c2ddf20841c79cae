//! The schedule of snapshots: after a number of samples, and when the disk is low on space. A
//! snapshot truncates the log, which frees space. It must therefore be taken while there is still
//! room for it. This file knows numbers, not how a snapshot is taken.

use std::time::{Duration, Instant};

use shardwal::FreeSpaceState;

/// Estimated size of a snapshot, per sample and per series, before the first one.
const SAMPLE_BYTES: u64 = 12;
const SERIES_BYTES: u64 = 512;
/// Space to keep beside a snapshot, for the log's next segments and its queues.
const SLACK_BYTES: u64 = 4 << 20;
/// Minimum time between two snapshots for want of space, while writes succeed.
const PAUSE: Duration = Duration::from_secs(10);
/// Pause after a failed snapshot. It doubles with each failure, up to the maximum.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = PAUSE;

/// The state of the server at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Samples in the log that no snapshot covers.
    pub(crate) since_snapshot: u64,
    /// Bytes appended to the log since the start.
    pub(crate) logged_bytes: u64,
    /// Writes refused for want of space since the start.
    pub(crate) refused_for_room: u64,
    /// Samples and series in memory.
    pub(crate) samples: u64,
    pub(crate) series: u64,
    /// Free bytes on the disk, if known.
    pub(crate) free_bytes: Option<u64>,
    pub(crate) fs: FreeSpaceState,
}

/// Why a snapshot is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// The log holds enough samples that the last one does not cover.
    Samples,
    /// The disk is low on space.
    Room,
}

/// When snapshots are due, and what the last one covered.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Number of samples after which a snapshot is due.
    samples: u64,
    /// The log's minimum of free space.
    free_space_min_bytes: u64,
    /// Bytes that the log held at start.
    found_bytes: u64,
    /// The state that the last snapshot covers.
    covered: Option<Seen>,
    /// Bytes of the last snapshot, and number of samples in it.
    last: Option<(u64, u64)>,
    /// No snapshot before this time, because one failed.
    failed_until: Option<Instant>,
    /// Snapshots that failed since the last that did not.
    failures: u32,
    /// No snapshot for want of space before this time, while writes succeed.
    low_until: Option<Instant>,
}

impl Schedule {
    /// Creates a schedule. `found_bytes` is the size of the log at start.
    pub(crate) fn new(samples: u64, free_space_min_bytes: u64, found_bytes: u64) -> Self {
        let (covered, last, failed_until, low_until) = (None, None, None, None);
        Self {
            samples,
            free_space_min_bytes,
            found_bytes,
            covered,
            last,
            failed_until,
            failures: 0,
            low_until,
        }
    }

    /// Whether a snapshot is due now, and why.
    pub(crate) fn due(&self, seen: &Seen, now: Instant) -> Option<Due> {
        let covered = self.covered.unwrap_or_default();
        // The first snapshot also covers what the log held at start.
        let found = if self.covered.is_some() { 0 } else { self.found_bytes };
        let bytes = seen.logged_bytes - covered.logged_bytes + found;
        let waits = |until: Option<Instant>| until.is_some_and(|until| now < until);
        if waits(self.failed_until) {
            return None;
        }
        if seen.since_snapshot >= self.samples {
            return Some(Due::Samples);
        }
        let refuses =
            seen.fs == FreeSpaceState::Refusing || seen.refused_for_room > covered.refused_for_room;
        let is_low = seen.fs != FreeSpaceState::Ok
            || seen.free_bytes.is_some_and(|free| free < self.low_bytes(seen));
        // While writes succeed, a snapshot must free more than it takes.
        let is_worth = if refuses {
            bytes > 0
        } else {
            is_low && !waits(self.low_until) && bytes > self.snapshot_bytes(seen)
        };
        is_worth.then_some(Due::Room)
    }

    /// Below this number of free bytes, the next snapshot may soon have no room.
    fn low_bytes(&self, seen: &Seen) -> u64 {
        let hard = self.free_space_min_bytes.saturating_add(self.free_space_min_bytes / 8);
        hard.saturating_add(self.snapshot_bytes(seen).saturating_mul(2)).saturating_add(SLACK_BYTES)
    }

    /// The estimated size of a snapshot now.
    fn snapshot_bytes(&self, seen: &Seen) -> u64 {
        match self.last {
            Some((bytes, samples)) => {
                let more = seen.samples.saturating_sub(samples);
                bytes.saturating_add(more.saturating_mul(SAMPLE_BYTES))
            }
            None => seen
                .samples
                .saturating_mul(SAMPLE_BYTES)
                .saturating_add(seen.series.saturating_mul(SERIES_BYTES)),
        }
    }

    /// Records a snapshot. `seen` is the state that it covers.
    pub(crate) fn taken(&mut self, due: Due, seen: Seen, bytes: u64, now: Instant) {
        (self.covered, self.last) = (Some(seen), Some((bytes, seen.samples)));
        self.low_until = (due == Due::Room).then(|| now + PAUSE);
        self.failures = 0;
    }

    /// Records a failed snapshot. The next attempt follows soon, and later ones ever more slowly.
    pub(crate) fn failed(&mut self, now: Instant) {
        let pause = RETRY_PAUSE.saturating_mul(1 << self.failures.min(16)).min(RETRY_PAUSE_MAX);
        self.failed_until = Some(now + pause);
        self.failures += 1;
    }
}
