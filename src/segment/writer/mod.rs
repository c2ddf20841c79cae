//! The file that a shard's writer appends commits to.
//!
//! It tracks positions, zeros ahead of the position, and the roll to the next segment.
//! It knows bytes and segments. It does not know records, nor the callers that wait for
//! them. The writer thread owns it alone.

use std::io;

use crate::fs::FileHandle;
use crate::segment::aligned_buf::AlignedBuf;
use crate::segment::catalogue::{Catalogue, SegmentMeta};
use crate::segment::frame::{Encoder, FrameOrigin};
use crate::segment::header::{Predecessor, SegmentHeader, SegmentIdentity};

mod active;
mod direct_io;
mod no_file;
mod preallocate;
mod rolling;
mod sealing;
mod source;
mod undo;

use active::{ActiveSegment, Origin};
use no_file::NoFile;
pub(crate) use preallocate::{Prepared, fill, lengths, prepare, recycle};
use rolling::Rolling;
pub(crate) use rolling::Wait;
pub(crate) use sealing::{SEALED_SEGMENTS_MAX, SealMark, Sealed, cut_tail, cut_unless_linked};
pub(crate) use source::SegmentSource;

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
        let origin = if policy.zeros_ahead { Origin::Temporary } else { Origin::Prepared };
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
        let file = Box::new(NoFile);
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
    pub(crate) fn is_space_low(&self) -> bool {
        self.rolling.source.is_space_low()
    }
}

#[cfg(test)]
mod tests;
