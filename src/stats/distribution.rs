//! A histogram of values, with their exact maximum.
//!
//! The writer thread counts into a [`Stage`]. A [`Distribution`] is a copy that can be
//! merged and asked for percentiles. Neither knows what its values measure.
//!
//! The buckets are log-linear, as in HdrHistogram. They are written here because every
//! crate with atomic ones pulls in procedural macros, which were half of a build.

use std::ops::RangeInclusive;

use super::recorder::WriterCounter;
use super::{Latency, RecordsPerCommit};
use crate::util::slot_groups::SlotGroups;

/// Values below `2 << LINEAR_BITS`, 64, are exact. Above, each power of two has
/// `1 << LINEAR_BITS`, 32, buckets, so the relative error is at most 1/32.
const LINEAR_BITS: u32 = 5;
const LINEAR: usize = 1 << LINEAR_BITS;

/// Values have at most this number of bits; larger ones are counted as the largest.
const VALUE_BITS: u32 = 40;
const VALUE_MAX: u64 = (1 << VALUE_BITS) - 1;

/// 1152 buckets of 8 bytes, of which a stage allocates those near its values. Every stage has the
/// same, so that any two can be merged.
const BUCKETS: usize = (VALUE_BITS - LINEAR_BITS + 1) as usize * LINEAR;

/// The bucket that counts `value`.
fn bucket_of(value: u64) -> usize {
    let value = value.min(VALUE_MAX);
    // The position of the highest bit, 0 for the values 0 and 1.
    let power = (value | 1).ilog2();
    // The low bits that the bucket ignores.
    let shift = power.saturating_sub(LINEAR_BITS);
    // The bits that are left are fewer than 64; the mask only says so.
    shift as usize * LINEAR + ((value >> shift) & 63) as usize
}

/// The values that the bucket counts.
fn values_of(bucket: usize) -> RangeInclusive<u64> {
    let shift = (bucket / LINEAR).saturating_sub(1);
    let kept = (bucket - shift * LINEAR) as u64;
    (kept << shift)..=((kept + 1) << shift) - 1
}

/// The live histogram of one stage.
#[derive(Debug)]
pub(super) struct Stage {
    /// Counts by bucket. Only the writer thread adds, and any thread reads. Each bucket
    /// is by itself: a copy may have one value and not yet an earlier one.
    buckets: SlotGroups<WriterCounter>,
    /// The largest value, exact. Only the writer thread raises it, and any thread reads
    /// it.
    max: WriterCounter,
}

impl Stage {
    pub(super) fn new() -> Self {
        let buckets = SlotGroups::new(BUCKETS, WriterCounter::default);
        Self { buckets, max: WriterCounter::default() }
    }

    /// Counts a value. Only the writer thread may call this.
    pub(super) fn record(&self, value: u64) {
        self.max.raise(value);
        let bucket = bucket_of(value);
        debug_assert!(bucket < BUCKETS, "every value has a bucket");
        self.buckets.get_or_new(bucket as u64).add(1);
    }

    /// Copies the values counted so far.
    pub(super) fn load(&self) -> Distribution {
        let count_of = |bucket| self.buckets.get(bucket).map_or(0, WriterCounter::get);
        let buckets = (0..BUCKETS as u64).map(count_of).collect();
        Distribution { buckets, max: self.max.get() }
    }
}

/// A copy of one stage's values, or of several merged stages.
#[derive(Debug)]
pub(super) struct Distribution {
    /// Counts by bucket.
    buckets: Box<[u64]>,
    max: u64,
}

impl Distribution {
    pub(super) fn empty() -> Self {
        Self { buckets: vec![0; BUCKETS].into(), max: 0 }
    }

    /// Adds the values of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
        self.max = self.max.max(other.max);
    }

    /// The values as durations in nanoseconds.
    pub(super) fn latency(&self) -> Latency {
        let [p50_nanos, p90_nanos, p99_nanos, p999_nanos, max_nanos] = self.percentiles();
        Latency { count: self.count(), p50_nanos, p90_nanos, p99_nanos, p999_nanos, max_nanos }
    }

    /// The values as numbers of records. The caller knows their mean.
    pub(super) fn records_per_commit(&self, mean: f64) -> RecordsPerCommit {
        let [p50, p90, p99, p999, max] = self.percentiles();
        RecordsPerCommit { mean, p50, p90, p99, p999, max }
    }

    /// p50, p90, p99, p99.9 and the maximum; zeros if there are no values.
    ///
    /// A percentile is the upper end of its bucket, but at most the maximum. So it is
    /// never below the true one. The maximum is at least the start of the highest
    /// bucket in use: a copy made during [`Stage::record`] may have the value and not
    /// yet the maximum.
    fn percentiles(&self) -> [u64; 5] {
        let count = u128::from(self.count());
        let max = self.bucket_at(count).map_or(0, |values| self.max.max(*values.start()));
        let value_at = |per_mille: u128| {
            let rank = (count * per_mille).div_ceil(1000);
            self.bucket_at(rank).map_or(0, |values| max.min(*values.end()))
        };
        [value_at(500), value_at(900), value_at(990), value_at(999), max]
    }

    fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The values of the bucket that holds the value of this rank; 1 is the smallest
    /// value. `None` if there are fewer values, or if `rank` is 0.
    fn bucket_at(&self, rank: u128) -> Option<RangeInclusive<u64>> {
        let mut counted = 0;
        let bucket = self.buckets.iter().position(|count| {
            counted += u128::from(*count);
            *count > 0 && counted >= rank
        })?;
        (rank > 0).then(|| values_of(bucket))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage_of(values: impl IntoIterator<Item = u64>) -> Stage {
        let stage = Stage::new();
        values.into_iter().for_each(|value| stage.record(value));
        stage
    }

    #[test]
    fn a_percentile_is_at_most_one_part_in_32_above_the_true_one() {
        for step in [1, 7, 1_000, 1_234_567] {
            let latency = stage_of((1..=100_000).rev().map(|value| value * step)).load().latency();
            assert_eq!(latency.count, 100_000);
            assert_eq!(latency.max_nanos, 100_000 * step);
            for (reported, rank) in [
                (latency.p50_nanos, 50_000),
                (latency.p90_nanos, 90_000),
                (latency.p99_nanos, 99_000),
                (latency.p999_nanos, 99_900),
            ] {
                let exact = rank * step;
                assert!(
                    (exact..=exact + exact / 32).contains(&reported),
                    "{reported} reported for {exact}"
                );
            }
        }
    }

    #[test]
    fn the_buckets_are_adjacent_and_each_counts_its_own_values() {
        let mut next = 0;
        for bucket in 0..BUCKETS {
            let values = values_of(bucket);
            assert_eq!(*values.start(), next);
            assert_eq!(bucket_of(*values.start()), bucket);
            assert_eq!(bucket_of(*values.end()), bucket);
            let others = values.end() - values.start();
            assert!(others <= values.start() / 32, "{values:?} are too many values");
            next = values.end() + 1;
        }
        assert_eq!(next, VALUE_MAX + 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn merged_values_are_those_of_both() {
        let mut both = stage_of(0..32).load();
        both.merge(&stage_of(32..64).load());
        assert_eq!(both.latency(), stage_of(0..64).load().latency());
    }

    #[test]
    fn small_values_are_exact() {
        let sizes = stage_of(0..64).load().records_per_commit(31.5);
        let got = [sizes.p50, sizes.p90, sizes.p99, sizes.p999, sizes.max];
        assert_eq!(got, [31, 57, 63, 63, 63]);
    }

    #[test]
    fn a_value_beyond_the_last_bucket_still_shows_in_the_maximum() {
        let latency = stage_of([5, u64::MAX]).load().latency();
        assert_eq!(latency.count, 2);
        assert_eq!(latency.p50_nanos, 5);
        assert_eq!(latency.p99_nanos, VALUE_MAX);
        assert_eq!(latency.max_nanos, u64::MAX);
    }

    #[test]
    fn a_copy_that_missed_the_maximum_is_still_in_order() {
        let mut copy = stage_of([1_000_003]).load();
        copy.max = 0;
        let latency = copy.latency();
        assert!(latency.p50_nanos <= latency.max_nanos);
        assert!((968_752..=1_000_003).contains(&latency.max_nanos));
    }

    #[test]
    fn without_values_all_is_zero() {
        assert_eq!(Distribution::empty().latency(), Latency::default());
    }
}
