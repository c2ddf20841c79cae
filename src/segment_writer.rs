//! The file that a shard's writer writes to: positions, zeros ahead, rolling.
//!
//! Knows bytes and segments; it does not know who waits for them. One owner,
//! the writer thread.

use std::io;

use crate::aligned_bytes::AlignedBytes;
use crate::disk::{DiskFile, write_counted};
use crate::error::means_full;
use crate::frame::{Encoder, FRAME_HEADER_BYTES, Place};
use crate::segment::{Predecessor, SegmentHeader, SegmentIdentity};
use crate::sync::{Arc, Mutex};

mod blocks;
mod no_room;
mod nowhere;
mod prepare;
mod rolling;
mod sealing;

use blocks::Blocks;
use nowhere::Nowhere;
pub(crate) use prepare::{Prepared, fill, lengths, prepare, recycle};
pub(crate) use sealing::{SEALED_SEGMENTS_MAX, SealMark, Sealed, cut_tail};

/// A segment's sequences are stored as u32 from its first, and recovery may have to
/// copy all segments above the last durable mark into one: those that wait for the
/// sealer, and as many before them, for the mark stands in a frame that was written
/// while so many waited.
const SEGMENT_SEQUENCES_MAX: u64 = u32::MAX as u64 / (2 * SEALED_SEGMENTS_MAX as u64 + 4);
/// Where commits are synced, files grow by windows of this size, so that a data
/// sync need not commit the file's growth each time.
pub(crate) const ZERO_WINDOW_BYTES: u64 = 256 << 10;
/// Where they are not, by windows of this size: a page cache that keeps them as
/// one run of pages spends a third less CPU on the writes than on pages one by one, and more
/// on a small write into a larger run (docs/performance.md, "`Os`: what was tried").
pub(crate) const CACHE_WINDOW_BYTES: u64 = 32 << 10;

/// A segment as readers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    /// The sequence after its last record; `None` while it is written to.
    pub(crate) next_sequence: Option<u64>,
    /// Where its last frame ends; meaningless while it is written to.
    pub(crate) end: u64,
    /// Whether its header has been synced: only then can recovery do without
    /// the segments before it.
    pub(crate) durable: bool,
}

/// The segments of a shard, oldest first. The writer adds at a roll, replay and
/// truncation read: all of them rare, so a lock serves.
pub(crate) type Catalogue = Arc<Mutex<Vec<SegmentMeta>>>;

/// Where a writer's next segment comes from, and where its full ones go.
pub(crate) trait SegmentSource: Send {
    /// Asks for a segment without waiting for it. One at a time.
    fn request(&mut self, number: u64, zeros: u64);
    /// The segment asked for: `None` where it is not ready and `wait` is false.
    fn take(&mut self, wait: bool) -> Option<io::Result<Prepared>>;
    /// Whether one can be had without writing it.
    fn has_spare(&self) -> bool {
        false
    }
    /// Whether the file system has less room than a watermark asks for.
    fn is_room_low(&self) -> bool {
        false
    }
    /// Takes a full segment, to settle it. Where too many wait already it waits, or
    /// gives the segment back if `wait` is false.
    fn seal(&mut self, sealed: Sealed, wait: bool) -> Result<(), Sealed>;
    /// The mark of the oldest segment that was given with one, once that holds; `None`
    /// where it does not yet and `wait` is false. After an error the shard has failed.
    fn sealed(&mut self, wait: bool) -> Option<io::Result<SealMark>>;
    /// The shard has failed: what was given and is not settled yet is left as it is.
    fn abandon(&mut self) {}
}

/// Why a commit's bytes are not in the segment.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// No room, or no resources of the system's: nothing of the commit can ever be
    /// read, and the next one may be tried.
    NotWritten(io::Error),
    /// Anything else: what the segment holds past its last commit is not known.
    Fatal(io::Error),
}

/// Settings of a segment writer.
#[derive(Clone, Debug)]
pub(crate) struct SegmentPolicy {
    /// Size at which the next segment follows.
    pub(crate) segment_bytes: u64,
    /// Whether files are made of zeros before they are segments.
    pub(crate) zeros_ahead: bool,
    /// A commit that grows the file grows it to a multiple of this; 0: no further
    /// than it reaches.
    pub(crate) window_bytes: u64,
    /// Whether a commit's first bytes are written after all others, so that nothing
    /// of a commit that found no room can be read. Needed where a file system copies
    /// on write: there it takes room to overwrite or to cut what is too much.
    pub(crate) header_last: bool,
}

/// See the module's words.
pub(crate) struct SegmentWriter {
    policy: SegmentPolicy,
    identity: SegmentIdentity,
    predecessor: Predecessor,
    /// `None` until the header has been written, with the first commit.
    first_sequence: Option<u64>,
    file: Box<dyn DiskFile>,
    /// Where the next frame goes: 0 means that the header goes first.
    position: u64,
    /// Up to here the file has blocks, which can be written over.
    zeroed: u64,
    /// Up to here bytes of an earlier segment may stand behind the commits; 0
    /// where there are none.
    stale_end: u64,
    /// How commits go past the cache, as far as the file was made ready; `None`
    /// where they do not, and once one has ended beyond that.
    direct: Option<Blocks>,
    /// Whether there is no segment to write to: the first commit takes the next.
    is_between: bool,
    /// Whether the file is the one that open has made, without zeros ahead: it
    /// is left for the next as soon as there is one.
    is_makeshift: bool,
    /// The sequence after the last record, seal or open that stands in it.
    next_sequence: u64,
    /// Whether there was no room for zeros in this segment.
    zeros_refused: bool,
    /// Whether bytes of a commit that found no room may stand behind the position.
    /// No reader takes them for records, and the next commit cuts them off first.
    has_remains: bool,
    /// Whether the file holds bytes that were not synced.
    dirty: bool,
    /// Whether the catalogue has segments that it does not call durable.
    headers_dirty: bool,
    /// How many earlier segments the sealer has to sync yet.
    sealing: usize,
    source: Box<dyn SegmentSource>,
    requested: bool,
    /// The next segment, where the sealer does not take this one yet.
    next: Option<Prepared>,
    /// Whether the last attempt to prepare a segment failed: zeros ahead would
    /// only take what room is left.
    source_failed: bool,
    catalogue: Catalogue,
}

impl SegmentWriter {
    /// Goes on in the segment that open has made: durable up to `position`,
    /// its header included, with `next_sequence` next, and last in the catalogue.
    pub(crate) fn new(
        policy: SegmentPolicy,
        header: &SegmentHeader,
        file: Box<dyn DiskFile>,
        position: u64,
        next_sequence: u64,
        source: Box<dyn SegmentSource>,
        catalogue: Catalogue,
    ) -> Self {
        let is_makeshift = policy.zeros_ahead;
        Self {
            policy,
            identity: header.identity,
            predecessor: header.predecessor,
            first_sequence: Some(header.first_sequence),
            file,
            position,
            zeroed: position,
            stale_end: 0,
            direct: None,
            is_between: false,
            is_makeshift,
            next_sequence,
            zeros_refused: false,
            has_remains: false,
            dirty: false,
            headers_dirty: false,
            sealing: 0,
            source,
            requested: false,
            next: None,
            source_failed: false,
            catalogue,
        }
    }

    /// Starts without a segment, because open found no room for one. The first
    /// commit takes the next segment from the source and is refused while there is
    /// none. `last` has the highest number that was used; the next segment's header
    /// names `predecessor`.
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
        let writer = Self::new(policy, &header, file, 0, next_sequence, source, catalogue);
        Self { is_between: true, is_makeshift: false, first_sequence: None, ..writer }
    }

    /// Begins a commit whose first sequence is `next`, with the bytes that must
    /// precede its frames; returns where it goes.
    pub(crate) fn begin(&self, encoder: &mut Encoder, next: u64) -> Place {
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
        Place { seed: self.identity.seed(), first_sequence, offset }
    }

    /// What stands before the position in the block that a commit begins in, if
    /// it is written in blocks.
    fn begun(&self) -> &[u8] {
        self.direct.as_ref().map_or(&[], Blocks::begun)
    }

    /// The segment that is written to.
    pub(crate) fn identity(&self) -> &SegmentIdentity {
        &self.identity
    }

    /// The sequence after the last record or seal that was written.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether all that was written has been synced.
    pub(crate) fn is_synced(&self) -> bool {
        !self.dirty && self.sealing == 0
    }

    /// Writes a commit of the sequences `first..next` that
    /// [`SegmentWriter::begin`] has begun. Zeros stand behind the bytes meanwhile.
    pub(crate) fn append(
        &mut self,
        bytes: &mut AlignedBytes,
        first: u64,
        next: u64,
    ) -> Result<(), WriteError> {
        self.cut_remains()?;
        let end = self.position + (bytes.len() - self.begun().len()) as u64;
        let mut touched = false;
        if let Err(error) = self.write(bytes, end, &mut touched) {
            self.dirty |= touched;
            return Err(self.take_back(error, touched));
        }
        self.dirty = true;
        self.position = end;
        self.zeroed = self.zeroed.max(end);
        self.next_sequence = next;
        if self.first_sequence.is_none() {
            self.first_sequence = Some(first);
            self.headers_dirty = true;
            self.enter_into_catalogue(first);
        }
        Ok(())
    }

    /// `touched` becomes true where an error may leave bytes behind the position.
    fn write(&mut self, bytes: &mut AlignedBytes, end: u64, touched: &mut bool) -> io::Result<()> {
        let (blank, begun) = (self.blank_behind(end), self.begun().len());
        if let Some(blocks) = &mut self.direct {
            let start = self.position - begun as u64;
            if start + blocks.whole(bytes.len() + blank) as u64 <= self.zeroed {
                // A direct write that fails does not say how far it came.
                *touched = true;
                return blocks.write(self.file.as_mut(), bytes, blank, start);
            }
            self.direct = None;
        }
        let window = self.window_behind(end);
        match self.write_with_zeros(bytes, begun, blank.max(window), touched) {
            // A lack of room for zeros is none for the commit.
            Err(error) if window > 0 && means_full(&error) => {
                self.zeros_refused = true;
                self.write_with_zeros(bytes, begun, blank, touched)
            }
            written => written,
        }
    }

    /// Writes what follows the bytes that the file has already.
    fn write_with_zeros(
        &mut self,
        bytes: &mut AlignedBytes,
        begun: usize,
        zeros: usize,
        touched: &mut bool,
    ) -> io::Result<()> {
        let length = bytes.len();
        bytes.resize(length + zeros);
        let new = &bytes[begun..];
        let first = if self.policy.header_last { FRAME_HEADER_BYTES.min(new.len()) } else { 0 };
        let (file, position) = (self.file.as_mut(), self.position);
        let written = write_counted(file, &new[first..], position + first as u64, touched)
            .and_then(|()| write_counted(file, &new[..first], position, touched));
        if written.is_ok() {
            self.zeroed = self.zeroed.max(self.position + new.len() as u64);
        }
        bytes.resize(length);
        written
    }

    /// So many zeros must follow a commit that ends at `end`, where bytes of an
    /// earlier segment follow else, so that whoever reads finds a blank frame
    /// header and knows that the log ends here. The next commit overwrites them.
    fn blank_behind(&self, end: u64) -> usize {
        let stale = self.stale_end.saturating_sub(end);
        usize::try_from(stale).unwrap_or(usize::MAX).min(FRAME_HEADER_BYTES)
    }

    /// How many zeros follow a commit that ends at `end` and grows the file.
    fn window_behind(&self, end: u64) -> usize {
        let window = self.policy.window_bytes;
        if window == 0 || self.zeros_refused || end <= self.zeroed {
            return 0;
        }
        let to = end.next_multiple_of(window).min(self.policy.segment_bytes.max(end));
        usize::try_from(to - end).unwrap_or(0)
    }

    fn enter_into_catalogue(&self, first_sequence: u64) {
        let mut catalogue = self.catalogue.lock();
        if let Some(last) = catalogue.last_mut() {
            last.next_sequence = Some(self.predecessor.next_sequence);
            last.end = self.predecessor.end;
        }
        let number = self.identity.number;
        catalogue.push(SegmentMeta {
            number,
            first_sequence,
            next_sequence: None,
            end: 0,
            durable: false,
        });
    }

    /// Syncs all that was written, earlier segments first. After an error this
    /// writer must not be used again.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.wait_for_sealed()?;
        self.sync_active()?;
        if std::mem::take(&mut self.headers_dirty) {
            self.catalogue.lock().iter_mut().for_each(|meta| meta.durable = true);
        }
        Ok(())
    }

    /// Syncs what was written to the active segment alone. After an error this writer
    /// must not be used again.
    pub(crate) fn sync_active(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Whether the sealer has full segments of this shard that it has not synced yet.
    pub(crate) fn is_sealing(&self) -> bool {
        self.sealing > 0
    }

    /// Whether the segment holds records, so that a truncation could delete it if
    /// the writer left it.
    pub(crate) fn holds_records(&self) -> bool {
        self.first_sequence.is_some_and(|first| first < self.next_sequence)
    }

    /// Whether the file system has less room than a watermark asks for.
    pub(crate) fn is_room_low(&self) -> bool {
        self.source.is_room_low()
    }
}

/// Whether a roll must wait for the next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It must: this one has grown to its end.
    Yes,
    /// This one may grow meanwhile.
    No,
}

#[cfg(test)]
mod tests;
