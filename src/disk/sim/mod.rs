//! A simulated disk, for tests and benchmarks: it can lose its power, fail at
//! any call, run out of space, and be damaged. In memory, and strict where
//! real file systems are kind.
//!
//! What survives a power loss:
//!
//! - bytes, by sectors of 512 bytes, and a file's length: once
//!   [`sync_data`](crate::disk::DiskFile::sync_data) of the file was `Ok`;
//! - a name, and the removal of one: once
//!   [`sync_dir`](crate::disk::Disk::sync_dir) of its directory was `Ok`.
//!   Syncing a file does not save its name, nor syncing a directory its own;
//! - of everything else any part, by the choice of the test: see
//!   [`SimDisk::crash`]. A rename is two changes, of the old and of the new
//!   name. A sector of a longer file that did not survive reads as it was
//!   before, or as zeros.
//!
//! A sync that a fault lets fail loses what it should have written, as ext4,
//! XFS and btrfs do: the sectors are shown still, but count as clean, so that
//! the next sync is `Ok` and does not write them; `drop_cache` shows the truth,
//! and only writing them again saves them.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, DiskFile, OpenMode};
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

pub use faults::{Call, Fault, FaultKind};

/// A simulated machine with its disk. A clone is another handle on the same.
#[derive(Clone)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
    /// The open directory that paths are resolved from; the root without one.
    open_dir: Option<Arc<OpenDir>>,
}

/// A handle on a directory, which stays as long as it lives, named or not.
struct OpenDir {
    machine: Arc<Mutex<Machine>>,
    id: u64,
    /// What the paths of its files begin with.
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

/// What becomes of one call.
enum Verdict {
    Whole,
    Half,
    /// Half of it, and then the machine dies.
    Torn,
    /// Nothing of it, and this error of the operating system.
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

/// A disk's life.
impl SimDisk {
    /// A disk with the directory `/` and nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Machine::new())
    }

    /// A disk with this directory and those above it, all durable.
    ///
    /// # Panics
    /// When the path has a `..` or is not UTF-8.
    #[must_use]
    pub fn with_dir(path: impl AsRef<Path>) -> Self {
        let disk = Self::new();
        let made = disk.lock_machine().make_dir(path.as_ref());
        made.expect("a path of plain names");
        disk
    }

    /// Loses the power, and returns the disk as it is at the next start.
    ///
    /// `choice` is called once for each of the [`SimDisk::unsynced`] changes,
    /// in an order that hangs on the disk's state alone, and says whether the
    /// change survived. Of several changes to one name the last survivor holds.
    ///
    /// This disk and its files are dead from now on: every call fails, and no
    /// lock is held on the new disk. More crashes of the dead disk, or one
    /// after a [`FaultKind::PowerCut`], start from the moment of its death.
    /// The new disk has no faults planned and its counters at zero; capacity
    /// and latency are as before.
    #[must_use]
    pub fn crash(&self, choice: &mut dyn FnMut() -> bool) -> SimDisk {
        let after = self.kill();
        after.lock_machine().lose_power(choice);
        after
    }

    /// Kills the process, and returns the disk as the next process finds it:
    /// what was unsynced is shown still and is unsynced still, and what a
    /// failed sync lost is shown still as well. Locks are gone.
    ///
    /// For this disk, the planned faults and the counters see
    /// [`SimDisk::crash`]; after a [`FaultKind::PowerCut`] it is as if the
    /// process had been killed at that call instead.
    #[must_use]
    pub fn kill(&self) -> SimDisk {
        let mut machine = self.lock_machine();
        machine.dead = true;
        Self::of(machine.after_kill())
    }

    /// Another machine that stands as this one does at this moment, for a crash
    /// of it while this one lives on. For locks, planned faults and counters
    /// see [`SimDisk::kill`].
    #[must_use]
    pub fn copy(&self) -> SimDisk {
        Self::of(self.lock_machine().after_kill())
    }

    /// How many changes a crash would ask about: sectors, lengths and names
    /// that are not durable. A sector written with what the disk has there
    /// already is no change; neither is one in a file that nothing can name.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock_machine().unsynced()
    }
}

/// What goes wrong.
impl SimDisk {
    /// Plans a fault, beside those already planned.
    pub fn fail(&self, fault: Fault) {
        self.lock_machine().faults.plan(fault);
    }

    /// Forgets the planned faults; the counters stay.
    pub fn clear_faults(&self) {
        self.lock_machine().faults.clear();
    }

    /// How many faults have fired; a sticky one counts each time.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.lock_machine().faults.fired()
    }

    /// How many such calls were made while the machine was alive, those that
    /// failed among them.
    #[must_use]
    pub fn calls(&self, call: Call) -> u64 {
        self.lock_machine().faults.calls(call)
    }

    /// Limits what all files together take up, in blocks of 4096 bytes; holes
    /// take nothing. A write takes what fits, and fails with the system's "no
    /// space" when nothing does. What is left of it is what
    /// [`Disk::free_bytes`] answers.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_machine().settings.capacity_bytes = bytes;
    }

    /// Lets every `sync_data` take this long; syncs of several files overlap.
    pub fn set_sync_latency(&self, latency: Duration) {
        self.lock_machine().settings.sync_latency = latency;
    }

    /// The blocks of writes past the cache, a power of two, or `None` where
    /// there are no such writes; at first a sector's 512 bytes.
    pub fn set_direct_block(&self, bytes: Option<usize>) {
        self.lock_machine().settings.direct_block_bytes = bytes;
    }

    /// What [`Disk::copy_on_write`] answers; at first `false`.
    pub fn set_copy_on_write(&self, copy_on_write: bool) {
        self.lock_machine().settings.copy_on_write = copy_on_write;
    }

    /// Whether a disk without a free block takes no write at all, not over bytes that
    /// are there either, and no cut within a block, as btrfs; at first `false`.
    pub fn set_copies_need_room(&self, copies_need_room: bool) {
        self.lock_machine().settings.copies_need_room = copies_need_room;
    }
}

/// To look at a disk and to damage it. These are no calls: they meet no fault,
/// are not counted, and work on a dead machine as well.
impl SimDisk {
    /// All of a file as a read shows it; `None` where there is no such file.
    #[must_use]
    pub fn read_file(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let machine = self.lock_machine();
        let content = machine.content(machine.find_file(ROOT, path.as_ref()).ok()?);
        let mut bytes = vec![0; usize::try_from(content.len()).ok()?];
        content.read(&mut bytes, 0);
        Some(bytes)
    }

    /// Makes these the bytes of a file, live and durable, its name and the
    /// directories above it too. Whoever has the file open sees them.
    ///
    /// # Panics
    /// When the path is that of a directory or leads through a file.
    pub fn write_file(&self, path: impl AsRef<Path>, bytes: &[u8]) {
        let put = self.lock_machine().put_file(path.as_ref(), bytes);
        put.expect("a path that can be a file's");
    }

    /// Gives a file or directory another name, live and durable, in place of
    /// what has that name, as somebody may do beside the log.
    ///
    /// # Panics
    /// When the first path leads to nothing, or the second one's parent does.
    pub fn move_path(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let moved = self.lock_machine().move_path(from.as_ref(), to.as_ref());
        moved.expect("a path of something, and one in a directory");
    }

    /// Gives a file one more name, live and durable, as a backup by hard links
    /// does. Directories on the way are made.
    ///
    /// # Panics
    /// When the first path is no file's.
    pub fn link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let linked = self.lock_machine().link(from.as_ref(), to.as_ref());
        linked.expect("the path of a file, and one that can be");
    }

    /// Removes a directory and all below it, live and durable. What is open
    /// stays with whoever has it open.
    ///
    /// # Panics
    /// When the path is no directory's.
    pub fn remove_tree(&self, path: impl AsRef<Path>) {
        let removed = self.lock_machine().remove_tree(path.as_ref());
        removed.expect("the path of a directory");
    }

    /// The paths of all files, sorted.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.lock_machine().paths()
    }

    /// Lets every read of these bytes of a file fail from now on with the
    /// system's "input/output error", as a bad sector does, whatever is written
    /// there. A read that begins before them ends there.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn make_unreadable(&self, path: impl AsRef<Path>, range: Range<u64>) {
        let mut machine = self.lock_machine();
        let file = machine.find_file(ROOT, path.as_ref()).expect("the path of a file");
        machine.content_mut(file).make_unreadable(range);
    }

    /// Removes a file's name, live and durable.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn remove_file(&self, path: impl AsRef<Path>) {
        let removed = self.lock_machine().remove_file(path.as_ref());
        removed.expect("the path of a file");
    }
}

impl SimDisk {
    fn of(machine: Machine) -> Self {
        Self { machine: Arc::new(Mutex::new(machine)), open_dir: None }
    }

    fn lock_machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }

    /// Where a path is resolved from, and what of it is.
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

    /// Starts a call, unless the machine is dead or dies of it.
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

    /// As [`SimDisk::admit`], for calls that do nothing when they fail.
    fn enter(&self, call: Call, paths: &[&Path]) -> io::Result<(MutexGuard<'_, Machine>, Verdict)> {
        match self.admit(call, paths)? {
            (_, Verdict::Fail(errno)) => Err(io::Error::from_raw_os_error(errno)),
            admitted => Ok(admitted),
        }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
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

    /// No call: it meets no fault and is not counted.
    fn open_dir(&self, path: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
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

    /// No call: it meets no fault and is not counted.
    fn links(&self, path: &Path) -> io::Result<u64> {
        let (base, name) = self.resolve(path)?;
        self.alive()?.links(base, name)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let (base, name) = self.resolve(path)?;
        self.enter(Call::Unlink, &[path])?.0.unlink(base, name)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let (base, name) = self.resolve(path)?;
        self.enter(Call::RemoveDir, &[path])?.0.remove_dir(base, name)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
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

    /// What the capacity leaves; a number beyond all disks where there is none.
    fn free_bytes(&self, _path: &Path) -> io::Result<Option<u64>> {
        Ok(Some(self.alive()?.free_pages().saturating_mul(PAGE_BYTES as u64)))
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SimDisk").finish_non_exhaustive()
    }
}

fn no_power() -> io::Error {
    io::Error::other("the simulated machine has lost its power")
}
