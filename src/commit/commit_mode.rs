//! How a shard's commits end, and what depends on it.
//!
//! [`Durability`] is what a user sets. Each decision that it implies for a shard is made in
//! this file, so that a new mode is one more arm here. This file does not know how a commit
//! is written.

use std::time::Duration;

use crate::config::Durability;
use crate::segment::writer::{CACHE_WINDOW_BYTES, ZERO_WINDOW_BYTES};

/// Bytes at which a commit that ends without a sync takes no more records. They are then
/// still in the core's cache when the kernel copies them (docs/performance.md, "Buffered
/// commits").
const CACHED_COMMIT_BYTES_MAX: usize = 128 << 10;

/// How each commit of a shard ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CommitMode {
    /// With a sync. Its records are acknowledged after that.
    WriteAndSync,
    /// With the write. Its records are acknowledged then, and a sync follows on request.
    WriteOnly,
}

impl CommitMode {
    pub(crate) fn of(durability: Durability) -> Self {
        match durability {
            Durability::Sync => Self::WriteAndSync,
            Durability::Interval(_) | Durability::Buffered => Self::WriteOnly,
        }
    }

    /// Whether each commit ends with a sync.
    pub(crate) fn syncs_each_commit(self) -> bool {
        match self {
            Self::WriteAndSync => true,
            Self::WriteOnly => false,
        }
    }

    /// Bytes at which a commit takes no more records, if the user set `configured`.
    pub(crate) fn commit_bytes_max(self, configured: usize) -> usize {
        match self {
            Self::WriteAndSync => configured,
            Self::WriteOnly => configured.min(CACHED_COMMIT_BYTES_MAX),
        }
    }

    /// Whether segments are filled with zeros ahead. Only a sync per commit comes often
    /// enough for the cost of a file's growth to matter. On a copy-on-write file system, an
    /// overwrite of zeros is a copy.
    pub(crate) fn has_zeros_ahead(self, is_copy_on_write: bool) -> bool {
        self.syncs_each_commit() && !is_copy_on_write
    }

    /// Bytes by which a segment grows ahead of its commits.
    pub(crate) fn window_bytes(self, is_copy_on_write: bool) -> u64 {
        match self {
            Self::WriteAndSync if is_copy_on_write => 0,
            Self::WriteAndSync => ZERO_WINDOW_BYTES,
            Self::WriteOnly => CACHE_WINDOW_BYTES,
        }
    }
}

/// How often housekeeping requests a sync. `None` if the mode promises no interval. A sync
/// must *complete* within the interval, so half of the interval is left for the sync itself.
pub(crate) fn sync_tick(durability: Durability) -> Option<Duration> {
    match durability {
        Durability::Interval(interval) => Some(interval / 2),
        Durability::Sync | Durability::Buffered => None,
    }
}
