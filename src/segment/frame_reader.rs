//! Reads a segment's frames one by one, in bounded memory.
//!
//! Recovery and replay share it. It trusts a length only after the header's checksum
//! matches. It allocates no more than one chunk or one frame. It reports where and why
//! it stopped; [`crate::recovery`] decides what that means.

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};

use crate::fs::{FileHandle, Unreadable, read_around};
use crate::segment::frame::{
    FRAME_BODY_MAX, FRAME_HEADER_BYTES, FrameHeader, FrameKind, ParsedFrameHeader, next_record,
};
use crate::segment::frame_scan::find_header;

/// Why the reader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The reader reached its end, or the end of the file.
    End,
    /// The bytes at a frame's position are zeros.
    Blank,
    /// The bytes are not a frame, for this reason.
    Bad(&'static str),
    /// A frame of an unknown kind that may not be skipped.
    UnknownKind(u8),
    /// The disk cannot read these bytes, which are part of a frame or may be.
    Unreadable { from: u64, to: u64 },
}

impl fmt::Display for Stop {
    /// Says what is wrong with the bytes at a frame's position.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the segment ends before its frames end"),
            Self::Blank => f.write_str("there are zeros instead of a frame"),
            Self::Bad(what) => f.write_str(what),
            Self::UnknownKind(kind) => write!(f, "it has a frame of the unknown kind {kind}"),
            Self::Unreadable { from, to } => {
                write!(f, "the disk cannot read bytes {from}..{to}")
            }
        }
    }
}

/// A frame whose checksums match.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: FrameHeader,
    /// Its offset in the segment.
    pub(crate) offset: u64,
    pub(crate) body: Bytes,
}

impl Frame {
    /// Offset of its end in the segment.
    pub(crate) fn end(&self) -> u64 {
        self.offset + (FRAME_HEADER_BYTES + self.body.len()) as u64
    }
}

/// Reads the frames of one segment file.
#[derive(Debug)]
pub(crate) struct FrameReader {
    file: Box<dyn FileHandle>,
    seed: u32,
    /// Offset at which reading ends.
    end: u64,
    chunk_bytes: usize,
    chunk: Bytes,
    /// Offset of the chunk's first byte.
    chunk_at: u64,
    /// Offset of the next frame.
    at: u64,
    /// The ranges of the chunk that the disk cannot read. Zeros replace them in the
    /// chunk.
    unreadable: Unreadable,
}

impl FrameReader {
    /// Reads frames from `at` to `end`, in chunks of about `chunk_bytes` bytes. `end`
    /// is at most the file's length.
    pub(crate) fn new(
        file: Box<dyn FileHandle>,
        seed: u32,
        at: u64,
        end: u64,
        chunk_bytes: usize,
    ) -> Self {
        let (chunk, unreadable) = (Bytes::new(), Unreadable::default());
        Self { file, seed, end, chunk_bytes, chunk, chunk_at: at, at, unreadable }
    }

    /// Offset of the next frame, or at which reading stopped.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Offset at which reading ends.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Reads on to the end that the file has now.
    ///
    /// # Errors
    /// The file's size cannot be read.
    pub(crate) fn grow(&mut self) -> io::Result<()> {
        self.end = self.file.len()?;
        Ok(())
    }

    /// Reads in chunks of this size from the next read on.
    pub(crate) fn set_chunk_bytes(&mut self, bytes: usize) {
        self.chunk_bytes = bytes;
    }

    /// Moves the reader back to the frame at `offset`, which the caller rejected, and drops the
    /// chunk, so that the bytes from there on are read again.
    pub(crate) fn back_to(&mut self, offset: u64) {
        self.at = offset;
        self.chunk = Bytes::new();
        self.chunk_at = offset;
    }

    /// The next frame, or why there is none. Blocks for the read.
    ///
    /// # Errors
    /// An error of the read call, other than a block that the disk cannot read.
    pub(crate) fn next(&mut self) -> io::Result<Result<Frame, Stop>> {
        if self.at >= self.end {
            return Ok(Err(Stop::End));
        }
        if !self.reach(FRAME_HEADER_BYTES)? {
            let blank = self.rest()?.iter().all(|byte| *byte == 0);
            return Ok(Err(match self.unreadable_within(FRAME_HEADER_BYTES) {
                Some(stop) => stop,
                None if blank => Stop::Blank,
                None => Stop::Bad("a frame's header is cut short"),
            }));
        }
        if let Some(stop) = self.unreadable_within(FRAME_HEADER_BYTES) {
            return Ok(Err(stop));
        }
        let Some(header) = self.chunk[self.skip()..].first_chunk() else {
            return Ok(Err(Stop::Bad("a frame's header is cut short")));
        };
        let header = match FrameHeader::parse(header, self.seed, self.at) {
            ParsedFrameHeader::Header(header) => header,
            ParsedFrameHeader::Blank => return Ok(Err(Stop::Blank)),
            ParsedFrameHeader::Bad => {
                return Ok(Err(Stop::Bad("a frame's header does not match its checksum")));
            }
            ParsedFrameHeader::UnknownKind(kind) => return Ok(Err(Stop::UnknownKind(kind))),
        };
        let length = header.body_bytes as usize;
        if length > FRAME_BODY_MAX {
            return Ok(Err(Stop::Bad("a frame is longer than the maximum")));
        }
        if !self.reach(FRAME_HEADER_BYTES + length)? {
            return Ok(Err(Stop::Bad("a frame is cut short")));
        }
        if let Some(stop) = self.unreadable_within(FRAME_HEADER_BYTES + length) {
            return Ok(Err(stop));
        }
        let begin = self.skip() + FRAME_HEADER_BYTES;
        let body = self.chunk.slice(begin..begin + length);
        if !header.matches_body(&body, self.seed) {
            return Ok(Err(Stop::Bad("a frame's body does not match its checksum")));
        }
        let offset = self.at;
        self.at += (FRAME_HEADER_BYTES + length) as u64;
        Ok(Ok(Frame { header, offset, body }))
    }

    /// Searches for the next whole frame, at any offset from the position at which
    /// reading stopped. The work is linear in the length, whatever the bytes are: a
    /// valid header says where the next frame begins, so no body is read twice.
    pub(crate) fn find(&mut self) -> io::Result<Option<Frame>> {
        let mut from = self.at;
        while let Some((at, end)) = find_header(self.file.as_ref(), self.seed, from, self.end)? {
            self.back_to(at);
            if let Ok(frame) = self.next()? {
                return Ok(Some(frame));
            }
            from = end;
        }
        Ok(None)
    }

    /// The bytes before the end, fewer than a header.
    fn rest(&mut self) -> io::Result<Bytes> {
        let left = usize::try_from(self.end - self.at).unwrap_or(0);
        let mut bytes = vec![0; left.min(FRAME_HEADER_BYTES)];
        let Self { file, at, unreadable, .. } = self;
        let read = read_around(file.as_ref(), &mut bytes, *at, unreadable)?;
        bytes.truncate(read);
        Ok(bytes.into())
    }

    /// The reason to stop, if one of the next `length` bytes cannot be read.
    fn unreadable_within(&self, length: usize) -> Option<Stop> {
        let to = self.end.min(self.at + length as u64);
        let range = self.unreadable.within(&(self.at..to))?;
        Some(Stop::Unreadable { from: range.start, to: range.end })
    }

    /// Index of the next frame in the chunk.
    fn skip(&self) -> usize {
        usize::try_from(self.at - self.chunk_at).unwrap_or(usize::MAX)
    }

    /// Reads until the chunk holds `length` bytes from the next frame on. Returns false
    /// if they would pass the end.
    fn reach(&mut self, length: usize) -> io::Result<bool> {
        if length as u64 > self.end - self.at {
            return Ok(false);
        }
        if self.skip().saturating_add(length) > self.chunk.len() {
            self.refill(length)?;
        }
        Ok(self.chunk.len() - self.skip() >= length)
    }

    /// Moves the rest of the chunk to the front, and reads on behind it. Reuses the
    /// chunk's memory, unless a caller still holds a slice of it.
    fn refill(&mut self, at_least: usize) -> io::Result<()> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = self.chunk_bytes.max(at_least).min(left);
        let (from, chunk) = (self.skip(), std::mem::take(&mut self.chunk));
        let kept = chunk.len() - from;
        // If the read fails, the chunk is empty.
        self.chunk_at = self.at;
        let mut chunk = match chunk.try_into_mut() {
            Ok(mut own) if own.capacity() >= wanted => {
                own.copy_within(from.., 0);
                own
            }
            Ok(small) => with_room(&small[from..], wanted),
            Err(held) => with_room(&held[from..], wanted),
        };
        // The read overwrites the bytes behind the kept ones, so only growth is zeroed.
        chunk.resize(wanted, 0);
        let Self { file, at, unreadable, .. } = self;
        unreadable.forget_before(*at);
        let read = read_around(file.as_ref(), &mut chunk[kept..], *at + kept as u64, unreadable)?;
        chunk.truncate(kept + read);
        self.chunk = chunk.freeze();
        Ok(())
    }
}

fn with_room(bytes: &[u8], wanted: usize) -> BytesMut {
    let mut chunk = BytesMut::with_capacity(wanted);
    chunk.extend_from_slice(bytes);
    chunk
}

/// Whether a frame's content fits its kind. A frame of records has as many records as
/// its header says, at least one, and they fill its body. A seal or a gap has none. A
/// skippable frame may hold anything.
///
/// A frame of records without a record would only move the sequence on. A copy of the
/// segment could not repeat that.
pub(crate) fn is_consistent(frame: &Frame) -> bool {
    match frame.header.kind {
        FrameKind::Records if frame.header.records == 0 => return false,
        FrameKind::Records => {}
        FrameKind::Seal | FrameKind::Gap => {
            return frame.header.records == 0 && frame.body.is_empty();
        }
        FrameKind::Skippable(_) => return true,
    }
    let mut at = 0;
    (0..frame.header.records).all(|_| next_record(&frame.body, &mut at).is_some())
        && at == frame.body.len()
}
