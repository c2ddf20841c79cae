//! The placeholder file of a writer that has no segment yet. It stores nothing.

use std::io;

use crate::fs::FileHandle;

/// An empty file. Every write fails with `StorageFull`.
#[derive(Debug)]
pub(crate) struct NoFile;

impl FileHandle for NoFile {
    fn read_at(&self, _bytes: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&mut self, _bytes: &[u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&mut self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn drop_cache(&self) {}
}
