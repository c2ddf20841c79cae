//! Resume: makes a scanned shard safe to append to.
//!
//! A resume writes a new segment. Its header names the end of the log. It holds a
//! copy of the newest segment's records that no durable mark covers. The shard
//! scan has already synced the older segments. This module does not decide what
//! is corrupted, and starts no writer.
//!
//! **Open never writes into an old segment** (R3 FRESH). After a failed sync the
//! page cache may show bytes that the disk never had. So the scan reads from the
//! disk. The resume then writes and syncs all records above the durable mark
//! again, before anything is replayed.
//!
//! **Open needs no free byte.** If there is no room for a new segment, the resume
//! deletes files that hold nothing. If there is still no room, it syncs the newest
//! segment in place, and the shard starts between two segments.

mod joint;

use std::path::{Path, PathBuf};

use crate::error::{OpenError, means_full};
use crate::fs::{FileHandle, FileSystem, OpenMode, unlink_if_exists};
use crate::layout::shard_dir::ShardDir;
use crate::recovery::segment_builder::SegmentBuilder;
use crate::recovery::segment_scan::make_durable;
use crate::recovery::shard_scan::ShardScan;
use crate::segment::catalogue::SegmentMeta;
use crate::segment::header::{
    Predecessor, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentIdentity, recycled_path,
    unfinished_path,
};
use crate::segment::writer::cut_tail;
use joint::{Joint, fill, find_joint, for_each_frame};

/// A shard that can be replayed and appended to.
#[derive(Debug)]
pub(crate) struct Resumed {
    pub(crate) start: Start,
    pub(crate) next_sequence: u64,
    /// Oldest first. The new segment is the last.
    pub(crate) segments: Vec<SegmentMeta>,
    /// The number of copied records.
    pub(crate) copied: u64,
    /// The numbers of the recycled segments that are left.
    pub(crate) recycled: Vec<u64>,
}

/// Where the shard's next commit goes.
#[derive(Debug)]
pub(crate) enum Start {
    /// Into the segment that the open made.
    Segment {
        header: SegmentHeader,
        /// Durable up to `position`, and so is its name.
        file: Box<dyn FileHandle>,
        position: u64,
    },
    /// Into a segment that does not exist yet, because there was no room for one.
    Between {
        /// The identity with the highest number that was used.
        last: SegmentIdentity,
        /// The predecessor for the next segment's header.
        predecessor: Predecessor,
    },
}

/// Why there is no new segment.
enum Failure {
    /// There is no room for it. It has no name yet.
    NoRoom(OpenError),
    Other(OpenError),
}

impl Failure {
    /// The failure of a step before the segment has its name.
    fn of(error: OpenError) -> Self {
        match &error {
            OpenError::Io { source, .. } if means_full(source) => Self::NoRoom(error),
            _ => Self::Other(error),
        }
    }
}

/// Resumes a shard: writes the new segment and deletes the files that it
/// supersedes. If there is no room for it, resumes without a new segment.
pub(crate) fn resume(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    scan: &ShardScan,
) -> Result<Resumed, OpenError> {
    let resumed = find_start(fs, shard_dir, scan)?;
    cut_last_tail(fs, shard_dir, scan);
    Ok(resumed)
}

fn find_start(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    scan: &ShardScan,
) -> Result<Resumed, OpenError> {
    let joint = find_joint(fs, shard_dir, scan)?;
    match begin_segment(fs, shard_dir, scan, &joint, scan.recycled.clone()) {
        Err(Failure::NoRoom(_)) => {}
        Err(Failure::Other(error)) => return Err(error),
        Ok(resumed) => return Ok(resumed),
    }
    make_room(fs, shard_dir, scan)?;
    match begin_segment(fs, shard_dir, scan, &joint, Vec::new()) {
        Err(Failure::NoRoom(error)) => resume_in_place(fs, shard_dir, scan, error),
        Err(Failure::Other(error)) => Err(error),
        Ok(resumed) => Ok(resumed),
    }
}

/// Writes the new segment and deletes the files that it supersedes.
fn begin_segment(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    scan: &ShardScan,
    joint: &Joint,
    recycled: Vec<u64>,
) -> Result<Resumed, Failure> {
    let number = scan.highest_number + 1;
    let first_sequence = match joint.copy_from {
        Some(_) => joint.predecessor.next_sequence,
        None => scan.next_sequence,
    };
    let header = SegmentHeader {
        identity: shard_dir.identity.with_number(number),
        first_sequence,
        predecessor: joint.predecessor,
    };
    let mut copy = SegmentBuilder::create(fs, shard_dir, &header).map_err(Failure::of)?;
    let filled = fill(&mut copy, fs, shard_dir, scan, joint, first_sequence);
    let (copied, next_sequence) = filled.map_err(Failure::of)?;
    let (file, position) = copy.publish(fs, shard_dir).map_err(Failure::of)?;
    // From here on there is no fallback: the new name may be on the disk or not.
    sync_dir(fs, shard_dir).map_err(Failure::Other)?;
    remove_superseded(fs, shard_dir, scan, joint).map_err(Failure::Other)?;
    let mut segments = joint.kept.clone();
    segments.push(SegmentMeta {
        number,
        first_sequence,
        next_sequence: None,
        end: 0,
        durable: true,
    });
    let start = Start::Segment { header, file, position };
    Ok(Resumed { start, next_sequence, segments, copied, recycled })
}

/// Resumes a shard without a write, after [`make_room`] has synced the segments'
/// names. Syncs the newest segment in place and reads it again: the bytes read
/// then are the log.
fn resume_in_place(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    scan: &ShardScan,
    no_room: OpenError,
) -> Result<Resumed, OpenError> {
    let number = scan.highest_number;
    remove(fs, &unfinished_path(&shard_dir.dir, number + 1))?;
    let (Some(link), Some(last)) = (scan.links.last(), scan.segments.last()) else {
        return Err(no_room);
    };
    make_durable(fs, shard_dir, &link.header)?;
    for_each_frame(fs, shard_dir, last, SEGMENT_HEADER_BYTES as u64, |_| Ok(true))?;
    let next_sequence = last.next_sequence.unwrap_or(last.first_sequence);
    let predecessor = Predecessor { number: last.number, end: last.end, next_sequence };
    Ok(Resumed {
        start: Start::Between { last: shard_dir.identity.with_number(number), predecessor },
        next_sequence: scan.next_sequence,
        segments: scan.segments.clone(),
        copied: 0,
        recycled: Vec::new(),
    })
}

/// Deletes the files that cannot hold records, and syncs the names of the others.
/// Superseded segments stay until a new segment is durable.
fn make_room(fs: &dyn FileSystem, shard_dir: &ShardDir, scan: &ShardScan) -> Result<(), OpenError> {
    let is_unfinished = |path: &&PathBuf| path.extension().is_some_and(|it| it == "tmp");
    let unfinished = scan.superfluous.iter().filter(is_unfinished);
    unfinished.chain(&scan.unused).try_for_each(|path| remove(fs, path))?;
    remove(fs, &unfinished_path(&shard_dir.dir, scan.highest_number + 1))?;
    remove_recycled(fs, shard_dir, scan)?;
    // Some file systems free the space only at this sync. And an open that was
    // killed may have left a segment's name in the cache only.
    sync_dir(fs, shard_dir)
}

/// Deletes the recycled segments.
pub(crate) fn remove_recycled(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    scan: &ShardScan,
) -> Result<(), OpenError> {
    let mut paths = scan.recycled.iter().map(|number| recycled_path(&shard_dir.dir, *number));
    paths.try_for_each(|path| remove(fs, &path))
}

fn sync_dir(fs: &dyn FileSystem, shard_dir: &ShardDir) -> Result<(), OpenError> {
    fs.sync_dir(&shard_dir.dir).map_err(OpenError::io("syncing", &shard_dir.dir))
}

/// Resumes a shard that needs no new segment: it is read-only, and all its records
/// are durable. Syncs the directory, then deletes superseded files.
pub(crate) fn tidy(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    scan: &ShardScan,
) -> Result<(), OpenError> {
    sync_dir(fs, shard_dir)?;
    scan.superfluous.iter().try_for_each(|path| remove(fs, path))?;
    cut_last_tail(fs, shard_dir, scan);
    Ok(())
}

/// Cuts the zeros off the newest segment that the last process left. Touches no
/// frame. Ignores errors: the tail is harmless.
fn cut_last_tail(fs: &dyn FileSystem, shard_dir: &ShardDir, scan: &ShardScan) {
    let Some((number, end)) = scan.tail else { return };
    // The segment may have been superseded and deleted.
    if let Ok(mut file) = fs.open(&shard_dir.path(number), OpenMode::Write) {
        cut_tail(file.as_mut(), end);
    }
}

/// Deletes the files that the new, durable segment replaces. If this fails, the
/// next open finds the files superfluous.
fn remove_superseded(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    scan: &ShardScan,
    joint: &Joint,
) -> Result<(), OpenError> {
    for path in &scan.superfluous {
        remove(fs, path)?;
    }
    for meta in &scan.segments {
        if !joint.kept.iter().any(|kept| kept.number == meta.number) {
            remove(fs, &shard_dir.path(meta.number))?;
        }
    }
    Ok(())
}

fn remove(fs: &dyn FileSystem, path: &Path) -> Result<(), OpenError> {
    unlink_if_exists(fs, path).map_err(OpenError::io("removing", path))
}
