//! The skeleton of a corrupted shard: its segments in order, and the holes where
//! segments are missing or have no header.
//!
//! It follows predecessors like the segment chain, but continues past a broken
//! place. It does not decide what is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::error::OpenError;
use crate::fs::{FileHandle, FileSystem, OpenMode};
use crate::layout::shard_dir::ShardDir;
use crate::recovery::segment_builder::PIECE_BYTES;
use crate::recovery::segment_file::{read_header, search_file};
use crate::segment::frame::FrameHeader;
use crate::segment::frame_reader::{FrameReader, is_consistent};
use crate::segment::header::{
    NUMBER_MAX, ParsedHeader, Predecessor, SEGMENT_HEADER_BYTES, SegmentHeader, segment_number,
};

/// One element of the skeleton.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Element {
    /// A segment with its header.
    Segment(SegmentHeader),
    /// A segment that is missing, or that has no valid header.
    Hole(Hole),
}

impl Element {
    pub(crate) fn number(&self) -> u64 {
        match self {
            Self::Segment(header) => header.identity.number,
            Self::Hole(hole) => hole.number,
        }
    }
}

/// The place of a segment that is missing, or that has no valid header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hole {
    pub(crate) number: u64,
    /// The segment's end according to its successor, if it has one.
    pub(crate) expected: Option<Predecessor>,
    /// The segment's first sequence, if its remains reveal it.
    pub(crate) first_sequence: Option<u64>,
    /// Whether the file exists, and its header may never have reached the disk.
    pub(crate) may_be_torn: bool,
}

impl Hole {
    fn new(number: u64, expected: Option<Predecessor>, may_be_torn: bool) -> Self {
        Self { number, expected, first_sequence: None, may_be_torn }
    }
}

/// The skeleton of a shard.
#[derive(Debug, Default)]
pub(crate) struct Skeleton {
    /// Oldest first.
    pub(crate) elements: Vec<Element>,
    /// Segments that are not part of it: their number is higher than any writer
    /// uses, or they have no usable header and no successor names them.
    pub(crate) set_aside: Vec<u64>,
}

impl Skeleton {
    pub(crate) fn read(fs: &dyn FileSystem, shard_dir: &ShardDir) -> Result<Self, OpenError> {
        let names = fs.list(&shard_dir.dir).map_err(OpenError::io("listing", &shard_dir.dir))?;
        let mut numbers: BTreeSet<u64> =
            names.iter().filter_map(|name| segment_number(name)).collect();
        if shard_dir.is_all_truncated() {
            return Ok(Self::default());
        }
        let mut set_aside: Vec<_> = numbers.split_off(&NUMBER_MAX).into_iter().collect();
        let (headers, headerless) = read_headers(fs, shard_dir, &numbers)?;
        let mut elements = walk(shard_dir, &headers, &headerless);
        let newest = headers.last_key_value().map_or(0, |(number, _)| *number);
        for number in numbers.range(newest + 1..) {
            // Otherwise the segment never held anything durable.
            if !headerless.contains(number) || search_file(fs, shard_dir, *number)?.mark > Some(0) {
                elements.push(Element::Hole(Hole::new(*number, None, false)));
            }
        }
        if elements.is_empty() {
            let number = numbers.last().copied().unwrap_or(1);
            elements.push(Element::Hole(Hole::new(number, None, false)));
        }
        if let Some(Element::Hole(first)) = elements.first_mut() {
            // A shard always has a segment, so its header once was durable.
            first.may_be_torn = false;
        }
        let oldest = elements.first().map_or(0, Element::number);
        for number in numbers.range(oldest..).take_while(|number| **number < newest) {
            let is_element = elements.iter().any(|element| element.number() == *number);
            let remains = || search_file(fs, shard_dir, *number);
            // An open would delete these segments, but they may hold lost records.
            if !is_element && !headers.contains_key(number) && remains()?.bytes > 0 {
                set_aside.push(*number);
            }
        }
        for element in &mut elements {
            if let Element::Hole(hole) = element {
                hole.first_sequence = first_sequence(fs, shard_dir, hole)?;
            }
        }
        Ok(Self { elements, set_aside })
    }
}

/// The valid headers by segment number, and the segments without any header.
fn read_headers(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    numbers: &BTreeSet<u64>,
) -> Result<(BTreeMap<u64, SegmentHeader>, BTreeSet<u64>), OpenError> {
    let (mut headers, mut headerless) = (BTreeMap::new(), BTreeSet::new());
    for number in numbers {
        let identity = shard_dir.identity.with_number(*number);
        let file = || shard_dir.path(*number);
        let what = |version| format!("its format is version {version}");
        // A segment with an unreadable header is in neither set: it may hold anything.
        let Some(bytes) = read_header(fs, shard_dir, *number)? else { continue };
        match SegmentHeader::parse(&bytes, &identity) {
            ParsedHeader::Header(header) if header.predecessor.number < *number => {
                headers.insert(*number, header);
            }
            ParsedHeader::Newer(version) => {
                return Err(OpenError::NewerFormat { file: file(), what: what(version) });
            }
            ParsedHeader::Older(version) => {
                return Err(OpenError::OlderFormat { file: file(), what: what(version) });
            }
            ParsedHeader::Bad
                if search_file(fs, shard_dir, *number)?.unreadable.first().is_some() => {}
            ParsedHeader::Blank | ParsedHeader::Bad => {
                headerless.insert(*number);
            }
            ParsedHeader::Header(_) | ParsedHeader::Foreign(_) => {}
        }
    }
    Ok((headers, headerless))
}

/// Walks from the newest segment back. If a predecessor is missing, continues with
/// the next older segment. Even if that one was superseded, its records up to its
/// first corrupted place were the log's.
fn walk(
    shard_dir: &ShardDir,
    headers: &BTreeMap<u64, SegmentHeader>,
    headerless: &BTreeSet<u64>,
) -> Vec<Element> {
    let mut elements = Vec::new();
    let mut at = headers.last_key_value();
    while let Some((_, header)) = at {
        elements.push(Element::Segment(*header));
        let expected = header.predecessor;
        // Segments below the truncation mark may be deleted already.
        if expected.number == 0 || expected.next_sequence <= shard_dir.truncated_below {
            break;
        }
        at = headers.get_key_value(&expected.number).or_else(|| {
            let may_be_torn = headerless.contains(&expected.number);
            elements.push(Element::Hole(Hole::new(expected.number, Some(expected), may_be_torn)));
            headers.range(..expected.number).next_back()
        });
    }
    elements.reverse();
    elements
}

/// The first sequence of a segment without its header. A shard's first segment
/// begins at 0. For others, the successor names the segment's end and the sequence
/// that followed there; the frame that ends there is relative to the beginning.
fn first_sequence(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    hole: &Hole,
) -> Result<Option<u64>, OpenError> {
    let path = shard_dir.path(hole.number);
    let file = match fs.open(&path, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(OpenError::io("opening", &path))?,
    };
    file.drop_cache();
    if hole.number == 1 {
        return Ok(Some(0));
    }
    let Some(expected) = hole.expected else { return Ok(None) };
    let last = last_frame(file, shard_dir.seed(hole.number), expected.end);
    let last = last.map_err(OpenError::io("reading", &path))?;
    Ok(last.and_then(|header| expected.next_sequence.checked_sub(header.next())))
}

/// The header of the valid frame that ends at `end`.
fn last_frame(file: Box<dyn FileHandle>, seed: u32, end: u64) -> io::Result<Option<FrameHeader>> {
    let bytes = file.len()?;
    let start = SEGMENT_HEADER_BYTES as u64;
    let mut frames = FrameReader::new(file, seed, start, end.min(bytes), PIECE_BYTES);
    let mut last = None;
    loop {
        let frame = match frames.next()? {
            Ok(frame) => Some(frame),
            Err(_) => frames.find()?,
        };
        let Some(frame) = frame else { return Ok(last) };
        last = (frame.end() == end && is_consistent(&frame)).then_some(frame.header);
    }
}
