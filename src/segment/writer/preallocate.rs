//! Makes the files of future segments: new ones filled with zeros, or recycled ones. It
//! knows files and their first blocks. It does not know frames.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use crate::fs::{FileHandle, FileSystem, OpenMode, read_full, write_direct_full, write_full};
use crate::segment::aligned_buf::AlignedBuf;
use crate::segment::header::{
    ParsedHeader, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentIdentity, segment_path,
};

/// The first bytes that are zeroed before a file becomes a segment. They cover the old
/// header and the largest block of direct I/O.
const BLANK_BYTES: usize = 4096;
/// Bytes of zeros per write and sync (docs/performance.md, "Preallocated segments").
const PIECE_BYTES: u64 = 256 << 10;

/// A file that is ready to become a segment. Its directory entry is durable. Its first
/// `zeroed` bytes are allocated on the disk, and its first block is zeros.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) number: u64,
    pub(crate) file: Box<dyn FileHandle>,
    pub(crate) zeroed: u64,
    /// Whether bytes of an earlier segment may follow the first block.
    pub(crate) is_recycled: bool,
    /// Block size of direct I/O, if direct writes to this file work.
    pub(crate) direct_block: Option<usize>,
}

/// Creates the file of segment `number`, fills it with `zeros` bytes of zeros, and
/// makes its name durable. Blocks for the writes and the syncs.
///
/// # Errors
/// What the file system returns. The file is then removed, if that succeeds.
pub(crate) fn prepare(
    fs: &dyn FileSystem,
    dir: &Path,
    number: u64,
    zeros: u64,
) -> io::Result<Prepared> {
    let path = segment_path(dir, number);
    let mut file = create(fs, &path)?;
    let filled = fill(file.as_mut(), zeros).and_then(|filled| {
        fs.sync_dir(dir)?;
        Ok(filled)
    });
    match filled {
        Ok((zeroed, direct_block)) => {
            Ok(Prepared { number, file, zeroed, is_recycled: false, direct_block })
        }
        Err(error) => {
            // Free the room, and the name for the next attempt. If the name stays, that
            // attempt or the next open finds it blank.
            drop(fs.unlink(&path));
            Err(error)
        }
    }
}

fn create(fs: &dyn FileSystem, path: &Path) -> io::Result<Box<dyn FileHandle>> {
    match fs.open(path, OpenMode::CreateNew) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_blank(fs, path)?;
            fs.open(path, OpenMode::CreateNew)
        }
        // The shard directory was removed: no name can be made in it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(path).display();
            let what =
                format!("{dir} was removed while the log was open; put it back, or open a new log");
            Err(io::Error::new(io::ErrorKind::NotFound, what))
        }
        opened => opened,
    }
}

/// Removes the file of an earlier attempt whose clean-up failed. Such a file is empty,
/// or begins with zeros. **Any other file may be user data**, and stays.
fn remove_blank(fs: &dyn FileSystem, path: &Path) -> io::Result<()> {
    let file = fs.open(path, OpenMode::Read)?;
    let mut header = [0; SEGMENT_HEADER_BYTES];
    read_full(file.as_ref(), &mut header, 0)?;
    if header.iter().any(|byte| *byte != 0) {
        let what =
            format!("{} is not empty, and this log did not write it; move it away", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    fs.unlink(path)
}

/// Fills a new file with at least `zeros` bytes of zeros, durably. Returns their
/// number, and the block size of direct I/O if direct writes work. **Each piece is
/// synced by itself**: syncs of other files wait for the unsynced bytes of this one.
pub(crate) fn fill(file: &mut dyn FileHandle, zeros: u64) -> io::Result<(u64, Option<usize>)> {
    if zeros == 0 {
        return Ok((0, None));
    }
    let zeros = zeros.next_multiple_of(BLANK_BYTES as u64);
    let direct_block = blank(file)?;
    let piece = usize::try_from(zeros.min(PIECE_BYTES)).unwrap_or(BLANK_BYTES);
    let piece = AlignedBuf::zeros(piece, direct_block.unwrap_or(1));
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

/// Overwrites the first block with zeros, durably. Uses direct I/O if it works, and
/// returns its block size. Some file systems open a file for direct I/O and then refuse
/// the write, so this write is the test.
fn blank(file: &mut dyn FileHandle) -> io::Result<Option<usize>> {
    let direct_block = file.direct_io_alignment().filter(|block| *block <= BLANK_BYTES);
    let direct_block = direct_block.filter(|block| {
        write_direct_full(file, &AlignedBuf::zeros(BLANK_BYTES, *block), 0, *block).is_ok()
    });
    if direct_block.is_none() {
        write_full(file, &[0; BLANK_BYTES], 0)?;
    }
    file.sync_data()?;
    Ok(direct_block)
}

/// The lengths in bytes of a file that can be recycled for a segment of
/// `segment_bytes`. A full segment may be twice that long, plus one commit. A longer
/// file wastes room.
pub(crate) fn lengths(segment_bytes: u64) -> RangeInclusive<u64> {
    segment_bytes.max(BLANK_BYTES as u64)..=segment_bytes.saturating_mul(4)
}

/// The number of the segment that the file held before, if its header is still there.
/// **A reused number would make old frames valid again.** The log never reuses one, but
/// a user may have copied old files into the shard directory.
fn held_before(file: &dyn FileHandle) -> io::Result<Option<u64>> {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    read_full(file, &mut header, 0)?;
    let nobody = SegmentIdentity { log: [0; 16], generation: 0, shard: 0, number: 0 };
    Ok(match SegmentHeader::parse(&header, &nobody) {
        ParsedHeader::Foreign(held) => Some(held.number),
        // The number in a header of another version is unknown.
        ParsedHeader::Newer(_) | ParsedHeader::Older(_) => Some(u64::MAX),
        ParsedHeader::Header(_) | ParsedHeader::Blank | ParsedHeader::Bad => None,
    })
}

/// Turns the file `recycled` into segment `number` of `bytes` bytes. Returns `None` if the
/// file has none of the [`lengths`], has a hard link, or held a later segment. **The
/// file gets the segment's name only after its old header is gone from the disk.**
/// After an error it has one of the two names.
pub(crate) fn recycle(
    fs: &dyn FileSystem,
    recycled: &Path,
    dir: &Path,
    number: u64,
    bytes: u64,
) -> io::Result<Option<Prepared>> {
    let mut file = fs.open(recycled, OpenMode::Write)?;
    let zeroed = file.len()?;
    let is_recyclable = lengths(bytes).contains(&zeroed)
        && !file.is_hard_linked()?
        && held_before(file.as_ref())?.is_none_or(|held| held < number);
    if !is_recyclable {
        return Ok(None);
    }
    file.drop_cache();
    let direct_block = blank(file.as_mut())?;
    fs.rename_new(recycled, &segment_path(dir, number))?;
    fs.sync_dir(dir)?;
    Ok(Some(Prepared { number, file, zeroed, is_recycled: true, direct_block }))
}
