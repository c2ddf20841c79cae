//! The limits of the settings.

use super::{Config, Durability};
use crate::error::OpenError;

/// The maximum number of shards of a log.
pub const SHARDS_MAX: usize = 1024;
/// The maximum of [`Config::queue_capacity`].
pub const QUEUE_CAPACITY_MAX: usize = 1 << 20;
/// The maximum payload bytes of one record, and of the part of a batch that goes
/// to one shard: 64 MiB. A larger append fails with
/// [`Cause::TooLarge`](crate::Cause::TooLarge).
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// The maximum number of records in the part of a batch that goes to one shard.
/// A larger batch fails with [`Cause::TooLarge`](crate::Cause::TooLarge).
pub const BATCH_RECORDS_MAX: usize = 65_535;
const RECYCLED_SEGMENTS_MAX: u64 = 1024;
/// Larger than any disk.
const DISK_BYTES_MAX: u64 = 1 << 60;
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (4 << 10)..=(4 << 30);

// A frame's length is a u32, and a segment may exceed its size by one commit.
const _: () = assert!(BATCH_BYTES_MAX <= (1 << 30));

impl Config {
    /// Checks each setting against its limits. Does not touch the disk.
    /// [`crate::ShardedWal::open`] checks them too.
    ///
    /// # Errors
    /// [`OpenError::InvalidConfig`], for the first setting that is outside its limits.
    pub fn validate(&self) -> Result<(), OpenError> {
        let within = |setting, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                return Ok(());
            }
            let problem = format!("is {value}; it must be {min} to {max}");
            Err(OpenError::InvalidConfig { setting, problem })
        };
        within("shards", self.shards as u64, 1, SHARDS_MAX as u64)?;
        within("queue_capacity", self.queue_capacity as u64, 1, QUEUE_CAPACITY_MAX as u64)?;
        within("queue_bytes", self.queue_bytes as u64, 1, u64::MAX >> 1)?;
        within("segment_bytes", self.segment_bytes, *SEGMENT_BYTES.start(), *SEGMENT_BYTES.end())?;
        within(
            "recycled_segments_max",
            self.recycled_segments_max as u64,
            0,
            RECYCLED_SEGMENTS_MAX,
        )?;
        within(
            "preallocated_segments",
            self.preallocated_segments as u64,
            0,
            self.recycled_segments_max as u64,
        )?;
        within("max_commit_records", self.max_commit_records as u64, 1, u64::MAX)?;
        within("max_commit_bytes", self.max_commit_bytes as u64, 1, 256 << 20)?;
        if let Durability::Interval(interval) = self.durability {
            let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
            within("durability: interval in microseconds", micros, 100, 3_600_000_000)?;
        }
        within("free_space_low_bytes", self.free_space_low_bytes, 0, DISK_BYTES_MAX)?;
        within("free_space_min_bytes", self.free_space_min_bytes, 0, DISK_BYTES_MAX)?;
        let (low, min) = (self.free_space_low_bytes, self.free_space_min_bytes);
        if (1..min).contains(&low) {
            let problem =
                format!("is {low}; it must be 0, or at least free_space_min_bytes, {min}");
            return Err(OpenError::InvalidConfig { setting: "free_space_low_bytes", problem });
        }
        Ok(())
    }
}
