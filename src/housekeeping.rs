//! The housekeeping thread: what time brings, and what must not stall a writer.
//!
//! It prepares the next segments, looks at the disk's free space, posts the
//! syncs of `Durability::Interval` and the seals of idle shards. One thread a log; crossbeam-channel between
//! it and the writers, whose lanes are ordinary ones.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::directory::Lock;
use crate::disk::Disk;
use crate::error::means_full;
use crate::foreign::contain;
use crate::lane::Lane;
use crate::segment_writer::{Prepared, SegmentSource, ZERO_WINDOW_BYTES, prepare};
use crate::space::Space;
use crate::spares::Spares;
use crate::sync::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use crate::sync::{Arc, JoinHandle, now, spawn};

/// How long a shard must have been idle to be sealed.
const SEAL_AFTER: Duration = Duration::from_secs(1);
/// How often the disk's free space is looked at where something hangs on it,
/// and else.
const LOOK_EACH: Duration = Duration::from_millis(100);
const LOOK_EACH_FOR_FIGURES: Duration = Duration::from_secs(1);

/// A segment to prepare, and where to hand it.
struct Chore {
    dir: PathBuf,
    number: u64,
    zeros: u64,
    spares: Spares,
    /// Taken by the answer; a chore that is dropped without one answers that
    /// nobody will prepare it, so that no writer waits for ever.
    hand_to: Option<Sender<io::Result<Prepared>>>,
}

impl Chore {
    /// The lane holds one answer and its writer asks for one at a time. A
    /// writer that has gone leaves the file to be found blank by the next open.
    fn answer(&mut self, prepared: io::Result<Prepared>) {
        if let Some(hand_to) = self.hand_to.take() {
            drop(hand_to.try_send(prepared));
        }
    }
}

impl Drop for Chore {
    fn drop(&mut self) {
        self.answer(Err(io::Error::other("the housekeeping thread has gone")));
    }
}

/// The thread and the lane to it.
pub(crate) struct Housekeeping {
    chores: Sender<Chore>,
    inbox: Receiver<Chore>,
}

impl Housekeeping {
    pub(crate) fn new() -> Self {
        let (chores, inbox) = unbounded();
        Self { chores, inbox }
    }

    /// The source of one shard's segments. The thread ends when all sources
    /// have been dropped.
    pub(crate) fn source(&self, dir: PathBuf, spares: Spares) -> Box<dyn SegmentSource> {
        let (hand_to, prepared) = bounded(1);
        Box::new(Housekept { dir, spares, chores: self.chores.clone(), hand_to, prepared })
    }

    /// Starts the thread, which serves until every source is gone, and keeps the
    /// directory locked for as long.
    pub(crate) fn start(
        self,
        disk: Arc<dyn Disk>,
        space: Arc<Space>,
        lock: Lock,
        lanes: Vec<Arc<Lane>>,
        spares: Vec<Spares>,
        interval: Option<Duration>,
    ) -> io::Result<JoinHandle<()>> {
        let Self { chores, inbox } = self;
        drop(chores);
        let tick = interval.unwrap_or(SEAL_AFTER).min(SEAL_AFTER);
        let since = now();
        let idle = |lane| (lane, Idle { synced: 0, since, sealed: true });
        let lanes = lanes.into_iter().map(idle).collect();
        let keeper = Keeper { disk, inbox, space, sync: interval.is_some(), tick, lanes, spares };
        spawn("shardwal-housekeeping".into(), move || {
            keeper.serve();
            drop(lock);
        })
    }
}

struct Keeper {
    disk: Arc<dyn Disk>,
    inbox: Receiver<Chore>,
    space: Arc<Space>,
    sync: bool,
    tick: Duration,
    lanes: Vec<(Arc<Lane>, Idle)>,
    /// Each shard's.
    spares: Vec<Spares>,
}

/// Since when a shard has not synced anything new.
struct Idle {
    synced: u64,
    since: Instant,
    /// Whether it has been asked to seal since.
    sealed: bool,
}

impl Keeper {
    fn serve(mut self) {
        let look_each = if self.space.is_watched() { LOOK_EACH } else { LOOK_EACH_FOR_FIGURES };
        let mut next_tick = now() + self.tick;
        let mut next_look = now() + look_each;
        loop {
            match self.inbox.recv_deadline(next_tick.min(next_look)) {
                Ok(chore) => self.prepare(chore),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = now();
            if now >= next_look {
                self.look();
                next_look = now + look_each;
            }
            if now >= next_tick {
                self.tick(now);
                next_tick = now + self.tick;
            }
        }
    }

    /// What a look finds stands in the space. A disk that fails or panics here
    /// must not take the other shards' syncs with it.
    fn look(&self) {
        contain(|| {
            drop(self.space.look());
            self.give_up_spares(self.lanes.iter().any(|(lane, _)| lane.progress.is_disk_full()));
        });
    }

    /// Room is for records: what is kept for speed goes where it is scarce.
    fn give_up_spares(&self, full: bool) {
        self.spares.iter().for_each(|spares| spares.give_up_if_scarce(self.disk.as_ref(), full));
    }

    fn prepare(&self, mut chore: Chore) {
        // The zeros may be more than all that was written since the last look.
        self.look();
        // With others waiting, a segment's first zeros must do; its writer
        // adds the rest as it goes.
        let zeros =
            if self.inbox.is_empty() { chore.zeros } else { chore.zeros.min(ZERO_WINDOW_BYTES) };
        let zeros = self.space.spare(zeros);
        let disk = self.disk.as_ref();
        // A disk that panics must not take the other shards' syncs with it.
        let prepared = contain(|| {
            let spare = chore.spares.take(disk, chore.number);
            spare.map_or_else(|| prepare(disk, &chore.dir, chore.number, zeros), Ok)
        });
        if matches!(&prepared, Some(Err(error)) if means_full(error)) {
            contain(|| self.give_up_spares(true));
        }
        chore.answer(prepared.unwrap_or_else(|| Err(io::Error::other("the disk has panicked"))));
    }

    fn tick(&mut self, now: Instant) {
        for (lane, idle) in &mut self.lanes {
            let progress = &lane.progress;
            if self.sync && progress.synced() < progress.acknowledged() {
                lane.mailbox.request_sync();
            }
            let synced = progress.synced();
            if synced != idle.synced {
                *idle = Idle { synced, since: now, sealed: false };
            } else if !idle.sealed && now - idle.since >= SEAL_AFTER {
                lane.mailbox.request_seal();
                idle.sealed = true;
            }
        }
    }
}

/// A writer's end of the lane.
struct Housekept {
    dir: PathBuf,
    spares: Spares,
    chores: Sender<Chore>,
    hand_to: Sender<io::Result<Prepared>>,
    prepared: Receiver<io::Result<Prepared>>,
}

impl SegmentSource for Housekept {
    fn request(&mut self, number: u64, zeros: u64) {
        let (dir, hand_to) = (self.dir.clone(), Some(self.hand_to.clone()));
        let spares = self.spares.clone();
        // A chore that cannot be sent answers as it is dropped.
        drop(self.chores.send(Chore { dir, number, zeros, spares, hand_to }));
    }

    fn take(&mut self, wait: bool) -> Option<io::Result<Prepared>> {
        if wait { self.prepared.recv().ok() } else { self.prepared.try_recv().ok() }
    }

    fn has_spare(&self) -> bool {
        self.spares.is_any()
    }
}
