//! The files of segments before they are ones: made of zeros, or made again of
//! what an earlier segment has left.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::aligned_bytes::AlignedBytes;
use crate::disk::{Disk, DiskFile, OpenMode, read_full, write_direct_full, write_full};
use crate::segment::{
    FoundHeader, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentIdentity, segment_path,
};

/// A header must be gone before its file becomes another segment's, and with it
/// the first block of any system.
const BLANK_BYTES: usize = 4096;
/// So many zeros are written and synced at once: docs/performance.md, lever 1.
const PIECE_BYTES: u64 = 256 << 10;

/// A file made ready to become a segment: its directory entry is durable, its
/// first `zeroed` bytes are on the disk, the first of them zeros.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u64,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) zeroed: u64,
    /// Whether bytes of an earlier segment may stand behind the first zeros.
    pub(crate) is_recycled: bool,
    /// The blocks of writes past the cache, where they are known to go.
    pub(crate) direct_block: Option<usize>,
}

/// Makes the file of segment `number`, with zeros ahead, and its name durable.
pub(crate) fn prepare(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    zeros: u64,
) -> io::Result<Prepared> {
    let path = segment_path(dir, number);
    let mut file = create(disk, &path)?;
    let filled = fill(file.as_mut(), zeros).and_then(|filled| {
        disk.sync_dir(dir)?;
        Ok(filled)
    });
    match filled {
        Ok((zeroed, direct_block)) => {
            Ok(Prepared { number, file, zeroed, is_recycled: false, direct_block })
        }
        Err(error) => {
            // Give the room back and leave the name free for the next attempt. A
            // name that stays is found blank, by that attempt or at open.
            drop(disk.unlink(&path));
            Err(error)
        }
    }
}

fn create(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn DiskFile>> {
    match disk.open(path, OpenMode::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_blank(disk, path)?;
            disk.open(path, OpenMode::CreateNew)
        }
        // A folder that was removed takes no new name.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(path).display();
            let what = format!("{dir} was removed while the log was open; open a new log");
            Err(io::Error::new(io::ErrorKind::NotFound, what))
        }
        opened => opened,
    }
}

/// Removes what an attempt has left whose clean-up failed: a file of this name
/// that nothing was ever written to but zeros. **Any other is somebody's data**,
/// and stays.
fn remove_blank(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let file = disk.open(path, OpenMode::Read)?;
    let mut header = [0; SEGMENT_HEADER_BYTES];
    read_full(file.as_ref(), &mut header, 0)?;
    if header.iter().any(|byte| *byte != 0) {
        let what = format!(
            "{} is not empty, and this log has not written it; move it away",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    disk.unlink(path)
}

/// Fills a new file with at least so many zeros, durably; returns how many there
/// are, and the blocks in which it can be written past the cache. **A piece at a
/// time is synced**: other files' syncs wait for what this one has unsynced.
pub(crate) fn fill(file: &mut dyn DiskFile, zeros: u64) -> io::Result<(u64, Option<usize>)> {
    if zeros == 0 {
        return Ok((0, None));
    }
    let zeros = zeros.next_multiple_of(BLANK_BYTES as u64);
    let direct_block = blank(file)?;
    let piece = usize::try_from(zeros.min(PIECE_BYTES)).unwrap_or(BLANK_BYTES);
    let piece = AlignedBytes::zeros(piece, direct_block.unwrap_or(1));
    let mut zeroed = BLANK_BYTES as u64;
    while zeroed < zeros {
        let length = usize::try_from(zeros - zeroed).unwrap_or(usize::MAX).min(piece.len());
        match direct_block {
            Some(block) => write_direct_full(file, &piece[..length], zeroed, block)?,
            None => write_full(file, &piece[..length], zeroed)?,
        }
        file.sync_data()?;
        zeroed += length as u64;
    }
    if direct_block.is_none() {
        file.drop_cache();
    }
    Ok((zeros, direct_block))
}

/// Makes the first block one of zeros, durably: past the cache, if that goes.
/// It is what shows whether it does, for some file systems open a file so and
/// then refuse to write.
fn blank(file: &mut dyn DiskFile) -> io::Result<Option<usize>> {
    let direct_block = file.direct_block_bytes().filter(|block| *block <= BLANK_BYTES);
    let direct_block = direct_block.filter(|block| {
        write_direct_full(file, &AlignedBytes::zeros(BLANK_BYTES, *block), 0, *block).is_ok()
    });
    if direct_block.is_none() {
        write_full(file, &[0; BLANK_BYTES], 0)?;
    }
    file.sync_data()?;
    Ok(direct_block)
}

/// How long a file is that can become a segment of so many bytes. One that was
/// full may have passed them by as much again, and by a commit; what is longer
/// than that is room that others may want.
pub(crate) fn lengths(segment_bytes: u64) -> RangeInclusive<u64> {
    segment_bytes.max(BLANK_BYTES as u64)..=segment_bytes.saturating_mul(4)
}

/// The number of the segment that the file held, if its header still says so.
/// **A number that comes again would make its frames valid again**; it does not,
/// but where somebody has put files of an earlier day into the folder.
fn held_before(file: &dyn DiskFile) -> io::Result<Option<u64>> {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    read_full(file, &mut header, 0)?;
    let nobody = SegmentIdentity { log: [0; 16], generation: 0, shard: 0, number: 0 };
    Ok(match SegmentHeader::parse(&header, &nobody) {
        FoundHeader::Foreign(held) => Some(held.number),
        // Nobody knows which.
        FoundHeader::Newer(_) | FoundHeader::Older(_) => Some(u64::MAX),
        FoundHeader::Header(_) | FoundHeader::Blank | FoundHeader::Bad => None,
    })
}

/// Makes segment `number`, of `bytes`, of a file that may hold anything, if it has
/// one of the [`lengths`] and no other name, and held no later segment. **Until its header is gone from the
/// disk, the file must not have the segment's name.** After an error it has one
/// of the two.
pub(crate) fn recycle(
    disk: &dyn Disk,
    spare: &Path,
    dir: &Path,
    number: u64,
    bytes: u64,
) -> io::Result<Option<Prepared>> {
    let mut file = disk.open(spare, OpenMode::Write)?;
    let zeroed = file.len()?;
    let is_of_use = lengths(bytes).contains(&zeroed)
        && !file.has_other_names()?
        && held_before(file.as_ref())?.is_none_or(|held| held < number);
    if !is_of_use {
        return Ok(None);
    }
    file.drop_cache();
    let direct_block = blank(file.as_mut())?;
    disk.rename_new(spare, &segment_path(dir, number))?;
    disk.sync_dir(dir)?;
    Ok(Some(Prepared { number, file, zeroed, is_recycled: true, direct_block }))
}
