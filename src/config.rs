//! What an embedder chooses, each with its default and its limit.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Disk, RealDisk};
use crate::error::OpenError;
use crate::human_duration;

/// When an append is acknowledged, and what it then survives.
///
/// As text it is `sync`, `os` or `interval:10ms`; with the `serde` feature
/// `"sync"`, `"os"` or `{"interval": "10ms"}`. Units are s, ms, us and ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Durability {
    /// After the commit's write and fdatasync returned 0. Survives power loss.
    #[default]
    Sync,
    /// After the write; a sync follows within this time. Survives the death of
    /// the process; power loss may take the last of it.
    Interval(#[cfg_attr(feature = "serde", serde(with = "crate::human_duration::serde"))] Duration),
    /// After the write. Survives the death of the process.
    Os,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::Interval(interval) => write!(f, "interval:{}", human_duration::print(*interval)),
            Self::Os => f.write_str("os"),
        }
    }
}

impl FromStr for Durability {
    type Err = OpenError;

    fn from_str(text: &str) -> Result<Self, OpenError> {
        let interval = match text {
            "sync" => return Ok(Self::Sync),
            "os" => return Ok(Self::Os),
            _ => text.strip_prefix("interval:"),
        };
        let unknown = || format!("`{text}` is none of sync, os and interval:10ms");
        interval
            .ok_or_else(unknown)
            .and_then(human_duration::parse)
            .map(Self::Interval)
            .map_err(|problem| OpenError::InvalidConfig { setting: "durability", problem })
    }
}

/// What an open does where durable records cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum OnDamage {
    /// It refuses, says where they are, and changes nothing: a copy of the log
    /// may still have them.
    #[default]
    Refuse,
    /// It repairs the shards that are damaged as [`crate::Repair`] does, with
    /// `quarantine` in the log's directory for the copies, and goes on without
    /// what is lost. [`crate::RecoveryReport::repair`] says what that is.
    Quarantine,
}

/// How to open a log. Made by [`Config::new`] and changed by its methods;
/// checked by [`crate::ShardedWal::open`].
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Config {
    pub(crate) dir: PathBuf,
    #[cfg_attr(feature = "serde", serde(default = "default_shards"))]
    pub(crate) shards: usize,
    /// Whether the log decides, and must be there.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) keep_shards: bool,
    #[cfg_attr(feature = "serde", serde(default = "default_queue_records"))]
    pub(crate) queue_records: usize,
    #[cfg_attr(feature = "serde", serde(default = "default_queue_bytes"))]
    pub(crate) queue_bytes: usize,
    #[cfg_attr(feature = "serde", serde(default = "default_segment_bytes"))]
    pub(crate) segment_bytes: u64,
    #[cfg_attr(feature = "serde", serde(default = "default_spare_segments"))]
    pub(crate) spare_segments: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) ready_segments: usize,
    #[cfg_attr(feature = "serde", serde(default = "default_commit_records"))]
    pub(crate) commit_records: usize,
    #[cfg_attr(feature = "serde", serde(default = "default_commit_bytes"))]
    pub(crate) commit_bytes: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) durability: Durability,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) on_damage: OnDamage,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) disk_soft_bytes: u64,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) disk_hard_bytes: u64,
    #[cfg_attr(feature = "serde", serde(skip, default = "default_disk"))]
    pub(crate) disk: Arc<dyn Disk>,
}

/// The most shards that a log may have.
pub const SHARDS_MAX: usize = 1024;
/// The most records of one batch in one shard, and the deepest queue.
pub const QUEUE_RECORDS_MAX: usize = 1 << 20;
/// The most bytes of one record's payload, and of one batch in one shard.
pub const BATCH_BYTES_MAX: usize = 64 << 20;
/// The most records of one batch in one shard.
pub const BATCH_RECORDS_MAX: usize = 65_535;
const SPARES_MAX: u64 = 1024;
/// Beyond all disks.
const DISK_BYTES_MAX: u64 = 1 << 60;
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (4 << 10)..=(4 << 30);

// A frame's length is a u32, and a segment may pass its size by one commit.
const _: () = assert!(BATCH_BYTES_MAX <= (1 << 30));

fn default_shards() -> usize {
    2
}

fn default_queue_records() -> usize {
    8192
}

fn default_queue_bytes() -> usize {
    16 << 20
}

fn default_segment_bytes() -> u64 {
    64 << 20
}

fn default_spare_segments() -> usize {
    2
}

fn default_commit_records() -> usize {
    8192
}

fn default_commit_bytes() -> usize {
    4 << 20
}

fn default_disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

impl Config {
    /// The defaults, for a log in `dir`, which is created if need be: 2 shards,
    /// queues of 8,192 records or 16 MiB, segments of 64 MiB, commits of up to
    /// 8,192 records or 4 MiB, [`Durability::Sync`], no watermark on the disk's
    /// free space. The README says how they were measured.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self {
            dir: dir.as_ref().to_path_buf(),
            shards: default_shards(),
            keep_shards: false,
            queue_records: default_queue_records(),
            queue_bytes: default_queue_bytes(),
            segment_bytes: default_segment_bytes(),
            spare_segments: default_spare_segments(),
            ready_segments: 0,
            commit_records: default_commit_records(),
            commit_bytes: default_commit_bytes(),
            durability: Durability::default(),
            on_damage: OnDamage::default(),
            disk_soft_bytes: 0,
            disk_hard_bytes: 0,
            disk: default_disk(),
        }
    }

    /// Shards, each with a queue, a writer thread and a folder: 1 to 1,024.
    /// Changing it on a log that exists starts a new generation.
    ///
    /// An open log holds at most 64 + 5 × shards + 8 file descriptors: a shard's folder,
    /// its segment and the next, each opened twice where commits go past the page cache;
    /// and, in the whole log, 64 full segments that wait to be synced. A replay, a
    /// truncation and an open hold a few more while they run.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        (self.shards, self.keep_shards) = (shards, false);
        self
    }

    /// Keeps the number of shards that the log has. Open then needs a log that
    /// exists: where there is none it returns [`OpenError::NotALog`] and creates
    /// nothing. For tools that open a log that somebody else has configured.
    #[must_use]
    pub fn keep_shards(mut self) -> Self {
        self.keep_shards = true;
        self
    }

    /// Records that a shard's queue holds: 1 to 1,048,576, rounded up to a
    /// power of two. It bounds a batch's part in one shard as well.
    #[must_use]
    pub fn queue_records(mut self, records: usize) -> Self {
        self.queue_records = records;
        self
    }

    /// Payload bytes that a shard's queue holds: 1 or more. Callers that race
    /// may pass it by one append each; an append that is larger by itself
    /// waits until the queue is empty.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// Size at which a segment is followed by the next: 4 KiB to 4 GiB. A
    /// segment may pass it by one commit, and by as much again while the next
    /// one is not ready.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Files of truncated segments that a shard keeps and writes over, as its
    /// next ones: 0 to 1,024. It spares the disk the zeros that a new file is
    /// made of, and is a lasting use of as many bytes; but none is kept below a
    /// watermark, or with less free than a segment a shard. They outlive a close.
    /// [`Durability::Sync`] alone uses them, where the file system does not copy
    /// on write.
    #[must_use]
    pub fn spare_segments(mut self, segments: usize) -> Self {
        self.spare_segments = segments;
        self
    }

    /// So many spare segments a shard are there when open returns, of zeros if
    /// need be: 0, the default, to `spare_segments`. Open takes the longer, as long
    /// as the disk takes to write them, and the first appends are at full speed;
    /// else the first segment makes do without while the next is made.
    #[must_use]
    pub fn ready_segments(mut self, segments: usize) -> Self {
        self.ready_segments = segments;
        self
    }

    /// Records after which a commit takes no more: 1 or more.
    #[must_use]
    pub fn commit_records(mut self, records: usize) -> Self {
        self.commit_records = records;
        self
    }

    /// Bytes after which a commit takes no more: 1 byte to 256 MiB. A commit
    /// may pass it by one batch. Where commits end with no sync, 128 KiB are all
    /// that is taken.
    #[must_use]
    pub fn commit_bytes(mut self, bytes: usize) -> Self {
        self.commit_bytes = bytes;
        self
    }

    /// When appends are acknowledged.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What open does where durable records cannot be read.
    #[must_use]
    pub fn on_damage(mut self, on_damage: OnDamage) -> Self {
        self.on_damage = on_damage;
        self
    }

    /// The soft watermark: with fewer bytes free on the log's file system,
    /// [`crate::WalStats::disk`] and the metrics say [`crate::DiskState::Low`],
    /// so that somebody comes. 0, the default, for never; not below the hard one.
    #[must_use]
    pub fn disk_soft_bytes(mut self, bytes: u64) -> Self {
        self.disk_soft_bytes = bytes;
        self
    }

    /// The hard watermark: with fewer bytes free on the log's file system,
    /// appends are refused with [`crate::Cause::BelowWatermark`], and work again
    /// once a sixteenth more is free. Truncation and close go on. 0, the
    /// default, for never: then appends are refused when the disk is full.
    ///
    /// It is looked at ten times a second and before a segment is prepared, not
    /// at each append; what is queued is still written. So leave room for a
    /// queue and two segments a shard, and for what else must be written to
    /// free space, such as the snapshot that lets the log be truncated. Segments
    /// get no zeros ahead where those would take what it keeps.
    #[must_use]
    pub fn disk_hard_bytes(mut self, bytes: u64) -> Self {
        self.disk_hard_bytes = bytes;
        self
    }

    /// The file system to use, instead of the operating system's.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Checks each setting against its limit.
    pub(crate) fn validate(&self) -> Result<(), OpenError> {
        let within = |setting, found: u64, min: u64, max: u64| {
            if (min..=max).contains(&found) {
                return Ok(());
            }
            let problem = format!("is {found}; it may be {min} to {max}");
            Err(OpenError::InvalidConfig { setting, problem })
        };
        within("shards", self.shards as u64, 1, SHARDS_MAX as u64)?;
        within("queue_records", self.queue_records as u64, 1, QUEUE_RECORDS_MAX as u64)?;
        within("queue_bytes", self.queue_bytes as u64, 1, u64::MAX >> 1)?;
        within("segment_bytes", self.segment_bytes, *SEGMENT_BYTES.start(), *SEGMENT_BYTES.end())?;
        within("spare_segments", self.spare_segments as u64, 0, SPARES_MAX)?;
        within("ready_segments", self.ready_segments as u64, 0, self.spare_segments as u64)?;
        within("commit_records", self.commit_records as u64, 1, u64::MAX)?;
        within("commit_bytes", self.commit_bytes as u64, 1, 256 << 20)?;
        if let Durability::Interval(interval) = self.durability {
            let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
            within("durability: interval in microseconds", micros, 100, 3_600_000_000)?;
        }
        within("disk_soft_bytes", self.disk_soft_bytes, 0, DISK_BYTES_MAX)?;
        within("disk_hard_bytes", self.disk_hard_bytes, 0, DISK_BYTES_MAX)?;
        let (soft, hard) = (self.disk_soft_bytes, self.disk_hard_bytes);
        if (1..hard).contains(&soft) {
            let problem = format!("is {soft}, and disk_hard_bytes, which comes after it, {hard}");
            return Err(OpenError::InvalidConfig { setting: "disk_soft_bytes", problem });
        }
        Ok(())
    }
}
