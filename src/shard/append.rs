//! Appends to one shard: checks a record or a batch's part, then queues it.
//!
//! This file does not know how a queued record is committed, nor how it is answered.

use std::time::{Duration, Instant};

use crate::config::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use crate::error::{Cause, TryAppendError};
use crate::payload::Payload;
use crate::queue::entry::{BatchBody, Entry};
use crate::queue::producer::Refused;
use crate::queue::queue::PushError;
use crate::shard::completion::Completion;
use crate::shard::shard::{ShardRef, WalShard};
use crate::stats::Observer;
use crate::util::sync::{Arc, now};

/// One record in this many is timed. A power of two.
const SAMPLED_EACH: u64 = 8;
const _: () = assert!(SAMPLED_EACH.is_power_of_two());

/// Whether an append wakes the shard's writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// It wakes the writer.
    Writer,
    /// It does not, because the caller commits inline next.
    Nobody,
}

/// A limit of one append, checked before it is queued.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// The payload bytes of a record.
    RecordBytes,
    /// The records of a batch in one shard. They must fit the shard's queue.
    BatchRecords { queue_capacity: u64 },
    /// The payload bytes of a batch in one shard.
    BatchBytes,
    /// The payload bytes of a record for which room was reserved.
    Reservation(u32),
}

impl Limit {
    fn max(self) -> u64 {
        match self {
            Self::RecordBytes | Self::BatchBytes => BATCH_BYTES_MAX as u64,
            Self::BatchRecords { queue_capacity } => queue_capacity.min(BATCH_RECORDS_MAX as u64),
            Self::Reservation(bytes) => bytes.into(),
        }
    }

    /// The limited quantity, for the error's text.
    fn name(self) -> &'static str {
        match self {
            Self::RecordBytes => "payload bytes of a record",
            Self::BatchRecords { .. } => "records of a batch in one shard",
            Self::BatchBytes => "payload bytes of a batch in one shard",
            Self::Reservation(_) => "payload bytes that were reserved",
        }
    }

    /// The cause to refuse an append that exceeds the limit.
    pub(super) fn check(self, found: u64) -> Option<Cause> {
        let max = self.max();
        (found > max).then_some(Cause::TooLarge { limit: self.name(), found, max })
    }
}

impl WalShard {
    /// Appends a record. Blocks while the queue is full, until the deadline.
    pub(crate) fn append(
        self: &Arc<Self>,
        key: u64,
        payload: Payload<'_>,
        deadline: Option<Instant>,
    ) -> Result<Completion<'_>, TryAppendError> {
        let mut record = self.check_record(key, payload)?;
        let pushed = match record.try_push() {
            Err(PushError::Full) if deadline.is_none_or(|deadline| deadline > now()) => {
                if let Some(cause) = self.would_deadlock() {
                    return record.refused(cause);
                }
                record.push(deadline)
            }
            decided => decided,
        };
        record.completion(pushed)
    }

    /// Appends a record, or returns the payload with the cause. Does not block.
    pub(crate) fn try_append(
        self: &Arc<Self>,
        key: u64,
        payload: Payload<'_>,
    ) -> Result<Completion<'_>, TryAppendError> {
        let mut record = self.check_record(key, payload)?;
        let pushed = record.try_push();
        record.completion(pushed)
    }

    /// Appends a record and commits it inline if the shard is idle. For a caller that waits next.
    pub(crate) fn append_inline(
        self: &Arc<Self>,
        key: u64,
        payload: Payload<'_>,
    ) -> Result<Completion<'_>, TryAppendError> {
        let mut record = self.check_record(key, payload)?;
        if let Some(cause) = self.would_deadlock() {
            return record.refused(cause);
        }
        let bytes = record.bytes();
        let pushed = match self.committer().push_and_commit_inline(bytes, record.fill()) {
            Err(PushError::Full) => record.push(None),
            decided => decided,
        };
        record.completion(pushed)
    }

    /// Appends a batch's part in this shard as a whole. Blocks while the queue is full. The
    /// completion is that of the last record. After `Wake::Nobody`, the caller must commit
    /// inline.
    pub(crate) fn append_part(self: &Arc<Self>, part: BatchBody, wake: Wake) -> Completion<'_> {
        let records = part.records;
        match self.push_part(part) {
            Ok(last) => {
                if wake == Wake::Writer {
                    self.committer().queue.wake_receiver();
                }
                Completion::queued(ShardRef::Borrowed(self), last)
            }
            Err(cause) => {
                self.recorder().refused_append(&cause, records);
                Completion::refused(cause)
            }
        }
    }

    /// Queues a batch's part, or refuses it. Returns the ticket of its last record.
    fn push_part(&self, part: BatchBody) -> Result<u64, Cause> {
        if let Some(cause) = self.check_part(&part).or_else(|| self.check_state()) {
            return Err(cause);
        }
        let (count, bytes) = (to_u32(part.records), to_u32(part.payload_bytes));
        let mut body = part.body;
        let mut fill = |first: u64, entry: &mut Entry| {
            entry.hold_batch(std::mem::take(&mut body), self.stamp(first, count));
        };
        let queue = &self.committer().queue;
        let pushed = match queue.try_push_no_wake(count, bytes, &mut fill) {
            Err(PushError::Full) => match self.would_deadlock() {
                Some(cause) => return Err(cause),
                None => {
                    let push = || queue.push(count, bytes, None, fill);
                    self.time_blocked(push).map_err(|refused| refused.error)
                }
            },
            decided => decided,
        };
        let first = pushed.map_err(|error| self.refusal(error))?;
        Ok(first + u64::from(count) - 1)
    }

    /// Runs a push that may block, and records how long it took.
    fn time_blocked<R>(&self, push: impl FnOnce() -> R) -> R {
        let began = Instant::now();
        let pushed = push();
        self.recorder().blocked(nanos(began.elapsed()));
        pushed
    }

    /// The cause to refuse a batch's part if it exceeds a limit.
    pub(crate) fn check_part(&self, part: &BatchBody) -> Option<Cause> {
        let records = Limit::BatchRecords { queue_capacity: self.committer().queue.capacity() };
        records.check(part.records).or_else(|| Limit::BatchBytes.check(part.payload_bytes))
    }

    /// Checks a record before it is queued, and returns it if it is refused.
    pub(super) fn check_record<'p>(
        self: &Arc<Self>,
        key: u64,
        payload: Payload<'p>,
    ) -> Result<PendingRecord<'_, 'p>, TryAppendError> {
        let too_large = Limit::RecordBytes.check(payload.len() as u64);
        match too_large.or_else(|| self.check_state()) {
            Some(cause) => Err(TryAppendError { payload: payload.into_bytes(), cause }),
            None => Ok(PendingRecord { shard: self, key, payload }),
        }
    }

    /// The cause to refuse an append now. In a forked child, no thread would commit it. While
    /// the disk is full, the records already queued try it; more would only wait to be refused.
    pub(super) fn check_state(&self) -> Option<Cause> {
        if let Some(cause) = self.forked() {
            return Some(cause);
        }
        let progress = &self.committer().progress;
        if progress.is_disk_full() && self.committer().queue.depth() > 0 {
            return progress.failure().or_else(|| progress.last_refusal());
        }
        None
    }

    /// The cause of a push that was refused.
    pub(super) fn refusal(&self, error: PushError) -> Cause {
        let progress = &self.committer().progress;
        match error {
            PushError::Full if progress.is_segment_late() => Cause::SegmentNotReady,
            PushError::Full => Cause::QueueFull,
            PushError::Closed => progress.failure().unwrap_or(Cause::Closed),
        }
    }

    /// The time stamp for a push of `count` tickets, or 0 if none of them is sampled.
    fn stamp(&self, first: u64, count: u32) -> u64 {
        let sampled = first.next_multiple_of(SAMPLED_EACH) < first + u64::from(count);
        if sampled { self.recorder().now() } else { 0 }
    }
}

pub(super) fn to_u32(number: u64) -> u32 {
    u32::try_from(number).expect("a batch is bounded far below u32")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A record before it is queued, so that its payload can be returned.
pub(super) struct PendingRecord<'log, 'p> {
    pub(super) shard: &'log Arc<WalShard>,
    key: u64,
    payload: Payload<'p>,
}

impl<'log> PendingRecord<'log, '_> {
    pub(super) fn bytes(&self) -> u32 {
        to_u32(self.payload.len() as u64)
    }

    /// Moves the record into an entry once it has its ticket. Called at most once.
    pub(super) fn fill(&mut self) -> impl FnOnce(u64, &mut Entry) {
        |ticket, entry| {
            entry.hold(self.key, &mut self.payload, self.shard.stamp(ticket, 1));
        }
    }

    pub(super) fn try_push(&mut self) -> Result<u64, PushError> {
        let bytes = self.bytes();
        self.shard.committer().queue.try_push(1, bytes, self.fill())
    }

    #[cold]
    fn push(&mut self, deadline: Option<Instant>) -> Result<u64, PushError> {
        let (bytes, shard) = (self.bytes(), self.shard);
        let push = || shard.committer().queue.push(1, bytes, deadline, self.fill());
        shard.time_blocked(push).map_err(|Refused { error, value }| {
            // A large payload was moved into the entry.
            if let Some(moved) = value.and_then(|mut entry| entry.take_moved()) {
                self.payload = moved.into();
            }
            error
        })
    }

    fn completion(
        self,
        pushed: Result<u64, PushError>,
    ) -> Result<Completion<'log>, TryAppendError> {
        match pushed {
            Ok(ticket) => Ok(Completion::queued(ShardRef::Borrowed(self.shard), ticket)),
            Err(error) => {
                let cause = self.shard.refusal(error);
                self.refused(cause)
            }
        }
    }

    fn refused(self, cause: Cause) -> Result<Completion<'log>, TryAppendError> {
        Err(TryAppendError { payload: self.payload.into_bytes(), cause })
    }
}
