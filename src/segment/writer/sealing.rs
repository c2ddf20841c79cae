//! Hands full segments to the sealer thread, which syncs them and cuts their tails. So
//! no commit waits for the sync of an earlier segment.

use std::io;

use super::{SegmentWriter, Wait};
use crate::fs::FileHandle;

/// Number of full segments in the whole log that may wait for the sealer. Each holds a
/// file descriptor. At the limit, a shard keeps writing to its full segment. At twice
/// the segment size it waits for the sealer.
pub(crate) const SEALED_SEGMENTS_MAX: usize = 64;

/// A full segment. No thread writes records to it any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) file: Box<dyn FileHandle>,
    /// Offset of the end of its last frame.
    pub(crate) end: u64,
    /// What the sync of this file makes durable; `None` if the file is synced already.
    pub(crate) mark: Option<SealMark>,
}

/// The records that are durable once a full segment and all segments before it are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SealMark {
    /// The segment's number.
    number: u64,
    /// The sequence after the last record in it.
    pub(crate) next_sequence: u64,
    /// Every sequence below this one is in this segment, in an earlier one, or was
    /// refused.
    pub(crate) reach: u64,
}

impl Sealed {
    /// Syncs the file if it is not synced, and cuts its tail. Blocks for the sync.
    pub(crate) fn sync_and_cut(&mut self) -> io::Result<()> {
        if self.mark.is_some() {
            self.file.sync_data()?;
        }
        cut_tail(self.file.as_mut(), self.end);
        Ok(())
    }
}

/// Cuts a file behind its last frame. The tail is zeros, or bytes of an earlier
/// segment. Errors are ignored: only disk usage depends on the cut, and copies made by
/// file size.
pub(crate) fn cut_tail(file: &mut dyn FileHandle, end: u64) {
    if file.len().is_ok_and(|length| length > end) {
        cut_unless_linked(file, end);
    }
}

/// Cuts a file to `length` bytes. Returns whether it did. **A file with a hard link is left
/// as it is**: the link may be a backup's.
pub(crate) fn cut_unless_linked(file: &mut dyn FileHandle, length: u64) -> bool {
    file.is_hard_linked().is_ok_and(|others| !others) && file.set_len(length).is_ok()
}

impl SegmentWriter {
    /// Hands the full segment over to the sealer, and makes `next` the active file.
    /// Returns `next` if the sealer takes no more segments. `reach` is the sequence of
    /// the next record.
    pub(super) fn seal(
        &mut self,
        next: Box<dyn FileHandle>,
        wait: Wait,
        reach: u64,
    ) -> Result<(), Box<dyn FileHandle>> {
        let file = std::mem::replace(&mut self.active.file, next);
        let (number, next_sequence) = (self.active.identity.number, self.active.next_sequence);
        let mark = self.active.dirty.then_some(SealMark { number, next_sequence, reach });
        let has_tail = self.active.zeroed.max(self.active.stale_end) > self.active.position
            || self.active.has_remains;
        if mark.is_none() && !has_tail {
            return Ok(());
        }
        let sealed = Sealed { file, end: self.active.position, mark };
        match self.rolling.source.seal(sealed, wait == Wait::Yes) {
            Ok(()) => {
                self.rolling.sealing += usize::from(mark.is_some());
                Ok(())
            }
            Err(sealed) => Err(std::mem::replace(&mut self.active.file, sealed.file)),
        }
    }

    /// The newest mark that the sealer has made durable since the last call. Does not
    /// block.
    pub(crate) fn take_sealed(&mut self) -> io::Result<Option<SealMark>> {
        let mut last = None;
        while self.rolling.sealing > 0 {
            let Some(synced) = self.rolling.source.sealed(false) else { break };
            last = Some(self.enter_sealed(synced?));
        }
        Ok(last)
    }

    /// Blocks until the sealer has synced every segment of this shard.
    pub(super) fn wait_for_sealed(&mut self) -> io::Result<()> {
        while self.rolling.sealing > 0 {
            let gone = || {
                Err(io::Error::other(
                    "the sealer thread has ended; close the log and open it again",
                ))
            };
            let synced = self.rolling.source.sealed(true).unwrap_or_else(gone);
            self.enter_sealed(synced?);
        }
        Ok(())
    }

    fn enter_sealed(&mut self, mark: SealMark) -> SealMark {
        self.rolling.sealing -= 1;
        let mut catalogue = self.catalogue.lock();
        let synced = catalogue.iter_mut().filter(|meta| meta.number <= mark.number);
        synced.for_each(|meta| meta.durable = true);
        mark
    }

    /// Cuts the tail of the active segment. The shard must be closed and synced.
    pub(crate) fn cut_tail(&mut self) {
        cut_tail(self.active.file.as_mut(), self.active.position);
    }

    /// W2 STICKY: the shard has failed. Its full segments are not synced any more.
    pub(crate) fn abandon(&mut self) {
        self.rolling.source.abandon();
    }
}
