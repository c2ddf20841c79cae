//! Segments that are full: what is left to do to their files. The log's sealer does
//! it, a thread of its own, so that no commit waits for the sync of another segment.

use std::io;

use super::{SegmentWriter, Wait};
use crate::disk::DiskFile;

/// So many full segments may wait to be synced and cut, in the whole log. Each holds
/// a file descriptor. Where they wait already, a shard goes on in the segment that
/// it has, and at twice its size waits for the sealer.
pub(crate) const SEALED_SEGMENTS_MAX: usize = 64;

/// A segment that nobody writes to any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) file: Box<dyn DiskFile>,
    /// Where its last frame ends.
    pub(crate) end: u64,
    /// What holds once the file is synced; `None` where it is.
    pub(crate) mark: Option<SealMark>,
}

/// What holds once a full segment of a shard is on stable storage, and all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealMark {
    /// The segment's number.
    number: u64,
    /// The sequence after the last record in it.
    pub(crate) next_sequence: u64,
    /// Sequences below are in it, or before it, or were refused.
    pub(crate) reach: u64,
}

impl Sealed {
    /// Syncs the file where it is not synced, and cuts its tail.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        if self.mark.is_some() {
            self.file.sync_data()?;
        }
        cut_tail(self.file.as_mut(), self.end);
        Ok(())
    }
}

/// Cuts what stands in a file behind its last frame: zeros, or bytes of an earlier
/// segment. Nothing depends on it but the room, and copies that go by a file's size,
/// so that an error is no matter. **A file with another name is left as it is**: it
/// may be a backup's.
pub(crate) fn cut_tail(file: &mut dyn DiskFile, end: u64) {
    let has_tail = file.len().is_ok_and(|length| length > end);
    if has_tail && file.has_other_names().is_ok_and(|others| !others) {
        drop(file.set_len(end));
    }
}

impl SegmentWriter {
    /// Hands the segment that is full over to the sealer, and takes `next` as the
    /// file to go on in; gives it back where the sealer takes no more.
    pub(super) fn seal(
        &mut self,
        next: Box<dyn DiskFile>,
        wait: Wait,
        reach: u64,
    ) -> Result<(), Box<dyn DiskFile>> {
        let file = std::mem::replace(&mut self.file, next);
        let (number, next_sequence) = (self.identity.number, self.next_sequence);
        let mark = self.dirty.then_some(SealMark { number, next_sequence, reach });
        let has_tail = self.zeroed.max(self.stale_end) > self.position || self.has_remains;
        if mark.is_none() && !has_tail {
            return Ok(());
        }
        let sealed = Sealed { file, end: self.position, mark };
        match self.source.seal(sealed, wait == Wait::Yes) {
            Ok(()) => {
                self.sealing += usize::from(mark.is_some());
                Ok(())
            }
            Err(sealed) => Err(std::mem::replace(&mut self.file, sealed.file)),
        }
    }

    /// What the sealer has made durable since it was asked last.
    pub(crate) fn take_sealed(&mut self) -> io::Result<Option<SealMark>> {
        let mut last = None;
        while self.sealing > 0 {
            let Some(synced) = self.source.sealed(false) else { break };
            last = Some(self.enter_sealed(synced?));
        }
        Ok(last)
    }

    /// Waits until the sealer has synced all that it was given.
    pub(super) fn wait_for_sealed(&mut self) -> io::Result<()> {
        while self.sealing > 0 {
            let gone = || Err(io::Error::other("the sealer has gone"));
            let synced = self.source.sealed(true).unwrap_or_else(gone);
            self.enter_sealed(synced?);
        }
        Ok(())
    }

    fn enter_sealed(&mut self, mark: SealMark) -> SealMark {
        self.sealing -= 1;
        let mut catalogue = self.catalogue.lock();
        let synced = catalogue.iter_mut().filter(|meta| meta.number <= mark.number);
        synced.for_each(|meta| meta.durable = true);
        mark
    }

    /// The shard is closed, and all in it is synced: cuts the tail of its last segment.
    pub(crate) fn cut_tail(&mut self) {
        cut_tail(self.file.as_mut(), self.position);
    }

    /// W2 STICKY: the shard has failed. What it has sealed is not synced any more.
    pub(crate) fn abandon(&mut self) {
        self.source.abandon();
    }
}
