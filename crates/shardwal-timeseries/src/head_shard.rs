//! The head shard: the series of one shard in memory, with their numbers, labels and samples. It
//! does not know the log. Everything applied here was acknowledged.

mod expiry;

use std::ops::RangeInclusive;

use super::budget::{Budget, Claim, Pending};
use super::codec::{SeriesHistogram, SeriesLabels, SeriesSample};
use super::cut::{Cut, Inserted, weight};
use super::holders::{Hold, Holders};
use super::index::{self, Index, places};
use super::{Labels, Matcher, TimeSeries};
use parking_lot::{Mutex, RwLock};
use roaring::RoaringBitmap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Number of labels copied per lock hold. The writer thread needs the lock too.
pub(crate) const SERIES_AT_A_TIME: usize = 1024;

/// The series of one shard. Numbers are not on disk. While the storage is open, the number of a
/// series that has a sample or is registered never changes.
#[derive(Debug)]
pub(crate) struct HeadShard {
    /// Many threads read it, so that no reader delays the committer's look at labels.
    index: RwLock<Index>,
    /// The samples. The committer of the shard applies them (before that, the threads of `open`
    /// restore them). Queries read.
    current: Mutex<Cut>,
    /// Samples and histograms in `current`. Written under its lock, read by any thread.
    samples: AtomicU64,
    /// Samples and histograms inserted so far, including those that replaced another. Written as
    /// `samples` is.
    inserted: AtomicU64,
    /// Samples admitted to this shard and not applied yet.
    pending: Pending,
    /// Readers, and writes that are not applied yet.
    holders: Arc<Holders>,
    /// Whether the encoder of the shard must forget numbers.
    has_removed: AtomicBool,
    /// Canonical bytes of the longest labels. Raised under the lock of `index`. A caller that
    /// writes bounds a batch by it.
    labels_bytes: AtomicU64,
}

/// The weight of samples, and reserved numbers of new series, that were admitted to a shard.
/// Dropping it returns both, unless the samples were queued.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    head: &'a HeadShard,
    weight: u64,
    reserved: u32,
    /// Keeps the numbers of the samples' series.
    hold: Option<Hold>,
}

impl Admitted<'_> {
    /// Marks the samples as queued. The shard's state machine then releases them.
    pub(crate) fn queued(mut self) {
        (self.weight, self.reserved) = (0, 0);
        self.hold.take().into_iter().for_each(Hold::hand_over);
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.head.refuse(self.weight, self.reserved);
    }
}

impl HeadShard {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            index: RwLock::default(),
            current: Mutex::default(),
            samples: AtomicU64::new(0),
            inserted: AtomicU64::new(0),
            pending: Pending::new(budget),
            holders: Arc::default(),
            has_removed: AtomicBool::new(false),
            labels_bytes: AtomicU64::new(0),
        }
    }

    /// Returns the number of a series that the log or a snapshot has. A new series gets one.
    pub(crate) fn restored_number(&self, labels: &Labels) -> u32 {
        let mut index = self.index.write();
        let (number, _) = index.number(labels);
        self.raise_labels_bytes(labels.canonical().len());
        number
    }

    /// Registers a series: it stays without samples. Returns its number, and the clock of a handle.
    /// A new series gets a number, unless the shard already has `series_max` series: then the
    /// result is `None`.
    pub(crate) fn register(&self, labels: &Labels, series_max: u32) -> Option<(u32, u32)> {
        let mut index = self.index.write();
        if index.find(labels).is_none()
            && !has_room(&index, places_of([labels.canonical()]), series_max)
        {
            return None;
        }
        let (number, _) = index.number(labels);
        // A handle keeps the series, whether the commit succeeds or not.
        index.lifetimes.register(number);
        self.raise_labels_bytes(labels.canonical().len());
        Some((number, index.lifetimes.clock()))
    }

    /// The number of a series that is not hidden, and the clock of a handle.
    pub(crate) fn find(&self, labels: &Labels) -> Option<(u32, u32)> {
        let index = self.index.read();
        let number = index.find(labels).filter(|number| index.lifetimes.is_visible(*number));
        number.map(|number| (number, index.lifetimes.clock()))
    }

    /// The number of a series that is not tentative, for a write whose caller has a hold. Shows a
    /// hidden series again, which has its places still.
    pub(crate) fn find_to_write(&self, labels: &Labels) -> Option<u32> {
        let find = |index: &Index| {
            let number = index.find(labels)?;
            (!index.lifetimes.tentative.contains(&number)).then_some(number)
        };
        let index = self.index.read();
        let number = find(&index)?;
        if !index.lifetimes.is_idle(number) {
            return Some(number);
        }
        drop(index);
        let index = &mut *self.index.write();
        let number = find(index)?;
        index.lifetimes.revive(number);
        Some(number)
    }

    /// Whether handles, each a number and a clock, are of series that are not hidden.
    pub(crate) fn are_current(&self, handles: &[(u32, u32)]) -> bool {
        handles.chunks(SERIES_AT_A_TIME).all(|some| {
            let index = self.index.read();
            let is_current = |(number, clock): &(u32, u32)| {
                index.has(*number) && index.lifetimes.is_current(*number, *clock)
            };
            some.iter().all(is_current)
        })
    }

    /// The labels of a handle's series: a number and a clock. `None` if it is gone.
    pub(crate) fn labels_of_handle(&self, number: u32, clock: u32) -> Option<Labels> {
        let index = self.index.read();
        let is_current = index.has(number) && index.lifetimes.is_current(number, clock);
        is_current.then(|| index.labels(number))
    }

    /// The number of new series that the shard has room for, from the first of `series` on. `None`
    /// if there is too little room, but other writes may give some back: they have reserved it.
    pub(crate) fn series_room(&self, series: &[&Labels], series_max: u32) -> Option<usize> {
        if series.is_empty() {
            return Some(0);
        }
        let index = self.index.read();
        let taken = index.taken + u64::from(index.reserved);
        let mut room = u64::from(series_max).saturating_sub(taken);
        let fits = |labels: &&&Labels| {
            let rest = room.checked_sub(u64::from(places_of([labels.canonical()])));
            rest.inspect(|rest| room = *rest).is_some()
        };
        let fitting = series.iter().take_while(fits).count();
        let may_grow = index.reserved > 0 || !index.lifetimes.tentative.is_empty();
        (fitting == series.len() || !may_grow).then_some(fitting)
    }

    /// Admits the parts of a write, each a weight and the places of its new series. A series that
    /// is new in several parts counts in each, but `places` counts it once. `None` if the shard
    /// would exceed `series_max`.
    pub(crate) fn admit(
        &self,
        claim: &mut Claim<'_>,
        parts: impl Iterator<Item = (u64, u32)> + Clone,
        places: u32,
        series_max: u32,
        hold: Option<&Hold>,
    ) -> Option<Vec<Admitted<'_>>> {
        if places > 0 {
            let mut index = self.index.write();
            if !has_room(&index, places, series_max) {
                return None;
            }
            index.reserved += parts.clone().map(|(_, places)| places).sum::<u32>();
        }
        let admitted = |(weight, reserved)| {
            self.pending.take_over(claim, weight);
            Admitted { head: self, weight, reserved, hold: hold.cloned() }
        };
        Some(parts.map(admitted).collect())
    }

    /// Returns samples and places that were admitted but will not be used.
    pub(crate) fn refuse(&self, weight: u64, reserved: u32) {
        self.pending.refuse(weight);
        if reserved > 0 {
            let mut index = self.index.write();
            index.reserved = index.reserved.saturating_sub(reserved);
        }
    }

    /// Numbers the series that a commit defines, by their canonical labels. Each had its places.
    pub(crate) fn define(&self, series: &[&str]) -> Vec<u32> {
        let mut index = self.index.write();
        let reserved = places_of(series.iter().copied());
        index.reserved = index.reserved.saturating_sub(reserved);
        let number = |text: &&str| {
            let (number, is_new) = index.number(&Labels::from_canonical(text));
            if is_new {
                index.lifetimes.tentative.insert(number);
            }
            index.lifetimes.revive(number);
            number
        };
        series.iter().map(number).collect()
    }

    fn raise_labels_bytes(&self, bytes: usize) {
        // ORDERING: Relaxed; a thread can write to a series only after it obtained its number,
        // which is published under the lock.
        self.labels_bytes.fetch_max(bytes as u64, Ordering::Relaxed);
    }

    /// Canonical bytes of the longest labels of some series.
    pub(crate) fn longest_labels(&self, series: &[u32]) -> usize {
        let longest = series.chunks(SERIES_AT_A_TIME).map(|some| {
            let index = self.index.read();
            some.iter().map(|number| index.labels_bytes(*number)).max()
        });
        longest.max().flatten().unwrap_or(0)
    }

    /// Canonical bytes of the longest labels of the shard's series.
    pub(crate) fn labels_bytes(&self) -> u64 {
        // ORDERING: Relaxed; see `raise_labels_bytes`.
        self.labels_bytes.load(Ordering::Relaxed)
    }

    /// Applies the samples and histograms of a commit, in order. Its new series become permanent.
    ///
    /// R5 CUT: first the series. A reader that has a cut with the samples then finds their series.
    pub(crate) fn apply(
        &self,
        samples: &[SeriesSample],
        histograms: &[SeriesHistogram],
        defined: bool,
    ) {
        if defined {
            let index = &mut *self.index.write();
            for number in std::mem::take(&mut index.lifetimes.tentative) {
                self.raise_labels_bytes(index.labels_bytes(number));
            }
        }
        let inserted = self.insert(samples, histograms);
        self.pending.release_applied(weight(samples, histograms), inserted.replaced_weight);
    }

    /// Drops the series and samples of a failed commit: the log holds none of them.
    pub(crate) fn rollback(&self, weight: u64) {
        self.pending.refuse(weight);
        let index = &mut *self.index.write();
        let tentative = std::mem::take(&mut index.lifetimes.tentative);
        tentative.into_iter().for_each(|number| index.remove(number));
    }

    /// Ends the shard: pending samples will not be applied.
    pub(crate) fn end(&self) {
        self.pending.refuse_all();
    }

    /// Applies samples and histograms that the log or a snapshot already holds.
    pub(crate) fn restore(&self, samples: &[SeriesSample], histograms: &[SeriesHistogram]) {
        let inserted = self.insert(samples, histograms);
        self.pending.restored(weight(samples, histograms), inserted.replaced_weight);
    }

    fn insert(&self, samples: &[SeriesSample], histograms: &[SeriesHistogram]) -> Inserted {
        let mut begun = Vec::new();
        let mut current = self.current.lock();
        let inserted = current.insert(samples, histograms, &mut begun);
        if !begun.is_empty() {
            // R5 CUT: before a reader can have a cut with the samples.
            self.show(&begun);
        }
        // ORDERING: Relaxed; a statistic, stored under the lock.
        self.samples.fetch_add(inserted.new, Ordering::Relaxed);
        let count = (samples.len() + histograms.len()) as u64;
        self.inserted.fetch_add(count, Ordering::Relaxed);
        inserted
    }

    /// Number of samples and histograms in the shard.
    pub(crate) fn samples(&self) -> u64 {
        // ORDERING: Relaxed; a statistic.
        self.samples.load(Ordering::Relaxed)
    }

    /// Number of samples and histograms inserted since `open` began, including those that replaced
    /// another.
    pub(crate) fn inserted(&self) -> u64 {
        // ORDERING: Relaxed; a statistic.
        self.inserted.load(Ordering::Relaxed)
    }

    /// Number of series that have samples or are registered.
    pub(crate) fn series(&self) -> usize {
        let index = self.index.read();
        index.len() - index.lifetimes.hidden()
    }

    /// R5 CUT: all columns at one moment between two commits, in one hold of the lock. No number of
    /// series makes it long.
    ///
    /// What a cut holds was defined before. So a selection after the cut finds all of it.
    pub(crate) fn cut(&self) -> Cut {
        self.current.lock().clone()
    }

    /// A cut, the number of samples inserted before it, see [`HeadShard::inserted`], and a hold
    /// that keeps the numbers of its series.
    pub(crate) fn snapshot(&self) -> (Hold, Cut, u64) {
        let hold = self.hold();
        let current = self.current.lock();
        (hold, current.clone(), self.inserted())
    }

    /// Number of groups of columns that a cut shares.
    #[cfg(test)]
    pub(crate) fn shared_groups(&self) -> usize {
        self.current.lock().samples.shared_groups()
    }

    /// Returns the series that satisfy all matchers and have samples or histograms in the range,
    /// with those, from one cut.
    pub(crate) fn query(
        &self,
        matchers: &[Matcher],
        range: &RangeInclusive<i64>,
    ) -> Vec<TimeSeries> {
        let hold = self.hold();
        let cut = self.cut();
        let (mut numbers, mut found) = (Vec::new(), Vec::new());
        for number in self.select(matchers, hold.clock) {
            let samples = cut.samples(number, range);
            let histograms = cut.histograms(number, range, usize::MAX);
            if !samples.is_empty() || !histograms.is_empty() {
                numbers.push(number);
                found.push((samples, histograms));
            }
        }
        let series = self.labels_of(&numbers, usize::MAX).into_iter().zip(found);
        let series = series.map(|(labels, (samples, histograms))| TimeSeries {
            labels,
            samples,
            histograms,
        });
        series.collect()
    }

    /// The labels of the series that satisfy all matchers and have samples or histograms.
    pub(crate) fn labels(&self, matchers: &[Matcher]) -> Vec<Labels> {
        let hold = self.hold();
        let cut = self.cut();
        let selected = self.select(matchers, hold.clock).into_iter();
        let numbers: Vec<_> = selected.filter(|number| cut.has(*number)).collect();
        self.labels_of(&numbers, usize::MAX)
    }

    /// The numbers of the series that satisfy all matchers and were not hidden at the time of
    /// `clock`. They are those of the series only while the caller has a hold from that time.
    pub(crate) fn select(&self, matchers: &[Matcher], clock: u32) -> RoaringBitmap {
        index::select(&self.index, matchers, clock)
    }

    /// The labels of series, on whose numbers the caller has a hold: of the first ones, until they
    /// have `bytes_max` bytes in all.
    pub(crate) fn labels_of(&self, numbers: &[u32], bytes_max: usize) -> Vec<Labels> {
        let mut labels = Vec::with_capacity(numbers.len());
        let mut bytes = 0;
        for some in numbers.chunks(SERIES_AT_A_TIME) {
            let index = self.index.read();
            for number in some {
                if bytes >= bytes_max {
                    return labels;
                }
                let found = index.labels(*number);
                bytes += found.canonical().len();
                labels.push(found);
            }
        }
        labels
    }

    /// Canonical bytes of the labels of a series.
    pub(crate) fn labels_bytes_of(&self, series: u32) -> usize {
        self.index.read().labels_bytes(series)
    }
}

/// The places of series, by their canonical labels.
pub(crate) fn places_of<'l>(series: impl IntoIterator<Item = &'l str>) -> u32 {
    // A batch is bounded far below the range.
    series.into_iter().map(|labels| places(labels.len())).sum()
}

fn has_room(index: &Index, places: u32, series_max: u32) -> bool {
    index.taken + u64::from(index.reserved) + u64::from(places) <= u64::from(series_max)
}

impl SeriesLabels for HeadShard {
    fn labels(&self, series: u32) -> Labels {
        self.index.read().labels(series)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Sample;
    use super::super::SeriesId;
    use super::super::index::COMPARISONS;
    use super::{Budget, HeadShard, Labels, SeriesSample};
    use std::thread;
    use std::time::Duration;

    /// Without a keyed hash, each series would be compared with all before it.
    #[test]
    fn series_whose_ids_collide_cost_no_more_comparisons_than_others() {
        const SERIES: u64 = 4096;
        let head = HeadShard::new(Budget::new(0));
        let before = COMPARISONS.get();
        for host in 0..SERIES {
            let labels = Labels::new([("host", host.to_string())]).expect("they are valid");
            let labels = labels.with_id(SeriesId(7));
            assert!(head.register(&labels, u32::MAX).is_some());
            assert!(head.find(&labels).is_some());
        }
        let made = COMPARISONS.get() - before;
        assert!(made < 8 * SERIES, "{made} comparisons for {SERIES} series");
    }

    /// A handle requested while a commit defines its series keeps the number.
    #[test]
    fn a_discarded_commit_drops_what_it_alone_defined() {
        let head = HeadShard::new(Budget::new(0));
        let labels = |host: &str| Labels::new([("host", host)]).expect("they are valid");
        let all = ["a", "b", "c"].map(labels);
        let numbers = head.define(&all.each_ref().map(Labels::canonical));
        assert_eq!((head.find(&all[1]), head.series()), (None, 0));
        assert_eq!(head.register(&all[1], 10), Some((numbers[1], 0)));
        head.rollback(0);
        assert_eq!(all.each_ref().map(|labels| head.find(labels)), [None, Some((1, 0)), None]);
        assert_eq!(head.series(), 1);
        // Later series reuse the numbers.
        let others = head.define(&[labels("d").canonical(), labels("e").canonical()]);
        head.apply(&[], &[], true);
        assert_eq!(head.find(&labels("d")), Some((others[0], 0)));
        assert!(others.iter().all(|number| *number != 1 && *number < 3), "{others:?}");
    }

    /// R5 CUT. Regression: the samples of a commit came first, then its new series. A reader in
    /// between found the samples of known series only. Here a reader of the index stops the commit
    /// there.
    #[test]
    fn samples_are_visible_only_after_their_new_series() {
        let head = HeadShard::new(Budget::new(10));
        let labels = Labels::new([("host", "a")]).expect("they are valid");
        let number = head.define(&[labels.canonical()])[0];
        let sample = SeriesSample { series: number, sample: Sample::new(1, 1.0) };
        let reader = head.index.read();
        thread::scope(|scope| {
            let commit = scope.spawn(|| head.apply(&[sample], &[], true));
            for _ in 0..20 {
                assert!(!head.cut().has(number), "the series is not visible yet");
                thread::sleep(Duration::from_millis(5));
            }
            drop(reader);
            commit.join().expect("it does not panic");
        });
        assert_eq!((head.find(&labels), head.samples()), (Some((number, 0)), 1));
        assert!(head.cut().has(number));
    }
}
