//! `ShardedWal`: all shards behind one handle. It routes calls to shards and does not know
//! how a shard queues or commits.

use crate::checkpoint::LogId;
use crate::commit::commit_mode::CommitMode;
use crate::commit::committing::Committing;
use crate::commit::state_machine::StateMachine;
use crate::config::Config;
use crate::error::{Cause, CloseError, OpenError};
use crate::layout::dir_lock::Lock;
use crate::layout::generation::Generations;
use crate::layout::router::shard_of;
use crate::open::open::{Machines, Opened, open};
use crate::recovery::RecoveryReport;
use crate::shard::completion::Flush;
use crate::shard::holds::Holds;
use crate::shard::shard::WalShard;
use crate::shard::truncate::OldShard;
use crate::space::free_space::FreeSpaceMonitor;
use crate::stats::WalStats;
use crate::util::sync::{Arc, JoinHandle, Mutex};

mod append;
mod applied;
mod batch;
mod checkpoints;
mod close;
mod follow;
mod holds;
mod replay;

pub use applied::Applied;
pub use close::Closing;
pub use holds::Hold;

/// A sharded write-ahead log in one directory.
///
/// Share it by reference or in an `Arc`: every method takes `&self`, and no append takes a
/// lock that another caller could hold.
///
/// Dropping it closes it, as [`ShardedWal::close`] does, but reports no error. **The drop blocks**
/// until the queued records are synced and the threads have ended: for as long as the disk takes.
/// In a task, that is a worker of the runtime. So a service awaits [`ShardedWal::close_async`]
/// before it drops the last handle.
#[derive(Debug)]
pub struct ShardedWal {
    space: Arc<FreeSpaceMonitor>,
    shards: Vec<Arc<WalShard>>,
    old: Vec<Arc<OldShard>>,
    generations: Generations,
    holds: Arc<Holds>,
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

    /// Opens a log whose shards each drive a [`crate::StateMachine`]. `machine` makes one for each
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
        let Opened { space, shards, old, recovery, generations, holds, .. } = opened;
        Ok(Self {
            space,
            shards,
            old,
            generations,
            holds,
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

    fn shard(&self, key: u64) -> &Arc<WalShard> {
        &self.shards[self.shard_of(key)]
    }

    /// Flushes all shards. The result resolves once every record that was appended before
    /// this call is on stable storage, in every durability mode.
    pub fn flush(&self) -> Flush<'_> {
        Flush::of(&self.shards)
    }

    /// The counters of the shards since open. Takes no lock that an append could meet.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        let depth = |shard: &Arc<WalShard>| shard.committer().queue.depth();
        let shards = self.shards.iter().map(|shard| (shard.recorder(), depth(shard)));
        WalStats::of(shards, self.space.last_check())
    }

    /// Closes the log, and blocks until that is done. A task calls [`ShardedWal::close_async`].
    /// Later appends are refused. Queued records are written and synced, the
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
        self.shards.iter().for_each(|shard| shard.close_queue());
        if Committing::is_here() {
            return Ok(());
        }
        // Held to the end, so that a second caller does not return earlier.
        let mut housekeeping = self.housekeeping.lock();
        let mut first = Ok(());
        for (shard, ended) in self.shards.iter().map(|shard| shard.join()).enumerate() {
            let ended = ended.map_err(|cause| CloseError { shard, cause });
            first = first.and(ended);
        }
        if let Some(housekeeping) = housekeeping.take() {
            // It has no result, and contains its own panics.
            drop(housekeeping.join());
        }
        self.holds.close();
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
            self.shards.iter().for_each(|shard| shard.leave());
        } else {
            drop(self.close());
        }
    }
}
