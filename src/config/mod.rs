//! The configuration of a log: each setting with its unit and default.
//!
//! `config/limits.rs` has the limits. This folder knows values; it does not know what they
//! do to the log's parts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::{FileSystem, OsFileSystem};
#[cfg(feature = "serde")]
use crate::util::byte_size::serde_form as byte_size;

mod durability;
mod limits;
mod read;

pub use durability::{Durability, OnCorruption};
pub use limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, QUEUE_CAPACITY_MAX, SHARDS_MAX};

/// How to open a log.
///
/// [`Config::new`] makes one with all defaults, and the methods change it. [`Config::dir`] and
/// the methods that begin with `get_` read it. [`Config::validate`] and
/// [`crate::ShardedWal::open`] check the values: a value outside its limits fails with
/// [`InvalidConfig`](crate::OpenError::InvalidConfig), and no log is created.
///
/// With the `serde` feature it can be read from a file. Only `dir` is required, and an unknown
/// field is an error. A size is a number of bytes or a text such as `"64MiB"`
/// ([`crate::ByteSize`]). A durability is a text such as `"interval:10ms"`.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Config {
    pub(crate) dir: PathBuf,
    #[cfg_attr(feature = "serde", serde(default = "default_shards"))]
    pub(crate) shards: usize,
    /// Whether the log keeps its number of shards, and must exist.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) keep_shards: bool,
    #[cfg_attr(feature = "serde", serde(default = "default_queue_capacity"))]
    pub(crate) queue_capacity: usize,
    #[cfg_attr(feature = "serde", serde(default = "default_queue_bytes", with = "byte_size"))]
    pub(crate) queue_bytes: usize,
    #[cfg_attr(feature = "serde", serde(default = "default_segment_bytes", with = "byte_size"))]
    pub(crate) segment_bytes: u64,
    #[cfg_attr(feature = "serde", serde(default = "default_recycled_segments_max"))]
    pub(crate) recycled_segments_max: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) preallocated_segments: usize,
    #[cfg_attr(feature = "serde", serde(default = "default_max_commit_records"))]
    pub(crate) max_commit_records: usize,
    #[cfg_attr(feature = "serde", serde(default = "default_max_commit_bytes", with = "byte_size"))]
    pub(crate) max_commit_bytes: usize,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) durability: Durability,
    #[cfg_attr(feature = "serde", serde(default))]
    pub(crate) on_corruption: OnCorruption,
    #[cfg_attr(feature = "serde", serde(default, with = "byte_size"))]
    pub(crate) free_space_low_bytes: u64,
    #[cfg_attr(feature = "serde", serde(default, with = "byte_size"))]
    pub(crate) free_space_min_bytes: u64,
    #[cfg_attr(feature = "serde", serde(skip, default = "default_file_system"))]
    pub(crate) fs: Arc<dyn FileSystem>,
}

fn default_shards() -> usize {
    1
}

fn default_queue_capacity() -> usize {
    1 << 17
}

fn default_queue_bytes() -> usize {
    32 << 20
}

fn default_segment_bytes() -> u64 {
    64 << 20
}

fn default_recycled_segments_max() -> usize {
    2
}

fn default_max_commit_records() -> usize {
    8192
}

fn default_max_commit_bytes() -> usize {
    4 << 20
}

fn default_file_system() -> Arc<dyn FileSystem> {
    Arc::new(OsFileSystem)
}

impl Config {
    /// The defaults, for a log in `dir`. The open creates the directory, and its
    /// parents, if they are missing.
    ///
    /// | setting | default |
    /// |---|---|
    /// | [`shards`](Config::shards) | 1 |
    /// | [`queue_capacity`](Config::queue_capacity) | 131,072 |
    /// | [`queue_bytes`](Config::queue_bytes) | 32 MiB |
    /// | [`segment_bytes`](Config::segment_bytes) | 64 MiB |
    /// | [`recycled_segments_max`](Config::recycled_segments_max) | 2 |
    /// | [`preallocated_segments`](Config::preallocated_segments) | 0 |
    /// | [`max_commit_records`](Config::max_commit_records) | 8,192 |
    /// | [`max_commit_bytes`](Config::max_commit_bytes) | 4 MiB |
    /// | [`durability`](Config::durability) | [`Durability::Sync`] |
    /// | [`on_corruption`](Config::on_corruption) | [`OnCorruption::Refuse`] |
    /// | [`free_space_low_bytes`](Config::free_space_low_bytes) | 0: off |
    /// | [`free_space_min_bytes`](Config::free_space_min_bytes) | 0: off |
    /// | [`file_system`](Config::file_system) | the operating system's |
    ///
    /// `shardwal tune` (crate `shardwal-cli`) measures a disk and recommends values.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self {
            dir: dir.as_ref().to_path_buf(),
            shards: default_shards(),
            keep_shards: false,
            queue_capacity: default_queue_capacity(),
            queue_bytes: default_queue_bytes(),
            segment_bytes: default_segment_bytes(),
            recycled_segments_max: default_recycled_segments_max(),
            preallocated_segments: 0,
            max_commit_records: default_max_commit_records(),
            max_commit_bytes: default_max_commit_bytes(),
            durability: Durability::default(),
            on_corruption: OnCorruption::default(),
            free_space_low_bytes: 0,
            free_space_min_bytes: 0,
            fs: default_file_system(),
        }
    }

    /// The number of shards: 1 to 1,024. The default is 1. Each shard has a queue,
    /// a writer thread and a directory.
    ///
    /// On one disk and few cores, one shard is the fastest with
    /// [`Durability::Sync`]: its commits are the largest. More shards pay if the disk
    /// syncs in parallel, with many cores, and for a replay, which uses a thread per
    /// shard at most.
    ///
    /// If the log exists with another number of shards, the open starts a new
    /// generation. The records of earlier generations stay readable.
    ///
    /// An open log holds at most 64 + 5 × shards + 8 file descriptors. A shard has
    /// its directory, its segment and the next segment, and opens each segment
    /// twice if commits bypass the page cache. At most 64 full segments of the
    /// whole log wait to be synced. A replay, a truncation and an open hold a few
    /// more while they run.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        (self.shards, self.keep_shards) = (shards, false);
        self
    }

    /// Keeps the number of shards that the log has. For tools that open a log
    /// that another program configured.
    ///
    /// The log must exist. If there is none, the open returns
    /// [`NotALog`](crate::OpenError::NotALog) and creates nothing. A later call of
    /// [`Config::shards`] revokes this.
    #[must_use]
    pub fn keep_shards(mut self) -> Self {
        self.keep_shards = true;
        self
    }

    /// The number of records that a shard's queue holds: 1 to 1,048,576, rounded
    /// up to a power of two. The default is 131,072.
    ///
    /// If the queue is full, `append` blocks, and `try_append` fails with
    /// [`Cause::QueueFull`](crate::Cause::QueueFull). The part of a batch that goes
    /// to one shard must fit in the queue, otherwise it fails with
    /// [`Cause::TooLarge`](crate::Cause::TooLarge).
    ///
    /// The queue allocates memory for as many records as were in it at once, and keeps it: 64
    /// bytes and a buffer of up to 1 KiB each. Callers that wait take up to 64 bytes per record
    /// of the capacity. A queue that is full delays every record by the time that it takes to
    /// drain.
    #[must_use]
    pub fn queue_capacity(mut self, records: usize) -> Self {
        self.queue_capacity = records;
        self
    }

    /// The payload bytes that a shard's queue holds: at least 1. The default is
    /// 32 MiB.
    ///
    /// Concurrent callers may exceed the limit by one append each. An append that
    /// is larger than the limit waits until the queue is empty.
    #[must_use]
    pub fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }

    /// The size of a segment file, in bytes: 4 KiB to 4 GiB. The default is
    /// 64 MiB. A segment that has reached this size is followed by the next one.
    ///
    /// A segment may exceed the size by one commit, and by as much again while
    /// the next segment is not ready. A truncation deletes whole segments, so
    /// smaller segments free space sooner.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// The maximum number of recycled segments per shard: 0 to 1,024. The default
    /// is 2.
    ///
    /// A truncation keeps the files of up to this many segments instead of
    /// deleting them. The shard overwrites them later, and need not fill new
    /// files with zeros. Each one occupies [`Config::segment_bytes`] bytes, also
    /// after a close. The shard keeps none if the free space is below a limit
    /// ([`Config::free_space_low_bytes`], [`Config::free_space_min_bytes`]) or less than one
    /// segment per shard.
    ///
    /// Only [`Durability::Sync`] recycles segments, and not on a copy-on-write
    /// file system such as btrfs.
    #[must_use]
    pub fn recycled_segments_max(mut self, segments: usize) -> Self {
        self.recycled_segments_max = segments;
        self
    }

    /// Segments per shard to preallocate before the open returns: 0 (the default)
    /// to [`Config::recycled_segments_max`].
    ///
    /// The open takes longer: it writes the missing files, full of zeros. In
    /// return the first appends run at full speed. With 0 the first segment grows
    /// as it is written, while the shard prepares the next one in the background.
    ///
    /// The open makes fewer, without an error, if the disk has too little space. The
    /// setting has no effect if the log does not recycle segments.
    #[must_use]
    pub fn preallocated_segments(mut self, segments: usize) -> Self {
        self.preallocated_segments = segments;
        self
    }

    /// The number of records at which the writer closes a commit: at least 1. The
    /// default is 8,192. The last batch of a commit may exceed it.
    #[must_use]
    pub fn max_commit_records(mut self, records: usize) -> Self {
        self.max_commit_records = records;
        self
    }

    /// The number of bytes at which the writer closes a commit: 1 byte to 256 MiB.
    /// The default is 4 MiB. The last batch of a commit may exceed it.
    ///
    /// The modes without a sync per commit ([`Durability::Interval`] and
    /// [`Durability::Buffered`]) use at most 128 KiB.
    #[must_use]
    pub fn max_commit_bytes(mut self, bytes: usize) -> Self {
        self.max_commit_bytes = bytes;
        self
    }

    /// When the log acknowledges appends. The default is [`Durability::Sync`].
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// What the open does if durable records cannot be read. The default is
    /// [`OnCorruption::Refuse`].
    #[must_use]
    pub fn on_corruption(mut self, on_corruption: OnCorruption) -> Self {
        self.on_corruption = on_corruption;
        self
    }

    /// The free space at which the log warns, in bytes: up to 2^60. The default, 0,
    /// turns the warning off. If set, it must be at least
    /// [`Config::free_space_min_bytes`].
    ///
    /// With fewer free bytes on the log's file system, [`crate::WalStats::free_space`]
    /// and the metrics report [`crate::FreeSpaceState::Low`]. The log keeps no recycled
    /// segments then. Alert an operator on it. Appends go on.
    #[must_use]
    pub fn free_space_low_bytes(mut self, bytes: u64) -> Self {
        self.free_space_low_bytes = bytes;
        self
    }

    /// The free space at which the log refuses appends, in bytes: up to 2^60. The
    /// default, 0, turns this off: then appends fail when the disk is full.
    ///
    /// With fewer free bytes on the log's file system, appends fail with
    /// [`crate::Cause::BelowFreeSpaceMin`]. They work again once a sixteenth more is
    /// free. Truncation and close still work.
    ///
    /// The log checks the free space ten times a second and before it prepares a
    /// segment, not per append. Records that are queued already are still
    /// written. So leave room for one queue and two segments per shard. Also leave
    /// room for what you must write to free space, such as a snapshot before a
    /// truncation. Segments are not filled with zeros ahead if the zeros would take
    /// this reserve.
    #[must_use]
    pub fn free_space_min_bytes(mut self, bytes: u64) -> Self {
        self.free_space_min_bytes = bytes;
        self
    }

    /// The file system to use. The default is the operating system's.
    #[must_use]
    pub fn file_system(mut self, fs: Arc<dyn FileSystem>) -> Self {
        self.fs = fs;
        self
    }
}
