//! Takes back a commit that found no room: no reader may ever read any part of it.
//!
//! The usual way is to cut it off. On a copy-on-write file system, or for a file that
//! shares its blocks with a copy, even a cut needs room. Then the header of the
//! commit's first frame is made blank instead, so that every reader stops before the
//! commit. The next commit cuts off the remaining bytes before it writes its own.

use std::io;

use super::{ActiveSegment, SegmentPolicy, WriteError};
use crate::error::{is_passing, means_full};
use crate::fs::{read_full, write_full};
use crate::segment::frame::FRAME_HEADER_BYTES;

/// Whether a commit that failed with `error` can be taken back and tried again.
pub(super) fn may_be_undone(error: &io::Error) -> bool {
    means_full(error) || is_passing(error)
}

impl ActiveSegment {
    /// Takes a commit back after a failed write. `touched` says whether bytes of it may
    /// follow the position.
    ///
    /// Returns `Fatal` if `error` is of another kind, or if the commit could not be
    /// taken back.
    pub(super) fn undo(
        &mut self,
        policy: &SegmentPolicy,
        error: io::Error,
        touched: bool,
    ) -> WriteError {
        if !may_be_undone(&error) {
            return WriteError::Fatal(error);
        }
        if !touched {
            return WriteError::NotWritten(error);
        }
        // The header is written last. Without it, the bytes are not a frame.
        if policy.header_last {
            self.leave_remains();
            return WriteError::NotWritten(error);
        }
        let undone = match self.file.set_len(self.position) {
            Ok(()) => self.sync_cut(),
            Err(cut) if may_be_undone(&cut) => self.blank_header(),
            Err(cut) => Err(cut),
        };
        match undone {
            Ok(()) => WriteError::NotWritten(error),
            Err(fatal) => WriteError::Fatal(fatal),
        }
    }

    /// Cuts off the bytes that a refused commit left. The bytes of the next commit must
    /// not meet them: both were written for this segment and these offsets, so a frame
    /// of the refused commit could follow one of the next.
    pub(super) fn cut_remains(&mut self) -> Result<(), WriteError> {
        if !self.has_remains {
            return Ok(());
        }
        match self.file.set_len(self.position) {
            Ok(()) => self.sync_cut().map_err(WriteError::Fatal),
            Err(error) if may_be_undone(&error) => Err(WriteError::NotWritten(error)),
            Err(error) => Err(WriteError::Fatal(error)),
        }
    }

    /// Makes a cut durable. A power loss must not bring the bytes back.
    fn sync_cut(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        (self.zeroed, self.stale_end, self.direct) = (self.position, 0, None);
        (self.dirty, self.has_remains) = (false, false);
        Ok(())
    }

    /// Makes the first frame's header blank, durably. If the header was written, its
    /// block belongs to this file alone, so the overwrite needs no room.
    fn blank_header(&mut self) -> io::Result<()> {
        let mut header = [0; FRAME_HEADER_BYTES];
        read_full(self.file.as_ref(), &mut header, self.position)?;
        if header != [0; FRAME_HEADER_BYTES] {
            write_full(self.file.as_mut(), &[0; FRAME_HEADER_BYTES], self.position)?;
            self.file.sync_data()?;
        }
        self.leave_remains();
        Ok(())
    }

    /// Keeps the refused bytes until the next commit cuts them off. That commit is
    /// begun before the cut, so it must not repeat the bytes of its first block.
    fn leave_remains(&mut self) {
        (self.has_remains, self.direct) = (true, None);
    }
}
