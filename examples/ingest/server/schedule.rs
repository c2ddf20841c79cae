//! When the server takes a snapshot: after a number of samples, and when the
//! disk has little room left. A snapshot truncates the log, which is what takes
//! the room, so it comes while there still is room for it. Knows numbers; it does
//! not know how a snapshot is taken.

use std::time::{Duration, Instant};

use shardwal::DiskState;

/// What a snapshot is reckoned to take before one has shown it.
const SAMPLE_BYTES: u64 = 12;
const SERIES_BYTES: u64 = 512;
/// What a sample takes in the log, at least. The log that a start has found is
/// reckoned in samples by it.
const LOGGED_SAMPLE_BYTES: u64 = 2;
/// What is kept beside a snapshot: the log's next segments and its queues.
const SLACK_BYTES: u64 = 4 << 20;
/// How long after one that failed the next snapshot is taken; and how long after
/// one for want of room the next for that, while writes are taken.
const PAUSE: Duration = Duration::from_secs(10);

/// What the server has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Samples acknowledged since the start.
    pub(crate) acknowledged: u64,
    /// Bytes appended to the log since the start.
    pub(crate) logged_bytes: u64,
    /// Writes that were refused for want of room since the start.
    pub(crate) refused_for_room: u64,
    /// Samples and series in memory.
    pub(crate) samples: u64,
    pub(crate) series: u64,
    /// Bytes free on the disk, if it says so.
    pub(crate) free_bytes: Option<u64>,
    pub(crate) disk: DiskState,
}

/// Why a snapshot is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// As many samples were acknowledged since the last one.
    Samples,
    /// The disk has little room.
    Room,
}

/// When snapshots are taken, and what the last one showed.
#[derive(Debug)]
pub(crate) struct Schedule {
    /// Samples after which a snapshot is taken.
    samples: u64,
    /// The hard watermark.
    hard_bytes: u64,
    /// What of the log the start has found, as bytes.
    found_bytes: u64,
    /// What the last snapshot covers.
    covered: Option<Seen>,
    /// Bytes of the last snapshot, and samples in it.
    last: Option<(u64, u64)>,
    /// When the next may be taken, after one that failed.
    failed_until: Option<Instant>,
    /// When the next may be taken for want of room, while writes are taken.
    low_until: Option<Instant>,
}

impl Schedule {
    /// `found_bytes`: what stood in the log at the start.
    pub(crate) fn new(samples: u64, hard_bytes: u64, found_bytes: u64) -> Self {
        let (covered, last, failed_until, low_until) = (None, None, None, None);
        Self { samples, hard_bytes, found_bytes, covered, last, failed_until, low_until }
    }

    /// Whether a snapshot is to be taken now.
    pub(crate) fn due(&self, seen: &Seen, now: Instant) -> Option<Due> {
        let covered = self.covered.unwrap_or_default();
        // A snapshot covers what the start has found, as well.
        let found = if self.covered.is_some() { 0 } else { self.found_bytes };
        let samples = seen.acknowledged - covered.acknowledged + found / LOGGED_SAMPLE_BYTES;
        let bytes = seen.logged_bytes - covered.logged_bytes + found;
        let waits = |until: Option<Instant>| until.is_some_and(|until| now < until);
        if waits(self.failed_until) {
            return None;
        }
        if samples >= self.samples {
            return Some(Due::Samples);
        }
        let refuses =
            seen.disk == DiskState::Refusing || seen.refused_for_room > covered.refused_for_room;
        let is_low = seen.disk != DiskState::Ok
            || seen.free_bytes.is_some_and(|free| free < self.low_bytes(seen));
        // While writes are taken, a snapshot must be worth its own room.
        let is_worth = if refuses {
            bytes > 0
        } else {
            is_low && !waits(self.low_until) && bytes > self.snapshot_bytes(seen)
        };
        is_worth.then_some(Due::Room)
    }

    /// Free bytes below which the next snapshot might soon have no room.
    fn low_bytes(&self, seen: &Seen) -> u64 {
        let hard = self.hard_bytes.saturating_add(self.hard_bytes / 8);
        hard.saturating_add(self.snapshot_bytes(seen).saturating_mul(2)).saturating_add(SLACK_BYTES)
    }

    /// What a snapshot is reckoned to take now.
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

    /// A snapshot was taken of what had been `seen` before.
    pub(crate) fn taken(&mut self, due: Due, seen: Seen, bytes: u64, now: Instant) {
        (self.covered, self.last) = (Some(seen), Some((bytes, seen.samples)));
        self.low_until = (due == Due::Room).then(|| now + PAUSE);
    }

    /// None could be taken: it is tried again later.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failed_until = Some(now + PAUSE);
    }
}
