//! Retention: drops samples that are older than the storage keeps them. It does not know the log,
//! which loses them with the next snapshot.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::head_shard::HeadShard;
use super::series_log::SeriesLog;
use super::storage::Storage;

/// Number of pages of columns that are looked through per lock hold: 4,096 series.
const PAGES_AT_A_TIME: usize = 64;

impl<L: SeriesLog> Storage<L> {
    /// Drops samples that are older than [`StorageOptions::retention`], by the system's clock.
    /// Returns their number. Only whole chunks are dropped, so up to 119 samples of a series stay
    /// longer.
    ///
    /// `open` and [`Storage::snapshot`] do this too. A snapshot holds no dropped samples. Until
    /// then the log has them, and an `open` drops them again.
    ///
    /// A series whose last sample was dropped is found by no look-up any more. The next call frees
    /// its place in the index, unless it has new samples. A write by its labels defines it again,
    /// and one by an old handle is refused with [`WriteError::SeriesGone`]. Reads, and writes that
    /// are not applied yet, postpone this if they began before the last call. A series with a
    /// handle of [`Storage::series_handle`] stays until the storage is closed.
    ///
    /// Blocks for as long as it looks through the series. It holds up writes for 4,096 series at a
    /// time.
    ///
    /// [`StorageOptions::retention`]: crate::StorageOptions::retention
    /// [`WriteError::SeriesGone`]: crate::WriteError::SeriesGone
    pub fn drop_expired(&self) -> u64 {
        let Some(retention) = self.retention else { return 0 };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let to_ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let before_ms = to_ms(now).saturating_sub(to_ms(retention));
        let _only_pass = self.retention_pass.lock();
        let (mut dropped, mut series) = (0, 0);
        for shard in self.head().shards() {
            shard.remove_hidden_series();
            dropped += drop_before(shard, before_ms);
            series += shard.hide_empty_series();
        }
        // ORDERING: Relaxed; a statistic.
        self.expired_series.fetch_add(series, Ordering::Relaxed);
        // ORDERING: Relaxed; a statistic.
        self.expired.fetch_add(dropped, Ordering::Relaxed);
        dropped
    }

    /// Number of samples that [`Storage::drop_expired`] has dropped since `open` began.
    #[must_use]
    pub fn expired_samples(&self) -> u64 {
        // ORDERING: Relaxed; a statistic.
        self.expired.load(Ordering::Relaxed)
    }

    /// Number of series that [`Storage::drop_expired`] has found without samples since `open`
    /// began. One that comes back and expires again counts twice.
    #[must_use]
    pub fn expired_series(&self) -> u64 {
        // ORDERING: Relaxed; a statistic.
        self.expired_series.load(Ordering::Relaxed)
    }
}

/// Drops the chunks of a shard that end before a time. Returns the number of their samples.
fn drop_before(shard: &HeadShard, time_ms: i64) -> u64 {
    let (mut sum, mut next) = (0, Some(0));
    while let Some(page) = next {
        let (dropped, after) = shard.drop_before(time_ms, page..page + PAGES_AT_A_TIME);
        (sum, next) = (sum + dropped, after);
    }
    sum
}
