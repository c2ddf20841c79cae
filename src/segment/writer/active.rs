//! The active segment: the file that commits are written to now.
//!
//! It knows its file and the position in it. It does not know the next segment, nor the
//! catalogue.

use std::io;

use super::direct_io::Blocks;
use super::{SegmentPolicy, WriteError};
use crate::error::means_full;
use crate::fs::{FileHandle, write_counted};
use crate::segment::aligned_buf::AlignedBuf;
use crate::segment::frame::{Encoder, FRAME_HEADER_BYTES, FrameOrigin};
use crate::segment::header::{Predecessor, SegmentHeader, SegmentIdentity};

/// Where the active segment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// There is no segment yet. The first commit rolls to one.
    Missing,
    /// Open made it, without zeros ahead. The writer leaves it as soon as the next
    /// segment is ready.
    Temporary,
    /// The writer stays in it until it is full.
    Prepared,
}

/// The segment that commits are written to now.
pub(super) struct ActiveSegment {
    pub(super) identity: SegmentIdentity,
    pub(super) predecessor: Predecessor,
    /// `None` until the first commit has written the header.
    pub(super) first_sequence: Option<u64>,
    pub(super) origin: Origin,
    pub(super) file: Box<dyn FileHandle>,
    /// Offset of the next frame. At 0 the next commit writes the header first.
    pub(super) position: u64,
    /// The file has allocated blocks up to this offset.
    pub(super) zeroed: u64,
    /// Bytes of an earlier segment may follow the commits up to this offset; 0 if there
    /// are none.
    pub(super) stale_end: u64,
    /// Writes commits past the page cache, within the zeros of the file. `None` if
    /// direct I/O is not available, or once a commit has gone beyond the zeros.
    pub(super) direct: Option<Blocks>,
    /// The sequence after the last record or seal in the segment.
    pub(super) next_sequence: u64,
    /// Whether a write of zeros found no room in this segment.
    pub(super) zeros_refused: bool,
    /// Whether bytes of a refused commit may follow the position. No reader takes them
    /// for records. The next commit cuts them off first.
    pub(super) has_remains: bool,
    /// Whether the file has unsynced bytes.
    pub(super) dirty: bool,
}

impl ActiveSegment {
    /// See [`SegmentWriter::begin`].
    pub(super) fn begin(&self, encoder: &mut Encoder, next: u64) -> FrameOrigin {
        let first_sequence = self.first_sequence.unwrap_or(next);
        let block = self.direct.as_ref().map_or(1, Blocks::block);
        if self.position == 0 {
            let (identity, predecessor) = (self.identity, self.predecessor);
            let header = SegmentHeader { identity, first_sequence, predecessor };
            encoder.begin(&header.encode(), block);
        } else {
            encoder.begin(self.begun(), block);
        }
        let offset = self.position - self.begun().len() as u64;
        FrameOrigin { seed: self.identity.seed(), first_sequence, offset }
    }

    /// The bytes before the position in its block, if commits are written as whole
    /// blocks.
    pub(super) fn begun(&self) -> &[u8] {
        self.direct.as_ref().map_or(&[], Blocks::begun)
    }

    /// See [`SegmentWriter::append`].
    pub(super) fn append(
        &mut self,
        policy: &SegmentPolicy,
        bytes: &mut AlignedBuf,
        first: u64,
        next: u64,
    ) -> Result<(), WriteError> {
        self.cut_remains()?;
        let end = self.position + (bytes.len() - self.begun().len()) as u64;
        let mut touched = false;
        if let Err(error) = self.write(policy, bytes, end, &mut touched) {
            self.dirty |= touched;
            return Err(self.undo(policy, error, touched));
        }
        self.dirty = true;
        self.position = end;
        self.zeroed = self.zeroed.max(end);
        self.next_sequence = next;
        self.first_sequence.get_or_insert(first);
        Ok(())
    }

    /// Writes the commit. On an error, `touched` says whether bytes may follow the
    /// position.
    fn write(
        &mut self,
        policy: &SegmentPolicy,
        bytes: &mut AlignedBuf,
        end: u64,
        touched: &mut bool,
    ) -> io::Result<()> {
        let (blank, begun) = (self.blank_behind(end), self.begun().len());
        if let Some(blocks) = &mut self.direct {
            let start = self.position - begun as u64;
            if start + blocks.whole(bytes.len() + blank) as u64 <= self.zeroed {
                // A failed direct write does not report how far it came.
                *touched = true;
                return blocks.write(self.file.as_mut(), bytes, blank, start);
            }
            self.direct = None;
        }
        let window = self.window_behind(policy, end);
        match self.write_with_zeros(policy, bytes, begun, blank.max(window), touched) {
            // The commit may still fit without the zeros.
            Err(error) if window > 0 && means_full(&error) => {
                self.zeros_refused = true;
                self.write_with_zeros(policy, bytes, begun, blank, touched)
            }
            written => written,
        }
    }

    /// Writes the new bytes of the commit, with zeros behind them. The first `begun`
    /// bytes are in the file already.
    fn write_with_zeros(
        &mut self,
        policy: &SegmentPolicy,
        bytes: &mut AlignedBuf,
        begun: usize,
        zeros: usize,
        touched: &mut bool,
    ) -> io::Result<()> {
        let length = bytes.len();
        bytes.resize(length + zeros);
        let new = &bytes[begun..];
        let first = if policy.header_last { FRAME_HEADER_BYTES.min(new.len()) } else { 0 };
        let (file, position) = (self.file.as_mut(), self.position);
        let written = write_counted(file, &new[first..], position + first as u64, touched)
            .and_then(|()| write_counted(file, &new[..first], position, touched));
        if written.is_ok() {
            self.zeroed = self.zeroed.max(self.position + new.len() as u64);
        }
        bytes.resize(length);
        written
    }

    /// Number of zeros that must follow a commit that ends at `end`. If bytes of an
    /// earlier segment follow it, a reader must find a blank frame header there, which
    /// ends the log. The next commit overwrites these zeros.
    fn blank_behind(&self, end: u64) -> usize {
        let stale = self.stale_end.saturating_sub(end);
        usize::try_from(stale).unwrap_or(usize::MAX).min(FRAME_HEADER_BYTES)
    }

    /// Number of zeros to write after a commit that ends at `end` and grows the file.
    fn window_behind(&self, policy: &SegmentPolicy, end: u64) -> usize {
        let window = policy.window_bytes;
        if window == 0 || self.zeros_refused || end <= self.zeroed {
            return 0;
        }
        let to = end.next_multiple_of(window).min(policy.segment_bytes.max(end));
        usize::try_from(to - end).unwrap_or(0)
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }
}
