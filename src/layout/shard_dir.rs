//! One shard's directory, and what it should hold. It does not know what it holds.

use std::path::PathBuf;

use crate::fs::FileSystem;
use crate::layout::truncation_mark::ALL_TRUNCATED;
use crate::segment::header::{SegmentIdentity, segment_path};
use crate::space::recycle::Recycler;
use crate::util::sync::Arc;

/// A shard's directory, and the shard that it should hold.
#[derive(Clone, Debug)]
pub(crate) struct ShardDir {
    /// The file system to reach the directory's files. For a shard that takes
    /// appends it holds an open descriptor of the directory.
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) dir: PathBuf,
    /// The shard's identity. Its segment number means nothing.
    pub(crate) identity: SegmentIdentity,
    /// Truncation removed the records below this sequence.
    pub(crate) truncated_below: u64,
    /// The shard's recycled segments. Only the shards of an open log keep any.
    pub(crate) recycler: Recycler,
}

impl ShardDir {
    /// A lower bound of the shard's next sequence.
    pub(crate) fn least_next(&self) -> u64 {
        if self.is_all_truncated() { 0 } else { self.truncated_below }
    }

    pub(crate) fn path(&self, number: u64) -> PathBuf {
        segment_path(&self.dir, number)
    }

    /// Whether the shard was truncated as a whole. Only a shard of an earlier
    /// generation can be. Its segments are deleted, or about to be.
    pub(crate) fn is_all_truncated(&self) -> bool {
        self.truncated_below == ALL_TRUNCATED
    }

    pub(crate) fn seed(&self, number: u64) -> u32 {
        self.identity.with_number(number).seed()
    }
}
