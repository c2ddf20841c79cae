//! A histogram of values, with their exact maximum.
//!
//! The writer thread counts into a [`Stage`]. A [`Distribution`] is a copy that can be
//! merged and asked for percentiles. Neither knows what its values measure.

use histogram::{AtomicHistogram, Config, Histogram};

use super::recorder::WriterCounter;
use super::{Latency, RecordsPerCommit};

/// The buckets of every stage, so that any two stages can be merged. Values below 64
/// are exact. Above, each power of two has 32 buckets, so the relative error is at most
/// 1/32. That makes 1152 buckets of 8 bytes, 9 KiB per stage.
const BUCKETS: Config = match Config::new(5, 40) {
    Ok(config) => config,
    Err(_) => panic!("the grouping power is below the value power"),
};

/// The largest value with a bucket. Larger values are counted as this one.
const VALUE_MAX: u64 = (1 << BUCKETS.max_value_power()) - 1;

/// The live histogram of one stage.
#[derive(Debug)]
pub(super) struct Stage {
    /// Only the writer thread adds, and any thread reads. The crate's atomics are
    /// Relaxed, each bucket by itself.
    buckets: AtomicHistogram,
    /// The largest value, exact. Only the writer thread raises it, and any thread reads
    /// it.
    max: WriterCounter,
}

impl Stage {
    pub(super) fn new() -> Self {
        Self { buckets: AtomicHistogram::with_config(&BUCKETS), max: WriterCounter::default() }
    }

    /// Counts a value. Only the writer thread may call this.
    pub(super) fn record(&self, value: u64) {
        self.max.raise(value);
        let counted = self.buckets.increment(value.min(VALUE_MAX));
        // Not an assert in release builds: a statistic must not stop the writer.
        debug_assert!(counted.is_ok(), "every value up to VALUE_MAX has a bucket");
    }

    /// Copies the values counted so far.
    pub(super) fn load(&self) -> Distribution {
        Distribution { buckets: self.buckets.load(), max: self.max.get() }
    }
}

/// A copy of one stage's values, or of several merged stages.
#[derive(Debug)]
pub(super) struct Distribution {
    buckets: Histogram,
    max: u64,
}

impl Distribution {
    pub(super) fn empty() -> Self {
        Self { buckets: Histogram::with_config(&BUCKETS), max: 0 }
    }

    /// Adds the values of `other`.
    pub(super) fn merge(&mut self, other: &Self) {
        self.buckets
            .checked_add_assign(&other.buckets)
            .expect("all stages share BUCKETS, and nobody counts to 2^64");
        self.max = self.max.max(other.max);
    }

    /// The values as durations in nanoseconds.
    pub(super) fn latency(&self) -> Latency {
        let [p50_nanos, p90_nanos, p99_nanos, p999_nanos, max_nanos] = self.percentiles();
        Latency {
            count: self.buckets.as_slice().iter().sum(),
            p50_nanos,
            p90_nanos,
            p99_nanos,
            p999_nanos,
            max_nanos,
        }
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
        let mut found = [const { None }; 5];
        self.buckets
            .quantile_buckets_into(&[0.5, 0.9, 0.99, 0.999, 1.0], &mut found)
            .expect("the quantiles are within 0..=1, with a place for each");
        let max = found[4].as_ref().map_or(0, |highest| self.max.max(highest.start()));
        let mut values = found.map(|bucket| bucket.map_or(0, |bucket| bucket.end().min(max)));
        values[4] = max;
        values
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
