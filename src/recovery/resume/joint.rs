//! The joint of a resume: the last place below which everything is durable, and the copy of
//! the records above it.
//!
//! This file reads old segments and fills a new one. It gives no segment its name.

use std::io;

use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode};
use crate::layout::shard_dir::ShardDir;
use crate::recovery::segment_builder::{PIECE_BYTES, SegmentBuilder};
use crate::recovery::shard_scan::ShardScan;
use crate::segment::catalogue::SegmentMeta;
use crate::segment::frame::FrameKind;
use crate::segment::frame_reader::{Frame, FrameReader};
use crate::segment::header::{Predecessor, SEGMENT_HEADER_BYTES};

/// Where the new segment continues the log.
pub(super) struct Joint {
    pub(super) predecessor: Predecessor,
    /// The segments that stay. The last one's end and next sequence are those of
    /// the joint.
    pub(super) kept: Vec<SegmentMeta>,
    /// The segment in which the copy begins, as an index into the scan's segments,
    /// and the offset.
    pub(super) copy_from: Option<(usize, u64)>,
}

/// Finds the last place below which everything is durable. Segments without a
/// record below it do not stay.
pub(super) fn find_joint(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    scan: &ShardScan,
) -> Result<Joint, OpenError> {
    // Truncated records need no copy, even if no mark covers them. Nor do records
    // that the scan has synced in place.
    let durable = scan.durable_below.max(shard_dir.truncated_below).max(scan.synced_below);
    let mut kept = scan.segments.clone();
    let mut copy_from = None;
    for (index, link) in scan.links.iter().enumerate() {
        let meta = &scan.segments[index];
        if meta.next_sequence > Some(durable) {
            let (offset, next) =
                first_frame_above(fs, shard_dir, link.header.first_sequence, meta, durable)?;
            kept.truncate(index + 1);
            kept[index].end = offset;
            kept[index].next_sequence = Some(next);
            copy_from = Some((index, offset));
            break;
        }
    }
    let mut predecessor = Predecessor::default();
    while let Some(last) = kept.last() {
        let next_sequence = last.next_sequence.unwrap_or(last.first_sequence);
        if next_sequence > last.first_sequence {
            predecessor = Predecessor { number: last.number, end: last.end, next_sequence };
            break;
        }
        predecessor.next_sequence = last.first_sequence;
        kept.pop();
    }
    Ok(Joint { predecessor, kept, copy_from })
}

/// Copies the records above the durable mark. Returns their number and the next
/// sequence.
pub(super) fn fill(
    copy: &mut SegmentBuilder,
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    scan: &ShardScan,
    joint: &Joint,
    first_sequence: u64,
) -> Result<(u64, u64), OpenError> {
    let (mut copied, mut next_sequence) = (0, first_sequence);
    for (index, link) in scan.links.iter().enumerate() {
        let Some((from, offset)) = joint.copy_from.filter(|(from, _)| index >= *from) else {
            continue;
        };
        let offset = if index == from { offset } else { SEGMENT_HEADER_BYTES as u64 };
        let base = link.header.first_sequence;
        for_each_frame(fs, shard_dir, &scan.segments[index], offset, |frame| {
            copied += copy_frame(copy, frame, base, first_sequence)?;
            if frame.header.kind.advances_sequence() {
                next_sequence = base + frame.header.next();
            }
            Ok(true)
        })?;
    }
    // The seal may claim durability before the sync: until then the file has a
    // temporary name, and no reader opens it. The seal must not name a sequence
    // past the last record: a last segment without records may begin after
    // sequences whose appends were refused.
    copy.seal(next_sequence)?;
    Ok((copied, next_sequence))
}

/// The offset of the first frame that reaches past `durable`, and the next
/// sequence before it.
fn first_frame_above(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    base: u64,
    meta: &SegmentMeta,
    durable: u64,
) -> Result<(u64, u64), OpenError> {
    let mut next = meta.first_sequence;
    // The end of the last record, not of a seal after it: the seal may never have
    // been synced, and the next open may not find it.
    let mut end = SEGMENT_HEADER_BYTES as u64;
    for_each_frame(fs, shard_dir, meta, SEGMENT_HEADER_BYTES as u64, |frame| {
        if !frame.header.kind.advances_sequence() {
            return Ok(true);
        }
        if base + frame.header.next() > durable {
            return Ok(false);
        }
        end = frame.end();
        next = base + frame.header.next();
        Ok(true)
    })?;
    Ok((end, next))
}

/// Copies a frame with records or a gap. Returns the number of records. The copy's
/// mark claims no more than `durable`.
fn copy_frame(
    copy: &mut SegmentBuilder,
    frame: &Frame,
    base: u64,
    durable: u64,
) -> io::Result<u64> {
    match frame.header.kind {
        FrameKind::Records => copy.frame(frame, base + u64::from(frame.header.first), durable)?,
        FrameKind::Gap => copy.gap(base + frame.header.next(), durable)?,
        FrameKind::Seal | FrameKind::Skippable(_) => return Ok(0),
    }
    Ok(u64::from(frame.header.records))
}

/// Calls `take` for each frame of a scanned segment, until it returns `false`.
pub(super) fn for_each_frame(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    meta: &SegmentMeta,
    from: u64,
    mut take: impl FnMut(&Frame) -> io::Result<bool>,
) -> Result<(), OpenError> {
    let path = shard_dir.path(meta.number);
    let file = fs.open(&path, OpenMode::Read).map_err(OpenError::io("opening", &path))?;
    let seed = shard_dir.seed(meta.number);
    let mut frames = FrameReader::new(file, seed, from, meta.end, PIECE_BYTES);
    while frames.at() < meta.end {
        let frame = frames.next().map_err(OpenError::io("reading", &path))?;
        let frame = frame.map_err(|stop| {
            let changed = io::Error::other(format!("it changed since it was scanned: {stop:?}"));
            OpenError::io("reading", &path)(changed)
        })?;
        if !take(&frame).map_err(OpenError::io("copying from", &path))? {
            break;
        }
    }
    Ok(())
}
