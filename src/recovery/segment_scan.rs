//! The segment scan: reads what one segment of a chain holds.
//!
//! Each segment is read without the others, so that threads can read a shard's
//! segments in parallel. [`crate::recovery::shard_scan`] decides what they mean
//! together.

use std::io;

use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode};
use crate::layout::shard_dir::ShardDir;
use crate::recovery::segment_chain::Link;
use crate::recovery::segment_file::{absolute, read_header};
use crate::segment::frame::FrameKind;
use crate::segment::frame_reader::{FrameReader, Stop, is_consistent};
use crate::segment::header::{ParsedHeader, SEGMENT_HEADER_BYTES, SegmentHeader};

/// Read buffer per thread. A larger frame takes more.
const CHUNK_BYTES: usize = 1 << 20;

/// A segment of the chain and its successor.
pub(crate) struct Step<'a> {
    pub(crate) link: &'a Link,
    pub(crate) successor: Option<&'a Link>,
    /// The next sequence at the segment's beginning. It holds if the predecessor
    /// ends where this segment's header says.
    pub(crate) from: u64,
}

impl Step<'_> {
    /// The offset at which the segment ends, in a file of `bytes` bytes.
    pub(crate) fn end(&self, bytes: u64) -> u64 {
        self.successor.map_or(bytes, |link| link.header.predecessor.end.min(bytes))
    }
}

/// The segments of a chain with their successors, oldest first.
pub(crate) fn steps(links: &[Link]) -> Vec<Step<'_>> {
    let step = |index: usize| {
        let link = &links[index];
        let before = if index == 0 { 0 } else { link.header.predecessor.next_sequence };
        Step { link, successor: links.get(index + 1), from: link.header.first_sequence.max(before) }
    };
    (0..links.len()).map(step).collect()
}

/// Syncs a segment and checks that its header is unchanged. A failed sync is never
/// retried: after it, nothing is known about the bytes on the disk.
pub(crate) fn make_durable(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    header: &SegmentHeader,
) -> Result<(), OpenError> {
    let number = header.identity.number;
    let path = shard_dir.path(number);
    let mut file = fs.open(&path, OpenMode::Write).map_err(OpenError::io("opening", &path))?;
    file.sync_data().map_err(OpenError::io("syncing", &path))?;
    drop(file);
    let bytes = read_header(fs, shard_dir, number)?;
    let parsed = bytes.map(|bytes| SegmentHeader::parse(&bytes, &header.identity));
    if parsed == Some(ParsedHeader::Header(*header)) {
        return Ok(());
    }
    let changed = io::Error::other("its header changed while it was read; check the disk");
    Err(OpenError::io("reading", &path)(changed))
}

/// What a segment holds. It counts only if the segments before it were read up to
/// the end that this segment's header names.
pub(crate) struct SegmentScan {
    /// Why reading stopped.
    pub(crate) stop: Stop,
    /// The offset at which reading stopped.
    pub(crate) at: u64,
    /// The offset at which the last record ends.
    pub(crate) records_end: u64,
    /// The file's length.
    pub(crate) bytes: u64,
    pub(crate) next_sequence: u64,
    pub(crate) durable_below: u64,
    pub(crate) records: u64,
    pub(crate) lost_sequences: u64,
}

impl Step<'_> {
    /// The sequence after the segment's last record, if a successor names it.
    pub(crate) fn next_sequence(&self) -> Option<u64> {
        self.successor.map(|link| link.header.predecessor.next_sequence)
    }
}

impl SegmentScan {
    /// Syncs the segment, then reads it. After a successful sync and a dropped
    /// cache, a read returns the bytes on the disk.
    pub(crate) fn read_durable(
        fs: &dyn FileSystem,
        shard_dir: &ShardDir,
        step: &Step<'_>,
    ) -> Result<Self, OpenError> {
        make_durable(fs, shard_dir, &step.link.header)?;
        Self::read(fs, shard_dir, step)
    }

    pub(crate) fn read(
        fs: &dyn FileSystem,
        shard_dir: &ShardDir,
        step: &Step<'_>,
    ) -> Result<Self, OpenError> {
        let number = step.link.header.identity.number;
        let path = shard_dir.path(number);
        let io = |doing| OpenError::io(doing, &path);
        let file = fs.open(&path, OpenMode::Read).map_err(io("opening"))?;
        file.drop_cache();
        let bytes = file.len().map_err(io("reading the size of"))?;
        let end = step.end(bytes);
        let start = SEGMENT_HEADER_BYTES as u64;
        let mut frames = FrameReader::new(file, shard_dir.seed(number), start, end, CHUNK_BYTES);
        let mut segment_scan = Self {
            stop: Stop::End,
            at: start,
            records_end: start,
            bytes,
            next_sequence: step.from,
            durable_below: 0,
            records: 0,
            lost_sequences: 0,
        };
        let read =
            segment_scan.read_frames(&mut frames, shard_dir, step.link.header.first_sequence);
        segment_scan.stop = read.map_err(io("reading"))?;
        segment_scan.at = frames.at();
        Ok(segment_scan)
    }

    /// Reads frames up to the first that does not follow. Returns why it stopped.
    fn read_frames(
        &mut self,
        frames: &mut FrameReader,
        shard_dir: &ShardDir,
        base: u64,
    ) -> io::Result<Stop> {
        loop {
            let frame = match frames.next()? {
                Ok(frame) => frame,
                Err(stop) => return Ok(stop),
            };
            let first = base + u64::from(frame.header.first);
            if first < self.next_sequence || !is_consistent(&frame) {
                frames.back_to(frame.offset);
                return Ok(Stop::Bad("a frame contradicts the frames before it, or itself"));
            }
            if frame.header.kind.advances_sequence() {
                if frame.header.kind == FrameKind::Gap {
                    let from = self.next_sequence.max(shard_dir.truncated_below);
                    self.lost_sequences += first.saturating_sub(from);
                }
                self.next_sequence = base + frame.header.next();
                self.records += u64::from(frame.header.records);
                self.records_end = frames.at();
            }
            let mark = frame.header.mark().map_or(0, |mark| absolute(base, mark));
            self.durable_below = self.durable_below.max(mark);
        }
    }
}
