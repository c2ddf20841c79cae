//! The one door to the file system.
//!
//! Everything that shardwal reads or writes passes through [`Disk`] and
//! [`DiskFile`], so that a test can stand in for the machine: lose power
//! between two calls, fail the n-th sync, run out of space. This layer knows
//! paths and bytes; it does not know what a segment or a frame is.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

mod fork;
mod journal;
mod mounts;
mod open_dir;
mod real;
#[cfg(feature = "sim")]
pub mod sim;
mod unreadable;

pub(crate) use fork::Origin;
pub use mounts::{DurabilityWarning, NotDurable};
pub use real::RealDisk;
pub(crate) use unreadable::{Unreadable, means_unreadable, read_around};

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; fails if the name is taken.
    CreateNew,
}

/// A file system, as the log sees it. Calls may come from any thread.
///
/// Implement it to put the log on something else than the operating system's
/// files, or to inject faults; [`RealDisk`] is what [`crate::Config`] uses by
/// default.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// Whatever the file system answers; `AlreadyExists` for
    /// [`OpenMode::CreateNew`] on a name that is taken.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a directory. Paths given to the answer must lie below `path`, and
    /// are resolved from the open directory: it may be renamed or hidden by a
    /// mount meanwhile, and another may take its place. `None`, the default:
    /// this file system has no open directories, and paths are used as they are.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory, else what the system answers.
    fn open_dir(&self, path: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        let _ = path;
        Ok(None)
    }

    /// Creates one directory; its parent must exist. The new name is durable
    /// only after [`Disk::sync_dir`] of the parent.
    ///
    /// # Errors
    /// `AlreadyExists` where the name is taken, else what the system answers.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, files and folders alike, in no order.
    ///
    /// # Errors
    /// `NotFound` where there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes the names in a directory durable (a no-op where the operating
    /// system has no such call).
    ///
    /// # Errors
    /// What the system answers; the names may then be lost with the power.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames a file, replacing the target atomically. Durable only after
    /// [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the system answers; the names are then unchanged.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file to a name that must be free. The default looks first,
    /// then renames; a file system that can do both at once should.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken, else what the system answers. The
    /// names are then unchanged.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.open(to, OpenMode::Read) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.rename(from, to),
            Err(error) => Err(error),
        }
    }

    /// The number of names that a file has; for a directory 0 once it was
    /// removed, else any other number. The default takes what it can open or
    /// list to have one name.
    ///
    /// # Errors
    /// `NotFound` if the path leads to nothing, else what the system answers.
    fn links(&self, path: &Path) -> io::Result<u64> {
        match self.open(path, OpenMode::Read) {
            Ok(_) => Ok(1),
            Err(_) => self.list(path).map(|_| 1),
        }
    }

    /// Gives a file a second name, which must be free, on the same file system
    /// (a hard link). Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the system answers; `Unsupported`, the default, where it has no such
    /// names.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Makes a new file with the content of another, whose blocks both use until
    /// one of them is written to (a reflink). Durable once the new file and its
    /// directory are synced. After an error there is no new file.
    ///
    /// # Errors
    /// What the system answers; `Unsupported`, the default, where it cannot.
    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes a file's name. Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// `NotFound` where there is no such file, else what the system answers.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory. Durable only after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// What the system answers, among it that the directory is not empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock on a file, creating it if need be, without
    /// waiting. The lock ends when the returned file is dropped, or with the
    /// process. Two opens of one file conflict inside one process too.
    ///
    /// # Errors
    /// `WouldBlock` when somebody else holds the lock.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Whether the file system that holds `path` writes every block to a new
    /// place, so that zeros written ahead buy nothing (btrfs, ZFS, bcachefs).
    fn copy_on_write(&self, path: &Path) -> bool;

    /// How many bytes may still be written on the file system that holds
    /// `path`, by this process; `None` where it does not say, which is what it
    /// answers unless told otherwise. Asked several times a second.
    ///
    /// # Errors
    /// What the system answers.
    fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let _ = path;
        Ok(None)
    }

    /// Why a sync on the file system that holds `path` may succeed and nothing be
    /// durable; nothing, unless told otherwise. Asked once, at open.
    ///
    /// # Errors
    /// What the system answers.
    fn durability_warnings(&self, path: &Path) -> io::Result<Vec<DurabilityWarning>> {
        let _ = path;
        Ok(Vec::new())
    }
}

/// An open file. One owner at a time; reads and writes name their offset.
pub trait DiskFile: fmt::Debug + Send {
    /// Reads at `offset`; returns how many bytes came, 0 at the end.
    ///
    /// # Errors
    /// What the system answers; `Interrupted` may be tried again.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset`; returns how many bytes were taken, which may be
    /// fewer than asked. The file grows as needed.
    ///
    /// # Errors
    /// What the system answers; `Interrupted` may be tried again.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Asks for the way past the system's cache, and of which size the blocks
    /// are that [`DiskFile::write_direct`] takes, a power of two. `None`, the
    /// default: there is none, and it must not be called. To be asked once, and
    /// before anything that matters is in the file; who was told of the way
    /// makes sure of it by a first write that may fail.
    fn direct_block_bytes(&mut self) -> Option<usize> {
        None
    }

    /// As [`DiskFile::write_at`], past the cache, where what was written with
    /// the one and read in the usual way is what was written. Durable like
    /// that: once [`DiskFile::sync_data`] is `Ok`. Offset, length and the
    /// memory's address must be multiples of the block.
    ///
    /// # Errors
    /// What the system answers; `Interrupted` may be tried again.
    fn write_direct(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.write_at(bytes, offset)
    }

    /// `fdatasync`: what was written, and the size needed to read it back, is
    /// on stable storage when this returns `Ok`.
    ///
    /// # Errors
    /// After an error nothing is known about what was written since the last
    /// `Ok`, **and a second call proves nothing**: the kernel may have marked
    /// the lost pages clean. Never retry. `Ok` must not hang on another file's
    /// sync: where the file system commits several files together and that fails,
    /// each of their syncs must fail (ext4 tells one of them).
    fn sync_data(&mut self) -> io::Result<()>;

    /// Whether it is known by another name too, under which somebody may rely on
    /// what is in it, as a backup by hard links does; no, unless told otherwise.
    ///
    /// # Errors
    /// What the system answers.
    fn has_other_names(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Cuts or extends the file (with a hole).
    ///
    /// # Errors
    /// What the system answers.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the system answers.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// What the system answers.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Asks the system to forget its cached clean pages of this file, so that
    /// the next read comes from the disk: after a failed sync the cache may
    /// show bytes that the disk never had. Advice, hence no result.
    fn drop_cache(&self);
}

/// Opens a directory of `disk`: the answer reaches every path below `path`
/// through it. The disk itself, if it has no open directories.
pub(crate) fn open_dir(disk: &Arc<dyn Disk>, path: &Path) -> io::Result<Arc<dyn Disk>> {
    Ok(disk.open_dir(path)?.unwrap_or_else(|| disk.clone()))
}

/// So many interruptions of one read or write, one after the other, are carried
/// on; no signal comes that often, and a disk that says nothing else is broken.
const INTERRUPTIONS_MAX: u32 = 1000;

/// Fills `bytes` from `offset`, or stops at the end of the file; returns how
/// many bytes came. Interrupted and short reads are carried on.
pub(crate) fn read_full(file: &dyn DiskFile, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let (mut done, mut interruptions) = (0, 0);
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => (done, interruptions) = (done + n, 0),
            Err(error) if may_go_on(&error, &mut interruptions) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of `bytes` at `offset`. Interrupted and short writes are carried
/// on; a write that takes nothing is `WriteZero`. After an error any part of
/// the bytes may have been written.
pub(crate) fn write_full(file: &mut dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_counted(file, bytes, offset, &mut false)
}

/// Does what [`write_full`] does. `touched` becomes true once some of the bytes were
/// taken.
pub(crate) fn write_counted(
    file: &mut dyn DiskFile,
    bytes: &[u8],
    offset: u64,
    touched: &mut bool,
) -> io::Result<()> {
    let (mut done, mut interruptions) = (0, 0);
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                (done, interruptions) = (done + n, 0);
                *touched = true;
            }
            Err(error) if may_go_on(&error, &mut interruptions) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The same past the cache, in blocks of `block` bytes. Of a block that was
/// written in part all is written again.
pub(crate) fn write_direct_full(
    file: &mut dyn DiskFile,
    bytes: &[u8],
    offset: u64,
    block: usize,
) -> io::Result<()> {
    let (mut done, mut interruptions) = (0, 0);
    while done < bytes.len() {
        match file.write_direct(&bytes[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) if n >= block => (done, interruptions) = (done + n / block * block, 0),
            Ok(_) if counted(&mut interruptions) => {}
            Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
            Err(error) if may_go_on(&error, &mut interruptions) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes a file's name where there is one. Durable only after
/// [`Disk::sync_dir`].
pub(crate) fn unlink_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn may_go_on(error: &io::Error, interruptions: &mut u32) -> bool {
    error.kind() == io::ErrorKind::Interrupted && counted(interruptions)
}

fn counted(interruptions: &mut u32) -> bool {
    *interruptions += 1;
    *interruptions <= INTERRUPTIONS_MAX
}
