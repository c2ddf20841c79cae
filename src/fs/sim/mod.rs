//! A simulated file system, for tests and benchmarks.
//!
//! It can lose power, fail at any call, run out of space, and have its bytes corrupted.
//! It is in memory. It is strict where real file systems are lenient.
//!
//! A power loss keeps:
//!
//! - Bytes, in sectors of 512 bytes, and a file's length, once
//!   [`sync_data`](crate::fs::FileHandle::sync_data) of the file returned `Ok`.
//! - A name, or the removal of one, once [`sync_dir`](crate::fs::FileSystem::sync_dir) of
//!   its directory returned `Ok`. A sync of a file does not make its name durable. A
//!   sync of a directory does not make its own name durable.
//! - Any part of everything else, as the test chooses: see [`SimFileSystem::crash`]. A rename
//!   is two changes, of the old and of the new name. In a file that grew, a lost sector
//!   reads as it was before, or as zeros.
//!
//! A sync that fails by a fault loses the bytes that it should have written, as on
//! ext4, XFS and btrfs. Reads still show these sectors, but they count as clean. So the
//! next sync returns `Ok` and does not write them. `drop_cache` shows the bytes of the
//! disk. Only another write saves them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use machine::{Machine, ROOT};

mod calls;
mod content;
mod faults;
mod file;
mod file_system;
mod machine;
mod names;
mod power_loss;

pub use faults::{Call, Fault, FaultKind, linux_error};

/// A simulated machine with its file system. A clone is another handle on this machine.
#[derive(Clone)]
pub struct SimFileSystem {
    machine: Arc<Mutex<Machine>>,
    /// The open directory that paths are resolved from; `None` for the root.
    open_dir: Option<Arc<OpenDir>>,
}

/// A handle on a directory. The directory exists while it has a handle, even without a
/// name.
struct OpenDir {
    machine: Arc<Mutex<Machine>>,
    id: u64,
    /// The prefix of its files' paths.
    path: PathBuf,
}

impl Drop for OpenDir {
    fn drop(&mut self) {
        lock(&self.machine).close_directory(self.id);
    }
}

fn lock(machine: &Mutex<Machine>) -> MutexGuard<'_, Machine> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Creation, power loss and kill.
impl SimFileSystem {
    /// A file system with an empty directory `/`.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Machine::new())
    }

    /// A file system with this directory and its parents, all durable.
    ///
    /// # Panics
    /// If the path has a `..` or is not UTF-8.
    #[must_use]
    pub fn with_dir(path: impl AsRef<Path>) -> Self {
        let fs = Self::new();
        let made = fs.lock_machine().make_dir(path.as_ref());
        made.expect("a path of plain names");
        fs
    }

    /// Loses the power. Returns the machine as it is after the restart.
    ///
    /// `choice` is called once per [`SimFileSystem::unsynced`] change, and says whether the
    /// change survived. The order of the calls depends on the state alone. Of several
    /// changes to one name, the last survivor holds.
    ///
    /// This machine and its files are dead from now on: every call fails. No lock is
    /// held on the new machine. Another crash of the dead machine, or one after a
    /// [`FaultKind::PowerCut`], starts from the moment of its death. The new machine
    /// has no planned faults, and its counters are zero. Capacity and latency are kept.
    #[must_use]
    pub fn crash(&self, choice: &mut dyn FnMut() -> bool) -> SimFileSystem {
        let after = self.kill();
        after.lock_machine().lose_power(choice);
        after
    }

    /// Kills the process. Returns the machine as the next process finds it. Unsynced
    /// changes stay visible and unsynced. Bytes lost by a failed sync stay visible too.
    /// Locks are released.
    ///
    /// This machine is dead from now on. Planned faults and counters behave as after
    /// [`SimFileSystem::crash`]. After a [`FaultKind::PowerCut`] the process counts as killed
    /// at that call.
    #[must_use]
    pub fn kill(&self) -> SimFileSystem {
        let mut machine = self.lock_machine();
        machine.dead = true;
        Self::of(machine.after_kill())
    }

    /// A copy of this machine in its current state, which a test can crash while this
    /// one lives on. Locks, planned faults and counters behave as after
    /// [`SimFileSystem::kill`].
    #[must_use]
    pub fn copy(&self) -> SimFileSystem {
        Self::of(self.lock_machine().after_kill())
    }

    /// Number of changes that a crash asks about: sectors, lengths and names that are
    /// not durable. A sector that equals the disk's bytes does not count. A sector of a
    /// file that no name can reach does not count either.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock_machine().unsynced()
    }
}

/// Faults and settings.
impl SimFileSystem {
    /// Plans a fault, in addition to earlier ones.
    pub fn fail(&self, fault: Fault) {
        self.lock_machine().faults.plan(fault);
    }

    /// Removes the planned faults. The counters stay.
    pub fn clear_faults(&self) {
        self.lock_machine().faults.clear();
    }

    /// Number of faults that have fired. A sticky one counts each time.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.lock_machine().faults.fired()
    }

    /// Number of such calls while the machine was alive, failed ones included.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.lock_machine().faults.calls(call)
    }

    /// Limits the space of all files together, in blocks of 4096 bytes. Holes occupy
    /// nothing. A write takes as much as fits, and fails with the system's "no space"
    /// if nothing does. [`free_bytes`](super::FileSystem::free_bytes) returns the rest.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_machine().settings.capacity_bytes = bytes;
    }

    /// Makes every `sync_data` take this long. Syncs of several files overlap.
    pub fn set_sync_latency(&self, latency: Duration) {
        self.lock_machine().settings.sync_latency = latency;
    }

    /// Lets the clock go on. It decides the times that
    /// [`modified`](super::FileSystem::modified) returns, and does not move by itself.
    pub fn advance_clock(&self, by: Duration) {
        self.lock_machine().settings.clock += by;
    }

    /// Sets the block size of direct I/O, a power of two, or switches it off with
    /// `None`. Initially 512 bytes.
    pub fn set_direct_io_alignment(&self, bytes: Option<usize>) {
        self.lock_machine().settings.direct_io_alignment = bytes;
    }

    /// Sets the result of [`copy_on_write`](super::FileSystem::copy_on_write). Initially
    /// `false`.
    pub fn set_copy_on_write(&self, copy_on_write: bool) {
        self.lock_machine().settings.copy_on_write = copy_on_write;
    }

    /// Sets whether a full file system refuses overwrites, and cuts within a block, as
    /// btrfs does. Initially `false`.
    pub fn set_copies_need_room(&self, copies_need_room: bool) {
        self.lock_machine().settings.copies_need_room = copies_need_room;
    }

    /// Sets the result of [`counts_links`](super::FileSystem::counts_links). If it is
    /// `false`, every file may have a hard link, as on Windows. Initially `true`.
    pub fn set_counts_links(&self, counts_links: bool) {
        self.lock_machine().settings.counts_links = counts_links;
    }
}

/// Functions to inspect and corrupt a file system. They are not calls: they meet no
/// fault, are not counted, and work on a dead machine too.
impl SimFileSystem {
    /// The content of a file as a read returns it; `None` if there is no such file.
    #[must_use]
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let machine = self.lock_machine();
        let content = machine.content(machine.find_file(ROOT, path.as_ref()).ok()?);
        let mut bytes = vec![0; usize::try_from(content.len()).ok()?];
        content.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Sets the content of a file, live and durable, with its name and parent
    /// directories. Open handles see it.
    ///
    /// # Panics
    /// If the path is a directory, or leads through a file.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let put = self.lock_machine().put_file(path.as_ref(), bytes);
        put.expect("a path that can be a file's");
    }

    /// Renames a file or directory, live and durable, and replaces the target. It acts
    /// like another process beside the log.
    ///
    /// # Panics
    /// If `from` does not exist, or the parent of `to` does not.
    pub fn move_path(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let moved = self.lock_machine().move_path(from.as_ref(), to.as_ref());
        moved.expect("a path of something, and one in a directory");
    }

    /// Adds a name to a file, live and durable, like a backup by hard links. Creates
    /// the parent directories.
    ///
    /// # Panics
    /// If `from` is not a file.
    pub fn link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let linked = self.lock_machine().link(from.as_ref(), to.as_ref());
        linked.expect("the path of a file, and one that can be");
    }

    /// Removes a directory and everything below it, live and durable. Open handles keep
    /// working.
    ///
    /// # Panics
    /// If the path is not a directory.
    pub fn remove_tree(&self, path: impl AsRef<Path>) {
        let removed = self.lock_machine().remove_tree(path.as_ref());
        removed.expect("the path of a directory");
    }

    /// The paths of all files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock_machine().paths()
    }

    /// Makes every read of these bytes fail with the system's "input/output error",
    /// like a bad sector. A later write does not change that. A read that begins before
    /// them ends there.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn make_unreadable(&self, path: impl AsRef<Path>, range: Range<u64>) {
        let mut machine = self.lock_machine();
        let file = machine.find_file(ROOT, path.as_ref()).expect("the path of a file");
        machine.content_mut(file).make_unreadable(range);
    }

    /// Removes a file's name, live and durable.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn remove_file(&self, path: impl AsRef<Path>) {
        let removed = self.lock_machine().remove_file(path.as_ref());
        removed.expect("the path of a file");
    }
}

impl SimFileSystem {
    fn of(machine: Machine) -> Self {
        Self { machine: Arc::new(Mutex::new(machine)), open_dir: None }
    }

    fn lock_machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }
}

impl Default for SimFileSystem {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimFileSystem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimFileSystem").finish_non_exhaustive()
    }
}
