//! A disk whose data syncs of segments, or whose renames to one name, wait at a
//! gate that the test opens, so that a test can hold somebody up and know that
//! he is held.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

use super::passed_on::passed_on;
use shardwal::disk::sim::SimDisk;
use shardwal::disk::{Disk, DiskFile, OpenMode};

/// The gate. Open at first. By default it stands at the data syncs of segments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    /// The name renames to which wait, instead of syncs.
    renames_to: Option<&'static str>,
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    shut: bool,
    waiting: usize,
    came_last: Option<ThreadId>,
    /// What the syncs that wait now, and later ones, fail with.
    errno: Option<i32>,
}

impl Gate {
    /// A gate at the renames to this name.
    pub(crate) fn at_renames_to(name: &'static str) -> Self {
        Self { renames_to: Some(name), ..Self::default() }
    }

    /// The disk behind this gate.
    pub(crate) fn before(&self, disk: &SimDisk) -> Arc<dyn Disk> {
        Arc::new(GatedDisk { disk: disk.clone(), gate: self.clone() })
    }

    pub(crate) fn shut(&self) {
        self.state().shut = true;
    }

    pub(crate) fn open(&self) {
        self.state().shut = false;
        self.shared.1.notify_all();
    }

    /// Opens it; who passes fails with this error.
    pub(crate) fn open_with_error(&self, errno: i32) {
        self.state().errno = Some(errno);
        self.open();
    }

    /// Blocks until somebody stands at the gate.
    pub(crate) fn wait_for_writer(&self) {
        let mut state = self.state();
        while state.waiting == 0 {
            state = self.shared.1.wait(state).expect("nobody panics at the gate");
        }
    }

    /// Who came to it last, of all that ever did.
    pub(crate) fn came_last(&self) -> Option<ThreadId> {
        self.state().came_last
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().expect("nobody panics at the gate")
    }

    fn pass(&self) -> io::Result<()> {
        let mut state = self.state();
        state.waiting += 1;
        state.came_last = Some(thread::current().id());
        self.shared.1.notify_all();
        while state.shut {
            state = self.shared.1.wait(state).expect("nobody panics at the gate");
        }
        state.waiting -= 1;
        state.errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }
}

#[derive(Debug)]
struct GatedDisk {
    disk: SimDisk,
    gate: Gate,
}

impl Disk for GatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        // A segment keeps the handle that it had under its unfinished name.
        let is_segment = self.gate.renames_to.is_none() && path.to_string_lossy().contains(".wal");
        let gate = is_segment.then(|| self.gate.clone());
        Ok(Box::new(GatedFile { file, gate }))
    }
    passed_on!(self => self.disk);
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.gate.renames_to.is_some_and(|name| to.ends_with(name)) {
            self.gate.pass()?;
        }
        self.disk.rename(from, to)
    }
    fn copy_on_write(&self, path: &Path) -> bool {
        self.disk.copy_on_write(path)
    }
}

#[derive(Debug)]
struct GatedFile {
    file: Box<dyn DiskFile>,
    gate: Option<Gate>,
}

impl DiskFile for GatedFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        if let Some(gate) = &self.gate {
            gate.pass()?;
        }
        self.file.sync_data()
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn drop_cache(&self) {
        self.file.drop_cache();
    }
}
