//! The only access to the file system.
//!
//! Every read and write of shardwal passes through [`FileSystem`] and [`FileHandle`]. So a test
//! can replace the machine: it can lose power between two calls, fail the n-th sync, or
//! run out of space. This layer knows paths and bytes. It does not know segments or
//! frames.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

mod fork;
mod journal;
mod mounts;
mod open_dir;
mod os;
#[cfg(feature = "sim")]
pub mod sim;
mod transfer;
mod unreadable;

pub(crate) use fork::{Origin, host_name, pid_namespace};
pub use mounts::{DurabilityWarning, NotDurable};
pub use os::OsFileSystem;
pub use transfer::{read_full, write_full};
pub(crate) use transfer::{write_counted, write_direct_full};
pub(crate) use unreadable::{Unreadable, means_unreadable, read_around};

/// How [`FileSystem::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Open an existing file, for reading only.
    Read,
    /// Open an existing file, for reading and writing.
    Write,
    /// Create a new file, for reading and writing. Fails if the name is taken.
    CreateNew,
}

/// A file system. Calls may come from any thread.
///
/// Implement it to keep the log elsewhere than in the operating system's files, or to
/// inject faults. [`crate::Config`] uses [`OsFileSystem`] by default.
pub trait FileSystem: fmt::Debug + Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// What the file system returns; `AlreadyExists` for [`OpenMode::CreateNew`] on a
    /// name that is taken.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>>;

    /// Opens a directory. Paths passed to the result must be below `path`, and are
    /// resolved from the open directory. So a rename or a mount cannot redirect them to
    /// another directory. The default returns `None`: this file system has no open
    /// directories, and paths are used as they are.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory, else what the system returns.
    fn open_dir(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        let _ = path;
        Ok(None)
    }

    /// Creates one directory. Its parent must exist. The new name is durable only after
    /// [`FileSystem::sync_dir`] of the parent.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken, else what the system returns.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, of files and directories, in no particular order.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Makes the names in a directory durable. A no-op if the operating system has no
    /// such call.
    ///
    /// # Errors
    /// What the system returns. A power loss may then lose the names.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames a file, and atomically replaces the target. Durable only after
    /// [`FileSystem::sync_dir`].
    ///
    /// # Errors
    /// What the system returns. The names are then unchanged.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames a file to a name that must be free. The default checks the name, then
    /// renames. A file system that can do both atomically should.
    ///
    /// # Errors
    /// `AlreadyExists` if the name is taken, else what the system returns. The names
    /// are then unchanged.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.open(to, OpenMode::Read) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.rename(from, to),
            Err(error) => Err(error),
        }
    }

    /// The number of names of a file. For a directory: 0 once it was removed, else any
    /// other number. The default returns 1 for a path that it can open or list.
    ///
    /// # Errors
    /// `NotFound` if there is nothing at the path, else what the system returns.
    fn links(&self, path: &Path) -> io::Result<u64> {
        match self.open(path, OpenMode::Read) {
            Ok(_) => Ok(1),
            Err(_) => self.list(path).map(|_| 1),
        }
    }

    /// When the content of a file was last changed. `None`, the default: the file system does
    /// not report it.
    ///
    /// # Errors
    /// `NotFound` if there is no such file, else what the system returns.
    fn modified(&self, path: &Path) -> io::Result<Option<SystemTime>> {
        let _ = path;
        Ok(None)
    }

    /// The time by the clock of [`FileSystem::modified`]. The default is the system's clock.
    fn time(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Whether [`FileHandle::is_hard_linked`] can answer. If it cannot, no segment is
    /// recycled: a backup made by hard links may rely on the file. The default returns
    /// true.
    fn counts_links(&self) -> bool {
        true
    }

    /// Adds a second name to a file (a hard link), on the same file system. The name
    /// must be free. Durable only after [`FileSystem::sync_dir`].
    ///
    /// # Errors
    /// What the system returns; `Unsupported`, the default, if it has no hard links.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Creates a file with the content of another one (a reflink). Both share their
    /// blocks until one of them is written to. Durable once the new file and its
    /// directory are synced. After an error there is no new file.
    ///
    /// # Errors
    /// What the system returns; `Unsupported`, the default, if it has no reflinks.
    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        let _ = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes a file's name. Durable only after [`FileSystem::sync_dir`].
    ///
    /// # Errors
    /// `NotFound` if there is no such file, else what the system returns.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory. Durable only after [`FileSystem::sync_dir`].
    ///
    /// # Errors
    /// What the system returns, for instance if the directory is not empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Takes the exclusive lock on a file. Creates the file if needed. Does not block.
    /// The lock ends when the returned file is dropped, or with the process. Two opens
    /// of one file conflict inside one process too.
    ///
    /// # Errors
    /// `WouldBlock` if the lock is held.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileHandle>>;

    /// Whether the file system of `path` writes every block to a new location, so that
    /// zeros written ahead gain nothing (btrfs, ZFS, bcachefs).
    fn copy_on_write(&self, path: &Path) -> bool;

    /// Number of bytes that this process may still write to the file system of `path`.
    /// `None`, the default: the file system does not report it. Called several times
    /// per second.
    ///
    /// # Errors
    /// What the system returns.
    fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        let _ = path;
        Ok(None)
    }

    /// The reasons why a sync on the file system of `path` may succeed although nothing
    /// is durable. The default returns none. Called once per open.
    ///
    /// # Errors
    /// What the system returns.
    fn durability_warnings(&self, path: &Path) -> io::Result<Vec<DurabilityWarning>> {
        let _ = path;
        Ok(Vec::new())
    }
}

/// An open file, with one owner at a time. Reads and writes name their offset.
pub trait FileHandle: fmt::Debug + Send {
    /// Reads at `offset`. Returns the number of bytes read, 0 at the end of the file.
    /// Blocks.
    ///
    /// # Errors
    /// What the system returns. After `Interrupted` the caller may try again.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset`. Returns the number of bytes written, which may be fewer than
    /// asked for. The file grows as needed.
    ///
    /// # Errors
    /// What the system returns. After `Interrupted` the caller may try again.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Switches direct I/O on for this file, and returns the block size of
    /// [`FileHandle::write_direct`], a power of two. `None`, the default: there is no
    /// direct I/O, and the caller must not use it.
    ///
    /// Call this once, before the file holds data that matters. Make the first direct
    /// write one that may fail: some file systems refuse it only then.
    fn direct_io_alignment(&mut self) -> Option<usize> {
        None
    }

    /// Writes at `offset` past the system's cache, if [`FileHandle::direct_io_alignment`]
    /// returned a block size. Returns the number of bytes written. Later buffered reads
    /// must see the bytes. They are durable once [`FileHandle::sync_data`] returns `Ok`.
    /// Offset, length and memory address must be multiples of the block size. The
    /// default calls [`FileHandle::write_at`].
    ///
    /// # Errors
    /// What the system returns. After `Interrupted` the caller may try again.
    fn write_direct(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.write_at(bytes, offset)
    }

    /// `fdatasync`: if this returns `Ok`, all written bytes and the size needed to read
    /// them are on stable storage. Blocks.
    ///
    /// # Errors
    /// After an error, the state of the bytes written since the last `Ok` is unknown,
    /// **and a second call proves nothing**: the kernel may have marked the lost pages
    /// clean. Never retry.
    ///
    /// `Ok` must not depend on another file's sync. If the file system commits several
    /// files together and that fails, each of their syncs must fail (ext4 reports it to
    /// one of them).
    fn sync_data(&mut self) -> io::Result<()>;

    /// Whether the file has, or may have, a hard link. A backup made by hard links relies
    /// on its content. Return true if links cannot be counted. The default returns false.
    ///
    /// # Errors
    /// What the system returns.
    fn is_hard_linked(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Cuts the file to `len` bytes, or extends it with a hole.
    ///
    /// # Errors
    /// What the system returns.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the system returns.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    ///
    /// # Errors
    /// What the system returns.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Asks the system to drop its cached clean pages of this file, so that the next
    /// read comes from the disk. After a failed sync the cache may show bytes that the
    /// disk never had. Advice only, so it returns no result.
    fn drop_cache(&self);
}

/// Opens the directory `path` of `fs`. The result resolves paths below `path` from
/// the open directory. Returns `fs` itself if it has no open directories.
pub(crate) fn open_dir(fs: &Arc<dyn FileSystem>, path: &Path) -> io::Result<Arc<dyn FileSystem>> {
    Ok(fs.open_dir(path)?.unwrap_or_else(|| fs.clone()))
}

/// Removes a file's name, if it exists. Durable only after [`FileSystem::sync_dir`].
///
/// # Errors
/// What the file system returns, except that there is no such file.
pub fn unlink_if_exists(fs: &dyn FileSystem, path: &Path) -> io::Result<()> {
    match fs.unlink(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
