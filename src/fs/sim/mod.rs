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
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{FileHandle, FileSystem, OpenMode};
use content::PAGE_BYTES;
use file::SimFile;
use machine::{Machine, ROOT};
use names::Node;

mod calls;
mod content;
mod faults;
mod file;
mod machine;
mod names;

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

/// How one call ends.
enum Verdict {
    Whole,
    Half,
    /// Half of the call takes effect, then the machine loses power.
    Torn,
    /// The call has no effect and returns this error of Linux.
    Fail(i32),
}

impl Verdict {
    fn bytes_moved(&self, asked: usize) -> usize {
        match self {
            Self::Whole => asked,
            Self::Half => asked - asked / 2,
            Self::Torn => asked / 2,
            Self::Fail(_) => 0,
        }
    }
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
    /// if nothing does. [`FileSystem::free_bytes`] returns the rest.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_machine().settings.capacity_bytes = bytes;
    }

    /// Makes every `sync_data` take this long. Syncs of several files overlap.
    pub fn set_sync_latency(&self, latency: Duration) {
        self.lock_machine().settings.sync_latency = latency;
    }

    /// Sets the block size of direct I/O, a power of two, or switches it off with
    /// `None`. Initially 512 bytes.
    pub fn set_direct_io_alignment(&self, bytes: Option<usize>) {
        self.lock_machine().settings.direct_io_alignment = bytes;
    }

    /// Sets the result of [`FileSystem::copy_on_write`]. Initially `false`.
    pub fn set_copy_on_write(&self, copy_on_write: bool) {
        self.lock_machine().settings.copy_on_write = copy_on_write;
    }

    /// Sets whether a full file system refuses overwrites, and cuts within a block, as
    /// btrfs does. Initially `false`.
    pub fn set_copies_need_room(&self, copies_need_room: bool) {
        self.lock_machine().settings.copies_need_room = copies_need_room;
    }

    /// Sets the result of [`FileSystem::counts_links`]. If it is `false`, every file may
    /// have a hard link, as on Windows. Initially `true`.
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

    /// The directory that a path is resolved from, and the rest of the path.
    fn resolve<'path>(&self, path: &'path Path) -> io::Result<(u64, &'path Path)> {
        let Some(dir) = &self.open_dir else { return Ok((ROOT, path)) };
        let name = path.strip_prefix(&dir.path).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok((dir.id, name))
    }

    fn alive(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.lock_machine();
        if machine.dead {
            return Err(no_power());
        }
        Ok(machine)
    }

    /// Starts a call. Fails if the machine is dead, or a fault kills it.
    fn admit(&self, call: Call, paths: &[&Path]) -> io::Result<(MutexGuard<'_, Machine>, Verdict)> {
        let mut machine = self.alive()?;
        let verdict = match machine.faults.meet(call, paths) {
            None => Verdict::Whole,
            Some(FaultKind::Error(errno)) => Verdict::Fail(errno),
            Some(FaultKind::Short) => Verdict::Half,
            Some(FaultKind::TornPowerCut) if call == Call::Write => Verdict::Torn,
            Some(FaultKind::PowerCut | FaultKind::TornPowerCut) => {
                machine.dead = true;
                return Err(no_power());
            }
            Some(FaultKind::Panic) => {
                drop(machine);
                panic!("a planned panic in {call:?} of {paths:?}");
            }
            Some(FaultKind::WriteBack) => {
                machine.write_back();
                Verdict::Whole
            }
        };
        Ok((machine, verdict))
    }

    /// Starts a call like [`SimFileSystem::admit`], and also returns planned errors. For
    /// calls that have no effect when they fail.
    fn enter(&self, call: Call, paths: &[&Path]) -> io::Result<(MutexGuard<'_, Machine>, Verdict)> {
        match self.admit(call, paths)? {
            (_, Verdict::Fail(errno)) => Err(linux_error(errno)),
            admitted => Ok(admitted),
        }
    }
}

impl FileSystem for SimFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        let (mut machine, _) = self.enter(Call::Open, &[path])?;
        let (base, name) = self.resolve(path)?;
        let file = match mode {
            OpenMode::Read | OpenMode::Write => machine.find_file(base, name)?,
            OpenMode::CreateNew => machine.create_file(base, name)?,
        };
        machine.add_handle(file, false)?;
        let writable = mode != OpenMode::Read;
        Ok(Box::new(SimFile::new(self, file, path, writable, false)))
    }

    /// Not a call: it meets no fault and is not counted.
    fn open_dir(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        let (base, name) = self.resolve(path)?;
        let mut machine = self.alive()?;
        let id = machine.find_directory(base, name)?;
        machine.open_directory(id);
        drop(machine);
        let dir = OpenDir { machine: self.machine.clone(), id, path: path.to_path_buf() };
        Ok(Some(Arc::new(Self { machine: self.machine.clone(), open_dir: Some(Arc::new(dir)) })))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (base, name) = self.resolve(path)?;
        self.enter(Call::CreateDir, &[path])?.0.create_dir(base, name)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let (base, name) = self.resolve(path)?;
        self.enter(Call::List, &[path])?.0.list(base, name)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (base, name) = self.resolve(path)?;
        self.enter(Call::SyncDir, &[path])?.0.sync_dir(base, name)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((base, old), (_, new)) = (self.resolve(from)?, self.resolve(to)?);
        self.enter(Call::Rename, &[from, to])?.0.rename(base, old, new)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((base, old), (_, new)) = (self.resolve(from)?, self.resolve(to)?);
        self.enter(Call::Rename, &[from, to])?.0.rename_new(base, old, new)
    }

    /// Not a call: it meets no fault and is not counted.
    fn links(&self, path: &Path) -> io::Result<u64> {
        let (base, name) = self.resolve(path)?;
        self.alive()?.links(base, name)
    }

    fn counts_links(&self) -> bool {
        self.lock_machine().settings.counts_links
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let (base, name) = self.resolve(path)?;
        self.enter(Call::Unlink, &[path])?.0.unlink(base, name)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (base, name) = self.resolve(path)?;
        self.enter(Call::RemoveDir, &[path])?.0.remove_dir(base, name)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        let (base, name) = self.resolve(path)?;
        let (mut machine, _) = self.enter(Call::Lock, &[path])?;
        let file = match machine.find(base, name) {
            Ok(Node::File(file)) => file,
            Ok(Node::Directory(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            Err(_) => machine.create_file(base, name)?,
        };
        machine.add_handle(file, true)?;
        Ok(Box::new(SimFile::new(self, file, path, true, true)))
    }

    fn copy_on_write(&self, _path: &Path) -> bool {
        self.lock_machine().settings.copy_on_write
    }

    /// The free space within the capacity; a huge number without one.
    fn free_bytes(&self, _path: &Path) -> io::Result<Option<u64>> {
        Ok(Some(self.alive()?.free_pages().saturating_mul(PAGE_BYTES as u64)))
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

fn no_power() -> io::Error {
    io::Error::other("the simulated machine has lost its power")
}
