//! The calls of [`FileSystem`]: each meets the planned faults, then changes the machine.

use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use super::content::PAGE_BYTES;
use super::file::SimFile;
use super::machine::{Machine, ROOT};
use super::names::Node;
use super::{Call, FaultKind, OpenDir, SimFileSystem, linux_error};
use crate::fs::{FileHandle, FileSystem, OpenMode};

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

    /// Not a call: it meets no fault and is not counted.
    fn modified(&self, path: &Path) -> io::Result<Option<SystemTime>> {
        let (base, name) = self.resolve(path)?;
        let machine = self.alive()?;
        let file = machine.find_file(base, name)?;
        Ok(Some(UNIX_EPOCH + machine.files[&file].modified))
    }

    fn time(&self) -> SystemTime {
        UNIX_EPOCH + self.lock_machine().settings.clock
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

/// How one call ends.
pub(super) enum Verdict {
    Whole,
    Half,
    /// Half of the call takes effect, then the machine loses power.
    Torn,
    /// The call has no effect and returns this error of Linux.
    Fail(i32),
}

impl Verdict {
    pub(super) fn bytes_moved(&self, requested: usize) -> usize {
        match self {
            Self::Whole => requested,
            Self::Half => requested - requested / 2,
            Self::Torn => requested / 2,
            Self::Fail(_) => 0,
        }
    }
}

/// The beginning of a call.
impl SimFileSystem {
    /// The directory that a path is resolved from, and the rest of the path.
    fn resolve<'path>(&self, path: &'path Path) -> io::Result<(u64, &'path Path)> {
        let Some(dir) = &self.open_dir else { return Ok((ROOT, path)) };
        let name = path.strip_prefix(&dir.path).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok((dir.id, name))
    }

    pub(super) fn alive(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.lock_machine();
        if machine.dead {
            return Err(no_power());
        }
        Ok(machine)
    }

    /// Starts a call. Fails if the machine is dead, or a fault kills it.
    pub(super) fn admit(
        &self,
        call: Call,
        paths: &[&Path],
    ) -> io::Result<(MutexGuard<'_, Machine>, Verdict)> {
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
    pub(super) fn enter(
        &self,
        call: Call,
        paths: &[&Path],
    ) -> io::Result<(MutexGuard<'_, Machine>, Verdict)> {
        match self.admit(call, paths)? {
            (_, Verdict::Fail(errno)) => Err(linux_error(errno)),
            admitted => Ok(admitted),
        }
    }
}

pub(super) fn no_power() -> io::Error {
    io::Error::other("the simulated machine has lost its power")
}
