//! A handle on a file of the simulated disk.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use super::content::PAGE_BYTES;
use super::file_system::{Verdict, no_power};
use super::{Call, SimFileSystem, linux_error};
use crate::fs::FileHandle;

const EIO: i32 = 5;

/// An open file. The file keeps its bytes while this exists, even without a name.
pub(super) struct SimFile {
    fs: SimFileSystem,
    file: u64,
    /// The path it was opened with. Faults are matched against it.
    path: PathBuf,
    writable: bool,
    holds_lock: bool,
}

impl SimFile {
    /// Takes over a handle that the machine has already counted.
    pub(super) fn new(
        fs: &SimFileSystem,
        file: u64,
        path: &Path,
        writable: bool,
        lock: bool,
    ) -> Self {
        Self { fs: fs.clone(), file, path: path.to_owned(), writable, holds_lock: lock }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the file was opened with `OpenMode::Read`; open it with `OpenMode::Write`",
        ))
    }
}

impl FileHandle for SimFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let (machine, verdict) = self.fs.enter(Call::Read, &[&self.path])?;
        let content = machine.content(self.file);
        let count = verdict.bytes_moved(bytes.len());
        let readable = content.readable(offset, count);
        let readable = readable.ok_or_else(|| linux_error(EIO))?;
        Ok(content.read(&mut bytes[..readable], offset))
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut machine, verdict) = self.fs.enter(Call::Write, &[&self.path])?;
        self.check_writable()?;
        let bytes = &bytes[..verdict.bytes_moved(bytes.len())];
        if offset.checked_add(bytes.len() as u64).is_none() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let (room, copies) = (machine.free_pages(), machine.settings.copies_need_room);
        let taken = machine.changed_content(self.file).write(bytes, offset, room, copies);
        if matches!(verdict, Verdict::Torn) {
            machine.dead = true;
            return Err(no_power());
        }
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(taken)
    }

    fn direct_io_alignment(&mut self) -> Option<usize> {
        self.fs.lock_machine().settings.direct_io_alignment
    }

    /// Insists on the alignment, as devices do; else writes like `write_at`.
    fn write_direct(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let block = self.direct_io_alignment().ok_or(io::ErrorKind::Unsupported)?;
        let is_aligned = bytes.len().is_multiple_of(block)
            && offset.is_multiple_of(block as u64)
            && bytes.as_ptr().align_offset(block) == 0;
        if is_aligned {
            self.write_at(bytes, offset)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let (mut machine, verdict) = self.fs.admit(Call::Sync, &[&self.path])?;
        if let Verdict::Fail(errno) = verdict {
            machine.content_mut(self.file).fail_sync();
            return Err(linux_error(errno));
        }
        let latency = machine.settings.sync_latency;
        if !latency.is_zero() {
            drop(machine);
            thread::sleep(latency);
            machine = self.fs.alive()?;
        }
        machine.content_mut(self.file).sync();
        Ok(())
    }

    fn is_hard_linked(&self) -> io::Result<bool> {
        let machine = self.fs.alive()?;
        Ok(!machine.settings.counts_links || machine.names_of_file(self.file) > 1)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let (mut machine, _) = self.fs.enter(Call::SetLen, &[&self.path])?;
        self.check_writable()?;
        // Btrfs does so, even if the file ends there already.
        let cuts_page = !len.is_multiple_of(PAGE_BYTES as u64);
        if machine.settings.copies_need_room && cuts_page && machine.free_pages() == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        machine.changed_content(self.file).set_len(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let (machine, _) = self.fs.enter(Call::Len, &[&self.path])?;
        Ok(machine.content(self.file).len())
    }

    fn drop_cache(&self) {
        if let Ok(mut machine) = self.fs.alive() {
            machine.content_mut(self.file).drop_cache();
        }
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.fs.lock_machine().remove_handle(self.file, self.holds_lock);
    }
}

impl fmt::Debug for SimFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SimFile")
            .field("path", &self.path)
            .field("writable", &self.writable)
            .field("holds_lock", &self.holds_lock)
            .finish_non_exhaustive()
    }
}
