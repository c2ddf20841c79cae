//! A shard as its callers see it: it refuses, queues and answers their appends.
//!
//! It does not know how a commit is written, nor how the records are laid out on disk.

use std::fmt;
use std::ops::Deref;
use std::task::Context;

use crate::commit::committer::Committer;
use crate::commit::progress::{Answer, TicketRegistration};
use crate::commit::snapshots::Snapshots;
use crate::error::{AppendError, Cause, Position, TryAppendError};
use crate::layout::shard_dir::ShardDir;
use crate::layout::truncation_mark::TruncationMark;
use crate::payload::Payload;
use crate::queue::queue::PushError;
use crate::segment::catalogue::Catalogue;
use crate::segment::header::SegmentIdentity;
use crate::shard::truncate::SharedMark;
use crate::space::free_space::FreeSpaceMonitor;
use crate::stats::Recorder;
use crate::util::sync::{Arc, JoinHandle, Mutex};

/// The shard's writer thread, and what joining it returns.
type Writer = JoinHandle<Result<(), Cause>>;

/// One shard of the log: one queue, one writer thread, one shard directory.
pub(crate) struct WalShard {
    shard_dir: ShardDir,
    /// The sequence of ticket 0.
    base: u64,
    committer: Arc<Committer>,
    snapshots: Arc<Snapshots>,
    space: Arc<FreeSpaceMonitor>,
    recorder: Arc<Recorder>,
    catalogue: Catalogue,
    /// Held during a truncation.
    mark: SharedMark,
    /// Sequences below this are not replayed. Truncation stores it, replay reads it.
    truncated_below: Mutex<u64>,
    /// `None` once the shard is closed.
    writer: Mutex<Option<Writer>>,
}

/// A shard that is borrowed from its log, or shared with it.
#[derive(Clone, Debug)]
pub(crate) enum ShardRef<'log> {
    Borrowed(&'log Arc<WalShard>),
    Shared(Arc<WalShard>),
}

impl Deref for ShardRef<'_> {
    type Target = WalShard;

    fn deref(&self) -> &WalShard {
        self.shared()
    }
}

impl ShardRef<'_> {
    pub(crate) fn shared(&self) -> &Arc<WalShard> {
        match self {
            Self::Borrowed(shard) => shard,
            Self::Shared(shard) => shard,
        }
    }

    /// The shard, kept as long as the result.
    pub(crate) fn into_owned(self) -> ShardRef<'static> {
        match self {
            Self::Borrowed(shard) => ShardRef::Shared(shard.clone()),
            Self::Shared(shard) => ShardRef::Shared(shard),
        }
    }
}

impl fmt::Debug for WalShard {
    /// Names the shard only. The slots of its queue would appear in every completion.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SegmentIdentity { generation, shard, .. } = self.shard_dir.identity;
        let mut shown = f.debug_struct("WalShard");
        shown.field("generation", &generation).field("shard", &shard).finish_non_exhaustive()
    }
}

/// A shard without its writer thread.
pub(crate) struct ShardParts {
    pub(crate) shard_dir: ShardDir,
    /// The sequence of ticket 0.
    pub(crate) base: u64,
    pub(crate) committer: Arc<Committer>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) space: Arc<FreeSpaceMonitor>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) catalogue: Catalogue,
    pub(crate) mark: TruncationMark,
}

impl WalShard {
    pub(crate) fn new(parts: ShardParts, writer: Writer) -> Self {
        let ShardParts { shard_dir, base, committer, snapshots, space, recorder, catalogue, mark } =
            parts;
        let truncated_below = Mutex::new(mark.below);
        let (mark, writer) = (Mutex::new(Some(mark)), Mutex::new(Some(writer)));
        Self {
            shard_dir,
            base,
            committer,
            snapshots,
            space,
            recorder,
            catalogue,
            mark,
            truncated_below,
            writer,
        }
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    pub(crate) fn committer(&self) -> &Arc<Committer> {
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

    /// The sequence after the last record below `below`. Sequences that were refused right below
    /// it do not count, if they are from this open and not forgotten.
    pub(crate) fn records_end(&self, below: u64) -> u64 {
        let ticket = below.checked_sub(self.base);
        ticket.map_or(below, |ticket| self.base + self.committer.progress.records_end(ticket))
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

    /// The ticket of a position in this shard. `None` if it is from before the open.
    pub(crate) fn ticket(&self, position: Position) -> Option<u64> {
        position.sequence.checked_sub(self.base)
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

    /// Checks for a task whether a ticket is answered. `None` means that its waker will be
    /// called.
    pub(crate) fn poll_answer(
        &self,
        ticket: u64,
        context: &mut Context<'_>,
        registration: &mut TicketRegistration,
    ) -> Option<Answer> {
        let progress = &self.committer.progress;
        match self.forked() {
            // No thread of a forked child will ever answer.
            Some(cause) => Some(progress.answer(ticket).unwrap_or(Answer::Indeterminate(cause))),
            None => progress.poll(ticket, context, registration),
        }
    }

    /// Accepts a payload if the disk has room for it, or returns it. The cause that ended the
    /// shard comes before a lack of room, because no free room would help.
    pub(crate) fn admit<'p>(&self, payload: Payload<'p>) -> Result<Payload<'p>, TryAppendError> {
        self.space.admit(payload).map_err(|TryAppendError { payload, cause }| {
            let cause = self.end().unwrap_or(cause);
            TryAppendError { payload, cause }
        })
    }

    /// Counts a record that was refused before it was queued.
    pub(crate) fn count_refusal(&self, refused: TryAppendError) -> TryAppendError {
        self.recorder.refused_append(&refused.cause, 1);
        refused
    }

    /// The cause to refuse every append, if the shard is closed or has failed.
    pub(crate) fn end(&self) -> Option<Cause> {
        self.committer.queue.is_closed().then(|| self.refusal(PushError::Closed))
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
