//! The log: all shards behind one handle.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

#[cfg(feature = "timeseries")]
use crate::checkpoint::CheckpointError;
use crate::checkpoint::{Checkpoint, LogId};
use crate::committing::Committing;
use crate::completion::{Barrier, BatchCompletion, Completion, Part};
use crate::config::{BATCH_RECORDS_MAX, Config, Durability};
use crate::directory::Lock;
use crate::entry::BatchBody;
use crate::error::{
    AppendError, BatchError, Cause, CloseError, OpenError, Position, Refused, ReplayError,
    TruncateError,
};
use crate::lane::Patience;
use crate::open::{Machines, Opened, open};
use crate::payload::Payload;
use crate::recovery::RecoveryReport;
use crate::replay::{Record, ReplayOptions, ReplayReport, ShardPlan, reach, replay, start_from};
use crate::retire::Generations;
use crate::router::shard_of;
use crate::shard::{Wake, WalShard};
use crate::space::Space;
use crate::state_machine::StateMachine;
use crate::stats::WalStats;
use crate::sync::{Arc, JoinHandle, Mutex, now};
use crate::truncate::{OldShard, TruncateReport, is_empty, truncate};
use crate::waiter::Enrolled;

/// A sharded write-ahead log in one directory.
///
/// Share it behind a reference or an `Arc`; every method takes `&self`, and no
/// append takes a lock that another caller could hold. Dropping it does what
/// [`ShardedWal::close`] does, without reporting.
#[derive(Debug)]
pub struct ShardedWal {
    space: Arc<Space>,
    shards: Vec<WalShard>,
    old: Vec<OldShard>,
    generations: Generations,
    recovery: RecoveryReport,
    housekeeping: Mutex<Option<JoinHandle<()>>>,
    /// The directory is ours until this is dropped: by close, once all is
    /// written. Held while a truncation is under way.
    lock: Mutex<Option<Lock>>,
    /// Whether each commit ends with a sync.
    syncs_each_commit: bool,
}

impl ShardedWal {
    /// Opens or creates the log that `config` names: takes the lock, surveys
    /// every shard (the whole log is read and checked), and starts a writer
    /// thread per shard and four housekeeping threads. Blocks until all of that is
    /// done. What stood in the log is in [`ShardedWal::recovery`], and is read
    /// by [`ShardedWal::replay`].
    ///
    /// # Errors
    /// See [`OpenError`]. Unless it is `Io`, nothing on the disk was changed.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_driving(config, &mut |_| None)
    }

    /// Opens a log whose shards each drive a [`StateMachine`], made here from
    /// the shard's number: it says how payloads are stored, and applies them
    /// once they are acknowledged. What stood in the log is not applied by it:
    /// replay first, then append.
    ///
    /// # Errors
    /// As for [`ShardedWal::open`].
    pub fn open_with(
        config: Config,
        mut machine: impl FnMut(usize) -> Box<dyn StateMachine>,
    ) -> Result<Self, OpenError> {
        Self::open_driving(config, &mut |shard| Some(machine(shard)))
    }

    fn open_driving(config: Config, machines: Machines<'_>) -> Result<Self, OpenError> {
        let syncs_each_commit = config.durability == Durability::Sync;
        let opened = open(config, machines)?;
        let Opened { space, shards, old, recovery, generations, .. } = opened;
        Ok(Self {
            space,
            shards,
            old,
            generations,
            recovery,
            housekeeping: Mutex::new(Some(opened.housekeeping)),
            lock: Mutex::new(Some(opened.lock)),
            syncs_each_commit,
        })
    }

    /// What open found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// Shards of the current generation.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Tells this log from all others. Never changes.
    #[must_use]
    pub fn id(&self) -> LogId {
        LogId(self.shards[0].folder().identity.log)
    }

    /// Why the calling thread must not wait for the log, if it must not.
    pub(crate) fn cannot_wait(&self) -> Option<Cause> {
        self.shards[0].cannot_wait()
    }

    /// The shard that a key lives in, for ever within this generation.
    #[must_use]
    pub fn shard_of(&self, key: u64) -> usize {
        shard_of(key, self.shards.len())
    }

    fn shard(&self, key: u64) -> &WalShard {
        &self.shards[self.shard_of(key)]
    }

    /// Appends a record; blocks while its shard's queue is full. Dropping the
    /// completion is fire and forget. Records of one key that one thread
    /// appends are written in that order.
    ///
    /// Whatever refuses the record is told by the completion; to get the
    /// payload back, use [`ShardedWal::try_append`]. Who waits right away is
    /// better served by [`ShardedWal::append_wait`].
    ///
    /// Do not hold a lock that a waker, a payload's `Drop` or a [`StateMachine`] takes:
    /// the shard's writer runs them, and this call may wait for that writer. In such code
    /// itself, a call that would block is refused with [`Cause::WouldDeadlock`].
    pub fn append<'p>(&self, key: u64, payload: impl Into<Payload<'p>>) -> Completion<'_> {
        let shard = self.shard(key);
        let admitted = shard.admit(&self.space, payload.into());
        let appended = admitted.and_then(|payload| shard.append(key, payload, None));
        appended.unwrap_or_else(|refused| Completion::refused(refused.cause))
    }

    /// Appends a record and waits until it is acknowledged: what
    /// `append(..).wait()` does, without waking the shard's thread where it is
    /// idle: the calling thread then commits its record itself, with all that
    /// is queued before it. For the time of that it may be inside the log's
    /// [`StateMachine`], too.
    ///
    /// The calling thread may run the wakers of other tasks, and the `Drop` of other
    /// callers' payloads. Do not hold a lock that one of them takes: the thread would wait
    /// for itself.
    ///
    /// # Errors
    /// See [`AppendError`]. A waker, a payload's `Drop` and a [`StateMachine`] are always
    /// refused, with [`Cause::WouldDeadlock`].
    pub fn append_wait<'p>(
        &self,
        key: u64,
        payload: impl Into<Payload<'p>>,
    ) -> Result<Position, AppendError> {
        let shard = self.shard(key);
        let admitted = shard.admit(&self.space, payload.into());
        let appended = admitted.and_then(|payload| shard.append_lending(key, payload));
        appended.unwrap_or_else(|refused| Completion::refused(refused.cause)).wait()
    }

    /// Appends a record, or gives its payload back at once. Never blocks.
    ///
    /// # Errors
    /// [`Refused`], with the reason.
    pub fn try_append<'p>(
        &self,
        key: u64,
        payload: impl Into<Payload<'p>>,
    ) -> Result<Completion<'_>, Refused> {
        let shard = self.shard(key);
        shard.try_append(key, shard.admit(&self.space, payload.into())?)
    }

    /// Appends a record; blocks while the queue is full, at most for `timeout`.
    ///
    /// # Errors
    /// [`Refused`], with the reason; the payload comes back.
    pub fn append_timeout<'p>(
        &self,
        key: u64,
        payload: impl Into<Payload<'p>>,
        timeout: Duration,
    ) -> Result<Completion<'_>, Refused> {
        let deadline = now().checked_add(timeout);
        let shard = self.shard(key);
        shard.append(key, shard.admit(&self.space, payload.into())?, deadline)
    }

    /// Appends a record; waits for room as a future, without blocking. The
    /// future resolves when the record is queued, to its completion.
    pub fn append_async(&self, key: u64, payload: impl Into<Bytes>) -> AppendFuture<'_> {
        let payload = Some(payload.into().into());
        let (space, shard) = (&*self.space, self.shard(key));
        AppendFuture { space, shard, key, payload, enrolled: None }
    }

    /// Appends many records: each shard's part is one batch, of which all or
    /// nothing survives a crash. Blocks while a queue is full. Records of one
    /// key keep their order. Payloads are copied, once, before anything is queued.
    ///
    /// A part over a limit ([`crate::BATCH_RECORDS_MAX`],
    /// [`crate::BATCH_BYTES_MAX`], the queue's depth) refuses the whole batch
    /// before anything is queued, and so does [`crate::Config::disk_hard_bytes`].
    pub fn append_batch(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> BatchCompletion<'_> {
        BatchCompletion::new(self.append_parts(records, None, |_| Wake::Writer))
    }

    /// Appends many records and waits until they are acknowledged: what
    /// `append_batch(..).wait()` does, as [`ShardedWal::append_wait`] does it.
    /// Of several parts that are to be synced, each in its shard, the last is
    /// the one that the calling thread may commit.
    ///
    /// # Errors
    /// [`BatchError`] names the parts that failed; the others were acknowledged.
    pub fn append_batch_wait(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> Result<(), BatchError> {
        let parts = self.append_parts(records, self.cannot_wait(), |is_last| {
            // Syncs go on side by side, on a thread each; writes are soon done.
            if is_last || !self.syncs_each_commit { Wake::Nobody } else { Wake::Writer }
        });
        let lend = |patience| parts.iter().for_each(|part| part.last.lend_a_hand(patience));
        if !self.syncs_each_commit && parts.len() > 1 {
            // At first where nobody is: two callers are then at two shards.
            lend(Patience::None);
        }
        lend(Patience::Little);
        BatchCompletion::new(parts).wait()
    }

    /// Queues each shard's part, unless all are refused. `wake` is asked, for the last
    /// part or another, whether its writer is to be waked now.
    fn append_parts(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
        refusal: Option<Cause>,
        wake: impl Fn(bool) -> Wake,
    ) -> Vec<Part<'_>> {
        // For each shard its records, and their indices in the batch.
        let mut parts: Vec<(Vec<usize>, BatchBody)> = Vec::new();
        parts.resize_with(self.shards.len(), Default::default);
        let records = records.into_iter();
        let even = records.size_hint().0.min(BATCH_RECORDS_MAX).div_ceil(self.shards.len());
        let expected = if self.shards.len() > 1 { even + even / 4 } else { even };
        for (index, (key, payload)) in records.enumerate() {
            let (indices, body) = &mut parts[self.shard_of(key)];
            if indices.is_empty() {
                indices.reserve(expected);
            }
            indices.push(index);
            body.add(key, payload.as_ref(), expected);
        }
        let mut checked = parts.iter().zip(&self.shards);
        let oversized = checked.find_map(|((_, part), shard)| shard.check_part(part));
        // One look for all parts, so that not one is refused beside another.
        let full = refusal.or_else(|| self.space.refusal());
        let refused = |shard: &WalShard| match (&oversized, &full) {
            (None, Some(cause)) => shard.end().or_else(|| Some(cause.clone())),
            _ => oversized.clone(),
        };
        let last = parts.iter().rposition(|(_, part)| part.records > 0);
        let queue = |(index, (records, part)): (usize, (Vec<usize>, BatchBody))| {
            let shard = &self.shards[index];
            let last = match refused(shard) {
                Some(cause) => Completion::refused(cause),
                None => shard.append_part(part, wake(Some(index) == last)),
            };
            Part { shard: index, last, records }
        };
        let parts = parts.into_iter().enumerate().filter(|(_, (_, part))| part.records > 0);
        parts.map(queue).collect()
    }

    /// A barrier over all shards: resolves when everything that was appended
    /// before this call is on stable storage, in every durability mode.
    pub fn flush(&self) -> Barrier<'_> {
        let flush = |shard| {
            let shard: &WalShard = shard;
            (shard, shard.lane().mailbox.request_sync())
        };
        Barrier::new(self.shards.iter().map(flush).collect())
    }

    /// Hands every record to `callback`: those that stood in the log when it
    /// was opened and those acknowledged before this call. Generations come
    /// one after the other; within one, shards run in parallel, each in order,
    /// so that records of one key come in append order. Blocks until done.
    ///
    /// # Errors
    /// The callback's first error, or the log's; the other threads stop.
    ///
    /// # Panics
    /// With the callback's panic, once the other threads have stopped.
    pub fn replay<E: Send>(
        &self,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        self.check_process()?;
        replay(self.plans(), &options, &callback)
    }

    /// Replays from a checkpoint on: records below it are not handed out, and
    /// segments below it are not read.
    ///
    /// Call it before the first append after an open. If an older copy of the
    /// log was put back, it may end before the checkpoint. This is an error now.
    /// It cannot be seen any more once as much was appended.
    ///
    /// # Errors
    /// [`ReplayError::Checkpoint`] where the checkpoint does not fit the log, or
    /// records above it were truncated. Else as for [`ShardedWal::replay`].
    ///
    /// # Panics
    /// As for [`ShardedWal::replay`].
    pub fn replay_from<E: Send>(
        &self,
        checkpoint: &Checkpoint,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        self.check_process()?;
        let mut plans = self.plans();
        start_from(self.id(), &mut plans, checkpoint)?;
        replay(plans, &options, &callback)
    }

    fn check_process<E>(&self) -> Result<(), ReplayError<E>> {
        self.shards[0].forked().map_or(Ok(()), |cause| Err(ReplayError::NotHere(cause)))
    }

    /// One plan a shard, grouped by generation, oldest first.
    fn plans(&self) -> Vec<Vec<ShardPlan>> {
        let mut generations: Vec<Vec<ShardPlan>> = Vec::new();
        let first = self.generations.first();
        let old = self.old.iter().map(OldShard::plan);
        let old = old.filter(|plan| plan.folder.identity.generation >= first);
        let current = self.shards.iter().map(|shard| ShardPlan {
            folder: shard.folder().clone(),
            from: *shard.purged_below().lock(),
            // A sync is known a moment before what it acknowledges: whoever has
            // waited for a barrier finds what it covers.
            to: shard.acknowledged_below().max(shard.durable_below()),
            segments: shard.catalogue().lock().clone(),
        });
        for plan in old.chain(current) {
            let generation = plan.folder.identity.generation;
            match generations.last_mut() {
                Some(plans) if plans[0].folder.identity.generation == generation => {
                    plans.push(plan)
                }
                _ => generations.push(vec![plan]),
            }
        }
        generations
    }

    /// Whether the log has everything from the checkpoint on; without one,
    /// everything that was ever appended.
    #[cfg(feature = "timeseries")]
    pub(crate) fn check(&self, checkpoint: Option<&Checkpoint>) -> Result<(), CheckpointError> {
        let reach = reach(self.id(), &self.plans());
        checkpoint.map_or_else(|| reach.check_whole(), |checkpoint| reach.check_kept(checkpoint))
    }

    /// Asks each shard's writer to call its machine's [`StateMachine::mark`],
    /// soon and once, between two commits. Below a watermark, and where the disk
    /// was full, the writer first begins a segment: a truncation at the mark then
    /// deletes all of the shard's earlier ones. Does not wait for it, and a shard
    /// that has failed or closed never does it: its machine was dropped.
    pub fn mark(&self) {
        self.shards.iter().for_each(|shard| shard.lane().mailbox.request_mark());
    }

    /// Where each shard stands on stable storage: all below is durable, in every
    /// mode, so that no sequence below it can be lost and given to another
    /// record. Under [`crate::Durability::Interval`] and
    /// [`crate::Durability::Os`] that is behind what is acknowledged;
    /// [`ShardedWal::flush`] first brings it up.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let generation = self.shards[0].folder().identity.generation;
        let below = self.shards.iter().map(WalShard::durable_below);
        Checkpoint::new(generation, below).of_log(self.id())
    }

    /// Gives up everything below the checkpoint: it will never be replayed
    /// again, and segments that hold nothing else are deleted. Durable when
    /// this returns. Needs no space. Segments are deleted whole, and the one
    /// that is written to stays. Generations of which nothing is left are
    /// forgotten, except the newest of them.
    ///
    /// # Errors
    /// See [`TruncateError`]; nothing at or above the checkpoint is touched.
    pub fn truncate_before(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<TruncateReport, TruncateError> {
        if let Some(cause) = self.cannot_wait() {
            return Err(TruncateError::NotHere(cause));
        }
        let lock = self.lock.lock();
        if lock.is_none() {
            return Err(TruncateError::Closed);
        }
        let reach = reach(self.id(), &self.plans());
        reach.check_place(checkpoint).map_err(TruncateError::Checkpoint)?;
        let truncated = truncate(&self.old, &self.shards, checkpoint);
        if truncated.is_ok() {
            self.generations.retire(|number| is_empty(&self.old, number));
        }
        // Whoever has freed room need not wait until somebody looks. Where the
        // disk does not answer, the housekeeping thread asks again.
        drop(self.space.look());
        truncated
    }

    /// What the shards have done since open. Takes no lock that an append
    /// could meet.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        let depth = |shard: &WalShard| shard.lane().mailbox.depth();
        let shards = self.shards.iter().map(|shard| (shard.recorder(), depth(shard)));
        WalStats::of(shards, self.space.found())
    }

    /// Closes the log: later appends are refused, what was queued is written
    /// and synced, the threads are joined, the directory's lock is given up.
    /// Every completion is resolved when this returns. Calling it again returns
    /// the same answer.
    ///
    /// A task may close the log as it is waked, where its executor polls it: on a
    /// shard's own thread, or on one that commits for a shard in
    /// [`ShardedWal::append_wait`]. There it waits for nothing and says `Ok`: what was
    /// queued is written all the same, and the directory stays locked until that is
    /// done and the log is dropped, or closed once more, elsewhere.
    ///
    /// # Errors
    /// The first shard's that did not close in order.
    pub fn close(&self) -> Result<(), CloseError> {
        // Not under the lock: who waited for room is waked here, and may close too.
        if let Some(cause) = self.shards[0].forked() {
            return Err(CloseError { shard: 0, cause });
        }
        self.shards.iter().for_each(WalShard::close_queue);
        if Committing::is_here() {
            return Ok(());
        }
        // Held throughout, so that a second caller returns no earlier.
        let mut housekeeping = self.housekeeping.lock();
        let mut first = Ok(());
        for (shard, ended) in self.shards.iter().map(WalShard::join).enumerate() {
            let ended = ended.map_err(|cause| CloseError { shard, cause });
            first = first.and(ended);
        }
        if let Some(housekeeping) = housekeeping.take() {
            // It has no result, and a panic there is caught there.
            drop(housekeeping.join());
        }
        drop(self.lock.lock().take());
        first
    }
}

impl Drop for ShardedWal {
    fn drop(&mut self) {
        if self.shards[0].forked().is_some() {
            // The threads are another process's: there is nobody to join, and to let go of
            // a handle would touch memory of a thread that does not exist here.
            std::mem::forget(std::mem::take(&mut self.shards));
            std::mem::forget(std::mem::replace(&mut self.housekeeping, Mutex::new(None)));
        } else if Committing::is_here() {
            self.shards.iter().for_each(WalShard::leave);
        } else {
            drop(self.close());
        }
    }
}

/// Waits for room in a shard's queue. See [`ShardedWal::append_async`].
#[derive(Debug)]
#[must_use = "nothing is appended until it is polled"]
pub struct AppendFuture<'log> {
    space: &'log Space,
    shard: &'log WalShard,
    key: u64,
    /// `None` once it is appended or refused.
    payload: Option<Payload<'static>>,
    enrolled: Option<Enrolled>,
}

impl<'log> Future for AppendFuture<'log> {
    type Output = Result<Completion<'log>, Refused>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(payload) = this.payload.take() {
            this.payload = Some(this.shard.admit(this.space, payload)?);
        }
        match this.shard.poll_append(this.key, &mut this.payload, context, &mut this.enrolled) {
            Some(appended) => Poll::Ready(appended),
            None => Poll::Pending,
        }
    }
}
