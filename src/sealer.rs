//! The sealer: the thread that settles full segments, so that no writer waits for the
//! sync of one, nor for the cut of its tail.
//!
//! It takes the segments of a shard in their order. It knows files and marks; it does
//! not know records. After a failed sync it settles nothing more of that shard.

use std::io;

use crate::foreign::contain;
use crate::lane::Lane;
use crate::segment_writer::{SEALED_SEGMENTS_MAX, SealMark, Sealed};
use crate::spares::{SpareHold, Spares};
use crate::sync::channel::{Receiver, Sender, bounded, unbounded};
use crate::sync::{Arc, AtomicBool, Ordering};

/// A full segment, and whom to tell once it is settled.
struct Chore {
    /// `None` once it was settled or given back.
    sealed: Option<Sealed>,
    mark: Option<SealMark>,
    shard: usize,
    /// The lane's.
    has_failed: Arc<AtomicBool>,
    /// While it lives the shard keeps no truncated file for a later segment: the
    /// cut of a tail would hit that segment.
    _hold: SpareHold,
    /// Taken by the answer; a chore that is dropped without one answers that nobody
    /// will settle it, so that no writer waits for ever.
    tell: Option<Sender<io::Result<SealMark>>>,
}

impl Chore {
    /// W2 STICKY: nothing of a shard is settled once it has failed.
    fn settle(&mut self) -> io::Result<()> {
        // ORDERING: Relaxed on both; this thread has stored what it must see itself.
        if self.has_failed.load(Ordering::Relaxed) {
            return Err(io::Error::other("an earlier segment of the shard was not synced"));
        }
        // A disk that panics must not take the other shards' segments with it.
        let settled = contain(|| self.sealed.take().map_or(Ok(()), |mut sealed| sealed.settle()));
        let settled = settled.unwrap_or_else(|| Err(io::Error::other("the disk has panicked")));
        if settled.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        settled
    }

    fn answer(&mut self, settled: io::Result<()>) {
        // One who only has its tail cut waits for no answer.
        if let (Some(tell), Some(mark)) = (self.tell.take(), self.mark) {
            // A writer that has gone needs none.
            drop(tell.send(settled.map(|()| mark)));
        }
    }

    fn give_back(mut self) -> Option<Sealed> {
        self.tell = None;
        self.sealed.take()
    }
}

impl Drop for Chore {
    fn drop(&mut self) {
        self.answer(Err(io::Error::other("the sealer has gone")));
    }
}

/// The thread's end of the lane that full segments come by.
pub(crate) struct Sealer {
    inbox: Receiver<Chore>,
}

/// What makes the writers' ends.
pub(crate) struct SealLanes {
    chores: Sender<Chore>,
}

/// A writer's end.
pub(crate) struct SealLane {
    shard: usize,
    spares: Spares,
    chores: Sender<Chore>,
    /// Whether the shard has failed. The sealer stores it after a failed sync, the
    /// writer as it fails; the sealer reads it before it settles a segment.
    has_failed: Arc<AtomicBool>,
    tell: Sender<io::Result<SealMark>>,
    told: Receiver<io::Result<SealMark>>,
}

/// A sealer and what makes the lanes to it.
pub(crate) fn sealer() -> (SealLanes, Sealer) {
    // One more is in the sealer's hands.
    let (chores, inbox) = bounded(SEALED_SEGMENTS_MAX - 1);
    (SealLanes { chores }, Sealer { inbox })
}

impl SealLanes {
    /// The lane of a shard.
    pub(crate) fn lane(&self, shard: usize, spares: Spares) -> SealLane {
        let (tell, told) = unbounded();
        let has_failed = Arc::new(AtomicBool::new(false));
        SealLane { shard, spares, chores: self.chores.clone(), has_failed, tell, told }
    }
}

impl SealLane {
    /// Hands a segment over; gives it back where too many wait and `wait` is false.
    pub(crate) fn seal(&self, sealed: Sealed, wait: bool) -> Result<(), Sealed> {
        let chore = Chore {
            mark: sealed.mark,
            sealed: Some(sealed),
            shard: self.shard,
            has_failed: self.has_failed.clone(),
            _hold: self.spares.hold(),
            tell: Some(self.tell.clone()),
        };
        if wait {
            // A chore that cannot be sent answers as it is dropped.
            drop(self.chores.send(chore));
            return Ok(());
        }
        match self.chores.try_send(chore) {
            Ok(()) => Ok(()),
            Err(refused) => refused.into_inner().give_back().map_or(Ok(()), Err),
        }
    }

    /// The mark of the oldest segment that was handed over with one.
    pub(crate) fn sealed(&self, wait: bool) -> Option<io::Result<SealMark>> {
        if wait { self.told.recv().ok() } else { self.told.try_recv().ok() }
    }

    /// W2 STICKY: what waits to be settled is left as it is.
    pub(crate) fn abandon(&self) {
        // ORDERING: Relaxed; a hint. The sealer may be at the next one already.
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

impl Sealer {
    /// Settles segments until all lanes are gone. `lanes` are the shards'.
    pub(crate) fn serve(self, lanes: &[Arc<Lane>]) {
        while let Ok(mut chore) = self.inbox.recv() {
            let is_waited_for = chore.mark.is_some();
            let settled = chore.settle();
            let failed = settled.as_ref().err().map(copy_of);
            chore.answer(settled);
            let Some(lane) = lanes.get(chore.shard).filter(|_| is_waited_for) else { continue };
            match failed {
                // An idle writer writes the mark down.
                None => lane.mailbox.request_seal(),
                // A busy one acknowledges nothing more.
                Some(error) => lane.condemn(error),
            }
        }
    }
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
