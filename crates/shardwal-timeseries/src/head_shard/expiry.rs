//! How series leave a head shard: passes of the retention drop samples, hide the series that have
//! none left, and remove hidden series whose numbers nobody holds. It does not know the log.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::{HeadShard, SERIES_AT_A_TIME};
use crate::holders::{Epoch, Hold};

/// Number of series removed per lock hold. Each takes some microseconds.
const REMOVED_AT_A_TIME: usize = 128;

impl HeadShard {
    /// Begins a hold: see [`Hold`].
    pub(crate) fn hold(&self) -> Hold {
        let index = self.index.read();
        Hold::begin(&self.holders, index.lifetimes.epoch(), index.lifetimes.clock())
    }

    /// Drops the chunks that end before a time, in some pages of columns: see
    /// [`Columns::drop_before`]. Returns the number of their samples and histograms, and the next
    /// page. Series keep their numbers.
    ///
    /// [`Columns::drop_before`]: crate::columns::Columns::drop_before
    pub(crate) fn drop_before(&self, time_ms: i64, pages: Range<usize>) -> (u64, Option<usize>) {
        let mut current = self.current.lock();
        let (mut dropped, next) = current.samples.drop_before(time_ms, pages.clone());
        let (histograms, other_next) = current.histograms.drop_before(time_ms, pages);
        dropped.add(histograms);
        // ORDERING: Relaxed; a statistic, stored under the lock.
        self.samples.fetch_sub(dropped.samples, Ordering::Relaxed);
        drop(current);
        self.pending.dropped(dropped.weight);
        (dropped.samples, next.max(other_next))
    }

    /// Removes the series without samples and histograms. Only `open` may: no caller has a handle
    /// yet, and nothing is queued.
    pub(crate) fn remove_empty_series(&self) {
        let current = self.current.lock();
        let mut index = self.index.write();
        let empty = index.numbers_from(0).filter(|number| !current.has(*number));
        let empty: Vec<u32> = empty.collect();
        empty.into_iter().for_each(|number| index.remove(number));
    }

    /// Hides the series without samples and histograms from every look-up, so that a later pass can
    /// remove them. Returns the number of those that were not hidden. Hides none if a hold from
    /// before the last pass is left: its epoch would begin again.
    ///
    /// A series that gets samples is shown again. So no cut of later holds has a hidden series.
    pub(crate) fn hide_empty_series(&self) -> u64 {
        if self.holders.has(self.index.read().lifetimes.epoch().other()) {
            return 0;
        }
        let (mut count, mut from) = (0, Some(0));
        while let Some(first) = from {
            let current = self.current.lock();
            let index = &mut *self.index.write();
            let some: Vec<u32> = index.numbers_from(first).take(SERIES_AT_A_TIME).collect();
            from = some.last().map(|last| last + 1);
            let empty = some.into_iter().filter(|number| !current.has(*number));
            count += index.lifetimes.make_idle(empty);
        }
        self.index.write().lifetimes.next_epoch();
        count
    }

    /// Removes the series that an earlier pass has hidden. Removes none if a hold from before that
    /// pass is left.
    pub(crate) fn remove_hidden_series(&self) {
        if self.holders.has(self.index.read().lifetimes.epoch().other()) {
            return;
        }
        loop {
            let index = &mut *self.index.write();
            let some = index.lifetimes.idle_series(REMOVED_AT_A_TIME);
            if some.is_empty() {
                return;
            }
            for number in some {
                index.remove(number);
                index.lifetimes.note_removed(number);
            }
            // ORDERING: Relaxed; the lock and the queue order it before samples of a later series
            // with such a number.
            self.has_removed.store(true, Ordering::Relaxed);
        }
    }

    /// The numbers that were removed since the last call. Another series may have them.
    pub(crate) fn take_removed(&self) -> Vec<u32> {
        // ORDERING: Relaxed; see `remove_hidden_series`.
        if !self.has_removed.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let index = &mut *self.index.write();
        self.has_removed.store(false, Ordering::Relaxed);
        index.lifetimes.take_removed()
    }

    /// Ends the holds of payloads: per epoch, their number.
    pub(crate) fn end_holds(&self, epoch: Epoch, holds: u64) {
        self.holders.end(epoch, holds);
    }

    /// Lets look-ups find series that have samples again.
    pub(super) fn show(&self, series: &[u32]) {
        let is_any_hidden = {
            let index = self.index.read();
            series.iter().any(|number| index.lifetimes.is_idle(*number))
        };
        if is_any_hidden {
            let index = &mut *self.index.write();
            series.iter().for_each(|number| index.lifetimes.revive(*number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, Labels, SeriesSample};
    use super::HeadShard;
    use crate::Sample;

    /// Drops all samples, in one pass of the retention.
    fn pass(head: &HeadShard) {
        head.remove_hidden_series();
        head.drop_before(i64::MAX, 0..usize::MAX);
        head.hide_empty_series();
    }

    /// S3 COMPLETE: a snapshot looks up the labels of its series long after its cut.
    #[test]
    fn numbers_stay_as_long_as_a_hold_from_before_they_were_hidden() {
        let head = HeadShard::new(Budget::new(10));
        let labels = |host: u32| Labels::new([("host", host.to_string())]).expect("they are valid");
        let write = |host: u32| {
            let series = head.define(&[labels(host).canonical()])[0];
            head.apply(&[SeriesSample { series, sample: Sample::new(1, 1.0) }], &[], true);
            series
        };
        let number = write(0);
        let (hold, cut, _) = head.snapshot();
        for host in 1..5 {
            pass(&head);
            assert_eq!(head.find(&labels(0)), None);
            assert_ne!(write(host), number);
            assert!(cut.has(number));
            assert_eq!(head.labels_of(&[number], 1), [labels(0)]);
            assert!(head.select(&[], hold.clock).contains(number));
        }
        // A hold that begins after the series was hidden never sees it, and keeps nothing.
        drop(hold);
        pass(&head);
        let later = head.hold();
        assert!(!head.select(&[], later.clock).contains(number));
        pass(&head);
        assert!((6..12).any(|host| write(host) == number), "the number is used again");
        drop(later);
    }

    /// R5 CUT: samples of a write that was on its way as its series was hidden.
    #[test]
    fn a_hidden_series_that_gets_samples_is_found_at_once() {
        let head = HeadShard::new(Budget::new(10));
        let labels = Labels::new([("host", "a")]).expect("they are valid");
        let series = head.define(&[labels.canonical()])[0];
        // Its samples follow, but the series is not tentative any more.
        head.apply(&[], &[], true);
        pass(&head);
        assert_eq!(head.find(&labels), None);
        head.apply(&[SeriesSample { series, sample: Sample::new(1, 1.0) }], &[], false);
        assert_eq!((head.query(&[], &(0..=9)).len(), head.series()), (1, 1));
        assert!(head.find(&labels).is_some());
        head.remove_hidden_series();
        assert_eq!(head.query(&[], &(0..=9)).len(), 1);
    }
}
