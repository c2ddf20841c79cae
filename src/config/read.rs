//! Reads the settings of a [`Config`].

use std::path::Path;
use std::sync::Arc;

use super::{Config, Durability, OnCorruption};
use crate::fs::FileSystem;

impl Config {
    /// The log's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The number of shards; `None` after [`Config::keep_shards`], because the log decides.
    #[must_use]
    pub fn get_shards(&self) -> Option<usize> {
        (!self.keep_shards).then_some(self.shards)
    }

    /// The number of records that a shard's queue holds, before it is rounded up.
    ///
    /// See [`Config::queue_capacity`].
    #[must_use]
    pub fn get_queue_capacity(&self) -> usize {
        self.queue_capacity
    }

    /// The payload bytes that a shard's queue holds.
    ///
    /// See [`Config::queue_bytes`].
    #[must_use]
    pub fn get_queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// The size of a segment file, in bytes.
    ///
    /// See [`Config::segment_bytes`].
    #[must_use]
    pub fn get_segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    /// The maximum number of recycled segments per shard.
    ///
    /// See [`Config::recycled_segments_max`].
    #[must_use]
    pub fn get_recycled_segments_max(&self) -> usize {
        self.recycled_segments_max
    }

    /// Segments per shard to preallocate before the open returns.
    ///
    /// See [`Config::preallocated_segments`].
    #[must_use]
    pub fn get_preallocated_segments(&self) -> usize {
        self.preallocated_segments
    }

    /// The number of records at which the writer closes a commit.
    ///
    /// See [`Config::max_commit_records`].
    #[must_use]
    pub fn get_max_commit_records(&self) -> usize {
        self.max_commit_records
    }

    /// The number of bytes at which the writer closes a commit.
    ///
    /// See [`Config::max_commit_bytes`].
    #[must_use]
    pub fn get_max_commit_bytes(&self) -> usize {
        self.max_commit_bytes
    }

    /// When the log acknowledges appends.
    ///
    /// See [`Config::durability`].
    #[must_use]
    pub fn get_durability(&self) -> Durability {
        self.durability
    }

    /// What the open does if durable records cannot be read.
    ///
    /// See [`Config::on_corruption`].
    #[must_use]
    pub fn get_on_corruption(&self) -> OnCorruption {
        self.on_corruption
    }

    /// The free space at which the log warns, in bytes; 0 if never.
    ///
    /// See [`Config::free_space_low_bytes`].
    #[must_use]
    pub fn get_free_space_low_bytes(&self) -> u64 {
        self.free_space_low_bytes
    }

    /// The free space at which the log refuses appends, in bytes; 0 if never.
    ///
    /// See [`Config::free_space_min_bytes`].
    #[must_use]
    pub fn get_free_space_min_bytes(&self) -> u64 {
        self.free_space_min_bytes
    }

    /// The file system to use.
    ///
    /// See [`Config::file_system`].
    #[must_use]
    pub fn get_file_system(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }
}
