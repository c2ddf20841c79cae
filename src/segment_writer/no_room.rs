//! What becomes of a commit that finds no room: nothing of it may ever be read.
//!
//! To cut it off is the usual way. A file system that copies on write, or whose
//! file shares its blocks with a copy, needs room even for that. There the first
//! frame's header is blank instead, so that every reader stops before the commit,
//! and the bytes behind it go before the next commit is written.

use std::io;

use super::{SegmentWriter, WriteError};
use crate::disk::{read_full, write_full};
use crate::error::{is_passing, means_full};
use crate::frame::FRAME_HEADER_BYTES;

/// Whether a commit that failed so can be taken back and tried again.
pub(super) fn may_be_taken_back(error: &io::Error) -> bool {
    means_full(error) || is_passing(error)
}

impl SegmentWriter {
    /// Takes a commit back after a failed write. `touched` says whether something
    /// of it may stand behind the position.
    pub(super) fn take_back(&mut self, error: io::Error, touched: bool) -> WriteError {
        if !may_be_taken_back(&error) {
            return WriteError::Fatal(error);
        }
        if !touched {
            return WriteError::NotWritten(error);
        }
        // With its header last nothing of it can be read: there is no header.
        if self.policy.header_last {
            self.leave_remains();
            return WriteError::NotWritten(error);
        }
        let taken_back = match self.file.set_len(self.position) {
            Ok(()) => self.settle_cut(),
            Err(cut) if may_be_taken_back(&cut) => self.blank_header(),
            Err(cut) => Err(cut),
        };
        match taken_back {
            Ok(()) => WriteError::NotWritten(error),
            Err(fatal) => WriteError::Fatal(fatal),
        }
    }

    /// Cuts off what a commit that found no room has left. The next commit's bytes
    /// must not meet them: both were written for this segment and these offsets, so
    /// a frame of the refused commit could follow one of the next.
    pub(super) fn cut_remains(&mut self) -> Result<(), WriteError> {
        if !self.has_remains {
            return Ok(());
        }
        match self.file.set_len(self.position) {
            Ok(()) => self.settle_cut().map_err(WriteError::Fatal),
            Err(error) if may_be_taken_back(&error) => Err(WriteError::NotWritten(error)),
            Err(error) => Err(WriteError::Fatal(error)),
        }
    }

    /// Makes a cut durable: a power loss must not bring the bytes back.
    fn settle_cut(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        (self.zeroed, self.stale_end, self.direct) = (self.position, 0, None);
        (self.dirty, self.has_remains) = (false, false);
        Ok(())
    }

    /// Makes the first frame's header blank, durably. Where it was written, its
    /// block is the file's own by now, so that this needs no room.
    fn blank_header(&mut self) -> io::Result<()> {
        let mut found = [0; FRAME_HEADER_BYTES];
        read_full(self.file.as_ref(), &mut found, self.position)?;
        if found != [0; FRAME_HEADER_BYTES] {
            write_full(self.file.as_mut(), &[0; FRAME_HEADER_BYTES], self.position)?;
            self.file.sync_data()?;
        }
        self.leave_remains();
        Ok(())
    }

    /// The next commit is begun before what is left is cut off, so that it must not
    /// repeat the block that it begins in.
    fn leave_remains(&mut self) {
        (self.has_remains, self.direct) = (true, None);
    }
}
