//! Rolls a shard's writer to the next segment: when, and in which steps.

use super::direct_io::Blocks;
use super::undo::may_be_undone;
use super::{
    Origin, Prepared, SEGMENT_SEQUENCES_MAX, SegmentPolicy, SegmentSource, SegmentWriter,
    WriteError, ZERO_WINDOW_BYTES,
};
use crate::segment::header::Predecessor;

/// Whether a roll must wait for the next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It must: this segment may not grow further.
    Yes,
    /// It need not: this segment may grow in the meantime.
    No,
}

/// How the next segment comes, and how full ones go.
pub(super) struct Rolling {
    pub(super) source: Box<dyn SegmentSource>,
    /// Whether a request to the source is open.
    requested: bool,
    /// The next segment, if the sealer has not taken the active one yet.
    next: Option<Prepared>,
    /// Whether the last attempt to prepare a segment failed. Zeros ahead would then use
    /// up the room that is left.
    source_failed: bool,
    /// Number of earlier segments that the sealer has not synced yet.
    pub(super) sealing: usize,
}

impl Rolling {
    pub(super) fn new(source: Box<dyn SegmentSource>) -> Self {
        Self { source, requested: false, next: None, source_failed: false, sealing: 0 }
    }

    /// Whether the next segment is ready, or requested.
    fn has_begun(&self) -> bool {
        self.requested || self.next.is_some()
    }

    /// Requests segment `number`, unless a roll has begun.
    fn request(&mut self, policy: &SegmentPolicy, number: u64) {
        if !self.has_begun() {
            let zeros_ahead = policy.zeros_ahead && !self.source_failed;
            let zeros = if zeros_ahead { policy.segment_bytes } else { 0 };
            self.source.request(number, zeros);
            self.requested = true;
        }
    }
}

impl SegmentWriter {
    /// Requests the next segment before it is due: once this one is half full. A
    /// segment without zeros ahead is left once it has filled a window, or if a
    /// recycled segment is available.
    pub(crate) fn prepare_ahead(&mut self) {
        if self.active.position >= self.policy.segment_bytes / 2 || self.should_leave() {
            self.request();
        }
    }

    fn is_temporary(&self) -> bool {
        self.active.origin == Origin::Temporary
    }

    fn should_leave(&self) -> bool {
        self.is_temporary()
            && (self.active.position >= ZERO_WINDOW_BYTES || self.rolling.source.has_recycled())
    }

    fn request(&mut self) {
        self.rolling.request(&self.policy, self.active.identity.number + 1);
    }

    /// Whether the writer should roll before it writes sequence `next`, and whether it
    /// must wait. `None`: not yet.
    pub(crate) fn due(&self, next: u64) -> Option<Wait> {
        if self.active.origin == Origin::Missing {
            return Some(Wait::Yes);
        }
        let limit = self.policy.segment_bytes;
        let crowded =
            self.active.first_sequence.is_some_and(|first| next - first > SEGMENT_SEQUENCES_MAX);
        if crowded || self.active.position >= limit.saturating_mul(2) {
            Some(Wait::Yes)
        } else {
            let is_full =
                self.active.position >= limit || (self.is_temporary() && self.rolling.has_begun());
            is_full.then_some(Wait::No)
        }
    }

    /// Rolls to the next segment if it is ready. Blocks for it if `wait` is
    /// [`Wait::Yes`]. `next` is the sequence of the next record. Returns whether the
    /// writer rolled. After an error the next call requests the segment again.
    pub(crate) fn roll(&mut self, wait: Wait, next: u64) -> Result<bool, WriteError> {
        let prepared = match self.rolling.next.take() {
            Some(prepared) => Some(prepared),
            None => self.take_next(wait)?,
        };
        Ok(prepared.is_some_and(|prepared| self.continue_in(prepared, wait, next)))
    }

    /// Takes the next segment. `None` if it is not ready and this one may grow.
    fn take_next(&mut self, wait: Wait) -> Result<Option<Prepared>, WriteError> {
        let asked_before = self.rolling.requested;
        self.request();
        let Some(mut prepared) = self.rolling.source.take(wait == Wait::Yes) else {
            return Ok(None);
        };
        self.rolling.requested = false;
        if prepared.is_err() && asked_before && wait == Wait::Yes {
            // The request may have failed long ago. Try once more before the commit is
            // refused.
            self.request();
            prepared = self.rolling.source.take(true).unwrap_or(prepared);
            self.rolling.requested = false;
        }
        self.rolling.source_failed = prepared.is_err();
        match (prepared, wait) {
            (Ok(prepared), _) => Ok(Some(prepared)),
            // This segment may still grow.
            (Err(_), Wait::No) => {
                if self.is_temporary() {
                    self.active.origin = Origin::Prepared;
                }
                Ok(None)
            }
            (Err(error), Wait::Yes) if may_be_undone(&error) => Err(WriteError::NotWritten(error)),
            (Err(error), Wait::Yes) => Err(WriteError::Fatal(error)),
        }
    }

    /// Makes `prepared` the active segment. Returns false if the sealer does not take
    /// the full segment yet.
    pub(super) fn continue_in(&mut self, prepared: Prepared, wait: Wait, next: u64) -> bool {
        let Prepared { number, file, zeroed, is_recycled, direct_block } = prepared;
        if let Err(file) = self.seal(file, wait, next) {
            self.rolling.next = Some(Prepared { number, file, zeroed, is_recycled, direct_block });
            return false;
        }
        let active = &mut self.active;
        if active.origin != Origin::Missing {
            active.predecessor = Predecessor {
                number: active.identity.number,
                end: active.position,
                next_sequence: active.next_sequence,
            };
        }
        active.origin = Origin::Prepared;
        active.identity = active.identity.with_number(number);
        active.first_sequence = None;
        active.position = 0;
        active.zeroed = zeroed;
        active.stale_end = if is_recycled { zeroed } else { 0 };
        active.direct = direct_block.map(Blocks::new);
        // If free space is low, it is kept for records, not for zeros.
        active.zeros_refused = self.rolling.source.is_space_low();
        active.has_remains = false;
        active.dirty = false;
        // If it was not synced yet, the sealer's mark will say so.
        self.header_dirty = false;
        true
    }
}
