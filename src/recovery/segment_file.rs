//! Reads of one segment file that need no other segment: its header, and the frames in a
//! file without one.
//!
//! Every read comes from the disk, not from the cache.

use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode, Unreadable, means_unreadable, read_around};
use crate::layout::shard_dir::ShardDir;
use crate::segment::frame_scan::{Remains, search_remains};
use crate::segment::header::SEGMENT_HEADER_BYTES;

/// Turns a mark relative to a segment's first sequence into a sequence.
pub(crate) fn absolute(base: u64, mark: i64) -> u64 {
    base.saturating_add_signed(mark)
}

/// Searches a segment without a usable header for frames.
pub(crate) fn search_file(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    number: u64,
) -> Result<Remains, OpenError> {
    let path = shard_dir.path(number);
    let io = |doing| OpenError::io(doing, &path);
    let file = fs.open(&path, OpenMode::Read).map_err(io("opening"))?;
    file.drop_cache();
    let bytes = file.len().map_err(io("reading the size of"))?;
    search_remains(file.as_ref(), shard_dir.seed(number), 0, bytes).map_err(io("reading"))
}

/// The bytes of a segment's header, or fewer if the file is shorter. `None` if the
/// disk cannot read them, or cannot open the file.
pub(crate) fn read_header(
    fs: &dyn FileSystem,
    shard_dir: &ShardDir,
    number: u64,
) -> Result<Option<Vec<u8>>, OpenError> {
    let path = shard_dir.path(number);
    let open = || fs.open(&path, OpenMode::Read);
    let once_more = |error| if means_unreadable(&error) { open() } else { Err(error) };
    let file = match open().or_else(once_more) {
        Err(error) if means_unreadable(&error) => return Ok(None),
        opened => opened.map_err(OpenError::io("opening", &path))?,
    };
    file.drop_cache();
    let (mut bytes, mut unreadable) = (vec![0; SEGMENT_HEADER_BYTES], Unreadable::default());
    let read = read_around(file.as_ref(), &mut bytes, 0, &mut unreadable);
    bytes.truncate(read.map_err(OpenError::io("reading", &path))?);
    Ok(unreadable.first().is_none().then_some(bytes))
}
