//! `ShardedWal`: all shards behind one handle. It routes calls to shards and does not know
//! how a shard queues or commits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::checkpoint::CheckpointError;
use crate::checkpoint::{Checkpoint, LogId};
use crate::commit::commit_mode::CommitMode;
use crate::commit::committer::SpinPolicy;
use crate::commit::committing::Committing;
use crate::commit::state_machine::StateMachine;
use crate::config::{BATCH_RECORDS_MAX, Config};
use crate::error::{
    AppendError, BatchError, Cause, CloseError, OpenError, Position, ReplayError, TruncateError,
    TryAppendError,
};
use crate::layout::dir_lock::Lock;
use crate::layout::generation::Generations;
use crate::layout::router::shard_of;
use crate::open::open::{Machines, Opened, open};
use crate::payload::Payload;
use crate::queue::entry::BatchBody;
use crate::recovery::RecoveryReport;
use crate::recovery::replay::{
    Record, ReplayOptions, ReplayReport, ShardPlan, reach, replay, start_from,
};
use crate::shard::append::Wake;
use crate::shard::completion::{BatchCompletion, Completion, Flush, ShardCompletion};
use crate::shard::shard::WalShard;
use crate::shard::truncate::{OldShard, TruncateReport, is_empty, truncate};
use crate::space::free_space::FreeSpaceMonitor;
use crate::stats::WalStats;
use crate::util::sync::{Arc, JoinHandle, Mutex, now};
use crate::wait::waiter::Registration;

/// A sharded write-ahead log in one directory.
///
/// Share it by reference or in an `Arc`: every method takes `&self`, and no append takes a
/// lock that another caller could hold. Dropping it closes it, as [`ShardedWal::close`] does,
/// but reports no error.
#[derive(Debug)]
pub struct ShardedWal {
    space: Arc<FreeSpaceMonitor>,
    shards: Vec<WalShard>,
    old: Vec<OldShard>,
    generations: Generations,
    recovery: RecoveryReport,
    housekeeping: Mutex<Option<JoinHandle<()>>>,
    /// Owns the log's directory until `close` has written everything. Held during a
    /// truncation.
    lock: Mutex<Option<Lock>>,
    mode: CommitMode,
}

impl ShardedWal {
    /// Opens or creates the log that `config` names.
    ///
    /// It takes the directory's lock, then reads and checks the whole log. Then it starts one
    /// writer thread per shard and four housekeeping threads. It blocks until all of that is
    /// done. [`ShardedWal::recovery`] reports what was found, and [`ShardedWal::replay`]
    /// returns the records.
    /// # Errors
    /// See [`OpenError`]. Unless it is `Io`, nothing on the disk was changed.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        Self::open_driving(config, &mut |_| None)
    }

    /// Opens a log whose shards each drive a [`StateMachine`]. `machine` makes one for each
    /// shard number. The state machine encodes payloads for the log, and applies them once
    /// they are acknowledged. It does not apply records already in the log: replay them before
    /// the first append.
    ///
    /// # Errors
    /// As for [`ShardedWal::open`].
    pub fn open_with_state_machine(
        config: Config,
        mut machine: impl FnMut(usize) -> Box<dyn StateMachine>,
    ) -> Result<Self, OpenError> {
        Self::open_driving(config, &mut |shard| Some(machine(shard)))
    }

    fn open_driving(config: Config, machines: Machines<'_>) -> Result<Self, OpenError> {
        let mode = CommitMode::of(config.durability);
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
            mode,
        })
    }

    /// Reports what `open` found.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.recovery
    }

    /// The number of shards in the current generation.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// The identity of this log, which never changes.
    #[must_use]
    pub fn id(&self) -> LogId {
        LogId(self.shards[0].shard_dir().identity.log)
    }

    /// The error if the calling thread must not wait for the log.
    pub(crate) fn would_deadlock(&self) -> Option<Cause> {
        self.shards[0].would_deadlock()
    }

    /// The shard of a key. It stays the same within a generation.
    #[must_use]
    pub fn shard_of(&self, key: u64) -> usize {
        shard_of(key, self.shards.len())
    }

    fn shard(&self, key: u64) -> &WalShard {
        &self.shards[self.shard_of(key)]
    }

    /// Appends a record. Blocks while its shard's queue is full. Records that one thread
    /// appends with one key are written in that order. The completion may be dropped: the
    /// record is still written.
    ///
    /// The completion also reports a refused record. To get the payload back, use
    /// [`ShardedWal::try_append`]. To wait at once, use [`ShardedWal::append_wait`], which is
    /// cheaper.
    ///
    /// Do not hold a lock that a waker, a payload's `Drop` or a [`StateMachine`] takes:
    /// the shard's writer runs them, and this call may wait for that writer. Inside such code,
    /// a call that would block is refused with [`Cause::WouldDeadlock`].
    pub fn append<'p>(&self, key: u64, payload: impl Into<Payload<'p>>) -> Completion<'_> {
        let shard = self.shard(key);
        let admitted = shard.admit(&self.space, payload.into());
        let appended = admitted.and_then(|payload| shard.append(key, payload, None));
        appended.unwrap_or_else(|refused| Completion::refused(refused.cause))
    }

    /// Appends a record and waits until it is acknowledged. It does what `append(..).wait()`
    /// does, but if the shard is idle, the calling thread commits the record itself, together
    /// with all records queued before it. No other thread is woken for that. Meanwhile the
    /// calling thread may run the log's [`StateMachine`].
    ///
    /// The calling thread may run the wakers of other tasks, and the `Drop` of other
    /// callers' payloads. Do not hold a lock that one of them takes: the thread would wait
    /// for itself.
    ///
    /// # Errors
    /// See [`AppendError`]. Calls from a waker, a payload's `Drop` or a [`StateMachine`] are
    /// always refused, with [`Cause::WouldDeadlock`].
    pub fn append_wait<'p>(
        &self,
        key: u64,
        payload: impl Into<Payload<'p>>,
    ) -> Result<Position, AppendError> {
        let shard = self.shard(key);
        let admitted = shard.admit(&self.space, payload.into());
        let appended = admitted.and_then(|payload| shard.append_inline(key, payload));
        appended.unwrap_or_else(|refused| Completion::refused(refused.cause)).wait()
    }

    /// Appends a record, or returns its payload at once. Never blocks.
    ///
    /// # Errors
    /// [`TryAppendError`], with the cause and the payload.
    pub fn try_append<'p>(
        &self,
        key: u64,
        payload: impl Into<Payload<'p>>,
    ) -> Result<Completion<'_>, TryAppendError> {
        let shard = self.shard(key);
        shard.try_append(key, shard.admit(&self.space, payload.into())?)
    }

    /// Appends a record. Blocks while the queue is full, for at most `timeout`.
    ///
    /// # Errors
    /// [`TryAppendError`], with the cause and the payload.
    pub fn append_timeout<'p>(
        &self,
        key: u64,
        payload: impl Into<Payload<'p>>,
        timeout: Duration,
    ) -> Result<Completion<'_>, TryAppendError> {
        let deadline = now().checked_add(timeout);
        let shard = self.shard(key);
        shard.append(key, shard.admit(&self.space, payload.into())?, deadline)
    }

    /// Appends a record without blocking. The future waits for room in the queue. It resolves
    /// to the record's completion once the record is queued.
    pub fn append_async(&self, key: u64, payload: impl Into<Bytes>) -> AppendFuture<'_> {
        let payload = Some(payload.into().into());
        let (space, shard) = (&*self.space, self.shard(key));
        AppendFuture { space, shard, key, payload, registration: None }
    }

    /// Appends many records. Each shard's part is one batch: after a crash, either all or none
    /// of its records are in the log. Blocks while a queue is full. Records of one key keep
    /// their order. Payloads are copied once, before anything is queued.
    ///
    /// The whole batch is refused before anything is queued if one part exceeds a limit:
    /// [`crate::BATCH_RECORDS_MAX`], [`crate::BATCH_BYTES_MAX`], or the capacity of the queue.
    /// The same holds below [`crate::Config::free_space_min_bytes`] of free space.
    pub fn append_batch(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> BatchCompletion<'_> {
        BatchCompletion::new(self.append_by_shard(records, None, |_| Wake::Writer))
    }

    /// Appends many records and waits until they are acknowledged. It does what
    /// `append_batch(..).wait()` does, and commits inline as [`ShardedWal::append_wait`] does.
    /// If commits are synced and there are several parts, the calling thread itself commits
    /// at most the last one.
    ///
    /// # Errors
    /// [`BatchError`] names the parts that failed. The other parts were acknowledged.
    pub fn append_batch_wait(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> Result<(), BatchError> {
        let parts = self.append_by_shard(records, self.would_deadlock(), |is_last| {
            // Syncs run side by side, on a thread each. Writes without a sync are short.
            if is_last || !self.mode.syncs_each_commit() { Wake::Nobody } else { Wake::Writer }
        });
        let commit_inline = |spin| parts.iter().for_each(|part| part.last.commit_inline(spin));
        if !self.mode.syncs_each_commit() && parts.len() > 1 {
            // First only shards whose commit lock is free: two callers then use two shards.
            commit_inline(SpinPolicy::TryOnce);
        }
        commit_inline(SpinPolicy::Spin);
        BatchCompletion::new(parts).wait()
    }

    /// Queues each shard's part, or refuses all of them. `wake` decides whether to wake a
    /// part's writer. Its argument says whether the part is the last one.
    fn append_by_shard(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
        refusal: Option<Cause>,
        wake: impl Fn(bool) -> Wake,
    ) -> Vec<ShardCompletion<'_>> {
        let batch = self.split_by_shard(records);
        let refused = self.check_batch(&batch, refusal);
        let parts = batch.len();
        let append = |(index, part): (usize, ShardBatch)| {
            let shard = &self.shards[part.shard];
            let last = match &refused {
                Some(refused) => Completion::refused(refused.cause_in(shard)),
                None => shard.append_part(part.body, wake(index + 1 == parts)),
            };
            ShardCompletion { shard: part.shard, last, records: part.records }
        };
        batch.into_iter().enumerate().map(append).collect()
    }

    /// Encodes a batch as one part per shard, leaving out shards without records.
    fn split_by_shard(
        &self,
        records: impl IntoIterator<Item = (u64, impl AsRef<[u8]>)>,
    ) -> Vec<ShardBatch> {
        let part = |shard| ShardBatch { shard, records: Vec::new(), body: BatchBody::default() };
        let mut parts: Vec<ShardBatch> = (0..self.shards.len()).map(part).collect();
        let records = records.into_iter();
        let even = records.size_hint().0.min(BATCH_RECORDS_MAX).div_ceil(parts.len());
        let expected = if parts.len() > 1 { even + even / 4 } else { even };
        for (index, (key, payload)) in records.enumerate() {
            let part = &mut parts[self.shard_of(key)];
            if part.records.is_empty() {
                part.records.reserve(expected);
            }
            part.records.push(index);
            part.body.add(key, payload.as_ref(), expected);
        }
        parts.retain(|part| !part.records.is_empty());
        parts
    }

    /// Checks all parts at once, so that none is refused while another is queued.
    fn check_batch(&self, batch: &[ShardBatch], refusal: Option<Cause>) -> Option<RefusedBatch> {
        let too_large = |part: &ShardBatch| self.shards[part.shard].check_part(&part.body);
        let too_large = batch.iter().find_map(too_large).map(RefusedBatch::TooLarge);
        let refusal = || refusal.or_else(|| self.space.refusal()).map(RefusedBatch::NotNow);
        too_large.or_else(refusal)
    }

    /// Flushes all shards. The result resolves once every record that was appended before
    /// this call is on stable storage, in every durability mode.
    pub fn flush(&self) -> Flush<'_> {
        let flush = |shard| {
            let shard: &WalShard = shard;
            (shard, shard.committer().queue.request_sync())
        };
        Flush::new(self.shards.iter().map(flush).collect())
    }

    /// Calls `callback` with every record: those in the log when it was opened, and those
    /// acknowledged before this call. Blocks until done. Generations are replayed one after
    /// the other. Within one, shards run in parallel and each in order, so that records of one
    /// key come in append order.
    ///
    /// # Errors
    /// The callback's first error, or the log's. The other threads then stop.
    /// [`ReplayError::NotHere`] on a thread that commits, or in a forked child.
    ///
    /// # Panics
    /// Panics with the callback's panic, once the other threads have stopped.
    pub fn replay<E: Send>(
        &self,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        self.check_caller()?;
        replay(self.plans(), &options, &callback)
    }

    /// Replays the records from a checkpoint on. Records below it are not passed to
    /// `callback`, and segments below it are not read.
    ///
    /// Call it before the first append after an open. If an older copy of the log was
    /// restored, the log may end before the checkpoint. That is an error now, but cannot be
    /// detected any more after enough appends.
    ///
    /// # Errors
    /// [`ReplayError::Checkpoint`] if the checkpoint does not fit the log, or if records above
    /// it were truncated. Otherwise as for [`ShardedWal::replay`].
    ///
    /// # Panics
    /// As for [`ShardedWal::replay`].
    pub fn replay_from<E: Send>(
        &self,
        checkpoint: &Checkpoint,
        options: ReplayOptions,
        callback: impl Fn(&Record<'_>) -> Result<(), E> + Sync,
    ) -> Result<ReplayReport, ReplayError<E>> {
        self.check_caller()?;
        let mut plans = self.plans();
        start_from(self.id(), &mut plans, checkpoint)?;
        replay(plans, &options, &callback)
    }

    /// A thread that commits must not replay: the callback runs on other threads too, and
    /// may wait there for the commit.
    fn check_caller<E>(&self) -> Result<(), ReplayError<E>> {
        self.would_deadlock().map_or(Ok(()), |cause| Err(ReplayError::NotHere(cause)))
    }

    /// One plan per shard, grouped by generation, oldest first.
    fn plans(&self) -> Vec<Vec<ShardPlan>> {
        let mut generations: Vec<Vec<ShardPlan>> = Vec::new();
        let first = self.generations.first();
        let old = self.old.iter().map(OldShard::plan);
        let old = old.filter(|plan| plan.shard_dir.identity.generation >= first);
        let current = self.shards.iter().map(|shard| ShardPlan {
            shard_dir: shard.shard_dir().clone(),
            from: *shard.truncated_below().lock(),
            // The synced mark rises a moment before the acknowledged one. A caller that has
            // waited for a flush must find the records that it covers.
            to: shard.acknowledged_below().max(shard.durable_below()),
            segments: shard.catalogue().lock().clone(),
        });
        for plan in old.chain(current) {
            let generation = plan.shard_dir.identity.generation;
            match generations.last_mut() {
                Some(plans) if plans[0].shard_dir.identity.generation == generation => {
                    plans.push(plan)
                }
                _ => generations.push(vec![plan]),
            }
        }
        generations
    }

    /// Checks that the log has every record from the checkpoint on. Without a checkpoint, it
    /// must have every record that was ever appended.
    pub(crate) fn check(&self, checkpoint: Option<&Checkpoint>) -> Result<(), CheckpointError> {
        let reach = reach(self.id(), &self.plans());
        checkpoint.map_or_else(|| reach.check_whole(), |checkpoint| reach.check_kept(checkpoint))
    }

    /// Requests a snapshot: each shard's writer will call its [`StateMachine::snapshot`] soon,
    /// once, between two commits. Below a free-space limit, or after a full disk, the
    /// writer begins a new segment first. A truncation at the snapshot can then delete all earlier
    /// segments of the shard. Does not block. A shard that has failed or closed does not call
    /// it, because its state machine is dropped.
    pub fn request_snapshot(&self) {
        self.shards.iter().for_each(|shard| shard.committer().queue.request_snapshot());
    }

    /// The checkpoint of stable storage. Every record below it is durable, in every mode, and
    /// no sequence below it can be lost and given to another record. In the modes
    /// [`crate::Durability::Interval`] and [`crate::Durability::Buffered`] it is behind the
    /// acknowledged records. [`ShardedWal::flush`] brings it up to them.
    ///
    /// It does not say what the caller has applied. A record may be durable before the caller
    /// gets its answer, so a truncation here may delete records that the caller's state does
    /// not hold yet. For a snapshot of state, use [`ShardedWal::request_snapshot`].
    #[must_use]
    pub fn durable_checkpoint(&self) -> Checkpoint {
        let generation = self.shards[0].shard_dir().identity.generation;
        let below = self.shards.iter().map(WalShard::durable_below);
        Checkpoint::new(generation, below).of_log(self.id())
    }

    /// Truncates the log below the checkpoint. Records below it will never be replayed again,
    /// and segments that hold no others are deleted. The truncation is durable when this
    /// returns, and needs no free space. Segments are deleted as a whole, and the active
    /// segment stays. Generations without records are removed, except the newest of them.
    ///
    /// # Errors
    /// See [`TruncateError`]. Nothing at or above the checkpoint is changed.
    pub fn truncate_before(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<TruncateReport, TruncateError> {
        if let Some(cause) = self.would_deadlock() {
            return Err(TruncateError::NotHere(cause));
        }
        let lock = self.lock.lock();
        if lock.is_none() {
            return Err(TruncateError::Closed);
        }
        let reach = reach(self.id(), &self.plans());
        reach.check_position(checkpoint).map_err(TruncateError::Checkpoint)?;
        let truncated = truncate(&self.old, &self.shards, checkpoint);
        if truncated.is_ok() {
            self.generations.retire(|number| is_empty(&self.old, number));
        }
        // Update the free space now, rather than at the next housekeeping check. If it cannot
        // be read, the housekeeping thread tries again.
        drop(self.space.check());
        truncated
    }

    /// The counters of the shards since open. Takes no lock that an append could meet.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        let depth = |shard: &WalShard| shard.committer().queue.depth();
        let shards = self.shards.iter().map(|shard| (shard.recorder(), depth(shard)));
        WalStats::of(shards, self.space.found())
    }

    /// Closes the log. Later appends are refused. Queued records are written and synced, the
    /// threads are joined, and the directory's lock is released. Every completion is resolved
    /// when this returns. Another call returns the same result.
    ///
    /// A task's executor may poll it inside its waker: on a shard's own thread, or on a thread
    /// that commits inline in [`ShardedWal::append_wait`]. If the task closes the log there,
    /// `close` does not block and returns `Ok`. Queued records are still written. The
    /// directory stays locked until they are, and until the log is dropped or closed once more
    /// on another thread.
    ///
    /// # Errors
    /// The first shard that did not close in order, and the cause.
    pub fn close(&self) -> Result<(), CloseError> {
        // Without the lock: this wakes producers that wait for room, which may call `close` too.
        if let Some(cause) = self.shards[0].forked() {
            return Err(CloseError { shard: 0, cause });
        }
        self.shards.iter().for_each(WalShard::close_queue);
        if Committing::is_here() {
            return Ok(());
        }
        // Held to the end, so that a second caller does not return earlier.
        let mut housekeeping = self.housekeeping.lock();
        let mut first = Ok(());
        for (shard, ended) in self.shards.iter().map(WalShard::join).enumerate() {
            let ended = ended.map_err(|cause| CloseError { shard, cause });
            first = first.and(ended);
        }
        if let Some(housekeeping) = housekeeping.take() {
            // It has no result, and contains its own panics.
            drop(housekeeping.join());
        }
        drop(self.lock.lock().take());
        first
    }
}

impl Drop for ShardedWal {
    fn drop(&mut self) {
        if self.shards[0].forked().is_some() {
            // The threads belong to another process and cannot be joined. Dropping their handles
            // would touch memory of a thread that does not exist here.
            std::mem::forget(std::mem::take(&mut self.shards));
            std::mem::forget(std::mem::replace(&mut self.housekeeping, Mutex::new(None)));
        } else if Committing::is_here() {
            self.shards.iter().for_each(WalShard::leave);
        } else {
            drop(self.close());
        }
    }
}

/// A batch's records in one shard, before they are queued.
struct ShardBatch {
    shard: usize,
    /// The records' indices in the batch.
    records: Vec<usize>,
    body: BatchBody,
}

/// The cause to refuse a whole batch.
enum RefusedBatch {
    /// A part exceeds a limit.
    TooLarge(Cause),
    /// The batch could be appended at another time, or by another thread.
    NotNow(Cause),
}

impl RefusedBatch {
    /// The cause for the part in `shard`. A shard that has ended refuses it at any time.
    fn cause_in(&self, shard: &WalShard) -> Cause {
        match self {
            Self::TooLarge(cause) => cause.clone(),
            Self::NotNow(cause) => shard.end().unwrap_or_else(|| cause.clone()),
        }
    }
}

/// Waits for room in a shard's queue, then queues a record. See
/// [`ShardedWal::append_async`].
#[derive(Debug)]
#[must_use = "nothing is appended until it is polled"]
pub struct AppendFuture<'log> {
    space: &'log FreeSpaceMonitor,
    shard: &'log WalShard,
    key: u64,
    /// `None` once the record is queued or refused.
    payload: Option<Payload<'static>>,
    registration: Option<Registration>,
}

impl<'log> Future for AppendFuture<'log> {
    type Output = Result<Completion<'log>, TryAppendError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(payload) = this.payload.take() {
            this.payload = Some(this.shard.admit(this.space, payload)?);
        }
        match this.shard.poll_append(this.key, &mut this.payload, context, &mut this.registration) {
            Some(appended) => Poll::Ready(appended),
            None => Poll::Pending,
        }
    }
}
