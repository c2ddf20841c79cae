//! Makes what a survey found safe to go on from: a new segment that says where
//! the log ends, and holds a copy of what no frame says was durable.
//!
//! **Open never writes into an old segment** (R3 FRESH). After a failed sync
//! the cache may have shown bytes that the disk never had; the survey has read
//! past the cache, and what it accepted above the durable mark is written and
//! synced once more, before anything is replayed.

use std::io;

use crate::disk::{Disk, DiskFile, OpenMode, unlink_if_there};
use crate::error::OpenError;
use crate::frame::FrameKind;
use crate::frame_reader::{Frame, FrameReader};
use crate::recovery::copy::{PIECE_BYTES, SegmentCopy};
use crate::recovery::survey::{Folder, Survey};
use crate::segment::{Predecessor, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::segment_writer::SegmentMeta;

/// A shard that can be replayed, and whose last segment may be written to.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) header: SegmentHeader,
    /// The new segment, durable up to `position`, its name included.
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) position: u64,
    pub(crate) next_sequence: u64,
    /// Oldest first, the new segment last.
    pub(crate) segments: Vec<SegmentMeta>,
    /// Records that were copied.
    pub(crate) copied: u64,
}

/// Where the new segment takes over.
struct Joint {
    predecessor: Predecessor,
    /// Segments that stay, with the last one's end and next sequence.
    kept: Vec<SegmentMeta>,
    /// Index in the survey of the segment that the copy begins in, and where.
    copy_from: Option<(usize, u64)>,
}

/// Writes the new segment and removes what it supersedes.
pub(crate) fn settle(
    disk: &dyn Disk,
    folder: &Folder,
    survey: &Survey,
) -> Result<Settled, OpenError> {
    let joint = find_joint(disk, folder, survey)?;
    let number = survey.highest_number + 1;
    let first_sequence = match joint.copy_from {
        Some(_) => joint.predecessor.next_sequence,
        None => survey.next_sequence,
    };
    let header = SegmentHeader {
        identity: folder.identity.with_number(number),
        first_sequence,
        predecessor: joint.predecessor,
    };
    let mut copy = SegmentCopy::create(disk, folder, &header)?;
    let (mut copied, mut next_sequence) = (0, first_sequence);
    for (index, link) in survey.links.iter().enumerate() {
        if let Some((from, offset)) = joint.copy_from.filter(|(from, _)| index >= *from) {
            let offset = if index == from { offset } else { SEGMENT_HEADER_BYTES as u64 };
            let base = link.header.first_sequence;
            each_frame(disk, folder, &survey.segments[index], offset, |frame| {
                copied += copy_frame(&mut copy, frame, base, first_sequence)?;
                if frame.header.kind.moves_on() {
                    next_sequence = base + frame.header.next();
                }
                Ok(true)
            })?;
        }
    }
    // Nobody reads the seal that says that the copy is durable before it is:
    // the name is not this segment's yet.
    // It must not speak of more than can be read: a last segment without records
    // may have begun behind numbers that were refused.
    copy.seal(next_sequence)?;
    let (file, position) = copy.publish(disk, folder)?;
    remove_superseded(disk, folder, survey, &joint)?;
    let mut segments = joint.kept;
    segments.push(SegmentMeta {
        number,
        first_sequence,
        next_sequence: None,
        end: 0,
        durable: true,
    });
    Ok(Settled { header, file, position, next_sequence, segments, copied })
}

/// The same for a shard that needs no new segment, because nobody writes to it
/// and all in it is durable: makes the names that say so durable, and removes
/// what they supersede.
pub(crate) fn tidy(disk: &dyn Disk, folder: &Folder, survey: &Survey) -> Result<(), OpenError> {
    disk.sync_dir(&folder.dir).map_err(OpenError::io("syncing", &folder.dir))?;
    survey.superfluous.iter().try_for_each(|path| remove(disk, path))
}

/// The new segment is durable; what it replaces may go. A file that stays is
/// found superfluous by the next open.
fn remove_superseded(
    disk: &dyn Disk,
    folder: &Folder,
    survey: &Survey,
    joint: &Joint,
) -> Result<(), OpenError> {
    for path in &survey.superfluous {
        remove(disk, path)?;
    }
    for meta in &survey.segments {
        if !joint.kept.iter().any(|kept| kept.number == meta.number) {
            remove(disk, &folder.path(meta.number))?;
        }
    }
    Ok(())
}

fn remove(disk: &dyn Disk, path: &std::path::Path) -> Result<(), OpenError> {
    unlink_if_there(disk, path).map_err(OpenError::io("removing", path))
}

/// The last place below which all is said to be durable; segments without a
/// record below it are left behind as well.
fn find_joint(disk: &dyn Disk, folder: &Folder, survey: &Survey) -> Result<Joint, OpenError> {
    // What was truncated needs no copy, even if no mark covers it.
    let durable = survey.durable_below.max(folder.purged_below);
    let mut kept = survey.segments.clone();
    let mut copy_from = None;
    for (index, link) in survey.links.iter().enumerate() {
        let meta = &survey.segments[index];
        if meta.next_sequence > Some(durable) {
            let (offset, next) =
                first_frame_above(disk, folder, link.header.first_sequence, meta, durable)?;
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

/// Where the first frame stands that reaches past `durable`, and the sequence
/// that was next before it.
fn first_frame_above(
    disk: &dyn Disk,
    folder: &Folder,
    base: u64,
    meta: &SegmentMeta,
    durable: u64,
) -> Result<(u64, u64), OpenError> {
    let mut next = meta.first_sequence;
    // Behind the last record, not behind a seal that may never have been
    // synced: the next open may find it gone.
    let mut place = SEGMENT_HEADER_BYTES as u64;
    each_frame(disk, folder, meta, SEGMENT_HEADER_BYTES as u64, |frame| {
        if !frame.header.kind.moves_on() {
            return Ok(true);
        }
        if base + frame.header.next() > durable {
            return Ok(false);
        }
        place = frame.end();
        next = base + frame.header.next();
        Ok(true)
    })?;
    Ok((place, next))
}

/// Copies a frame, if it is part of the log: how many records. The copy claims
/// nothing durable until it is.
fn copy_frame(copy: &mut SegmentCopy, frame: &Frame, base: u64, durable: u64) -> io::Result<u64> {
    match frame.header.kind {
        FrameKind::Records => copy.frame(frame, base + u64::from(frame.header.first), durable)?,
        FrameKind::Gap => copy.gap(base + frame.header.next(), durable)?,
        FrameKind::Seal | FrameKind::Skippable(_) => return Ok(0),
    }
    Ok(u64::from(frame.header.records))
}

/// Calls `take` for each frame of a surveyed segment until it says stop.
fn each_frame(
    disk: &dyn Disk,
    folder: &Folder,
    meta: &SegmentMeta,
    from: u64,
    mut take: impl FnMut(&Frame) -> io::Result<bool>,
) -> Result<(), OpenError> {
    let path = folder.path(meta.number);
    let file = disk.open(&path, OpenMode::Read).map_err(OpenError::io("opening", &path))?;
    let seed = folder.seed(meta.number);
    let mut frames = FrameReader::new(file, seed, from, meta.end, PIECE_BYTES);
    while frames.at() < meta.end {
        let frame = frames.next().map_err(OpenError::io("reading", &path))?;
        let frame = frame.map_err(|stop| {
            let changed =
                io::Error::other(format!("it has changed since it was surveyed: {stop:?}"));
            OpenError::io("reading", &path)(changed)
        })?;
        if !take(&frame).map_err(OpenError::io("copying from", &path))? {
            break;
        }
    }
    Ok(())
}
