//! The records that a follower passes at once.

use std::ops::Range;

use bytes::Bytes;

use crate::checkpoint::Checkpoint;
use crate::error::Position;
use crate::recovery::replay::Record;
use crate::segment::frame::next_record;

/// Records of one shard that follow each other: those of one frame, which are all or a part of
/// one commit.
///
/// It owns its bytes, without a copy: they share the follower's read buffer, which stays in
/// memory until the last such batch is dropped.
#[derive(Clone, Debug)]
pub struct FollowedBatch {
    /// The position of the first record.
    pub(super) first: Position,
    pub(super) records: u32,
    /// Offset of the first record in the frame's body.
    pub(super) offset: usize,
    pub(super) body: Bytes,
    pub(super) lost: Option<Range<u64>>,
    pub(super) next: Checkpoint,
}

impl FollowedBatch {
    /// The generation of the records.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.first.generation
    }

    /// The shard of the records.
    #[must_use]
    pub fn shard(&self) -> u32 {
        self.first.shard
    }

    /// The number of records. 0 if the batch only reports a loss.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records as usize
    }

    /// Whether it has no record, and only reports a loss.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The records, in the order of the log.
    #[must_use]
    pub fn records(&self) -> Records<'_> {
        Records { batch: self, position: self.first, left: self.records, offset: self.offset }
    }

    /// The sequences of the shard that a repair has lost, if they come right before this batch.
    #[must_use]
    pub fn lost(&self) -> Option<Range<u64>> {
        self.lost.clone()
    }

    /// The checkpoint after this batch. Store it with what was made of the batch: a follower that
    /// begins there passes every later record, and none of the earlier ones.
    #[must_use]
    pub fn next(&self) -> &Checkpoint {
        &self.next
    }
}

impl<'a> IntoIterator for &'a FollowedBatch {
    type Item = Record<'a>;
    type IntoIter = Records<'a>;

    fn into_iter(self) -> Records<'a> {
        self.records()
    }
}

/// The records of a [`FollowedBatch`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    batch: &'a FollowedBatch,
    position: Position,
    left: u32,
    offset: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        self.left = self.left.checked_sub(1)?;
        let frame = &self.batch.body;
        // The cursor has checked that the frame holds all of them.
        let (key, range) = next_record(frame, &mut self.offset)?;
        let position = self.position;
        self.position.sequence += 1;
        Some(Record { position, key, payload: &frame[range], frame })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Records<'_> {}
