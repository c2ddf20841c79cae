//! A disk that discards what is written to segments, which leaves the cost of the log itself.
//! Names, manifest and lock are real, so that a log opens on it. It must not be opened twice.

use std::io;
use std::path::Path;
use std::time::Duration;

use shardwal::fs::{FileHandle, FileSystem, OpenMode, OsFileSystem};

#[path = "../../tests/support/delegate.rs"]
mod delegate;

use delegate::delegate;

/// A disk that discards segments.
#[derive(Debug, Default)]
pub(crate) struct NullDisk {
    /// Duration of a segment's sync: a steady disk of known speed.
    pub(crate) sync_latency: Duration,
}

/// Segment files are those whose name begins with a digit.
fn is_segment(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(|first: char| first.is_ascii_digit()))
}

impl FileSystem for NullDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        let real = OsFileSystem.open(path, mode)?;
        if mode == OpenMode::Read || !is_segment(path) {
            return Ok(real);
        }
        Ok(Box::new(NullFile { len: 0, sync_latency: self.sync_latency }))
    }

    delegate!(self => OsFileSystem);

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFileSystem.rename(from, to)
    }

    fn copy_on_write(&self, path: &Path) -> bool {
        OsFileSystem.copy_on_write(path)
    }
}

#[derive(Debug)]
struct NullFile {
    len: u64,
    sync_latency: Duration,
}

impl FileHandle for NullFile {
    fn read_at(&self, _bytes: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::Error::other("nothing was kept"))
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.len = self.len.max(offset + bytes.len() as u64);
        Ok(bytes.len())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        if !self.sync_latency.is_zero() {
            std::thread::sleep(self.sync_latency);
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.len = len;
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn drop_cache(&self) {}
}
