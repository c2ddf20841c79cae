//! Frames: checksummed runs of whole batches. Bytes only, no I/O.
//!
//! FORMAT.md specifies each byte. A frame's header is vouched for by its own
//! checksum, so that a length is believed, and a durable mark found among
//! damage, before a body has been read; the body by another. Both start from a
//! seed that names log, generation, shard and segment, and the header's covers
//! its offset: bytes that were copied, recycled or moved never validate.

use std::ops::Range;

use crc32fast::Hasher;

use crate::aligned_bytes::AlignedBytes;

mod sought;

/// Bytes of a frame beside its body.
pub(crate) const FRAME_HEADER_BYTES: usize = 24;
/// A frame takes no further batch once it would pass this, so that one flipped
/// bit costs little.
pub(crate) const FRAME_BODY_TARGET: usize = 64 << 10;
/// The longest body that is believed: one batch of the largest size, and its
/// keys and lengths.
pub(crate) const FRAME_BODY_MAX: usize =
    crate::config::BATCH_BYTES_MAX + RECORD_OVERHEAD_MAX * FRAME_RECORDS_MAX;
/// The most records of a frame: its count is a u16.
pub(crate) const FRAME_RECORDS_MAX: usize = u16::MAX as usize;
/// Key, and the longest encoding of a length.
pub(crate) const RECORD_OVERHEAD_MAX: usize = 8 + 5;
/// The lag of a durable mark that lay too far back to be said.
const NO_MARK: u32 = u32::MAX;
/// A kind with this bit may be skipped by those who do not know it.
const SKIPPABLE: u8 = 0x80;

const _: () = assert!(FRAME_BODY_MAX < u32::MAX as usize);
const _: () = assert!(FRAME_RECORDS_MAX == crate::config::BATCH_RECORDS_MAX);

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Records.
    Records,
    /// Nothing but its durable mark.
    Seal,
    /// That the sequences below its own are lost: a repair could not read them.
    Gap,
    /// Something that this version may pass over.
    Skippable(u8),
}

impl FrameKind {
    /// Whether such a frame changes which sequence is next.
    pub(crate) fn moves_on(self) -> bool {
        matches!(self, Self::Records | Self::Gap)
    }

    /// `None` for a kind from the future that may not be skipped.
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

/// A frame's header, as far as it does not follow from where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) body_bytes: u32,
    pub(crate) records: u16,
    /// Sequence of the first record, less the segment's first sequence; without
    /// records, of the next one.
    pub(crate) first: u32,
    /// How far the durable mark lay behind `first` when this was written.
    pub(crate) lag: u32,
    body_crc: u32,
}

/// What stands where a frame should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A header that its checksum vouches for.
    Header(FrameHeader),
    /// A header that its checksum vouches for, of a kind from the future.
    UnknownKind(u8),
    /// Zeros: nothing was written here.
    Blank,
    /// Anything else.
    Bad,
}

impl FrameHeader {
    /// The sequence after the last record, less the segment's first.
    pub(crate) fn next(&self) -> u64 {
        let records = if self.kind == FrameKind::Records { self.records } else { 0 };
        u64::from(self.first) + u64::from(records)
    }

    /// The durable mark, less the segment's first sequence; negative where it
    /// lies in an earlier segment, `None` where it lay too far back to be said.
    pub(crate) fn mark(&self) -> Option<i64> {
        (self.lag != NO_MARK).then(|| i64::from(self.first) - i64::from(self.lag))
    }

    /// Reads what stands at `offset` of a segment with this seed.
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

    /// What the bytes say, if they are a header.
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

    /// Whether the body is the one that was written.
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

/// Where the next frame goes, and what it must say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The segment's seed.
    pub(crate) seed: u32,
    /// The segment's first sequence.
    pub(crate) first_sequence: u64,
    /// The offset in the segment.
    pub(crate) offset: u64,
}

/// Writes frames into one buffer that is used again for each commit.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    bytes: AlignedBytes,
    /// The frame being filled, if it has a record yet.
    open: Option<OpenFrame>,
}

#[derive(Debug)]
struct OpenFrame {
    /// Where its header stands in the buffer.
    at: usize,
    first: u64,
    records: usize,
}

impl Encoder {
    /// Starts a commit with `prefix` (a segment's header, what its first block
    /// holds already, or nothing), to be written in blocks of so many bytes.
    pub(crate) fn begin(&mut self, prefix: &[u8], block: usize) {
        self.bytes.clear(block);
        self.bytes.end().extend_from_slice(prefix);
        self.open = None;
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room for a batch of so many records and body bytes in one frame:
    /// closes the frame before it where both do not fit. `place` is where the
    /// buffer's first byte goes.
    pub(crate) fn begin_batch(
        &mut self,
        place: &Place,
        durable: u64,
        records: usize,
        bytes: usize,
    ) {
        if let Some(frame) = &self.open {
            let body = self.bytes.len() - frame.at - FRAME_HEADER_BYTES;
            if body + bytes > FRAME_BODY_TARGET || frame.records + records > FRAME_RECORDS_MAX {
                self.close_frame(place, durable);
            }
        }
    }

    /// Adds a record to the open frame.
    pub(crate) fn record(&mut self, sequence: u64, key: u64, payload: &[u8]) {
        self.count(sequence, 1);
        put_record_head(self.bytes.end(), key, payload.len());
        self.bytes.end().extend_from_slice(payload);
    }

    /// Adds a batch that is encoded already, in pieces, to one frame.
    pub(crate) fn batch(
        &mut self,
        place: &Place,
        durable: u64,
        first: u64,
        records: usize,
        body: [&[u8]; 2],
    ) {
        self.begin_batch(place, durable, records, body[0].len() + body[1].len());
        self.count(first, records);
        body.into_iter().for_each(|piece| self.bytes.end().extend_from_slice(piece));
    }

    /// Counts records that are about to be added, opening a frame if need be.
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

    /// Closes the open frame, if there is one: fills in its header.
    pub(crate) fn close_frame(&mut self, place: &Place, durable: u64) {
        let Some(frame) = self.open.take() else { return };
        let body = &self.bytes[frame.at + FRAME_HEADER_BYTES..];
        let header = FrameHeader {
            kind: FrameKind::Records,
            body_bytes: fits(body.len()),
            records: u16::try_from(frame.records).expect("begin_batch bounds a frame's records"),
            first: relative(frame.first, place),
            lag: lag(frame.first, durable),
            body_crc: body_crc(body, place.seed),
        };
        self.put_header(frame.at, &header, place);
    }

    /// Adds a seal: a frame that says that all below `durable` is durable, and
    /// that `next` is the next sequence.
    pub(crate) fn seal(&mut self, place: &Place, next: u64, durable: u64) {
        self.without_records(FrameKind::Seal, place, next, durable);
    }

    /// Adds a gap: a frame that says that what should stand before `next` is
    /// lost.
    pub(crate) fn gap(&mut self, place: &Place, next: u64, durable: u64) {
        self.without_records(FrameKind::Gap, place, next, durable);
    }

    fn without_records(&mut self, kind: FrameKind, place: &Place, next: u64, durable: u64) {
        self.close_frame(place, durable);
        let header = FrameHeader { kind, body_bytes: 0, records: 0, first: 0, lag: 0, body_crc: 0 };
        self.copy(&header, &[], place, next, durable);
    }

    /// Adds a frame that was read, for this place: what depends on segment and
    /// offset is said anew.
    pub(crate) fn copy(
        &mut self,
        header: &FrameHeader,
        body: &[u8],
        place: &Place,
        first: u64,
        durable: u64,
    ) {
        let at = self.bytes.len();
        let header = FrameHeader {
            first: relative(first, place),
            lag: lag(first, durable),
            body_crc: body_crc(body, place.seed),
            ..*header
        };
        self.bytes.end().extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        self.bytes.end().extend_from_slice(body);
        self.put_header(at, &header, place);
    }

    fn put_header(&mut self, at: usize, header: &FrameHeader, place: &Place) {
        let bytes = header.encode(place.seed, place.offset + at as u64);
        self.bytes[at..at + FRAME_HEADER_BYTES].copy_from_slice(&bytes);
    }

    /// What the commit writes, for whoever writes it to put zeros behind it. All
    /// frames must be closed.
    pub(crate) fn bytes(&mut self) -> &mut AlignedBytes {
        assert!(self.open.is_none(), "a frame without its header must not be written");
        &mut self.bytes
    }
}

fn relative(sequence: u64, place: &Place) -> u32 {
    let relative = sequence
        .checked_sub(place.first_sequence)
        .and_then(|relative| u32::try_from(relative).ok());
    relative.expect("a segment is rolled long before its sequences pass a u32")
}

fn lag(first: u64, durable: u64) -> u32 {
    u32::try_from(first.saturating_sub(durable)).unwrap_or(NO_MARK)
}

fn fits(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a batch is bounded far below 4 GiB")
}

/// What precedes a record's payload in a frame's body.
#[inline]
pub(crate) fn put_record_head(bytes: &mut Vec<u8>, key: u64, length: usize) {
    // Put together first, for one look at the buffer's room.
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

/// Bytes that a record takes in a frame's body.
pub(crate) fn record_bytes(payload: usize) -> usize {
    let bits = usize::BITS - (payload | 1).leading_zeros();
    8 + bits.div_ceil(7) as usize + payload
}

/// The records of a body that its checksum vouches for: `(key, payload's range
/// within the body)`. `None` where the body contradicts itself.
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
