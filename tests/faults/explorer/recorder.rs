//! A file system that records a moment after each changing call: the state of the
//! machine, and what the client knows about its appends.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shardwal::fs::sim::SimFileSystem;
use shardwal::fs::{FileHandle, FileSystem, OpenMode};

use crate::support::ledger::Ledger;

/// The state between two calls.
pub(crate) struct Moment {
    pub(crate) fs: SimFileSystem,
    pub(crate) ledger: Ledger,
    /// The call that has just ended, for messages.
    pub(crate) after: &'static str,
}

/// The file system, the client's knowledge and the recorded moments. One lock covers a
/// call and the record of its result, so that no call of another thread falls in
/// between.
#[derive(Clone)]
pub(crate) struct Recorder {
    fs: SimFileSystem,
    moments: Arc<Mutex<Vec<Moment>>>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Recorder {
    pub(crate) fn new(fs: &SimFileSystem, ledger: Ledger) -> Self {
        let ledger = Arc::new(Mutex::new(ledger));
        Self { fs: fs.clone(), moments: Arc::default(), ledger }
    }

    pub(crate) fn sim(&self) -> &SimFileSystem {
        &self.fs
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the recorded moments.
    pub(crate) fn begin(&self) {
        self.lock().clear();
        self.record_moment("nothing");
    }

    /// The moments recorded since `begin`, the current one last.
    pub(crate) fn take(&self) -> Vec<Moment> {
        self.record_moment("the answer");
        std::mem::take(&mut *self.lock())
    }

    fn record_moment(&self, after: &'static str) {
        let mut moments = self.lock();
        self.enter(&mut moments, after);
    }

    /// Copies the ledger first. So the machine has every record that the ledger calls
    /// acknowledged, and the client has not requested anything that the ledger does not
    /// know.
    fn enter(&self, moments: &mut Vec<Moment>, after: &'static str) {
        let ledger = self.ledger();
        moments.push(Moment { fs: self.fs.copy(), ledger: ledger.clone(), after });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Moment>> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<R>(&self, what: &'static str, run: impl FnOnce() -> R) -> R {
        let mut moments = self.lock();
        let result = run();
        self.enter(&mut moments, what);
        result
    }

    fn file(&self, file: io::Result<Box<dyn FileHandle>>) -> io::Result<Box<dyn FileHandle>> {
        Ok(Box::new(RecordedFile { file: file?, recorder: self.clone() }))
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Recorder").finish_non_exhaustive()
    }
}

impl FileSystem for Recorder {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        if mode == OpenMode::CreateNew {
            return self.file(self.call("create", || self.fs.open(path, mode)));
        }
        self.file(self.fs.open(path, mode))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call("create_dir", || self.fs.create_dir(path))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.fs.list(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call("sync_dir", || self.fs.sync_dir(path))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", || self.fs.rename(from, to))
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.call("unlink", || self.fs.unlink(path))
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call("remove_dir", || self.fs.remove_dir(path))
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        self.file(self.call("lock", || self.fs.lock(path)))
    }
    fn copy_on_write(&self, path: &Path) -> bool {
        self.fs.copy_on_write(path)
    }
}

#[derive(Debug)]
struct RecordedFile {
    file: Box<dyn FileHandle>,
    recorder: Recorder,
}

impl FileHandle for RecordedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }
    /// Writes in two halves, so that a power cut may fall within a write.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let Self { file, recorder } = self;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let mut taken = 0;
        if !first.is_empty() {
            taken = recorder.call("half a write", || file.write_at(first, offset))?;
            if taken < first.len() {
                return Ok(taken);
            }
        }
        let rest = recorder.call("write", || file.write_at(second, offset + taken as u64))?;
        Ok(taken + rest)
    }
    fn direct_io_alignment(&mut self) -> Option<usize> {
        self.file.direct_io_alignment()
    }
    /// Writes in two halves, split at a block boundary.
    fn write_direct(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let block =
            self.file.direct_io_alignment().expect("the caller has asked for the alignment");
        let Self { file, recorder } = self;
        let (first, second) = bytes.split_at(bytes.len() / 2 / block * block);
        let mut taken = 0;
        if !first.is_empty() {
            taken = recorder.call("half a write", || file.write_direct(first, offset))?;
            if taken < first.len() {
                return Ok(taken);
            }
        }
        let second = || file.write_direct(second, offset + taken as u64);
        Ok(taken + recorder.call("write", second)?)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        let Self { file, recorder } = self;
        recorder.call("sync", || file.sync_data())
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let Self { file, recorder } = self;
        recorder.call("set_len", || file.set_len(len))
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn drop_cache(&self) {
        self.file.drop_cache();
    }
}
