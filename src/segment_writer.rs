//! The file that a shard's writer writes to: positions, zeros ahead, rolling.
//!
//! Knows bytes and segments; it does not know who waits for them. One owner,
//! the writer thread.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskFile, OpenMode, write_full};
use crate::error::means_full;
use crate::frame::Place;
use crate::segment::{Predecessor, SegmentHeader, SegmentIdentity, segment_path};
use crate::sync::{Arc, Mutex};

/// Segments of a mode that does not sync may pile up unsynced to this number;
/// then the oldest is synced at each roll. Each holds a file descriptor.
const UNSYNCED_SEGMENTS_MAX: usize = 64;
/// A segment's sequences are stored as u32 from its first.
const SEGMENT_SEQUENCES_MAX: u64 = u32::MAX as u64 / 2;
/// Zeros are written ahead of the commits in windows of this size, so that a
/// data sync need not commit the file's growth each time.
pub(crate) const ZERO_WINDOW_BYTES: u64 = 256 << 10;

/// A segment as readers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    pub(crate) number: u64,
    pub(crate) first_sequence: u64,
    /// The sequence after its last record; `None` while it is written to.
    pub(crate) next_sequence: Option<u64>,
    /// Where its last frame ends; meaningless while it is written to.
    pub(crate) end: u64,
}

/// The segments of a shard, oldest first. The writer adds at a roll, replay and
/// truncation read: all of them rare, so a lock serves.
pub(crate) type Catalogue = Arc<Mutex<Vec<SegmentMeta>>>;

/// A file made ready to become a segment: its directory entry is durable, its
/// first `zeroed` bytes are zeros on the disk.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u64,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) zeroed: u64,
}

/// Where a writer's next segment comes from.
pub(crate) trait SegmentSource: Send {
    /// Asks for a segment without waiting for it. One at a time.
    fn request(&mut self, number: u64, zeros: u64);
    /// The segment asked for: `None` where it is not ready and `wait` is false.
    fn take(&mut self, wait: bool) -> Option<io::Result<Prepared>>;
}

/// Makes the file of segment `number`, with zeros ahead, and its name durable.
pub(crate) fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    zeros: u64,
) -> io::Result<Prepared> {
    let path = segment_path(dir, number);
    let prepared = prepare_file(disk, &path, number, zeros).and_then(|prepared| {
        disk.sync_dir(dir)?;
        Ok(prepared)
    });
    if prepared.is_err() {
        // Give the room back and leave the name free for the next attempt. A
        // name that stays is found blank, by that attempt or at open.
        drop(disk.unlink(&path));
    }
    prepared
}

fn prepare_file(disk: &dyn Disk, path: &Path, number: u64, zeros: u64) -> io::Result<Prepared> {
    let mut file = match disk.open(path, OpenMode::CreateNew) {
        // Left by an attempt whose clean-up failed. The name belongs to this
        // shard's next segment, and no frame was ever written to it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.unlink(path)?;
            disk.open(path, OpenMode::CreateNew)?
        }
        opened => opened?,
    };
    let chunk = vec![0; usize::try_from(zeros.min(ZERO_WINDOW_BYTES)).unwrap_or(0)];
    let mut zeroed = 0;
    while zeroed < zeros {
        let length = (zeros - zeroed).min(chunk.len() as u64);
        let length = usize::try_from(length).unwrap_or(chunk.len());
        write_full(file.as_mut(), &chunk[..length], zeroed)?;
        zeroed += length as u64;
    }
    if zeros > 0 {
        file.sync_data()?;
    }
    Ok(Prepared { number, file, zeroed })
}

/// Why a commit's bytes are not in the segment.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// No room; the segment was cut back to where it stood, and that is durable.
    Full(io::Error),
    /// Anything else: what the segment holds past its last commit is not known.
    Fatal(io::Error),
}

/// Settings of a segment writer.
#[derive(Clone, Debug)]
pub(crate) struct SegmentPolicy {
    /// Size at which the next segment follows.
    pub(crate) segment_bytes: u64,
    /// Whether to write zeros ahead.
    pub(crate) zeros_ahead: bool,
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
    /// Up to here the file holds zeros that are allocated.
    zeroed: u64,
    /// The sequence after the last record, seal or open that stands in it.
    next_sequence: u64,
    /// Whether there was no room for zeros in this segment.
    zeros_refused: bool,
    /// Whether the file holds bytes that were not synced.
    dirty: bool,
    /// Earlier segments that were not synced, oldest first.
    unsynced: VecDeque<Box<dyn DiskFile>>,
    source: Box<dyn SegmentSource>,
    requested: bool,
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
        Self {
            policy,
            identity: header.identity,
            predecessor: header.predecessor,
            first_sequence: Some(header.first_sequence),
            file,
            position,
            zeroed: position,
            next_sequence,
            zeros_refused: false,
            dirty: false,
            unsynced: VecDeque::new(),
            source,
            requested: false,
            catalogue,
        }
    }

    /// Where a commit whose first sequence is `next` goes, and the bytes that
    /// must precede its frames.
    pub(crate) fn place(&self, next: u64) -> (Place, Option<SegmentHeader>) {
        let first_sequence = self.first_sequence.unwrap_or(next);
        let place = Place { seed: self.identity.seed(), first_sequence, offset: self.position };
        let header = (self.position == 0).then_some(SegmentHeader {
            identity: self.identity,
            first_sequence,
            predecessor: self.predecessor,
        });
        (place, header)
    }

    /// The segment that is written to.
    pub(crate) fn identity(&self) -> &SegmentIdentity {
        &self.identity
    }

    /// Whether all that was written has been synced.
    pub(crate) fn is_synced(&self) -> bool {
        !self.dirty && self.unsynced.is_empty()
    }

    /// Writes a commit of the sequences `first..next` at the position that
    /// [`SegmentWriter::place`] named.
    pub(crate) fn append(&mut self, bytes: &[u8], first: u64, next: u64) -> Result<(), WriteError> {
        let end = self.position + bytes.len() as u64;
        self.dirty = true;
        let written = match self.write_zeros_behind(end) {
            Ok(()) => write_full(self.file.as_mut(), bytes, self.position),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            return Err(if means_full(&error) {
                self.rewind(error)
            } else {
                WriteError::Fatal(error)
            });
        }
        self.position = end;
        self.zeroed = self.zeroed.max(end);
        self.next_sequence = next;
        if self.first_sequence.is_none() {
            self.first_sequence = Some(first);
            self.enter_into_catalogue(first);
        }
        Ok(())
    }

    /// Grows the file by a window of zeros where a commit that ends at `end`
    /// would grow it. A lack of room for zeros is none for the commit.
    fn write_zeros_behind(&mut self, end: u64) -> io::Result<()> {
        if !self.policy.zeros_ahead || self.zeros_refused || end <= self.zeroed {
            return Ok(());
        }
        let to = end.next_multiple_of(ZERO_WINDOW_BYTES).min(self.policy.segment_bytes.max(end));
        let zeros = vec![0; usize::try_from(to - self.zeroed).unwrap_or(0)];
        match write_full(self.file.as_mut(), &zeros, self.zeroed) {
            Ok(()) => self.zeroed = to,
            Err(error) if means_full(&error) => self.zeros_refused = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes a commit back that found no room, so that nothing of it can ever
    /// be read: the file is cut where the commit began, durably.
    fn rewind(&mut self, full: io::Error) -> WriteError {
        let cut = self.file.set_len(self.position).and_then(|()| self.file.sync_data());
        match cut {
            Ok(()) => {
                self.zeroed = self.position;
                self.dirty = false;
                WriteError::Full(full)
            }
            Err(error) => WriteError::Fatal(error),
        }
    }

    fn enter_into_catalogue(&self, first_sequence: u64) {
        let mut catalogue = self.catalogue.lock();
        if let Some(last) = catalogue.last_mut() {
            last.next_sequence = Some(self.predecessor.next_sequence);
            last.end = self.predecessor.end;
        }
        let number = self.identity.number;
        catalogue.push(SegmentMeta { number, first_sequence, next_sequence: None, end: 0 });
    }

    /// Syncs all that was written, earlier segments first. After an error this
    /// writer must not be used again.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        while let Some(mut earlier) = self.unsynced.pop_front() {
            earlier.sync_data()?;
        }
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Asks for the next segment in good time: when this one is half full.
    pub(crate) fn prepare_ahead(&mut self) {
        if self.position >= self.policy.segment_bytes / 2 {
            self.request_next();
        }
    }

    fn request_next(&mut self) {
        if !self.requested {
            let zeros = if self.policy.zeros_ahead { self.policy.segment_bytes } else { 0 };
            self.source.request(self.identity.number + 1, zeros);
            self.requested = true;
        }
    }

    /// Whether the next segment is due, and must be waited for.
    pub(crate) fn due(&self, next: u64) -> Option<Wait> {
        let limit = self.policy.segment_bytes;
        let crowded = self.first_sequence.is_some_and(|first| next - first > SEGMENT_SEQUENCES_MAX);
        if crowded || self.position >= limit.saturating_mul(2) {
            Some(Wait::Yes)
        } else {
            (self.position >= limit).then_some(Wait::No)
        }
    }

    /// Goes on in the next segment if it is ready, or `wait` says to wait for
    /// it. Returns whether it did; where the next segment could not be made it
    /// is asked for again.
    pub(crate) fn roll(&mut self, wait: Wait) -> Result<bool, WriteError> {
        // A segment that is due for its sequences may be all but empty.
        self.request_next();
        let prepared = match self.source.take(wait == Wait::Yes) {
            None => return Ok(false),
            Some(prepared) => prepared,
        };
        self.requested = false;
        let prepared = match (prepared, wait) {
            (Ok(prepared), _) => prepared,
            // This segment still has room to grow into.
            (Err(_), Wait::No) => return Ok(false),
            (Err(error), Wait::Yes) if means_full(&error) => return Err(WriteError::Full(error)),
            (Err(error), Wait::Yes) => return Err(WriteError::Fatal(error)),
        };
        self.go_on_in(prepared).map_err(WriteError::Fatal)?;
        Ok(true)
    }

    fn go_on_in(&mut self, prepared: Prepared) -> io::Result<()> {
        self.predecessor = Predecessor {
            number: self.identity.number,
            end: self.position,
            next_sequence: self.next_sequence,
        };
        self.identity = self.identity.with_number(prepared.number);
        self.first_sequence = None;
        let full = std::mem::replace(&mut self.file, prepared.file);
        if self.dirty {
            self.unsynced.push_back(full);
            if self.unsynced.len() > UNSYNCED_SEGMENTS_MAX
                && let Some(mut oldest) = self.unsynced.pop_front()
            {
                oldest.sync_data()?;
            }
        }
        self.position = 0;
        self.zeroed = prepared.zeroed;
        self.zeros_refused = false;
        self.dirty = false;
        Ok(())
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
