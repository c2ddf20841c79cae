//! The sealer: the thread that syncs full segments and cuts their tails, so that no
//! writer waits for either.
//!
//! It takes each shard's segments in order. It knows files and marks. It does not know
//! records. After a failed sync it leaves all later segments of that shard as they are.

use std::io;

use crate::commit::committer::Committer;
use crate::segment::writer::{SEALED_SEGMENTS_MAX, SealMark, Sealed};
use crate::space::recycle::{RecycleHold, Recycler};
use crate::util::catch_panic::catch_panic;
use crate::util::sync::channel::{Receiver, Sender, bounded, unbounded};
use crate::util::sync::{Arc, AtomicBool, Ordering};

/// A full segment, and the channel for the answer.
struct SealRequest {
    /// `None` once it was synced and cut, or returned.
    sealed: Option<Sealed>,
    mark: Option<SealMark>,
    shard: usize,
    /// The flag of the shard's [`SealQueue`].
    has_failed: Arc<AtomicBool>,
    /// While this exists, the shard recycles no truncated file. Else the cut of a tail
    /// could hit the next segment.
    _hold: RecycleHold,
    /// Taken by the answer. A request that is dropped without one answers with an error,
    /// so that no writer waits forever.
    reply: Option<Sender<io::Result<SealMark>>>,
}

impl SealRequest {
    /// W2 STICKY: syncs no segment of a shard that has failed.
    fn sync_and_cut(&mut self) -> io::Result<()> {
        // ORDERING: Relaxed on both; this thread itself has stored what it must see.
        if self.has_failed.load(Ordering::Relaxed) {
            return Err(io::Error::other(
                "the sync of an earlier segment of the shard failed; open the log again",
            ));
        }
        // A file system that panics must not stop the sealing of other shards.
        let result =
            catch_panic(|| self.sealed.take().map_or(Ok(()), |mut sealed| sealed.sync_and_cut()));
        let result = result.unwrap_or_else(|| {
            Err(io::Error::other(
                "the file system panicked during the sync of a segment; open the log again",
            ))
        });
        if result.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn answer(&mut self, result: io::Result<()>) {
        // No writer waits for a segment that only has its tail cut.
        if let (Some(reply), Some(mark)) = (self.reply.take(), self.mark) {
            // A writer that has ended needs no answer.
            drop(reply.send(result.map(|()| mark)));
        }
    }

    fn into_sealed(mut self) -> Option<Sealed> {
        self.reply = None;
        self.sealed.take()
    }
}

impl Drop for SealRequest {
    fn drop(&mut self) {
        self.answer(Err(io::Error::other(
            "the sealer thread has ended; close the log and open it again",
        )));
    }
}

/// The sealer's end of the channel of full segments.
pub(crate) struct Sealer {
    inbox: Receiver<SealRequest>,
}

/// Makes the writers' ends.
pub(crate) struct SealQueues {
    requests: Sender<SealRequest>,
}

/// One writer's end.
pub(crate) struct SealQueue {
    shard: usize,
    recycler: Recycler,
    requests: Sender<SealRequest>,
    /// Whether the shard has failed. The sealer sets it after a failed sync, and the
    /// writer sets it when it fails. The sealer reads it before it syncs a segment.
    /// Relaxed.
    has_failed: Arc<AtomicBool>,
    replies: (Sender<io::Result<SealMark>>, Receiver<io::Result<SealMark>>),
}

/// A sealer, and the factory of the writers' ends.
pub(crate) fn sealer() -> (SealQueues, Sealer) {
    // The sealer works on one more.
    let (requests, inbox) = bounded(SEALED_SEGMENTS_MAX - 1);
    (SealQueues { requests }, Sealer { inbox })
}

impl SealQueues {
    /// The end of the channel for one shard's writer.
    pub(crate) fn queue(&self, shard: usize, recycler: Recycler) -> SealQueue {
        let replies = unbounded();
        let has_failed = Arc::new(AtomicBool::new(false));
        SealQueue { shard, recycler, requests: self.requests.clone(), has_failed, replies }
    }
}

impl SealQueue {
    /// Hands a segment over. If too many segments wait, blocks if `wait` is true, and
    /// else returns the segment.
    pub(crate) fn seal(&self, sealed: Sealed, wait: bool) -> Result<(), Sealed> {
        let request = SealRequest {
            mark: sealed.mark,
            sealed: Some(sealed),
            shard: self.shard,
            has_failed: self.has_failed.clone(),
            _hold: self.recycler.hold(),
            reply: Some(self.replies.0.clone()),
        };
        if wait {
            // A request that cannot be sent answers in its `drop`.
            drop(self.requests.send(request));
            return Ok(());
        }
        match self.requests.try_send(request) {
            Ok(()) => Ok(()),
            Err(refused) => refused.into_inner().into_sealed().map_or(Ok(()), Err),
        }
    }

    /// The answer for the oldest segment that was handed over with a mark. `None` if
    /// there is no answer yet and `wait` is false. Blocks if `wait` is true.
    pub(crate) fn sealed(&self, wait: bool) -> Option<io::Result<SealMark>> {
        if wait { self.replies.1.recv().ok() } else { self.replies.1.try_recv().ok() }
    }

    /// W2 STICKY: the shard has failed. Its waiting segments are left as they are.
    pub(crate) fn abandon(&self) {
        // ORDERING: Relaxed; a hint. The sealer may have begun the next segment
        // already.
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

impl Sealer {
    /// Syncs and cuts segments until every writer has ended. `committers` are the shards'
    /// committers, in shard order.
    pub(crate) fn serve(self, committers: &[Arc<Committer>]) {
        while let Ok(mut request) = self.inbox.recv() {
            let is_waited_for = request.mark.is_some();
            let result = request.sync_and_cut();
            let failed = result.as_ref().err().map(copy_of);
            request.answer(result);
            let Some(committer) = committers.get(request.shard).filter(|_| is_waited_for) else {
                continue;
            };
            match failed {
                // An idle writer then writes a seal with the mark.
                None => committer.queue.request_seal(),
                // A busy writer then acknowledges no further record.
                Some(error) => committer.request_fail(error),
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
