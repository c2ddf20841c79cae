//! Rolls a shard's writer to the next segment: when, and in which steps.

use super::blocks::Blocks;
use super::no_room::may_be_taken_back;
use super::{Prepared, SEGMENT_SEQUENCES_MAX, SegmentWriter, Wait, WriteError, ZERO_WINDOW_BYTES};
use crate::segment::Predecessor;

impl SegmentWriter {
    /// Requests the next segment before it is due: once this one is half full. A
    /// segment without zeros ahead is left once it has filled a window, or if a
    /// recycled segment is available.
    pub(crate) fn prepare_ahead(&mut self) {
        if self.position >= self.policy.segment_bytes / 2 || self.is_to_be_left() {
            self.request();
        }
    }

    fn is_to_be_left(&self) -> bool {
        self.is_makeshift && (self.position >= ZERO_WINDOW_BYTES || self.source.has_spare())
    }

    fn request(&mut self) {
        if !self.requested && self.next.is_none() {
            let zeros_ahead = self.policy.zeros_ahead && !self.source_failed;
            let zeros = if zeros_ahead { self.policy.segment_bytes } else { 0 };
            self.source.request(self.identity.number + 1, zeros);
            self.requested = true;
        }
    }

    /// Whether the writer should roll before it writes sequence `next`, and whether it
    /// must wait. `None`: not yet.
    pub(crate) fn due(&self, next: u64) -> Option<Wait> {
        if self.is_between {
            return Some(Wait::Yes);
        }
        let limit = self.policy.segment_bytes;
        let crowded = self.first_sequence.is_some_and(|first| next - first > SEGMENT_SEQUENCES_MAX);
        if crowded || self.position >= limit.saturating_mul(2) {
            Some(Wait::Yes)
        } else {
            let is_full = self.position >= limit
                || (self.is_makeshift && (self.requested || self.next.is_some()));
            is_full.then_some(Wait::No)
        }
    }

    /// Rolls to the next segment if it is ready. Blocks for it if `wait` is
    /// [`Wait::Yes`]. `next` is the sequence of the next record. Returns whether the
    /// writer rolled. After an error the next call requests the segment again.
    pub(crate) fn roll(&mut self, wait: Wait, next: u64) -> Result<bool, WriteError> {
        let prepared = match self.next.take() {
            Some(prepared) => Some(prepared),
            None => self.take_next(wait)?,
        };
        Ok(prepared.is_some_and(|prepared| self.go_on_in(prepared, wait, next)))
    }

    /// Takes the next segment. `None` if it is not ready and this one may grow.
    fn take_next(&mut self, wait: Wait) -> Result<Option<Prepared>, WriteError> {
        let asked_before = self.requested;
        self.request();
        let Some(mut prepared) = self.source.take(wait == Wait::Yes) else { return Ok(None) };
        self.requested = false;
        if prepared.is_err() && asked_before && wait == Wait::Yes {
            // The request may have failed long ago. Try once more before the commit is
            // refused.
            self.request();
            prepared = self.source.take(true).unwrap_or(prepared);
            self.requested = false;
        }
        self.source_failed = prepared.is_err();
        match (prepared, wait) {
            (Ok(prepared), _) => Ok(Some(prepared)),
            // This segment may still grow.
            (Err(_), Wait::No) => {
                self.is_makeshift = false;
                Ok(None)
            }
            (Err(error), Wait::Yes) if may_be_taken_back(&error) => {
                Err(WriteError::NotWritten(error))
            }
            (Err(error), Wait::Yes) => Err(WriteError::Fatal(error)),
        }
    }

    /// Makes `prepared` the active segment. Returns false if the sealer does not take
    /// the full segment yet.
    pub(super) fn go_on_in(&mut self, prepared: Prepared, wait: Wait, next: u64) -> bool {
        let Prepared { number, file, zeroed, is_recycled, direct_block } = prepared;
        if let Err(file) = self.seal(file, wait, next) {
            self.next = Some(Prepared { number, file, zeroed, is_recycled, direct_block });
            return false;
        }
        if !std::mem::take(&mut self.is_between) {
            self.predecessor = Predecessor {
                number: self.identity.number,
                end: self.position,
                next_sequence: self.next_sequence,
            };
        }
        self.identity = self.identity.with_number(number);
        self.first_sequence = None;
        self.position = 0;
        self.zeroed = zeroed;
        self.stale_end = if is_recycled { zeroed } else { 0 };
        self.direct = direct_block.map(Blocks::new);
        self.is_makeshift = false;
        // If free space is low, it is kept for records, not for zeros.
        self.zeros_refused = self.source.is_room_low();
        self.has_remains = false;
        self.dirty = false;
        true
    }
}
