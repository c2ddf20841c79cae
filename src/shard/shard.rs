//! A shard as its callers see it: it refuses, queues and answers their appends.
//!
//! It does not know how a commit is written, nor how the records are laid out on disk.

use std::fmt;
use std::task::Context;
use std::time::{Duration, Instant};

use crate::commit::committer::Committer;
use crate::commit::progress::Answer;
use crate::error::{AppendError, Cause, Position, TryAppendError};
use crate::layout::shard_dir::ShardDir;
use crate::layout::truncation_mark::TruncationMark;
use crate::payload::Payload;
use crate::queue::entry::{BatchBody, Entry};
use crate::queue::queue::PushError;
use crate::segment::catalogue::Catalogue;
use crate::segment::header::SegmentIdentity;
use crate::shard::completion::Completion;
use crate::shard::truncate::SharedMark;
use crate::space::free_space::FreeSpaceMonitor;
use crate::stats::{Observer, Recorder};
use crate::util::sync::{Arc, JoinHandle, Mutex, now};
use crate::wait::waiter::Registration;

/// One record in this many is timed. A power of two.
const SAMPLED_EACH: u64 = 8;
const _: () = assert!(SAMPLED_EACH.is_power_of_two());

/// The shard's writer thread, and what joining it returns.
type Writer = JoinHandle<Result<(), Cause>>;

/// One shard of the log: one queue, one writer thread, one shard directory.
pub(crate) struct WalShard {
    shard_dir: ShardDir,
    /// The sequence of ticket 0.
    base: u64,
    committer: Arc<Committer>,
    recorder: Arc<Recorder>,
    catalogue: Catalogue,
    /// Held during a truncation.
    mark: SharedMark,
    /// Sequences below this are not replayed. Truncation stores it, replay reads it.
    truncated_below: Mutex<u64>,
    /// `None` once the shard is closed.
    writer: Mutex<Option<Writer>>,
}

impl fmt::Debug for WalShard {
    /// Names the shard only. The slots of its queue would appear in every completion.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentIdentity { generation, shard, .. } = self.shard_dir.identity;
        let mut shown = f.debug_struct("WalShard");
        shown.field("generation", &generation).field("shard", &shard).finish_non_exhaustive()
    }
}

impl WalShard {
    pub(crate) fn new(
        shard_dir: ShardDir,
        base: u64,
        committer: Arc<Committer>,
        recorder: Arc<Recorder>,
        catalogue: Catalogue,
        mark: TruncationMark,
        writer: Writer,
    ) -> Self {
        let truncated_below = Mutex::new(mark.below);
        let (mark, writer) = (Mutex::new(Some(mark)), Mutex::new(Some(writer)));
        Self { shard_dir, base, committer, recorder, catalogue, mark, truncated_below, writer }
    }

    pub(crate) fn committer(&self) -> &Committer {
        &self.committer
    }

    pub(crate) fn shard_dir(&self) -> &ShardDir {
        &self.shard_dir
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    pub(crate) fn mark(&self) -> &SharedMark {
        &self.mark
    }

    pub(crate) fn truncated_below(&self) -> &Mutex<u64> {
        &self.truncated_below
    }

    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The sequence after the last acknowledged record. Sequences refused at the end do not
    /// count: no frame holds them, and the next open may give them to other records.
    pub(crate) fn acknowledged_below(&self) -> u64 {
        let progress = &self.committer.progress;
        self.base + progress.records_end(progress.acknowledged())
    }

    /// The sequence after the last record on stable storage. Sequences refused at the end do
    /// not count.
    pub(crate) fn durable_below(&self) -> u64 {
        let progress = &self.committer.progress;
        self.base + progress.synced_records_end()
    }

    /// The position of a ticket's record.
    pub(crate) fn position(&self, ticket: u64) -> Position {
        let identity = &self.shard_dir.identity;
        Position {
            generation: identity.generation,
            shard: identity.shard,
            sequence: self.base + ticket,
        }
    }

    /// Converts a ticket's answer into the caller's result.
    pub(crate) fn outcome(&self, ticket: u64, answer: Answer) -> Result<Position, AppendError> {
        let position = self.position(ticket);
        match answer {
            Answer::Acknowledged => Ok(position),
            Answer::NotWritten(cause) => {
                Err(AppendError::NotWritten { position: Some(position), cause })
            }
            Answer::Indeterminate(cause) => Err(AppendError::Indeterminate { position, cause }),
        }
    }

    /// Accepts a payload if the disk has room for it, or returns it. The cause that ended the
    /// shard comes before a lack of room, because no free room would help.
    pub(crate) fn admit<'p>(
        &self,
        space: &FreeSpaceMonitor,
        payload: Payload<'p>,
    ) -> Result<Payload<'p>, TryAppendError> {
        space.admit(payload).map_err(|TryAppendError { payload, cause }| {
            let cause = self.end().unwrap_or(cause);
            TryAppendError { payload, cause }
        })
    }

    /// Appends a record. Blocks while the queue is full, until the deadline.
    pub(crate) fn append(
        &self,
        key: u64,
        payload: Payload<'_>,
        deadline: Option<Instant>,
    ) -> Result<Completion<'_>, TryAppendError> {
        let mut parts = self.parts(key, payload)?;
        let pushed = match parts.try_push() {
            Err(PushError::Full) if deadline.is_none_or(|deadline| deadline > now()) => {
                if let Some(cause) = self.would_deadlock() {
                    return parts.refused(cause);
                }
                parts.push(deadline)
            }
            decided => decided,
        };
        parts.completion(pushed)
    }

    /// Appends a record, or returns the payload with the cause. Does not block.
    pub(crate) fn try_append(
        &self,
        key: u64,
        payload: Payload<'_>,
    ) -> Result<Completion<'_>, TryAppendError> {
        let mut parts = self.parts(key, payload)?;
        let pushed = parts.try_push();
        parts.completion(pushed)
    }

    /// Appends a record and commits it inline if the shard is idle. For a caller that waits next.
    pub(crate) fn append_inline(
        &self,
        key: u64,
        payload: Payload<'_>,
    ) -> Result<Completion<'_>, TryAppendError> {
        let mut parts = self.parts(key, payload)?;
        if let Some(cause) = self.would_deadlock() {
            return parts.refused(cause);
        }
        let weight = parts.weight();
        let pushed = match self.committer.push_and_commit_inline(weight, parts.fill()) {
            Err(PushError::Full) => parts.push(None),
            decided => decided,
        };
        parts.completion(pushed)
    }

    /// Appends a record for a task. `None` means that the queue is full and the task's waker
    /// will be called.
    pub(crate) fn poll_append(
        &self,
        key: u64,
        payload: &mut Option<Payload<'static>>,
        context: &mut Context<'_>,
        registration: &mut Option<Registration>,
    ) -> Option<Result<Completion<'_>, TryAppendError>> {
        let given = payload.take().expect("an append future is not polled after it resolved");
        let mut parts = match self.parts(key, given) {
            Ok(parts) => parts,
            Err(refused) => return Some(Err(refused)),
        };
        let weight = parts.weight();
        match self.committer.queue.poll_push(weight, context, registration, parts.fill()) {
            Some(pushed) => Some(parts.completion(pushed)),
            None => {
                *payload = Some(parts.payload);
                None
            }
        }
    }

    /// Appends a batch's part in this shard as a whole. Blocks while the queue is full. The
    /// completion is that of the last record. After `Wake::Nobody`, the caller must commit
    /// inline.
    pub(crate) fn append_part(&self, part: BatchBody, wake: Wake) -> Completion<'_> {
        match self.push_part(part) {
            Ok(last) => {
                if wake == Wake::Writer {
                    self.committer.queue.wake_receiver();
                }
                Completion::queued(self, last)
            }
            Err(cause) => Completion::refused(cause),
        }
    }

    /// Queues a batch's part, or refuses it. Returns the ticket of its last record.
    fn push_part(&self, part: BatchBody) -> Result<u64, Cause> {
        if let Some(cause) = self.check_part(&part).or_else(|| self.check_state()) {
            return Err(cause);
        }
        let (count, bytes) = (small(part.records), small(part.payload_bytes));
        let mut body = part.body;
        let mut fill = |first: u64, entry: &mut Entry| {
            entry.hold_batch(std::mem::take(&mut body), self.stamp(first, count));
        };
        let queue = &self.committer.queue;
        let pushed = match queue.try_push_no_wake(count, bytes, &mut fill) {
            Err(PushError::Full) => match self.would_deadlock() {
                Some(cause) => return Err(cause),
                None => self.time_blocked(|| queue.push(count, bytes, None, fill)),
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
        self.recorder.blocked(nanos(began.elapsed()));
        pushed
    }

    /// The cause to refuse a batch's part if it exceeds a limit.
    pub(crate) fn check_part(&self, part: &BatchBody) -> Option<Cause> {
        let max = self.committer.queue.capacity().min(crate::config::BATCH_RECORDS_MAX as u64);
        let found = part.records;
        if found > max {
            return Some(Cause::TooLarge { limit: "records of a batch in one shard", found, max });
        }
        too_large("payload bytes of a batch in one shard", part.payload_bytes)
    }

    /// Checks a record before it is queued, and returns it if it is refused.
    fn parts<'p>(&self, key: u64, payload: Payload<'p>) -> Result<Parts<'_, 'p>, TryAppendError> {
        let too_large = too_large("payload bytes of a record", payload.len() as u64);
        match too_large.or_else(|| self.check_state()) {
            Some(cause) => Err(TryAppendError { payload: payload.into_bytes(), cause }),
            None => Ok(Parts { shard: self, key, payload }),
        }
    }

    /// The cause to refuse an append now. In a forked child, no thread would commit it. While
    /// the disk is full, the records already queued try it; more would only wait to be refused.
    fn check_state(&self) -> Option<Cause> {
        if let Some(cause) = self.forked() {
            return Some(cause);
        }
        let progress = &self.committer.progress;
        if progress.is_disk_full() && self.committer.queue.depth() > 0 {
            return progress.failure().or_else(|| progress.last_refusal());
        }
        None
    }

    /// The cause to refuse every append, if the shard is closed or has failed.
    pub(crate) fn end(&self) -> Option<Cause> {
        self.committer.queue.is_closed().then(|| self.refusal(PushError::Closed))
    }

    fn refusal(&self, error: PushError) -> Cause {
        let progress = &self.committer.progress;
        match error {
            PushError::Full if progress.is_segment_late() => Cause::SegmentNotReady,
            PushError::Full => Cause::QueueFull,
            PushError::Closed => progress.failure().unwrap_or(Cause::Closed),
        }
    }

    /// The time stamp for a push of `count` tickets, or 0 if none of them is sampled.
    fn stamp(&self, first: u64, count: u32) -> u64 {
        let sampled = first.next_multiple_of(SAMPLED_EACH) < first + u64::from(count);
        if sampled { self.recorder.now() } else { 0 }
    }

    /// Refuses every later append.
    pub(crate) fn close_queue(&self) {
        self.committer.queue.close();
    }

    /// The error for a call in a forked child.
    pub(crate) fn forked(&self) -> Option<Cause> {
        self.committer.forked()
    }

    /// The error if the calling thread must not wait for a commit.
    pub(crate) fn would_deadlock(&self) -> Option<Cause> {
        self.committer.would_deadlock()
    }

    /// Refuses every later append, and lets the writer finish without waiting for it.
    pub(crate) fn leave(&self) {
        self.close_queue();
        drop(self.writer.lock().take());
    }

    /// Waits until the writer has committed the queued records. Another thread that closes
    /// meanwhile waits for the lock, so that both get the same result.
    pub(crate) fn join(&self) -> Result<(), Cause> {
        let mut running = self.writer.lock();
        let Some(writer) = running.take() else { return self.ended() };
        match writer.join() {
            Ok(ended) => ended,
            Err(_panic) => Err(Cause::WriterPanicked),
        }
    }

    fn ended(&self) -> Result<(), Cause> {
        self.committer.progress.failure().map_or(Ok(()), Err)
    }
}

impl Drop for WalShard {
    /// Ends a shard whose log failed to open. Otherwise `close` has done all of this.
    fn drop(&mut self) {
        self.close_queue();
        drop(self.join());
    }
}

fn too_large(limit: &'static str, found: u64) -> Option<Cause> {
    let max = crate::config::BATCH_BYTES_MAX as u64;
    (found > max).then_some(Cause::TooLarge { limit, found, max })
}

fn small(number: u64) -> u32 {
    u32::try_from(number).expect("a batch is bounded far below u32")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether an append wakes the shard's writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// It wakes the writer.
    Writer,
    /// It does not, because the caller commits inline next.
    Nobody,
}

/// A record before it is queued, so that its payload can be returned.
struct Parts<'log, 'p> {
    shard: &'log WalShard,
    key: u64,
    payload: Payload<'p>,
}

impl<'log> Parts<'log, '_> {
    fn weight(&self) -> u32 {
        small(self.payload.len() as u64)
    }

    /// Moves the record into an entry once it has its ticket. Called at most once.
    fn fill(&mut self) -> impl FnOnce(u64, &mut Entry) {
        |ticket, entry| {
            entry.hold(self.key, &mut self.payload, self.shard.stamp(ticket, 1));
        }
    }

    fn try_push(&mut self) -> Result<u64, PushError> {
        let weight = self.weight();
        self.shard.committer.queue.try_push(1, weight, self.fill())
    }

    #[cold]
    fn push(&mut self, deadline: Option<Instant>) -> Result<u64, PushError> {
        let (weight, shard) = (self.weight(), self.shard);
        shard.time_blocked(|| shard.committer.queue.push(1, weight, deadline, self.fill()))
    }

    fn completion(
        self,
        pushed: Result<u64, PushError>,
    ) -> Result<Completion<'log>, TryAppendError> {
        match pushed {
            Ok(ticket) => Ok(Completion::queued(self.shard, ticket)),
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
