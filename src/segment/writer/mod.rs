//! The file that a shard's writer appends commits to.
//!
//! It tracks positions, zeros ahead of the position, and the roll to the next segment.
//! It knows bytes and segments. It does not know records, nor the callers that wait for
//! them. The writer thread owns it alone.

use std::io;

use crate::error::means_full;
use crate::fs::{FileHandle, write_counted};
use crate::segment::aligned_buf::AlignedBuf;
use crate::segment::catalogue::{Catalogue, SegmentMeta};
use crate::segment::frame::{Encoder, FRAME_HEADER_BYTES, FrameOrigin};
use crate::segment::header::{Predecessor, SegmentHeader, SegmentIdentity};

mod direct_io;
mod no_file;
mod no_room;
mod preallocate;
mod rolling;
mod sealing;

use direct_io::Blocks;
use no_file::Nowhere;
pub(crate) use preallocate::{Prepared, fill, lengths, prepare, recycle};
use rolling::Rolling;
pub(crate) use sealing::{SEALED_SEGMENTS_MAX, SealMark, Sealed, cut_tail, cut_unless_linked};

/// The number of sequences after which a segment is rolled.
///
/// A frame stores its sequence as a u32, relative to the segment's first. Recovery may
/// copy all segments above the last durable mark into one, so their sum must fit. These
/// are the segments that wait for the sealer, and as many before them: the mark is in a
/// frame that was written while that number of segments waited.
const SEGMENT_SEQUENCES_MAX: u64 = u32::MAX as u64 / (2 * SEALED_SEGMENTS_MAX as u64 + 4);
/// If each commit is synced, a file grows by windows of this size. Then most data syncs
/// need not commit a new file size.
pub(crate) const ZERO_WINDOW_BYTES: u64 = 256 << 10;
/// If commits are not synced, a file grows by windows of this size. The page cache
/// keeps a window as one run of pages, which takes a third less CPU per write than
/// single pages. In a larger run, small writes take more CPU (docs/performance.md,
/// "Buffered commits").
pub(crate) const CACHE_WINDOW_BYTES: u64 = 32 << 10;

/// Supplies a writer with new segments, and takes its full ones.
pub(crate) trait SegmentSource: Send {
    /// Requests segment `number` with `zeros` bytes of zeros. Does not block. At most
    /// one request may be open at a time.
    fn request(&mut self, number: u64, zeros: u64);
    /// Takes the requested segment. Returns `None` if it is not ready and `wait` is
    /// false. Blocks if `wait` is true.
    ///
    /// # Errors
    /// The segment could not be made. The request is then closed.
    fn take(&mut self, wait: bool) -> Option<io::Result<Prepared>>;
    /// Whether a recycled segment is available, so that no file need be written.
    fn has_recycled(&self) -> bool {
        false
    }
    /// Whether free space is below a configured threshold.
    fn is_room_low(&self) -> bool {
        false
    }
    /// Takes a full segment, to sync it and cut its tail. If too many segments wait
    /// already, it blocks if `wait` is true, and else returns the segment.
    fn seal(&mut self, sealed: Sealed, wait: bool) -> Result<(), Sealed>;
    /// The mark of the oldest segment that was handed over with one and is now synced.
    /// Returns `None` if it is not synced yet and `wait` is false. Blocks if `wait` is
    /// true.
    ///
    /// # Errors
    /// The sync failed; the shard has failed.
    fn sealed(&mut self, wait: bool) -> Option<io::Result<SealMark>>;
    /// Reports that the shard has failed. The sealer leaves its remaining segments as
    /// they are.
    fn abandon(&mut self) {}
}

/// Why a commit's bytes are not in the segment.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// The file system is full, or the system lacks a resource. No reader can ever read
    /// any part of the commit. The next commit may be tried.
    NotWritten(io::Error),
    /// Any other error. The bytes behind the segment's last commit are unknown.
    Fatal(io::Error),
}

/// Settings of a segment writer.
#[derive(Clone, Debug)]
pub(crate) struct SegmentPolicy {
    /// Size in bytes at which the writer rolls to the next segment.
    pub(crate) segment_bytes: u64,
    /// Whether a file is filled with zeros before it becomes a segment.
    pub(crate) zeros_ahead: bool,
    /// A commit that grows the file grows it to a multiple of this number of bytes.
    /// With 0 the file grows by the commit alone.
    pub(crate) window_bytes: u64,
    /// Whether a commit's first bytes are written last. Then no reader can read any
    /// part of a commit that found no room. A copy-on-write file system needs this:
    /// there an overwrite or a cut may itself find no room.
    pub(crate) header_last: bool,
}

/// Appends commits to the active segment of a shard, and rolls to the next one.
pub(crate) struct SegmentWriter {
    policy: SegmentPolicy,
    active: ActiveSegment,
    rolling: Rolling,
    catalogue: Catalogue,
    /// Whether the active segment is in the catalogue and not marked durable there.
    header_dirty: bool,
}

impl SegmentWriter {
    /// A writer that appends to the segment that open made. The segment is durable up
    /// to `position`, header included, and is the last one in the catalogue. Its next
    /// sequence is `next_sequence`.
    pub(crate) fn new(
        policy: SegmentPolicy,
        header: &SegmentHeader,
        file: Box<dyn FileHandle>,
        position: u64,
        next_sequence: u64,
        source: Box<dyn SegmentSource>,
        catalogue: Catalogue,
    ) -> Self {
        let origin = if policy.zeros_ahead { Origin::Makeshift } else { Origin::Prepared };
        let active = ActiveSegment {
            identity: header.identity,
            predecessor: header.predecessor,
            first_sequence: Some(header.first_sequence),
            origin,
            file,
            position,
            zeroed: position,
            stale_end: 0,
            direct: None,
            next_sequence,
            zeros_refused: false,
            has_remains: false,
            dirty: false,
        };
        Self { policy, active, rolling: Rolling::new(source), catalogue, header_dirty: false }
    }

    /// A writer without a segment, for an open that found no room to make one. The
    /// first commit takes the next segment from the source. It is refused if there is
    /// none. `last` has the highest segment number in use. The header of the next
    /// segment names `predecessor`.
    pub(crate) fn between(
        policy: SegmentPolicy,
        last: SegmentIdentity,
        predecessor: Predecessor,
        next_sequence: u64,
        source: Box<dyn SegmentSource>,
        catalogue: Catalogue,
    ) -> Self {
        let header = SegmentHeader { identity: last, first_sequence: next_sequence, predecessor };
        let file = Box::new(Nowhere);
        let mut writer = Self::new(policy, &header, file, 0, next_sequence, source, catalogue);
        (writer.active.origin, writer.active.first_sequence) = (Origin::Missing, None);
        writer
    }

    /// Begins a commit whose first sequence is `next`. Puts the bytes that must precede
    /// its frames into `encoder`. Returns the position of the commit.
    pub(crate) fn begin(&self, encoder: &mut Encoder, next: u64) -> FrameOrigin {
        self.active.begin(encoder, next)
    }

    /// Identity of the active segment.
    pub(crate) fn identity(&self) -> &SegmentIdentity {
        &self.active.identity
    }

    /// The sequence after the last record or seal that was written.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.active.next_sequence
    }

    /// Whether every written byte is synced, in this segment and in the earlier ones.
    pub(crate) fn is_synced(&self) -> bool {
        !self.active.dirty && !self.is_sealing()
    }

    /// Writes a commit of the sequences `first..next`. [`SegmentWriter::begin`] must
    /// have begun it. `bytes` may have zeros at the end during the call, and is
    /// unchanged after it. Does not sync.
    ///
    /// # Errors
    /// See [`WriteError`]. After `NotWritten` the position is unchanged.
    pub(crate) fn append(
        &mut self,
        bytes: &mut AlignedBuf,
        first: u64,
        next: u64,
    ) -> Result<(), WriteError> {
        let is_new = self.active.first_sequence.is_none();
        self.active.append(&self.policy, bytes, first, next)?;
        if is_new {
            self.header_dirty = true;
            self.enter_into_catalogue(first);
        }
        Ok(())
    }

    fn enter_into_catalogue(&self, first_sequence: u64) {
        let ActiveSegment { identity, predecessor, .. } = &self.active;
        let mut catalogue = self.catalogue.lock();
        if let Some(last) = catalogue.back_mut() {
            last.next_sequence = Some(predecessor.next_sequence);
            last.end = predecessor.end;
        }
        catalogue.push_back(SegmentMeta {
            number: identity.number,
            first_sequence,
            next_sequence: None,
            end: 0,
            durable: false,
        });
    }

    /// Makes every written byte durable. Blocks until the sealer has synced the earlier
    /// segments.
    ///
    /// # Errors
    /// A sync failed. This writer must not be used again.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.wait_for_sealed()?;
        self.sync_active()
    }

    /// Syncs the active segment alone and marks it durable in the catalogue. Blocks for
    /// one data sync.
    ///
    /// # Errors
    /// The sync failed. This writer must not be used again.
    pub(crate) fn sync_active(&mut self) -> io::Result<()> {
        self.active.sync()?;
        if std::mem::take(&mut self.header_dirty) {
            let number = self.active.identity.number;
            let mut catalogue = self.catalogue.lock();
            let active = catalogue.iter_mut().filter(|meta| meta.number == number);
            active.for_each(|meta| meta.durable = true);
        }
        Ok(())
    }

    /// Whether the sealer still has to sync full segments of this shard.
    pub(crate) fn is_sealing(&self) -> bool {
        self.rolling.sealing > 0
    }

    /// Whether the segment holds records. If so, a truncation could delete it once the
    /// writer has left it.
    pub(crate) fn holds_records(&self) -> bool {
        self.active.first_sequence.is_some_and(|first| first < self.active.next_sequence)
    }

    /// Whether free space is below a configured threshold.
    pub(crate) fn is_room_low(&self) -> bool {
        self.rolling.source.is_room_low()
    }
}

/// Where the active segment comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// There is no segment yet. The first commit rolls to one.
    Missing,
    /// Open made it, without zeros ahead. The writer leaves it as soon as the next
    /// segment is ready.
    Makeshift,
    /// The writer stays in it until it is full.
    Prepared,
}

/// The segment that commits are written to now.
struct ActiveSegment {
    identity: SegmentIdentity,
    predecessor: Predecessor,
    /// `None` until the first commit has written the header.
    first_sequence: Option<u64>,
    origin: Origin,
    file: Box<dyn FileHandle>,
    /// Offset of the next frame. At 0 the next commit writes the header first.
    position: u64,
    /// The file has allocated blocks up to this offset.
    zeroed: u64,
    /// Bytes of an earlier segment may follow the commits up to this offset; 0 if there
    /// are none.
    stale_end: u64,
    /// Writes commits past the page cache, within the zeros of the file. `None` if
    /// direct I/O is not available, or once a commit has gone beyond the zeros.
    direct: Option<Blocks>,
    /// The sequence after the last record or seal in the segment.
    next_sequence: u64,
    /// Whether a write of zeros found no room in this segment.
    zeros_refused: bool,
    /// Whether bytes of a refused commit may follow the position. No reader takes them
    /// for records. The next commit cuts them off first.
    has_remains: bool,
    /// Whether the file has unsynced bytes.
    dirty: bool,
}

impl ActiveSegment {
    /// See [`SegmentWriter::begin`].
    fn begin(&self, encoder: &mut Encoder, next: u64) -> FrameOrigin {
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
    fn begun(&self) -> &[u8] {
        self.direct.as_ref().map_or(&[], Blocks::begun)
    }

    /// See [`SegmentWriter::append`].
    fn append(
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

    fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// Whether a roll must wait for the next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It must: this segment may not grow further.
    Yes,
    /// It need not: this segment may grow in the meantime.
    No,
}

#[cfg(test)]
mod tests;
