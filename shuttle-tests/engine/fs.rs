//! The simulated disk with a choice before each call: another thread may run first. The
//! disk's own lock is never held while another thread runs.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shardwal::fs::sim::SimFileSystem;
use shardwal::fs::{FileHandle, FileSystem, OpenMode};

/// Lets another thread run, or not. Shuttle's `yield_now` would require that one does.
pub(crate) fn choose() {
    shuttle::thread::sleep(Duration::ZERO);
}

/// Wraps the disk so that each call begins with such a choice.
pub(crate) fn with_choices(fs: &SimFileSystem) -> Arc<dyn FileSystem> {
    Arc::new(ChoosingDisk(fs.clone()))
}

#[derive(Debug)]
struct ChoosingDisk(SimFileSystem);

impl ChoosingDisk {
    fn fs(&self) -> &SimFileSystem {
        choose();
        &self.0
    }
}

fn wrapped(file: Box<dyn FileHandle>) -> Box<dyn FileHandle> {
    Box::new(ChoosingFile(file))
}

impl FileSystem for ChoosingDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        self.fs().open(path, mode).map(wrapped)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.fs().create_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.fs().list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.fs().sync_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs().rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.fs().unlink(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.fs().remove_dir(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        self.fs().lock(path).map(wrapped)
    }
    fn copy_on_write(&self, path: &Path) -> bool {
        self.0.copy_on_write(path)
    }
}

#[derive(Debug)]
struct ChoosingFile(Box<dyn FileHandle>);

impl FileHandle for ChoosingFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        choose();
        self.0.read_at(bytes, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        choose();
        self.0.write_at(bytes, offset)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        choose();
        self.0.sync_data()
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        choose();
        self.0.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn drop_cache(&self) {
        self.0.drop_cache();
    }
}
