//! How much room the file system has left, and what follows from that.
//!
//! Two watermarks on its free bytes: below the soft one the log says so, below
//! the hard one it takes no more appends, until there is room again. Knows
//! bytes; it does not know what a segment is, nor who is refused.
//!
//! Who looks: open, the housekeeping thread in turn and before it prepares a
//! segment, and whoever has truncated. **Never an append**, which reads what
//! the last look found. So some commits may land between the look that would
//! have refused them and the one before, and what is queued by then is still
//! written: at most a queue and the segments that are under way, a shard. The
//! hard mark is to be set above that; a disk that is full all the same refuses
//! by itself.

use std::path::PathBuf;

use crate::config::Config;
use crate::disk::Disk;
use crate::error::{Cause, OpenError, Refused};
use crate::payload::Payload;
use crate::stats::{DiskSpace, DiskState, SpaceGauges};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};
use crate::trace;

/// No look has found out how much is free.
const UNKNOWN: u64 = u64::MAX;
/// What is below a mark is above it again only once there is a part in so many
/// more, so that a few bytes to and fro do not switch the log on and off.
const RETURN_PART: u64 = 16;

/// The free bytes below which something happens; 0 for never.
#[derive(Clone, Copy, Debug)]
struct Watermarks {
    soft: u64,
    hard: u64,
}

impl Watermarks {
    /// What so many free bytes mean, after what the last look has found.
    fn state(self, free: u64, before: DiskState) -> DiskState {
        let below = |mark, was_below| free < if was_below { return_at(mark) } else { mark };
        if below(self.hard, before == DiskState::Refusing) {
            DiskState::Refusing
        } else if below(self.soft, before != DiskState::Ok) {
            DiskState::Low
        } else {
            DiskState::Ok
        }
    }
}

fn return_at(mark: u64) -> u64 {
    mark.saturating_add(mark / RETURN_PART)
}

/// See the module's words.
#[derive(Debug)]
pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    marks: Watermarks,
    gauges: SpaceGauges,
    /// What the last look found, or `UNKNOWN`. Whoever looks stores, any thread
    /// reads.
    free: AtomicU64,
    /// A [`DiskState`] as a number. The same. Each append reads it, so it is
    /// stored only when it changes.
    state: AtomicU64,
    /// Held while looking, so that nobody's look overwrites a later one's.
    looking: Mutex<()>,
}

impl Space {
    /// Looks for the first time. With no mark set, a disk that does not say how
    /// much is free will do.
    pub(crate) fn open(config: &Config) -> Result<Self, OpenError> {
        let marks = Watermarks { soft: config.disk_soft_bytes, hard: config.disk_hard_bytes };
        let space = Self {
            disk: config.disk.clone(),
            dir: config.dir.clone(),
            marks,
            gauges: SpaceGauges::new(&config.dir.display().to_string()),
            free: AtomicU64::new(UNKNOWN),
            state: AtomicU64::new(DiskState::Ok as u64),
            looking: Mutex::new(()),
        };
        let found = space.look();
        if space.is_watched() {
            let asking = "asking how much is free on the disk of";
            found.map_err(OpenError::io(asking, &space.dir))?.ok_or_else(|| {
                let setting = if marks.hard > 0 { "disk_hard_bytes" } else { "disk_soft_bytes" };
                let problem = "is set, and the disk does not say how much is free".into();
                OpenError::InvalidConfig { setting, problem }
            })?;
        }
        Ok(space)
    }

    /// Whether anything hangs on how much is free.
    pub(crate) fn is_watched(&self) -> bool {
        self.marks.soft > 0 || self.marks.hard > 0
    }

    /// Asks the disk how much is free. Without an answer all stays as it was.
    pub(crate) fn look(&self) -> std::io::Result<Option<u64>> {
        let _one_at_a_time = self.looking.lock();
        let found = self.disk.free_bytes(&self.dir)?;
        if let Some(free) = found {
            let before = self.state();
            let state = self.marks.state(free, before);
            // ORDERING: Relaxed on both; figures that publish nothing besides
            // themselves, and who reads a free and a state of two looks has two
            // figures that were right a moment ago.
            self.free.store(free.min(UNKNOWN - 1), Ordering::Relaxed);
            if state != before {
                self.state.store(state as u64, Ordering::Relaxed);
                trace::disk_space(free, state);
            }
            self.gauges.found(free, state);
        }
        Ok(found)
    }

    /// Lets a payload pass, or gives it back with the reason.
    pub(crate) fn admit<'p>(&self, payload: Payload<'p>) -> Result<Payload<'p>, Refused> {
        match self.refusal() {
            None => Ok(payload),
            Some(cause) => Err(Refused { payload: payload.into_bytes(), cause }),
        }
    }

    /// Why nothing is taken now, if so. What it costs an append is one load.
    pub(crate) fn refusal(&self) -> Option<Cause> {
        (self.state() == DiskState::Refusing).then(|| self.cause())
    }

    #[cold]
    fn cause(&self) -> Cause {
        let disk_hard_bytes = self.marks.hard;
        Cause::BelowWatermark {
            free_bytes: self.found().free_bytes.unwrap_or(0),
            disk_hard_bytes,
            required_bytes: return_at(disk_hard_bytes),
        }
    }

    /// So many zeros ahead, or none where they would take what the hard mark
    /// keeps: they are for speed alone, and it is for records.
    pub(crate) fn spare(&self, zeros: u64) -> u64 {
        // ORDERING: Relaxed; see `look`.
        let left = self.free.load(Ordering::Relaxed).saturating_sub(zeros);
        if left < self.marks.hard { 0 } else { zeros }
    }

    /// Whether the last look has found less than this, or below a watermark: then
    /// nothing is kept that could be given back.
    pub(crate) fn is_scarce(&self, free_bytes_min: u64) -> bool {
        // ORDERING: Relaxed; see `look`.
        self.state() != DiskState::Ok || self.free.load(Ordering::Relaxed) < free_bytes_min
    }

    /// What the last look has found.
    pub(crate) fn found(&self) -> DiskSpace {
        // ORDERING: Relaxed; see `look`.
        let free = self.free.load(Ordering::Relaxed);
        DiskSpace { free_bytes: (free != UNKNOWN).then_some(free), state: self.state() }
    }

    fn state(&self) -> DiskState {
        // ORDERING: Relaxed; a hint of some moments ago, which orders nothing.
        match self.state.load(Ordering::Relaxed) {
            0 => DiskState::Ok,
            1 => DiskState::Low,
            _ => DiskState::Refusing,
        }
    }
}

const _: () = assert!(DiskState::Ok as u64 == 0 && DiskState::Low as u64 == 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_passed_upwards_a_little_later_than_downwards() {
        use DiskState::{Low, Ok, Refusing};
        let marks = Watermarks { soft: 3200, hard: 1600 };
        let walk = [
            (3200, Ok),
            (3199, Low),
            (3399, Low),
            (3400, Ok),
            (1600, Low),
            (1599, Refusing),
            (1600, Refusing),
            (1699, Refusing),
            (1700, Low),
            (1600, Low),
            (0, Refusing),
            (u64::MAX, Ok),
        ];
        walk.into_iter().fold(Ok, |before, (free, expected)| {
            assert_eq!(marks.state(free, before), expected, "{free} after {before:?}");
            expected
        });
    }

    #[test]
    fn a_mark_of_zero_is_none() {
        for (soft, hard, at_zero) in [
            (0, 0, DiskState::Ok),
            (1, 0, DiskState::Low),
            (0, 1, DiskState::Refusing),
            (u64::MAX, u64::MAX, DiskState::Refusing),
        ] {
            assert_eq!(Watermarks { soft, hard }.state(0, DiskState::Ok), at_zero);
        }
    }
}
