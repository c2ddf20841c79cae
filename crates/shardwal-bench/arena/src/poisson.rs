//! Records that fall due as a Poisson process, regardless of the log.

use std::time::{Duration, Instant};

use crate::load;
use crate::peer::{Arrivals, Due};

/// Maximum records returned per reading of the clock.
const DUE_MAX: usize = 1000;
/// No record is offered later than this multiple of the time in which records fall due.
const LATE_MAX: u32 = 4;

/// The records of one thread. Gaps are random, with a given mean.
pub struct Poisson {
    thread: usize,
    /// Number of records so far.
    pub count: u64,
    /// When the first record could be due.
    pub began: Instant,
    /// When the next record is due, and when the last one is.
    next: Instant,
    end: Instant,
    /// After this, due records are no longer offered.
    cap: Instant,
    /// In seconds. 0: everything is due at once, for the whole run.
    mean_gap: f64,
    state: u64,
}

impl Poisson {
    /// Records of a thread with this rate. If it is infinite, everything is due at once.
    pub fn new(thread: usize, per_second: f64, lasts: Duration) -> Self {
        let began = Instant::now();
        let cap = began + if per_second.is_finite() { lasts * LATE_MAX } else { lasts };
        Self {
            thread,
            count: 0,
            began,
            next: began,
            end: began + lasts,
            cap,
            mean_gap: 1.0 / per_second,
            state: 0x9e37_79b9_7f4a_7c15 ^ (thread as u64 + 1),
        }
    }

    /// Draws an exponentially distributed gap.
    fn gap(&mut self) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let uniform = ((self.state >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() * self.mean_gap)
    }
}

impl Arrivals for Poisson {
    fn take(&mut self, due: &mut Vec<Due>) -> bool {
        due.clear();
        let now = Instant::now();
        if self.next >= self.end || now >= self.cap {
            return false;
        }
        std::thread::sleep(self.next.saturating_duration_since(now));
        let now = Instant::now();
        while self.next <= now && self.next < self.end && due.len() < DUE_MAX {
            due.push(Due { at: self.next, record: load::record(self.thread, self.count) });
            self.count += 1;
            let gap = self.gap();
            self.next += gap;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_have_the_mean_that_is_asked() {
        let mut poisson = Poisson::new(1, 1e4, Duration::from_secs(1));
        let sum: f64 = (0..100_000).map(|_| poisson.gap().as_secs_f64()).sum();
        assert!((sum / 10.0 - 1.0).abs() < 0.02, "{sum} s in place of 10");
    }
}
