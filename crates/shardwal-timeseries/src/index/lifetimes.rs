//! Which series of a shard are about to leave it, and whether a handle is of the series that has
//! its number now. It does not know labels.

use std::collections::HashSet;

use roaring::RoaringBitmap;

use crate::holders::Epoch;

/// The life of the series of a shard, by number.
#[derive(Debug, Default)]
pub(crate) struct Lifetimes {
    /// Series that only the current commit defines. They are dropped if the commit is not applied.
    pub(crate) tentative: HashSet<u32>,
    /// Series that have a handle of `Storage::series_handle`. They stay without samples.
    registered: RoaringBitmap,
    /// Series that had no samples in a pass of the retention, and have had none since. No look-up
    /// finds them, and a later pass removes them, unless they are defined again.
    idle: RoaringBitmap,
    /// Rises when series become idle. So a handle that is no older is of its series.
    clock: u32,
    /// The clock as a number got its series. Numbers without series have any clock.
    born: Vec<u32>,
    /// Removed since the encoder of the shard last asked.
    removed: Vec<u32>,
    epoch: Epoch,
}

impl Lifetimes {
    pub(crate) fn clock(&self) -> u32 {
        self.clock
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A new series has got this number.
    pub(super) fn begin(&mut self, number: u32) {
        let at = number as usize;
        if at >= self.born.len() {
            self.born.resize(at + 1, 0);
        }
        self.born[at] = self.clock;
    }

    /// The series with this number is gone.
    pub(super) fn end(&mut self, number: u32) {
        self.idle.remove(number);
        self.registered.remove(number);
    }

    /// Makes a series stay without samples.
    pub(crate) fn register(&mut self, number: u32) {
        self.tentative.remove(&number);
        self.idle.remove(number);
        self.registered.insert(number);
    }

    /// Whether a series is on its way out.
    pub(crate) fn is_idle(&self, number: u32) -> bool {
        self.idle.contains(number)
    }

    /// A series is defined again, or has samples again.
    pub(crate) fn revive(&mut self, number: u32) {
        self.idle.remove(number);
    }

    /// Whether look-ups find a series that has a number.
    pub(crate) fn is_visible(&self, number: u32) -> bool {
        !self.idle.contains(number) && !self.tentative.contains(&number)
    }

    /// Removes the series that look-ups do not find. A hold from the time of `clock` finds those
    /// that became idle since: a cut of that time may have their samples.
    pub(crate) fn hide(&self, found: &mut RoaringBitmap, clock: u32) {
        if clock >= self.clock {
            *found -= &self.idle;
        }
        for number in &self.tentative {
            found.remove(*number);
        }
    }

    /// Number of series that look-ups do not find.
    pub(crate) fn hidden(&self) -> usize {
        self.tentative.len() + usize::try_from(self.idle.len()).unwrap_or(usize::MAX)
    }

    /// Whether a handle from the time of `clock` is of the series that has its number now. That one
    /// must exist.
    pub(crate) fn is_current(&self, number: u32, clock: u32) -> bool {
        clock >= self.clock || self.born[number as usize] <= clock && self.is_visible(number)
    }

    /// Makes series without samples idle. Returns the number of those that were not before.
    pub(crate) fn make_idle(&mut self, empty: impl Iterator<Item = u32>) -> u64 {
        let mut count = 0;
        for number in empty {
            if !self.registered.contains(number) && !self.tentative.contains(&number) {
                count += u64::from(self.idle.insert(number));
            }
        }
        self.clock += u32::from(count > 0);
        count
    }

    /// Ends a pass of the retention.
    pub(crate) fn next_epoch(&mut self) {
        self.epoch = self.epoch.other();
    }

    /// Some idle series.
    pub(crate) fn idle_series(&self, max: usize) -> Vec<u32> {
        self.idle.iter().take(max).collect()
    }

    /// Notes a removal for the encoder.
    pub(crate) fn note_removed(&mut self, number: u32) {
        self.removed.push(number);
    }

    /// The numbers that were removed since the last call.
    pub(crate) fn take_removed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.removed)
    }
}
