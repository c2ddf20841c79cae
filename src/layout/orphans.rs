//! Orphans: the directories of a generation that no manifest names.
//!
//! An open that was interrupted between their creation and the manifest leaves
//! them. They hold no record, so the next open deletes them. This file knows
//! names and sizes; it does not read segments.

use std::io;
use std::path::Path;

use crate::error::OpenError;
use crate::fs::{FileSystem, OpenMode};
use crate::segment::frame::FRAME_HEADER_BYTES;
use crate::segment::header::{SEGMENT_HEADER_BYTES, segment_number};

/// Whether the directory of a generation holds more than an interrupted open
/// leaves. Such an open leaves one segment per shard, with a header and a seal.
/// Changes nothing.
pub(crate) fn hold_records(fs: &dyn FileSystem, dir: &Path) -> Result<bool, OpenError> {
    const EMPTY_BYTES: u64 = (SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES) as u64;
    for shard in list(fs, dir)? {
        let shard = dir.join(shard);
        for name in list(fs, &shard)? {
            let Some(number) = segment_number(&name) else { continue };
            let path = shard.join(name);
            let file = fs.open(&path, OpenMode::Read).map_err(OpenError::io("opening", &path))?;
            let bytes = file.len().map_err(OpenError::io("reading the size of", &path))?;
            if number > 1 || bytes > EMPTY_BYTES {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The names in a directory. Empty if it does not exist.
fn list(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<String>, OpenError> {
    match fs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(OpenError::io("listing", dir)),
    }
}

/// Deletes the directory of a generation with all that it holds.
pub(crate) fn remove(fs: &dyn FileSystem, dir: &Path) -> Result<(), OpenError> {
    let shards = match fs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(OpenError::io("listing", dir))?,
    };
    for shard in shards {
        let shard = dir.join(shard);
        for name in fs.list(&shard).map_err(OpenError::io("listing", &shard))? {
            let path = shard.join(name);
            fs.unlink(&path).map_err(OpenError::io("removing", &path))?;
        }
        fs.remove_dir(&shard).map_err(OpenError::io("removing", &shard))?;
    }
    fs.remove_dir(dir).map_err(OpenError::io("removing", dir))
}
