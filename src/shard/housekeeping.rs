//! The housekeeping threads: work that depends on time, or would stall a writer.
//!
//! A log has four of them, so that none waits for the work of another:
//!
//! - The **time keeper** requests the syncs of `Durability::Interval` and the seals of
//!   idle shards. It makes no call to the file system.
//! - The **preparer** makes the next segments, and checks the free space and the holds.
//! - The **watcher** checks that shard directories and segments are still in place.
//! - The **sealer** syncs full segments and cuts their tails.
//!
//! Crossbeam channels connect them to the writers. These threads know segments and
//! committers. They do not know records.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::commit::committer::Committer;
use crate::error::means_full;
use crate::layout::dir_lock::Lock;
use crate::layout::shard_dir::ShardDir;
use crate::segment::catalogue::Catalogue;
use crate::segment::writer::{
    Prepared, SealMark, Sealed, SegmentSource, ZERO_WINDOW_BYTES, prepare,
};
use crate::shard::holds::Holds;
use crate::shard::sealer::{SealQueue, SealQueues, Sealer, sealer};
use crate::space::free_space::FreeSpaceMonitor;
use crate::util::catch_panic::catch_panic;
use crate::util::sync::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use crate::util::sync::{Arc, JoinHandle, now, spawn};

/// How long a shard must be idle before it is sealed.
const SEAL_IDLE_AFTER: Duration = Duration::from_secs(1);
/// How often the free space is checked: with a configured threshold, and without one.
const FREE_SPACE_CHECK_INTERVAL: Duration = Duration::from_millis(100);
const FREE_SPACE_STATS_INTERVAL: Duration = Duration::from_secs(1);
/// How often the shard directories and active segments are checked. The watcher notices
/// a removed one within a second.
const NAME_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A request for a segment, and the channel for the answer.
struct SegmentRequest {
    /// The shard's directory.
    shard_dir: ShardDir,
    number: u64,
    zeros: u64,
    /// Taken by the answer. A request that is dropped without one answers with an error,
    /// so that no writer waits forever.
    reply: Option<Sender<io::Result<Prepared>>>,
}

impl SegmentRequest {
    /// Sends the answer. The channel holds one, and a writer has one request at a time.
    /// If the writer has ended, the next open finds the file blank.
    fn answer(&mut self, prepared: io::Result<Prepared>) {
        if let Some(reply) = self.reply.take() {
            drop(reply.try_send(prepared));
        }
    }
}

impl Drop for SegmentRequest {
    fn drop(&mut self) {
        self.answer(Err(io::Error::other(
            "the preparer thread has ended; close the log and open it again",
        )));
    }
}

/// The threads' ends of their channels, before the threads start.
pub(crate) struct Housekeeping {
    requests: Sender<SegmentRequest>,
    inbox: Receiver<SegmentRequest>,
    seal_queues: SealQueues,
    sealer: Sealer,
    /// Carries no message. The time keeper ends once every sender is dropped.
    alive: Sender<()>,
    ended: Receiver<()>,
    /// Carries no message. The watcher ends once every sender is dropped.
    watched: Sender<()>,
    unwatched: Receiver<()>,
}

impl Housekeeping {
    pub(crate) fn new() -> Self {
        let ((requests, inbox), (alive, ended)) = (unbounded(), unbounded());
        let ((watched, unwatched), (seal_queues, sealer)) = (unbounded(), sealer());
        Self { requests, inbox, seal_queues, sealer, alive, ended, watched, unwatched }
    }

    /// Makes the segment source of a shard. The threads end once every source is
    /// dropped.
    pub(crate) fn source(&self, shard: usize, shard_dir: ShardDir) -> Box<dyn SegmentSource> {
        let (reply, prepared) = bounded(1);
        Box::new(Housekept {
            requests: self.requests.clone(),
            reply,
            prepared,
            seals: self.seal_queues.queue(shard, shard_dir.recycler.clone()),
            _alive: (self.alive.clone(), self.watched.clone()),
            shard_dir,
        })
    }

    /// Starts the threads. They run until every source is dropped, and hold the
    /// directory's lock until then. The returned thread ends last.
    ///
    /// # Errors
    /// A thread could not be started.
    pub(crate) fn start(
        self,
        space: Arc<FreeSpaceMonitor>,
        holds: Arc<Holds>,
        lock: Lock,
        shards: Vec<(ShardDir, Arc<Committer>, Catalogue)>,
        interval: Option<Duration>,
    ) -> io::Result<JoinHandle<()>> {
        let Self { requests, inbox, seal_queues, sealer, alive, ended, watched, unwatched } = self;
        drop((requests, seal_queues, alive, watched));
        let committers: Vec<_> = shards.iter().map(|(_, committer, _)| committer.clone()).collect();
        let sealed = committers.clone();
        let sealer = spawn("shardwal-sealer".into(), move || sealer.serve(&sealed))?;
        let kept = |(shard_dir, committer, catalogue)| Kept { shard_dir, committer, catalogue };
        let shards: Vec<_> = shards.into_iter().map(kept).collect();
        let watched = shards.clone();
        let watcher = spawn("shardwal-watcher".into(), move || watch(&unwatched, &watched))?;
        let preparer = Preparer { inbox, space, holds, shards };
        let preparer = spawn("shardwal-preparer".into(), move || preparer.serve())?;
        let (tick, ticks_per_sync) = ticks(interval);
        let since = now();
        let idle = |committer| (committer, Idle { synced: 0, since, sealed: true });
        let committers = committers.into_iter().map(idle).collect();
        let keeper = Keeper { ended, ticks_per_sync, ticks: 0, tick, committers };
        spawn("shardwal-housekeeping".into(), move || {
            keeper.serve();
            // The threads have no result, and catch their own panics.
            drop((preparer.join(), sealer.join(), watcher.join()));
            drop(lock);
        })
    }
}

/// The thread that makes segments and checks the free space.
struct Preparer {
    inbox: Receiver<SegmentRequest>,
    space: Arc<FreeSpaceMonitor>,
    holds: Arc<Holds>,
    shards: Vec<Kept>,
}

/// Checks each shard's names until the sources are dropped. A file system that panics
/// must not stop the checks of other shards.
fn watch(ended: &Receiver<()>, shards: &[Kept]) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_deadline(now() + NAME_CHECK_INTERVAL) {
        for shard in shards {
            catch_panic(|| shard.check_names());
        }
    }
}

/// The parts of a shard that a housekeeping thread uses.
#[derive(Clone)]
struct Kept {
    shard_dir: ShardDir,
    committer: Arc<Committer>,
    catalogue: Catalogue,
}

impl Kept {
    /// The number of the active segment, if there is one.
    fn active_segment(&self) -> Option<u64> {
        let catalogue = self.catalogue.lock();
        let last = catalogue.back().filter(|meta| meta.next_sequence.is_none());
        last.map(|meta| meta.number)
    }

    /// Fails a shard whose directory or active segment was removed: its bytes are lost
    /// once the last descriptor is closed.
    fn check_names(&self) {
        if self.committer.is_fail_requested() {
            return;
        }
        let ShardDir { fs, dir, .. } = &self.shard_dir;
        let active = self.active_segment();
        let is_gone = |path: &Path| match fs.links(path) {
            Ok(links) => links == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let path = [Some(dir.clone()), active.map(|number| self.shard_dir.path(number))];
        let gone = path.into_iter().flatten().find(|path| is_gone(path));
        // A segment that is no longer active may have been truncated in the meantime.
        if let Some(path) = gone.filter(|path| path == dir || self.active_segment() == active) {
            let what = format!(
                "{} was removed or renamed while the log was open; put it back, or open a new log",
                path.display()
            );
            self.committer.request_fail(io::Error::new(io::ErrorKind::NotFound, what));
        }
    }
}

impl Preparer {
    fn serve(self) {
        let check_interval = if self.space.is_watched() {
            FREE_SPACE_CHECK_INTERVAL
        } else {
            FREE_SPACE_STATS_INTERVAL
        };
        let mut next_check = now() + check_interval;
        loop {
            match self.inbox.recv_deadline(next_check) {
                Ok(request) => self.prepare(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = now();
            if now >= next_check {
                self.check_space();
                next_check = now + check_interval;
            }
        }
    }

    /// Checks the free space and the limits of holds; [`FreeSpaceMonitor`] keeps the results. A
    /// file system that fails or panics must not stop the syncs of other shards.
    fn check_space(&self) {
        catch_panic(|| {
            drop(self.space.check());
            self.holds.check();
            self.delete_recycled(
                self.shards.iter().any(|shard| shard.committer.progress.is_disk_full()),
            );
        });
    }

    /// If free space is low, deletes recycled segments: the room is for records.
    fn delete_recycled(&self, full: bool) {
        self.shards.iter().for_each(|shard| shard.shard_dir.recycler.delete_if_scarce(full));
    }

    fn prepare(&self, mut request: SegmentRequest) {
        // The zeros may exceed everything written since the last check.
        self.check_space();
        // If other shards wait, a segment gets its first zeros only. Its writer adds
        // the rest.
        let zeros = if self.inbox.is_empty() {
            request.zeros
        } else {
            request.zeros.min(ZERO_WINDOW_BYTES)
        };
        let zeros = self.space.affordable_zeros(zeros);
        let ShardDir { fs, dir, recycler, .. } = &request.shard_dir;
        // A file system that panics must not stop the requests of other shards.
        let prepared = catch_panic(|| {
            let recycled = recycler.take(request.number);
            recycled.map_or_else(|| prepare(fs.as_ref(), dir, request.number, zeros), Ok)
        });
        if matches!(&prepared, Some(Err(error)) if means_full(error)) {
            catch_panic(|| self.delete_recycled(true));
        }
        request.answer(prepared.unwrap_or_else(|| {
            Err(io::Error::other(
                "the file system panicked while it made a segment; open the log again",
            ))
        }));
    }
}

/// The time between two ticks, at most [`SEAL_IDLE_AFTER`], and the number of ticks that the
/// interval between two syncs has.
fn ticks(interval: Option<Duration>) -> (Duration, Option<u32>) {
    let Some(interval) = interval else { return (SEAL_IDLE_AFTER, None) };
    let ticks = interval.as_nanos().div_ceil(SEAL_IDLE_AFTER.as_nanos());
    let ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(1);
    (interval / ticks, Some(ticks))
}

/// The time keeper. It makes no call to the file system.
struct Keeper {
    ended: Receiver<()>,
    /// `None` if no interval was set.
    ticks_per_sync: Option<u32>,
    /// The number of ticks so far.
    ticks: u32,
    tick: Duration,
    committers: Vec<(Arc<Committer>, Idle)>,
}

/// Since when a shard has synced nothing new.
struct Idle {
    synced: u64,
    since: Instant,
    /// Whether a seal has been requested since.
    sealed: bool,
}

impl Keeper {
    fn serve(mut self) {
        let mut next_tick = now() + self.tick;
        while let Err(RecvTimeoutError::Timeout) = self.ended.recv_deadline(next_tick) {
            let now = now();
            if now >= next_tick {
                self.tick(now);
                next_tick = now + self.tick;
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.ticks = self.ticks.wrapping_add(1);
        let sync_is_due = self.ticks_per_sync.is_some_and(|ticks| self.ticks.is_multiple_of(ticks));
        for (committer, idle) in &mut self.committers {
            let progress = &committer.progress;
            if sync_is_due && progress.synced() < progress.acknowledged() {
                committer.queue.request_sync();
            }
            let synced = progress.synced();
            if synced != idle.synced {
                *idle = Idle { synced, since: now, sealed: false };
            } else if !idle.sealed && now - idle.since >= SEAL_IDLE_AFTER {
                committer.queue.request_seal();
                idle.sealed = true;
            }
        }
    }
}

/// A writer's end of the channels.
struct Housekept {
    shard_dir: ShardDir,
    requests: Sender<SegmentRequest>,
    reply: Sender<io::Result<Prepared>>,
    prepared: Receiver<io::Result<Prepared>>,
    seals: SealQueue,
    _alive: (Sender<()>, Sender<()>),
}

impl SegmentSource for Housekept {
    fn request(&mut self, number: u64, zeros: u64) {
        let (shard_dir, reply) = (self.shard_dir.clone(), Some(self.reply.clone()));
        // A request that cannot be sent answers in its `drop`.
        drop(self.requests.send(SegmentRequest { shard_dir, number, zeros, reply }));
    }

    fn take(&mut self, wait: bool) -> Option<io::Result<Prepared>> {
        if wait { self.prepared.recv().ok() } else { self.prepared.try_recv().ok() }
    }

    fn has_recycled(&self) -> bool {
        self.shard_dir.recycler.has_any()
    }

    fn is_space_low(&self) -> bool {
        self.shard_dir.recycler.is_space_low()
    }

    fn seal(&mut self, sealed: Sealed, wait: bool) -> Result<(), Sealed> {
        self.seals.seal(sealed, wait)
    }

    fn sealed(&mut self, wait: bool) -> Option<io::Result<SealMark>> {
        self.seals.sealed(wait)
    }

    fn abandon(&mut self) {
        self.seals.abandon();
    }
}
