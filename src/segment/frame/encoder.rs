//! Encodes a commit: records into frames, frames into one buffer.
//!
//! This file knows bytes. It does no I/O, and does not know files.

use super::record::put_record_head;
use super::{
    FRAME_BODY_TARGET, FRAME_HEADER_BYTES, FRAME_RECORDS_MAX, FrameHeader, FrameKind, NO_MARK,
    body_crc, fits,
};
use crate::segment::aligned_buf::AlignedBuf;

/// The position of the next commit in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameOrigin {
    /// The segment's seed.
    pub(crate) seed: u32,
    /// The segment's first sequence.
    pub(crate) first_sequence: u64,
    /// The offset in the segment.
    pub(crate) offset: u64,
}

/// Encodes frames into one buffer, which each commit reuses.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: AlignedBuf,
    /// The frame that is being filled, if it has a record.
    open: Option<OpenFrame>,
}

#[derive(Debug)]
struct OpenFrame {
    /// Index of its header in the buffer.
    at: usize,
    first: u64,
    records: usize,
}

impl Encoder {
    /// Starts a commit that will be written in blocks of `block` bytes. `prefix` is a
    /// segment's header, the earlier bytes of the commit's first block, or empty.
    pub(crate) fn begin(&mut self, prefix: &[u8], block: usize) {
        self.bytes.clear(block);
        self.bytes.end().extend_from_slice(prefix);
        self.open = None;
    }

    /// Number of bytes encoded so far, `prefix` included.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for a batch of `records` records and `bytes` body bytes in one frame.
    /// If the open frame cannot hold it, closes that frame. `origin` is the position of
    /// the buffer's first byte.
    pub(crate) fn begin_batch(
        &mut self,
        origin: &FrameOrigin,
        durable: u64,
        records: usize,
        bytes: usize,
    ) {
        if let Some(frame) = &self.open {
            let body = self.bytes.len() - frame.at - FRAME_HEADER_BYTES;
            if body + bytes > FRAME_BODY_TARGET || frame.records + records > FRAME_RECORDS_MAX {
                self.close_frame(origin, durable);
            }
        }
    }

    /// Adds a record to the open frame.
    pub(crate) fn record(&mut self, sequence: u64, key: u64, payload: &[u8]) {
        self.count(sequence, 1);
        put_record_head(self.bytes.end(), key, payload.len());
        self.bytes.end().extend_from_slice(payload);
    }

    /// Adds an encoded batch, in two pieces, to one frame.
    pub(crate) fn batch(
        &mut self,
        origin: &FrameOrigin,
        durable: u64,
        first: u64,
        records: usize,
        body: [&[u8]; 2],
    ) {
        self.begin_batch(origin, durable, records, body[0].len() + body[1].len());
        self.count(first, records);
        body.into_iter().for_each(|piece| self.bytes.end().extend_from_slice(piece));
    }

    /// Counts records that the caller adds next. Opens a frame if none is open.
    fn count(&mut self, first: u64, records: usize) {
        let at = self.bytes.len();
        let frame = match &mut self.open {
            Some(frame) => frame,
            none => {
                self.bytes.end().extend_from_slice(&[0; FRAME_HEADER_BYTES]);
                none.insert(OpenFrame { at, first, records: 0 })
            }
        };
        assert!(first == frame.first + frame.records as u64, "a frame's sequences have no holes");
        frame.records += records;
    }

    /// Closes the open frame, if there is one, and fills in its header.
    pub(crate) fn close_frame(&mut self, origin: &FrameOrigin, durable: u64) {
        let Some(frame) = self.open.take() else { return };
        let body = &self.bytes[frame.at + FRAME_HEADER_BYTES..];
        let header = FrameHeader {
            kind: FrameKind::Records,
            body_bytes: fits(body.len()),
            records: u16::try_from(frame.records).expect("begin_batch bounds a frame's records"),
            first: relative(frame.first, origin),
            lag: lag(frame.first, durable),
            body_crc: body_crc(body, origin.seed),
        };
        self.put_header(frame.at, &header, origin);
    }

    /// Adds a seal: a frame that says that every sequence below `durable` is durable,
    /// and that `next` is the next sequence.
    pub(crate) fn seal(&mut self, origin: &FrameOrigin, next: u64, durable: u64) {
        self.without_records(FrameKind::Seal, origin, next, durable);
    }

    /// Adds a gap: a frame that says that the records up to `next` are lost.
    pub(crate) fn gap(&mut self, origin: &FrameOrigin, next: u64, durable: u64) {
        self.without_records(FrameKind::Gap, origin, next, durable);
    }

    fn without_records(&mut self, kind: FrameKind, origin: &FrameOrigin, next: u64, durable: u64) {
        self.close_frame(origin, durable);
        let header = FrameHeader { kind, body_bytes: 0, records: 0, first: 0, lag: 0, body_crc: 0 };
        self.copy(&header, &[], origin, next, durable);
    }

    /// Adds a frame that was read from elsewhere. Encodes the parts that depend on
    /// segment and offset anew, for `origin`.
    pub(crate) fn copy(
        &mut self,
        header: &FrameHeader,
        body: &[u8],
        origin: &FrameOrigin,
        first: u64,
        durable: u64,
    ) {
        let at = self.bytes.len();
        let header = FrameHeader {
            first: relative(first, origin),
            lag: lag(first, durable),
            body_crc: body_crc(body, origin.seed),
            ..*header
        };
        self.bytes.end().extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        self.bytes.end().extend_from_slice(body);
        self.put_header(at, &header, origin);
    }

    fn put_header(&mut self, at: usize, header: &FrameHeader, origin: &FrameOrigin) {
        let bytes = header.encode(origin.seed, origin.offset + at as u64);
        self.bytes[at..at + FRAME_HEADER_BYTES].copy_from_slice(&bytes);
    }

    /// The encoded commit, mutable so that its writer can add zeros behind it.
    ///
    /// # Panics
    /// If a frame is open.
    pub(crate) fn bytes(&mut self) -> &mut AlignedBuf {
        assert!(self.open.is_none(), "a frame without its header must not be written");
        &mut self.bytes
    }
}

fn relative(sequence: u64, origin: &FrameOrigin) -> u32 {
    let relative = sequence
        .checked_sub(origin.first_sequence)
        .and_then(|relative| u32::try_from(relative).ok());
    relative.expect("a segment is rolled long before its sequences pass a u32")
}

fn lag(first: u64, durable: u64) -> u32 {
    u32::try_from(first.saturating_sub(durable)).unwrap_or(NO_MARK)
}
