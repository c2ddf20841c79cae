//! The place of a follower in one shard.

use std::io;
use std::ops::Range;

use bytes::Bytes;

use crate::error::OpenError;
use crate::follow::shard_source::ShardSource;
use crate::layout::shard_dir::ShardDir;
use crate::recovery::open_segment::{OpenSegment, missing};
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame::{FrameKind, next_record};
use crate::segment::frame_reader::{Frame, Stop, is_consistent};

/// Bytes of the first read at the end of a log, where little is new. Each further read of a
/// cursor that is behind doubles, up to the cursor's limit.
const CHUNK_BYTES_MIN: usize = 16 << 10;

/// What a cursor found.
#[derive(Debug)]
pub(super) enum Step {
    Batch(CursorBatch),
    CaughtUp,
    /// Records from the cursor on were truncated.
    Gone,
}

/// Records of one frame, from the cursor's place on.
#[derive(Debug)]
pub(super) struct CursorBatch {
    pub(super) body: Bytes,
    /// The sequence of the first record that is passed, and its offset in the body.
    pub(super) first: u64,
    pub(super) offset: usize,
    pub(super) records: u32,
    /// The sequences before it that a repair has lost.
    pub(super) lost: Option<Range<u64>>,
}

/// Reads one shard, frame by frame.
#[derive(Debug)]
pub(super) struct Cursor {
    source: Box<dyn ShardSource>,
    /// The sequence of the next record to pass.
    next: u64,
    reading: Option<Reading>,
    chunk_bytes: usize,
    chunk_bytes_max: usize,
}

impl Cursor {
    pub(super) fn new(source: Box<dyn ShardSource>, next: u64, chunk_bytes_max: usize) -> Self {
        let chunk_bytes_max = chunk_bytes_max.max(CHUNK_BYTES_MIN);
        Self { source, next, reading: None, chunk_bytes: CHUNK_BYTES_MIN, chunk_bytes_max }
    }

    pub(super) fn source(&mut self) -> &mut (dyn ShardSource + 'static) {
        self.source.as_mut()
    }

    /// The sequence of the next record to pass.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Reads the next records, if any are durable. Blocks for the read.
    pub(super) fn step(&mut self) -> Result<Step, OpenError> {
        let durable_below = self.source.durable_below()?;
        let mut was_read_again = false;
        while self.next < durable_below {
            let Some(mut reading) = self.reading(durable_below)? else { return Ok(Step::Gone) };
            match reading.frame(self.source.shard_dir(), self.next, durable_below)? {
                Ok(frame) => {
                    let batch = self.pass(&reading, frame, durable_below)?;
                    self.reading = Some(reading);
                    was_read_again = false;
                    if let Some(batch) = batch {
                        self.chunk_bytes = self.chunk_bytes_max.min(self.chunk_bytes * 2);
                        return Ok(Step::Batch(batch));
                    }
                }
                // The buffer may be older than the records.
                Err(_) if !was_read_again => {
                    reading.read_again(self.source.shard_dir(), durable_below)?;
                    self.reading = Some(reading);
                    was_read_again = true;
                }
                Err(stop) => {
                    self.leave(reading, durable_below, stop)?;
                    was_read_again = false;
                }
            }
        }
        self.rest();
        Ok(Step::CaughtUp)
    }

    /// The segment that has the next record: the one that is being read, or else another one.
    /// `None` if the record was truncated.
    fn reading(&mut self, durable_below: u64) -> Result<Option<Reading>, OpenError> {
        if let Some(mut reading) = self.reading.take()
            && reading.segment.meta.reaches(self.next)
        {
            reading.segment.frames.set_chunk_bytes(self.chunk_bytes);
            return Ok(Some(reading));
        }
        let opened = match self.source.segment(self.next)? {
            Some(meta) => {
                let shard_dir = self.source.shard_dir();
                Some(OpenSegment::open(shard_dir, meta, durable_below, self.chunk_bytes))
            }
            None => None,
        };
        // After the open: a segment is deleted only after its records count as truncated.
        if self.is_gone()? {
            return Ok(None);
        }
        let position = self.next..durable_below;
        let absent = || missing_segment(self.source.shard_dir(), position);
        let segment = opened.unwrap_or_else(|| Err(absent()))?;
        Ok(Some(Reading { segment, read_below: durable_below }))
    }

    fn is_gone(&mut self) -> Result<bool, OpenError> {
        Ok(self.next < self.source.truncated_below()?)
    }

    /// Leaves a segment in which the next record is not found, if another one may have it.
    fn leave(&mut self, left: Reading, durable_below: u64, stop: Stop) -> Result<(), OpenError> {
        let number = left.segment.meta.number;
        let is_same = |meta: SegmentMeta| meta.number == number;
        if !self.source.segment(self.next)?.is_some_and(is_same) || self.is_gone()? {
            return Ok(());
        }
        let at = left.segment.frames.at();
        let shard_dir = self.source.shard_dir();
        Err(missing(shard_dir, number, at, self.next..durable_below, stop))
    }

    /// Moves over a frame. Returns its records that come next, if it has any.
    fn pass(
        &mut self,
        reading: &Reading,
        frame: Frame,
        durable_below: u64,
    ) -> Result<Option<CursorBatch>, OpenError> {
        let (meta, base) = (&reading.segment.meta, reading.segment.base());
        let (first, end) = (base + u64::from(frame.header.first), base + frame.header.next());
        if !frame.header.kind.advances_sequence() || end <= self.next {
            return Ok(None);
        }
        let from = first.max(self.next);
        let offset = if is_consistent(&frame) { skip(&frame, from - first) } else { None };
        let Some(offset) = offset else {
            let stop = Stop::Bad("a frame contradicts itself");
            let lost = self.next..durable_below;
            return Err(missing(self.source.shard_dir(), meta.number, frame.offset, lost, stop));
        };
        let is_gap = frame.header.kind == FrameKind::Gap;
        let lost = is_gap.then_some(self.next..end);
        self.next = end;
        let (first, records) = if is_gap { (end, 0) } else { (from, end - from) };
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        Ok(Some(CursorBatch { body: frame.body, first, offset, records, lost }))
    }

    /// Frees the buffer, as there is nothing to read.
    fn rest(&mut self) {
        self.chunk_bytes = CHUNK_BYTES_MIN;
        if let Some(reading) = &mut self.reading {
            let frames = &mut reading.segment.frames;
            frames.back_to(frames.at());
        }
    }
}

/// The segment that a cursor reads.
#[derive(Debug)]
struct Reading {
    segment: OpenSegment,
    /// F1 DURABLE: records below were durable before the bytes in the buffer were read. What
    /// the buffer holds behind them may be a commit that was still being written, or one that
    /// was taken back since.
    read_below: u64,
}

impl Reading {
    /// The next frame, or why there is none in the buffer. It is read anew if record `next` was
    /// not durable when the buffer was read.
    fn frame(
        &mut self,
        shard_dir: &ShardDir,
        next: u64,
        durable_below: u64,
    ) -> Result<Result<Frame, Stop>, OpenError> {
        if next >= self.read_below {
            self.read_again(shard_dir, durable_below)?;
        }
        let base = self.segment.base();
        let OpenSegment { meta, frames, .. } = &mut self.segment;
        let frame = frames
            .next()
            .map_err(|error| OpenError::io("reading", &shard_dir.path(meta.number))(error))?;
        Ok(frame.and_then(|frame| {
            let is_late = base + u64::from(frame.header.first) >= self.read_below;
            if frame.header.kind == FrameKind::Records && is_late {
                frames.back_to(frame.offset);
                return Err(Stop::Bad("the records before a frame are missing"));
            }
            Ok(frame)
        }))
    }

    /// Drops the buffer, so that the next frame is read from the file as it is now.
    fn read_again(&mut self, shard_dir: &ShardDir, durable_below: u64) -> Result<(), OpenError> {
        let OpenSegment { meta, frames, .. } = &mut self.segment;
        frames.back_to(frames.at());
        self.read_below = durable_below;
        if meta.next_sequence.is_some() {
            return Ok(());
        }
        let path = || shard_dir.path(meta.number);
        frames.grow().map_err(|error| OpenError::io("reading the size of", &path())(error))
    }
}

/// Offset of the record after the first `records` of a frame.
fn skip(frame: &Frame, records: u64) -> Option<usize> {
    let mut offset = 0;
    for _ in 0..records {
        next_record(&frame.body, &mut offset)?;
    }
    Some(offset)
}

/// The error if no segment has the durable records `lost`.
fn missing_segment(shard_dir: &ShardDir, lost: Range<u64>) -> OpenError {
    let what = format!("no segment has the sequences {}..{}", lost.start, lost.end);
    OpenError::io("following", &shard_dir.dir)(io::Error::new(io::ErrorKind::NotFound, what))
}
