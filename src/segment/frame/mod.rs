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

use std::ops::Range;

use crc32fast::Hasher;

use crate::segment::aligned_buf::AlignedBuf;

mod plausible;

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
    pub(crate) fn moves_on(self) -> bool {
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
pub(crate) enum Found {
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
    pub(crate) fn parse(bytes: &[u8; FRAME_HEADER_BYTES], seed: u32, offset: u64) -> Found {
        if bytes.iter().all(|byte| *byte == 0) {
            return Found::Blank;
        }
        let word = |at| word(bytes, at);
        if bytes[5] != 0 || word(20) != header_crc(&bytes[..20], seed, offset) {
            return Found::Bad;
        }
        match FrameKind::of(bytes[4]) {
            Some(kind) => Found::Header(Self::read(bytes, kind)),
            None => Found::UnknownKind(bytes[4]),
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
    pub(crate) fn vouches_for(&self, body: &[u8], seed: u32) -> bool {
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

fn fits(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch is bounded far below 4 GiB")
}

/// Appends the bytes that precede a record's payload in a frame's body.
#[inline]
pub(crate) fn put_record_head(bytes: &mut Vec<u8>, key: u64, length: usize) {
    // Assembled first, so that the vector checks its capacity once.
    let mut head = [0; RECORD_OVERHEAD_MAX];
    head[..8].copy_from_slice(&key.to_le_bytes());
    let (mut rest, mut last) = (fits(length), 8);
    while rest >= 0x80 {
        head[last] = rest.to_le_bytes()[0] | 0x80;
        rest >>= 7;
        last += 1;
    }
    head[last] = rest.to_le_bytes()[0];
    bytes.extend_from_slice(&head[..=last]);
}

/// Number of bytes of a record with this payload length in a frame's body.
pub(crate) fn record_bytes(payload: usize) -> usize {
    let bits = usize::BITS - (payload | 1).leading_zeros();
    8 + bits.div_ceil(7) as usize + payload
}

/// Decodes the record at `at` in a body whose checksum matches. Returns its key and the
/// range of its payload in the body, and moves `at` behind it. Returns `None` if the
/// body contradicts itself.
pub(crate) fn next_record(body: &[u8], at: &mut usize) -> Option<(u64, Range<usize>)> {
    let key = body.get(*at..*at + 8)?;
    let key = u64::from_le_bytes(key.try_into().ok()?);
    let mut length = 0_u64;
    let mut cursor = *at + 8;
    for shift in (0..35).step_by(7) {
        let byte = *body.get(cursor)?;
        cursor += 1;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let end = cursor.checked_add(usize::try_from(length).ok()?)?;
            if end > body.len() {
                return None;
            }
            *at = end;
            return Some((key, cursor..end));
        }
    }
    None
}
