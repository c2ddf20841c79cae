//! Segments: the file name, header and identity of a shard's file.
//!
//! This file knows bytes and names. It does no I/O, and does not know frames. FORMAT.md
//! specifies each byte.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;

/// Length in bytes of a segment's header. Frames follow it.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 88;
/// The format version that this library writes and reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"shardwal";
const EXTENSION: &str = "wal";
const RECYCLED_EXTENSION: &str = "spare";
/// The highest sequence, offset, segment number or epoch that a reader accepts.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

/// Identifies one segment of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentIdentity {
    pub(crate) log: [u8; 16],
    pub(crate) generation: u32,
    pub(crate) shard: u32,
    pub(crate) number: u64,
}

impl SegmentIdentity {
    /// The initial value of the checksums of this segment's frames.
    pub(crate) fn seed(&self) -> u32 {
        let mut hasher = Hasher::new();
        hasher.update(&self.log);
        hasher.update(&self.generation.to_le_bytes());
        hasher.update(&self.shard.to_le_bytes());
        hasher.update(&self.number.to_le_bytes());
        hasher.finalize()
    }

    /// The identity of segment `number` of this shard.
    pub(crate) fn with_number(self, number: u64) -> Self {
        Self { number, ..self }
    }
}

/// The segment before this one, as it was when the writer left it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Predecessor {
    /// Its number; 0 if there is none.
    pub(crate) number: u64,
    /// Offset of the end of its last frame.
    pub(crate) end: u64,
    /// The sequence after its last record.
    pub(crate) next_sequence: u64,
}

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: SegmentIdentity,
    /// At most the sequence of the segment's first record.
    pub(crate) first_sequence: u64,
    pub(crate) predecessor: Predecessor,
}

/// What the bytes at a header's position are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParsedHeader {
    Header(SegmentHeader),
    /// Zeros: the file was prepared and never used.
    Blank,
    /// A later format version.
    Newer(u32),
    /// A format version below the first.
    Older(u32),
    /// The whole header of another segment: the file was copied or renamed.
    Foreign(SegmentIdentity),
    Bad,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        let identity = &self.identity;
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&identity.generation.to_le_bytes());
        bytes[16..20].copy_from_slice(&identity.shard.to_le_bytes());
        bytes[24..40].copy_from_slice(&identity.log);
        bytes[40..48].copy_from_slice(&identity.number.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.predecessor.number.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.predecessor.end.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.predecessor.next_sequence.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..84]);
        bytes[84..88].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Parses the header of the segment that should be `expected`. `bytes` may be
    /// shorter than a header if the file is.
    pub(crate) fn parse(bytes: &[u8], expected: &SegmentIdentity) -> ParsedHeader {
        if bytes.iter().all(|byte| *byte == 0) {
            return ParsedHeader::Blank;
        }
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return ParsedHeader::Bad;
        };
        let crc = crc32fast::hash(&bytes[..84]).to_le_bytes();
        if bytes[0..8] != MAGIC || bytes[84..88] != crc {
            return ParsedHeader::Bad;
        }
        let int = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let long = |at: usize| u64::from(int(at)) | u64::from(int(at + 4)) << 32;
        match int(8).cmp(&FORMAT_VERSION) {
            Ordering::Less => return ParsedHeader::Older(int(8)),
            Ordering::Equal => {}
            Ordering::Greater => return ParsedHeader::Newer(int(8)),
        }
        let mut log = [0; 16];
        log.copy_from_slice(&bytes[24..40]);
        let identity =
            SegmentIdentity { log, generation: int(12), shard: int(16), number: long(40) };
        if identity != *expected {
            return ParsedHeader::Foreign(identity);
        }
        // The limit is far above any real log, and far below a sum that overflows.
        if [long(48), long(64), long(72)].iter().any(|number| *number > NUMBER_MAX) {
            return ParsedHeader::Bad;
        }
        ParsedHeader::Header(Self {
            identity,
            first_sequence: long(48),
            predecessor: Predecessor { number: long(56), end: long(64), next_sequence: long(72) },
        })
    }
}

/// The path of a segment.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.{EXTENSION}"))
}

/// The path of an unfinished segment. A rename makes it a segment.
pub(crate) fn unfinished_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.{EXTENSION}.tmp"))
}

/// The path of a recycled segment: a file kept for a later one. Its number has no
/// meaning.
pub(crate) fn recycled_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:010}.{RECYCLED_EXTENSION}"))
}

/// The number of the segment with this file name; `None` for any other name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    numbered(name, EXTENSION)
}

/// The number of the recycled segment with this file name; `None` for any other name.
pub(crate) fn recycled_number(name: &str) -> Option<u64> {
    numbered(name, RECYCLED_EXTENSION)
}

fn numbered(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let number = digits.parse().ok()?;
    ((1..=NUMBER_MAX).contains(&number) && name == format!("{number:010}.{extension}"))
        .then_some(number)
}

/// Whether `name` is an unfinished segment, left by an open that did not finish.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|name| segment_number(name).is_some())
}
