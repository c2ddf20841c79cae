//! The segments of a shard, as its writer, truncation and replay share them.

use std::collections::VecDeque;

use crate::util::sync::{Arc, Mutex};

/// A segment as readers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    /// The sequence after its last record; `None` in the active segment.
    pub(crate) next_sequence: Option<u64>,
    /// Offset of the end of its last frame. Unspecified in the active segment.
    pub(crate) end: u64,
    /// Whether its header has been synced. Recovery can do without the segments before
    /// it only if it has.
    pub(crate) durable: bool,
}

impl SegmentMeta {
    /// Whether it has a record at or above `sequence`, or may still get one.
    pub(crate) fn reaches(&self, sequence: u64) -> bool {
        self.next_sequence.is_none_or(|next| next > sequence)
    }
}

/// The segments of a shard, oldest first. The writer adds a segment at a roll. Replay
/// reads the list, and truncation removes the oldest. All three are rare, so a mutex is
/// cheap enough.
pub(crate) type Catalogue = Arc<Mutex<VecDeque<SegmentMeta>>>;
