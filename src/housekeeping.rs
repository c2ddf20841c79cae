//! The housekeeping thread: what time brings, and what must not stall a writer.
//!
//! It prepares the next segments, looks at the disk's free space, posts the
//! syncs of `Durability::Interval` and the seals of idle shards. One thread a log; crossbeam-channel between
//! it and the writers, whose lanes are ordinary ones.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::directory::Lock;
use crate::error::means_full;
use crate::foreign::contain;
use crate::lane::Lane;
use crate::recovery::Folder;
use crate::segment_writer::{Catalogue, Prepared, SegmentSource, ZERO_WINDOW_BYTES, prepare};
use crate::space::Space;
use crate::sync::channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use crate::sync::{Arc, JoinHandle, now, spawn};

/// How long a shard must have been idle to be sealed.
const SEAL_AFTER: Duration = Duration::from_secs(1);
/// How often the disk's free space is looked at where something hangs on it,
/// and else.
const LOOK_EACH: Duration = Duration::from_millis(100);
const LOOK_EACH_FOR_FIGURES: Duration = Duration::from_secs(1);
/// How often each shard's folder and active segment are checked to be in their
/// place. A removed one is to be noticed within a second.
const CHECK_NAMES_EACH: Duration = Duration::from_millis(500);

/// A segment to prepare, and where to hand it.
struct Chore {
    /// The shard's.
    folder: Folder,
    number: u64,
    zeros: u64,
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
    pub(crate) fn source(&self, folder: Folder) -> Box<dyn SegmentSource> {
        let (hand_to, prepared) = bounded(1);
        Box::new(Housekept { folder, chores: self.chores.clone(), hand_to, prepared })
    }

    /// Starts the thread, which serves until every source is gone, and keeps the
    /// directory locked for as long.
    pub(crate) fn start(
        self,
        space: Arc<Space>,
        lock: Lock,
        shards: Vec<(Folder, Arc<Lane>, Catalogue)>,
        interval: Option<Duration>,
    ) -> io::Result<JoinHandle<()>> {
        let Self { chores, inbox } = self;
        drop(chores);
        let tick = interval.unwrap_or(SEAL_AFTER).min(SEAL_AFTER);
        let since = now();
        let idle = Idle { synced: 0, since, sealed: true };
        let kept = |(folder, lane, catalogue)| Kept { folder, lane, catalogue, idle };
        let shards = shards.into_iter().map(kept).collect();
        let keeper = Keeper { inbox, space, sync: interval.is_some(), tick, shards };
        spawn("shardwal-housekeeping".into(), move || {
            keeper.serve();
            drop(lock);
        })
    }
}

struct Keeper {
    inbox: Receiver<Chore>,
    space: Arc<Space>,
    sync: bool,
    tick: Duration,
    shards: Vec<Kept>,
}

/// What the thread knows of a shard.
struct Kept {
    folder: Folder,
    lane: Arc<Lane>,
    catalogue: Catalogue,
    idle: Idle,
}

impl Kept {
    /// Condemns a shard whose folder or active segment is gone: what is written
    /// there goes with its last descriptor.
    fn check_names(&self) {
        if self.lane.is_condemned() {
            return;
        }
        let Folder { disk, dir, .. } = &self.folder;
        let active = self.catalogue.lock().last().copied();
        let active = active.filter(|meta| meta.next_sequence.is_none());
        let is_gone = |path: &Path| match disk.links(path) {
            Ok(links) => links == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let path = [Some(dir.clone()), active.map(|meta| self.folder.path(meta.number))];
        if let Some(path) = path.into_iter().flatten().find(|path| is_gone(path)) {
            let what = format!(
                "{} was removed or renamed while the log was open; put it back, or open a new log",
                path.display()
            );
            self.lane.condemn(io::Error::new(io::ErrorKind::NotFound, what));
        }
    }
}

/// Since when a shard has not synced anything new.
#[derive(Clone, Copy)]
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
        let mut next_check = now() + CHECK_NAMES_EACH;
        loop {
            match self.inbox.recv_deadline(next_tick.min(next_look).min(next_check)) {
                Ok(chore) => self.prepare(chore),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = now();
            if now >= next_look {
                self.look();
                next_look = now + look_each;
            }
            if now >= next_check {
                contain(|| self.shards.iter().for_each(Kept::check_names));
                next_check = now + CHECK_NAMES_EACH;
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
            self.give_up_spares(self.shards.iter().any(|shard| shard.lane.progress.is_disk_full()));
        });
    }

    /// Room is for records: what is kept for speed goes where it is scarce.
    fn give_up_spares(&self, full: bool) {
        self.shards.iter().for_each(|shard| shard.folder.spares.give_up_if_scarce(full));
    }

    fn prepare(&self, mut chore: Chore) {
        // The zeros may be more than all that was written since the last look.
        self.look();
        // With others waiting, a segment's first zeros must do; its writer
        // adds the rest as it goes.
        let zeros =
            if self.inbox.is_empty() { chore.zeros } else { chore.zeros.min(ZERO_WINDOW_BYTES) };
        let zeros = self.space.spare(zeros);
        let Folder { disk, dir, spares, .. } = &chore.folder;
        // A disk that panics must not take the other shards' syncs with it.
        let prepared = contain(|| {
            let spare = spares.take(chore.number);
            spare.map_or_else(|| prepare(disk.as_ref(), dir, chore.number, zeros), Ok)
        });
        if matches!(&prepared, Some(Err(error)) if means_full(error)) {
            contain(|| self.give_up_spares(true));
        }
        chore.answer(prepared.unwrap_or_else(|| Err(io::Error::other("the disk has panicked"))));
    }

    fn tick(&mut self, now: Instant) {
        for Kept { lane, idle, .. } in &mut self.shards {
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
    folder: Folder,
    chores: Sender<Chore>,
    hand_to: Sender<io::Result<Prepared>>,
    prepared: Receiver<io::Result<Prepared>>,
}

impl SegmentSource for Housekept {
    fn request(&mut self, number: u64, zeros: u64) {
        let (folder, hand_to) = (self.folder.clone(), Some(self.hand_to.clone()));
        // A chore that cannot be sent answers as it is dropped.
        drop(self.chores.send(Chore { folder, number, zeros, hand_to }));
    }

    fn take(&mut self, wait: bool) -> Option<io::Result<Prepared>> {
        if wait { self.prepared.recv().ok() } else { self.prepared.try_recv().ok() }
    }

    fn has_spare(&self) -> bool {
        self.folder.spares.is_any()
    }

    fn is_room_low(&self) -> bool {
        self.folder.spares.is_room_low()
    }
}
