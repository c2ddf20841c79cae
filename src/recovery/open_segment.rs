//! A segment that is read again after recovery has accepted it, for a replay or a follower.
//!
//! What recovery has read must be there still, unless it was truncated meanwhile.

use std::io;
use std::ops::Range;
use std::path::Path;

use crate::error::{Corruption, OpenError, RESTORE};
use crate::fs::{FileHandle, OpenMode, Unreadable, read_around};
use crate::layout::shard_dir::ShardDir;
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame_reader::{FrameReader, Stop};
use crate::segment::header::{ParsedHeader, SEGMENT_HEADER_BYTES, SegmentHeader};

/// The header of a segment, and its frames.
#[derive(Debug)]
pub(crate) struct OpenSegment {
    pub(crate) meta: SegmentMeta,
    pub(crate) header: SegmentHeader,
    pub(crate) frames: FrameReader,
}

impl OpenSegment {
    /// Opens a segment, and reads its header. Records below `durable_below` were durable, for
    /// the error. Blocks for the read.
    ///
    /// # Errors
    /// [`OpenError::Io`] with `NotFound` if the segment was truncated, also if its file was
    /// recycled since. [`OpenError::Corrupted`] if its header has changed.
    pub(crate) fn open(
        shard_dir: &ShardDir,
        meta: SegmentMeta,
        durable_below: u64,
        chunk_bytes: usize,
    ) -> Result<Self, OpenError> {
        let path = shard_dir.path(meta.number);
        let file = shard_dir.fs.open(&path, OpenMode::Read);
        let file = file.map_err(OpenError::io("opening", &path))?;
        let end = match meta.next_sequence {
            Some(_) => meta.end,
            None => file.len().map_err(OpenError::io("reading the size of", &path))?,
        };
        let header = read_header(file.as_ref(), shard_dir, meta.number);
        let header = match header.map_err(OpenError::io("reading", &path))? {
            Ok(header) => header,
            Err(stop) => {
                let lost = meta.first_sequence..meta.next_sequence.unwrap_or(durable_below);
                return Err(missing(shard_dir, meta.number, 0, lost, stop));
            }
        };
        let (seed, start) = (shard_dir.seed(meta.number), SEGMENT_HEADER_BYTES as u64);
        Ok(Self { meta, header, frames: FrameReader::new(file, seed, start, end, chunk_bytes) })
    }

    /// The sequence that the frames count from.
    pub(crate) fn base(&self) -> u64 {
        self.header.first_sequence
    }
}

/// The header of segment `number`, or why it cannot be used.
pub(crate) fn read_header(
    file: &dyn FileHandle,
    shard_dir: &ShardDir,
    number: u64,
) -> io::Result<Result<SegmentHeader, Stop>> {
    let (mut bytes, mut unreadable) = ([0; SEGMENT_HEADER_BYTES], Unreadable::default());
    read_around(file, &mut bytes, 0, &mut unreadable)?;
    if let Some(Range { start: from, end: to }) = unreadable.first() {
        return Ok(Err(Stop::Unreadable { from, to }));
    }
    let identity = shard_dir.identity.with_number(number);
    Ok(match SegmentHeader::parse(&bytes, &identity) {
        ParsedHeader::Header(header) => Ok(header),
        _ => Err(Stop::Bad("the segment's header does not match")),
    })
}

/// The error if the sequences `lost` of segment `number` cannot be read at `offset`, although
/// they could be before. A segment that was truncated meanwhile is a missing file, not
/// corruption: its file may have been recycled, and hold another segment now.
pub(crate) fn missing(
    shard_dir: &ShardDir,
    number: u64,
    offset: u64,
    lost: Range<u64>,
    stop: Stop,
) -> OpenError {
    let path = shard_dir.path(number);
    if let Err(error) = check_exists(shard_dir, &path) {
        return error;
    }
    OpenError::Corrupted(Box::new(Corruption {
        generation: shard_dir.identity.generation,
        shard: shard_dir.identity.shard,
        file: path,
        offset,
        first_sequence: lost.start,
        durable_below: lost.end,
        what: stop.to_string(),
        advice: RESTORE.into(),
    }))
}

fn check_exists(shard_dir: &ShardDir, path: &Path) -> Result<(), OpenError> {
    let opened = shard_dir.fs.open(path, OpenMode::Read);
    opened.map(drop).map_err(OpenError::io("opening", path))
}
