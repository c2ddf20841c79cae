//! Scans of a shard beside the process that writes it.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Corruption, OpenError};
use crate::fs::{FileSystem, OpenMode};
use crate::recovery::ScanPurpose;
use crate::recovery::inspect::{Inspected, read_shard};
use crate::segment::frame_reader::{FrameReader, is_consistent};
use crate::segment::header::SegmentIdentity;
use crate::util::sync::Arc;

/// Scans per shard at most. No race with a writer needs more.
const SCANS_MAX: usize = 16;

/// Scans a shard beside a writer, until the result does not depend on a race.
///
/// A scan may report corruption only because the writer went on meanwhile: it
/// appended frames after the end, or it rolled, truncated or superseded a segment.
/// Each scan begins after the previous one has ended. By then the writer has
/// written what the previous scan missed, or has stored a truncation mark for it.
/// So corruption counts only if two scans find it at one site.
///
/// **A listed file that cannot be found proves nothing**, whatever an earlier scan
/// found there. The next scan lists the directory again: the file is then truncated
/// by a mark, or really missing.
pub(crate) fn scan_until_stable(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
    identity: &SegmentIdentity,
    threads: usize,
) -> Result<Inspected, OpenError> {
    let mut last = None;
    for _ in 1..SCANS_MAX {
        let mut inspected = match read_shard(fs, dir, identity, threads, ScanPurpose::Inspect) {
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                continue;
            }
            scanned => scanned?,
        };
        let Some(corruption) = &inspected.scan.corruption else { return Ok(inspected) };
        let site = Some(CorruptionSite::of(fs.as_ref(), corruption)?);
        if site == last {
            return Ok(inspected);
        }
        if has_frame_now(fs.as_ref(), &inspected)? {
            inspected.scan.forget_concurrent_appends();
            return Ok(inspected);
        }
        last = site;
    }
    read_shard(fs, dir, identity, threads, ScanPurpose::Inspect)
}

/// The site at which a scan found corruption.
#[derive(PartialEq, Eq)]
enum CorruptionSite {
    /// At this byte of a file that still has its name. No segment ever gets the name
    /// of another one, so the bytes were that segment's.
    Within(PathBuf, u64),
    /// In a file that is missing, or that was recycled during the scan.
    Gone(PathBuf),
}

impl CorruptionSite {
    fn of(fs: &dyn FileSystem, corruption: &Corruption) -> Result<Self, OpenError> {
        let file = corruption.file.clone();
        match fs.open(&file, OpenMode::Read) {
            Ok(_) => Ok(Self::Within(file, corruption.offset)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Gone(file)),
            Err(error) => Err(OpenError::io("opening", &file)(error)),
        }
    }
}

/// Whether the frame that was missing at the end is there now. This saves a second
/// scan of a long shard, which the writer would overtake as well.
fn has_frame_now(fs: &dyn FileSystem, inspected: &Inspected) -> Result<bool, OpenError> {
    let scan = &inspected.scan;
    let (Some(corruption), Some(link)) = (&scan.corruption, scan.links.last()) else {
        return Ok(false);
    };
    if !scan.is_corrupted_at_end {
        return Ok(false);
    }
    let file = match fs.open(&corruption.file, OpenMode::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(OpenError::io("opening", &corruption.file))?,
    };
    let end = file.len().map_err(OpenError::io("reading the size of", &corruption.file))?;
    let seed = inspected.shard_dir.seed(link.header.identity.number);
    let mut frames = FrameReader::new(file, seed, corruption.offset, end, 1 << 16);
    let frame = frames.next().map_err(OpenError::io("reading", &corruption.file))?;
    Ok(frame.is_ok_and(|frame| {
        let first = link.header.first_sequence + u64::from(frame.header.first);
        first >= corruption.first_sequence && is_consistent(&frame)
    }))
}
