//! Frames: checksummed runs of whole batches.
//!
//! This file knows bytes. It does no I/O, and does not know files. FORMAT.md specifies
//! each byte.
//!
//! A frame's header has its own checksum. A reader can therefore trust a length, or a
//! durable mark found in corrupted bytes, before it has read a body. The body has a
//! second checksum. Both start from a seed that names log, generation, shard and
//! segment, and the header's checksum covers its offset. So bytes that were copied,
//! recycled or moved never validate.

use crc32fast::Hasher;

mod encoder;
mod plausible;
mod record;

pub(crate) use encoder::{Encoder, FrameOrigin};
pub(crate) use record::{next_record, put_record_head, record_bytes};

/// Length in bytes of a frame's header.
pub(crate) const FRAME_HEADER_BYTES: usize = 24;
/// A frame takes no further batch that would make its body longer than this. So one
/// flipped bit costs few records.
pub(crate) const FRAME_BODY_TARGET: usize = 64 << 10;
/// The longest body that a reader accepts: one batch of the largest size, with its keys
/// and lengths.
pub(crate) const FRAME_BODY_MAX: usize =
    crate::config::BATCH_BYTES_MAX + RECORD_OVERHEAD_MAX * FRAME_RECORDS_MAX;
/// The most records per frame: the header counts them in a u16.
pub(crate) const FRAME_RECORDS_MAX: usize = u16::MAX as usize;
/// A record's key, and the longest encoding of its length.
pub(crate) const RECORD_OVERHEAD_MAX: usize = 8 + 5;
/// The lag that says: the durable mark is too far back to be encoded.
const NO_MARK: u32 = u32::MAX;
/// A reader may skip a frame whose kind has this bit, even if it does not know the
/// kind.
const SKIPPABLE: u8 = 0x80;

const _: () = assert!(FRAME_BODY_MAX < u32::MAX as usize);
const _: () = assert!(FRAME_RECORDS_MAX == crate::config::BATCH_RECORDS_MAX);

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Records,
    /// No records, only a durable mark.
    Seal,
    /// A lost range: a repair could not read the records before this frame's sequence.
    Gap,
    /// An unknown kind that a reader may skip.
    Skippable(u8),
}

impl FrameKind {
    /// Whether a frame of this kind advances the next sequence.
    pub(crate) fn advances_sequence(self) -> bool {
        matches!(self, Self::Records | Self::Gap)
    }

    /// Returns `None` for an unknown kind that may not be skipped.
    fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Records),
            2 => Some(Self::Seal),
            3 => Some(Self::Gap),
            code => (code & SKIPPABLE != 0).then_some(Self::Skippable(code)),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Records => 1,
            Self::Seal => 2,
            Self::Gap => 3,
            Self::Skippable(code) => code,
        }
    }
}

/// A frame's header, without the parts that follow from its segment and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) body_bytes: u32,
    pub(crate) records: u16,
    /// Sequence of the first record, relative to the segment's first sequence. In a
    /// frame without records, the next sequence.
    pub(crate) first: u32,
    /// Distance from the durable mark up to `first`, when the frame was written.
    pub(crate) lag: u32,
    body_crc: u32,
}

/// What the bytes at a frame's position are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParsedFrameHeader {
    /// A header whose checksum matches.
    Header(FrameHeader),
    /// A header whose checksum matches, of a kind from a later version.
    UnknownKind(u8),
    /// Zeros: no frame was written here.
    Blank,
    /// Anything else.
    Bad,
}

impl FrameHeader {
    /// The sequence after the last record, relative to the segment's first.
    pub(crate) fn next(&self) -> u64 {
        let records = if self.kind == FrameKind::Records { self.records } else { 0 };
        u64::from(self.first) + u64::from(records)
    }

    /// The durable mark, relative to the segment's first sequence. Negative if it is in
    /// an earlier segment; `None` if it was too far back to be encoded.
    pub(crate) fn mark(&self) -> Option<i64> {
        (self.lag != NO_MARK).then(|| i64::from(self.first) - i64::from(self.lag))
    }

    /// Parses the bytes at `offset` of a segment with this seed.
    pub(crate) fn parse(
        bytes: &[u8; FRAME_HEADER_BYTES],
        seed: u32,
        offset: u64,
    ) -> ParsedFrameHeader {
        if bytes.iter().all(|byte| *byte == 0) {
            return ParsedFrameHeader::Blank;
        }
        let word = |at| word(bytes, at);
        if bytes[5] != 0 || word(20) != header_crc(&bytes[..20], seed, offset) {
            return ParsedFrameHeader::Bad;
        }
        match FrameKind::of(bytes[4]) {
            Some(kind) => ParsedFrameHeader::Header(Self::read(bytes, kind)),
            None => ParsedFrameHeader::UnknownKind(bytes[4]),
        }
    }

    /// Decodes the fields. Checks no checksum.
    fn read(bytes: &[u8; FRAME_HEADER_BYTES], kind: FrameKind) -> Self {
        let word = |at| word(bytes, at);
        Self {
            kind,
            body_bytes: word(0),
            records: u16::from_le_bytes([bytes[6], bytes[7]]),
            first: word(8),
            lag: word(12),
            body_crc: word(16),
        }
    }

    fn encode(&self, seed: u32, offset: u64) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[4] = self.kind.code();
        bytes[6..8].copy_from_slice(&self.records.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.first.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.lag.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = header_crc(&bytes[..20], seed, offset);
        bytes[20..24].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Whether `body` matches the body checksum in this header.
    pub(crate) fn matches_body(&self, body: &[u8], seed: u32) -> bool {
        body_crc(body, seed) == self.body_crc
    }
}

fn word(bytes: &[u8; FRAME_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn header_crc(bytes: &[u8], seed: u32, offset: u64) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(&offset.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn body_crc(body: &[u8], seed: u32) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(body);
    hasher.finalize()
}

fn fits(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch is bounded far below 4 GiB")
}
