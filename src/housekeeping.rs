//! The housekeeping threads: what time brings, and what must not stall a writer.
//!
//! Four threads per log, so that none waits for what another does. The **time keeper**
//! posts the syncs of `Durability::Interval` and the seals of idle shards, and makes
//! no call to the disk. The **preparer** makes the next segments and looks at the
//! disk's free space. The **watcher** checks that folders and segments are in their
//! place. The **sealer** settles full segments. crossbeam-channel between them and the
//! writers, whose lanes are ordinary ones.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::directory::Lock;
use crate::error::means_full;
use crate::foreign::contain;
use crate::lane::Lane;
use crate::recovery::Folder;
use crate::sealer::{SealLane, SealLanes, Sealer, sealer};
use crate::segment_writer::{
    Catalogue, Prepared, SealMark, Sealed, SegmentSource, ZERO_WINDOW_BYTES, prepare,
};
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
        self.answer(Err(io::Error::other("the preparer has gone")));
    }
}

/// The threads and the lanes to them.
pub(crate) struct Housekeeping {
    chores: Sender<Chore>,
    inbox: Receiver<Chore>,
    seal_lanes: SealLanes,
    sealer: Sealer,
    /// Nothing is sent: the time keeper ends when the senders have gone.
    alive: Sender<()>,
    ended: Receiver<()>,
    /// The same for the watcher.
    watched: Sender<()>,
    unwatched: Receiver<()>,
}

impl Housekeeping {
    pub(crate) fn new() -> Self {
        let ((chores, inbox), (alive, ended)) = (unbounded(), unbounded());
        let ((watched, unwatched), (seal_lanes, sealer)) = (unbounded(), sealer());
        Self { chores, inbox, seal_lanes, sealer, alive, ended, watched, unwatched }
    }

    /// The source of the segments of a shard. The threads end when all sources have
    /// been dropped.
    pub(crate) fn source(&self, shard: usize, folder: Folder) -> Box<dyn SegmentSource> {
        let (hand_to, prepared) = bounded(1);
        Box::new(Housekept {
            chores: self.chores.clone(),
            hand_to,
            prepared,
            seals: self.seal_lanes.lane(shard, folder.spares.clone()),
            _alive: (self.alive.clone(), self.watched.clone()),
            folder,
        })
    }

    /// Starts the threads, which serve until every source is gone, and keep the
    /// directory locked for as long. The one that is returned ends last.
    pub(crate) fn start(
        self,
        space: Arc<Space>,
        lock: Lock,
        shards: Vec<(Folder, Arc<Lane>, Catalogue)>,
        interval: Option<Duration>,
    ) -> io::Result<JoinHandle<()>> {
        let Self { chores, inbox, seal_lanes, sealer, alive, ended, watched, unwatched } = self;
        drop((chores, seal_lanes, alive, watched));
        let lanes: Vec<_> = shards.iter().map(|(_, lane, _)| lane.clone()).collect();
        let sealed = lanes.clone();
        let sealer = spawn("shardwal-sealer".into(), move || sealer.serve(&sealed))?;
        let kept = |(folder, lane, catalogue)| Kept { folder, lane, catalogue };
        let shards: Vec<_> = shards.into_iter().map(kept).collect();
        let watched = shards.clone();
        let watcher = spawn("shardwal-watcher".into(), move || watch(&unwatched, &watched))?;
        let preparer = Preparer { inbox, space, shards };
        let preparer = spawn("shardwal-preparer".into(), move || preparer.serve())?;
        let tick = interval.unwrap_or(SEAL_AFTER).min(SEAL_AFTER);
        let since = now();
        let idle = |lane| (lane, Idle { synced: 0, since, sealed: true });
        let lanes = lanes.into_iter().map(idle).collect();
        let keeper = Keeper { ended, sync: interval.is_some(), tick, lanes };
        spawn("shardwal-housekeeping".into(), move || {
            keeper.serve();
            // They have no result, and a panic there is caught there.
            drop((preparer.join(), sealer.join(), watcher.join()));
            drop(lock);
        })
    }
}

/// The thread that makes segments and looks at the disk.
struct Preparer {
    inbox: Receiver<Chore>,
    space: Arc<Space>,
    shards: Vec<Kept>,
}

/// Checks each shard's names until `ended` says that the sources have gone. A disk
/// that panics here must not end the checks of the other shards.
fn watch(ended: &Receiver<()>, shards: &[Kept]) {
    while let Err(RecvTimeoutError::Timeout) = ended.recv_deadline(now() + CHECK_NAMES_EACH) {
        for shard in shards {
            contain(|| shard.check_names());
        }
    }
}

/// What a thread knows of a shard.
#[derive(Clone)]
struct Kept {
    folder: Folder,
    lane: Arc<Lane>,
    catalogue: Catalogue,
}

impl Kept {
    /// The number of the segment that is written to, if there is one.
    fn active_segment(&self) -> Option<u64> {
        let catalogue = self.catalogue.lock();
        let last = catalogue.last().filter(|meta| meta.next_sequence.is_none());
        last.map(|meta| meta.number)
    }

    /// Condemns a shard whose folder or active segment is gone: what is written
    /// there goes with its last descriptor.
    fn check_names(&self) {
        if self.lane.is_condemned() {
            return;
        }
        let Folder { disk, dir, .. } = &self.folder;
        let active = self.active_segment();
        let is_gone = |path: &Path| match disk.links(path) {
            Ok(links) => links == 0,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let path = [Some(dir.clone()), active.map(|number| self.folder.path(number))];
        let gone = path.into_iter().flatten().find(|path| is_gone(path));
        // One that is not written to any more may have been truncated meanwhile.
        if let Some(path) = gone.filter(|path| path == dir || self.active_segment() == active) {
            let what = format!(
                "{} was removed or renamed while the log was open; put it back, or open a new log",
                path.display()
            );
            self.lane.condemn(io::Error::new(io::ErrorKind::NotFound, what));
        }
    }
}

impl Preparer {
    fn serve(self) {
        let look_each = if self.space.is_watched() { LOOK_EACH } else { LOOK_EACH_FOR_FIGURES };
        let mut next_look = now() + look_each;
        loop {
            match self.inbox.recv_deadline(next_look) {
                Ok(chore) => self.prepare(chore),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = now();
            if now >= next_look {
                self.look();
                next_look = now + look_each;
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
        // A disk that panics must not take the other shards' segments with it.
        let prepared = contain(|| {
            let spare = spares.take(chore.number);
            spare.map_or_else(|| prepare(disk.as_ref(), dir, chore.number, zeros), Ok)
        });
        if matches!(&prepared, Some(Err(error)) if means_full(error)) {
            contain(|| self.give_up_spares(true));
        }
        chore.answer(prepared.unwrap_or_else(|| Err(io::Error::other("the disk has panicked"))));
    }
}

/// The thread that keeps time. It makes no call to the disk.
struct Keeper {
    ended: Receiver<()>,
    sync: bool,
    tick: Duration,
    lanes: Vec<(Arc<Lane>, Idle)>,
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
    folder: Folder,
    chores: Sender<Chore>,
    hand_to: Sender<io::Result<Prepared>>,
    prepared: Receiver<io::Result<Prepared>>,
    seals: SealLane,
    _alive: (Sender<()>, Sender<()>),
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
