//! Spans and events of the feature `tracing`: open, replay, roll, a failed shard, low
//! disk space.
//!
//! There are none per record or commit. This is the only module with `cfg(feature =
//! "tracing")`. Without the feature each function is empty.

pub(crate) use imp::*;

#[cfg(feature = "tracing")]
mod imp {
    use std::fmt::Display;
    use std::path::Path;

    use crate::error::Cause;
    use crate::segment::header::SegmentIdentity;
    use crate::stats::FreeSpaceState;

    /// The span of an open. It ends when it is dropped.
    pub(crate) fn opening(dir: &Path) -> tracing::span::EnteredSpan {
        tracing::info_span!("shardwal_open", dir = %dir.display()).entered()
    }

    /// Reports a torn tail that an open has cut.
    pub(crate) fn torn_tail(generation: u32, shard: u32, bytes: u64, records: u64) {
        tracing::warn!(generation, shard, bytes, records, "cut a torn tail");
    }

    /// Reports that a file which carries a truncation mark is gone.
    pub(crate) fn mark_file_missing(generation: u32, shard: u32) {
        tracing::warn!(
            generation,
            shard,
            "a truncation mark's file is missing: truncated records may be back"
        );
    }

    /// Reports why a sync on this file system may make nothing durable.
    pub(crate) fn not_durable(warning: &dyn Display) {
        tracing::warn!(%warning, "the file system makes nothing durable");
    }

    /// Reports the end of an open.
    pub(crate) fn opened(shards: usize, records: u64) {
        tracing::info!(shards, records, "opened");
    }

    /// Reports a range that a repair could not save.
    pub(crate) fn quarantined(lost: &dyn Display) {
        tracing::error!(%lost, "quarantined");
    }

    /// The span of a replay. It ends when it is dropped.
    pub(crate) fn replaying(bytes: u64) -> tracing::span::EnteredSpan {
        tracing::info_span!("shardwal_replay", bytes).entered()
    }

    /// A shard has rolled to `segment`.
    pub(crate) fn rolled(segment: &SegmentIdentity) {
        let SegmentIdentity { generation, shard, number, .. } = segment;
        tracing::debug!(generation, shard, segment = number, "rolled");
    }

    /// A shard has failed, until the log is opened again.
    pub(crate) fn poisoned(segment: &SegmentIdentity, cause: &Cause) {
        let SegmentIdentity { generation, shard, number, .. } = segment;
        tracing::error!(generation, shard, segment = number, %cause, "the shard has stopped");
    }

    /// A shard has no segment, and waits for room to make one.
    pub(crate) fn without_room(last: &SegmentIdentity) {
        let SegmentIdentity { generation, shard, number, .. } = last;
        tracing::warn!(generation, shard, segment = number, "no room for the next segment");
    }

    /// A hold beyond its limits was dropped.
    pub(crate) fn hold_dropped(name: &str) {
        tracing::warn!(hold = name, "dropped a hold beyond its limits");
    }

    /// A hold beyond its limits refuses appends.
    pub(crate) fn hold_refuses(cause: &Cause) {
        tracing::warn!(%cause, "a hold refuses appends");
    }

    /// The file system's free space has passed a threshold.
    pub(crate) fn disk_space(free_bytes: u64, state: FreeSpaceState) {
        match state {
            FreeSpaceState::Ok => tracing::info!(free_bytes, %state, "the disk has room again"),
            _ => tracing::warn!(free_bytes, %state, "the disk is short of room"),
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod imp {
    use std::fmt::Display;
    use std::path::Path;

    use crate::error::Cause;
    use crate::segment::header::SegmentIdentity;
    use crate::stats::FreeSpaceState;

    /// The placeholder of a span.
    pub(crate) struct NoSpan;

    pub(crate) fn opening(_dir: &Path) -> NoSpan {
        NoSpan
    }

    pub(crate) fn torn_tail(_generation: u32, _shard: u32, _bytes: u64, _records: u64) {}

    pub(crate) fn mark_file_missing(_generation: u32, _shard: u32) {}

    pub(crate) fn not_durable(_warning: &dyn Display) {}

    pub(crate) fn opened(_shards: usize, _records: u64) {}

    pub(crate) fn quarantined(_lost: &dyn Display) {}

    pub(crate) fn replaying(_bytes: u64) -> NoSpan {
        NoSpan
    }

    pub(crate) fn rolled(_segment: &SegmentIdentity) {}

    pub(crate) fn poisoned(_segment: &SegmentIdentity, _cause: &Cause) {}

    pub(crate) fn without_room(_last: &SegmentIdentity) {}

    pub(crate) fn hold_dropped(_name: &str) {}

    pub(crate) fn hold_refuses(_cause: &Cause) {}

    pub(crate) fn disk_space(_free_bytes: u64, _state: FreeSpaceState) {}
}
