//! The free space of the log's file system, and its two thresholds.
//!
//! Below the low threshold the log reports it. Below the minimum it refuses appends,
//! until there is enough space again. This file knows bytes. It does not know segments,
//! nor the callers that it refuses.
//!
//! Open, the preparer thread and every truncation check the free space. **An append
//! never does**: it reads the result of the last check. So some commits may land
//! between two checks, and queued records are still written. That is at most one queue
//! per shard, and the segments that are being made. The minimum should be larger than
//! that. A file system that is full anyway refuses by itself.

use std::path::PathBuf;

use crate::config::Config;
use crate::error::{Cause, OpenError, TryAppendError};
use crate::fs::FileSystem;
use crate::payload::Payload;
use crate::stats::{FreeSpace, FreeSpaceState, SpaceGauges};
use crate::trace;
use crate::util::sync::{Arc, AtomicU64, Mutex, Ordering};

/// The free space is unknown.
const UNKNOWN: u64 = u64::MAX;
/// Free space must exceed a threshold by this fraction (one part in 16) before the log
/// counts it as enough again. So a few bytes to and fro do not switch the log on and
/// off.
const RETURN_PART: u64 = 16;
/// Added to the number of a [`FreeSpaceState`] while a hold refuses appends.
const HOLD_LIMIT: u64 = 4;
/// Appends are refused from this number on.
const REFUSING: u64 = FreeSpaceState::Refusing as u64;

/// The thresholds in free bytes; 0 means never.
#[derive(Clone, Copy, Debug)]
struct FreeSpaceLimits {
    low: u64,
    min: u64,
}

impl FreeSpaceLimits {
    /// The state for `free` bytes, after a check that found the state `before`.
    fn state(self, free: u64, before: FreeSpaceState) -> FreeSpaceState {
        let below = |mark, was_below| free < if was_below { return_at(mark) } else { mark };
        if below(self.min, before == FreeSpaceState::Refusing) {
            FreeSpaceState::Refusing
        } else if below(self.low, before != FreeSpaceState::Ok) {
            FreeSpaceState::Low
        } else {
            FreeSpaceState::Ok
        }
    }
}

fn return_at(mark: u64) -> u64 {
    mark.saturating_add(mark / RETURN_PART)
}

/// The free space of one log's file system.
#[derive(Debug)]
pub(crate) struct FreeSpaceMonitor {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    limits: FreeSpaceLimits,
    gauges: SpaceGauges,
    /// Free bytes at the last check, or `UNKNOWN`. The checking thread stores it, any
    /// thread reads it (Relaxed).
    free: AtomicU64,
    /// A [`FreeSpaceState`] as a number, with `HOLD_LIMIT` added while a hold refuses appends.
    /// Stored under `checking`, any thread reads it (Relaxed). Each append reads it, so it is
    /// stored only when it changes.
    state: AtomicU64,
    /// Held during a check, so that no result overwrites a later one.
    checking: Mutex<()>,
    /// Why a hold refuses appends.
    hold_limit: Mutex<Option<Cause>>,
}

impl FreeSpaceMonitor {
    /// Checks the free space for the first time. Without a threshold, a file system
    /// that does not report free space is accepted.
    ///
    /// # Errors
    /// A threshold is set, and the file system fails or does not report free space.
    pub(crate) fn open(config: &Config) -> Result<Self, OpenError> {
        let limits =
            FreeSpaceLimits { low: config.free_space_low_bytes, min: config.free_space_min_bytes };
        let space = Self {
            fs: config.fs.clone(),
            dir: config.dir.clone(),
            limits,
            gauges: SpaceGauges::new(&config.dir.display().to_string()),
            free: AtomicU64::new(UNKNOWN),
            state: AtomicU64::new(FreeSpaceState::Ok as u64),
            checking: Mutex::new(()),
            hold_limit: Mutex::default(),
        };
        let checked = space.check();
        if space.is_watched() {
            let asking = "asking for the free space of the file system of";
            checked.map_err(OpenError::io(asking, &space.dir))?.ok_or_else(|| {
                let setting =
                    if limits.min > 0 { "free_space_min_bytes" } else { "free_space_low_bytes" };
                let problem =
                    "is set, but the file system does not report its free space; set it to 0"
                        .into();
                OpenError::InvalidConfig { setting, problem }
            })?;
        }
        Ok(space)
    }

    /// Whether a threshold is set.
    pub(crate) fn is_watched(&self) -> bool {
        self.limits.low > 0 || self.limits.min > 0
    }

    /// Asks the file system for its free bytes. If there is no answer, the last state
    /// holds.
    pub(crate) fn check(&self) -> std::io::Result<Option<u64>> {
        let _one_at_a_time = self.checking.lock();
        let reported = self.fs.free_bytes(&self.dir)?;
        if let Some(free) = reported {
            let before = self.state();
            let state = self.limits.state(free, before);
            // ORDERING: Relaxed on both; the numbers publish nothing else. A reader may
            // see a free space and a state of two checks, and both were right a moment
            // ago.
            self.free.store(free.min(UNKNOWN - 1), Ordering::Relaxed);
            if state != before {
                let hold_limit = self.state.load(Ordering::Relaxed) & HOLD_LIMIT;
                self.state.store(state as u64 | hold_limit, Ordering::Relaxed);
                trace::disk_space(free, state);
            }
            self.gauges.set(free, state);
        }
        Ok(reported)
    }

    /// Returns the payload if appends are accepted.
    ///
    /// # Errors
    /// Free space is below the minimum. The error holds the payload.
    pub(crate) fn admit<'p>(&self, payload: Payload<'p>) -> Result<Payload<'p>, TryAppendError> {
        match self.refusal() {
            None => Ok(payload),
            Some(cause) => Err(TryAppendError { payload: payload.into_bytes(), cause }),
        }
    }

    /// Why appends are refused now, if they are. Costs an append one load.
    pub(crate) fn refusal(&self) -> Option<Cause> {
        // ORDERING: Relaxed; see `state`.
        (self.state.load(Ordering::Relaxed) >= REFUSING).then(|| self.cause()).flatten()
    }

    /// Stores why a hold refuses appends; `None` if none does.
    pub(crate) fn set_hold_limit(&self, cause: Option<Cause>) {
        let _one_at_a_time = self.checking.lock();
        // ORDERING: Relaxed; see `state`.
        let before = self.state.load(Ordering::Relaxed);
        let state = before & !HOLD_LIMIT | if cause.is_some() { HOLD_LIMIT } else { 0 };
        if let Some(cause) = cause.as_ref().filter(|_| state != before) {
            trace::hold_refuses(cause);
        }
        *self.hold_limit.lock() = cause;
        if state != before {
            self.state.store(state, Ordering::Relaxed);
        }
    }

    /// The cause of a refusal. `None` if it has passed.
    #[cold]
    fn cause(&self) -> Option<Cause> {
        if self.state() != FreeSpaceState::Refusing {
            return self.hold_limit.lock().clone();
        }
        let free_space_min_bytes = self.limits.min;
        Some(Cause::BelowFreeSpaceMin {
            free_bytes: self.last_check().free_bytes.unwrap_or(0),
            free_space_min_bytes,
            required_bytes: return_at(free_space_min_bytes),
        })
    }

    /// Returns `zeros`, or 0 if that number of bytes would bring free space below the
    /// minimum. Zeros ahead only save time, and the minimum is reserved for records.
    pub(crate) fn affordable_zeros(&self, zeros: u64) -> u64 {
        // ORDERING: Relaxed; see `check`.
        let left = self.free.load(Ordering::Relaxed).saturating_sub(zeros);
        if left < self.limits.min { 0 } else { zeros }
    }

    /// Whether the last check found fewer than `free_bytes_min` bytes, or less than a
    /// threshold. Then no file is kept that could be deleted.
    pub(crate) fn is_scarce(&self, free_bytes_min: u64) -> bool {
        // ORDERING: Relaxed; see `check`.
        self.state() != FreeSpaceState::Ok || self.free.load(Ordering::Relaxed) < free_bytes_min
    }

    /// The result of the last check.
    pub(crate) fn last_check(&self) -> FreeSpace {
        // ORDERING: Relaxed; see `check`.
        let free = self.free.load(Ordering::Relaxed);
        FreeSpace { free_bytes: (free != UNKNOWN).then_some(free), state: self.state() }
    }

    fn state(&self) -> FreeSpaceState {
        // ORDERING: Relaxed; a hint that may be some moments old, and orders nothing.
        match self.state.load(Ordering::Relaxed) & !HOLD_LIMIT {
            0 => FreeSpaceState::Ok,
            1 => FreeSpaceState::Low,
            _ => FreeSpaceState::Refusing,
        }
    }
}

const _: () = assert!(FreeSpaceState::Ok as u64 == 0 && FreeSpaceState::Low as u64 == 1);
const _: () = assert!(REFUSING == 2 && REFUSING < HOLD_LIMIT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_passed_upwards_a_little_later_than_downwards() {
        use FreeSpaceState::{Low, Ok, Refusing};
        let limits = FreeSpaceLimits { low: 3200, min: 1600 };
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
            assert_eq!(limits.state(free, before), expected, "{free} after {before:?}");
            expected
        });
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        for (low, min, at_zero) in [
            (0, 0, FreeSpaceState::Ok),
            (1, 0, FreeSpaceState::Low),
            (0, 1, FreeSpaceState::Refusing),
            (u64::MAX, u64::MAX, FreeSpaceState::Refusing),
        ] {
            assert_eq!(FreeSpaceLimits { low, min }.state(0, FreeSpaceState::Ok), at_zero);
        }
    }
}
