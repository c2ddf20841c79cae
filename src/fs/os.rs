//! The operating system's file system.
//!
//! Only the files of this directory have `cfg(target_os)`. They know system calls. They do
//! not know segments or frames.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

#[cfg(target_os = "linux")]
use super::DurabilityWarning;
#[cfg(target_os = "linux")]
use super::journal::Direct;
use super::journal::{self, Journal};
use super::open_dir::OpenDir;
use super::{FileHandle, FileSystem, OpenMode, Origin};

/// The errors of a read that mean lost bytes, not a failed call. They are the general
/// I/O error, a wrong checksum of the file system or of the device, and a medium error.
/// A transport that is down returns another error.
#[cfg(target_os = "linux")]
pub(super) const UNREADABLE_ERRORS: &[i32] = &[
    rustix::io::Errno::IO.raw_os_error(),
    rustix::io::Errno::UCLEAN.raw_os_error(),
    rustix::io::Errno::BADMSG.raw_os_error(),
    rustix::io::Errno::NODATA.raw_os_error(),
    rustix::io::Errno::ILSEQ.raw_os_error(),
    rustix::io::Errno::REMOTEIO.raw_os_error(),
];

/// `EIO`.
#[cfg(all(unix, not(target_os = "linux")))]
pub(super) const UNREADABLE_ERRORS: &[i32] = &[5];

/// `ERROR_CRC`, `ERROR_IO_DEVICE`, `ERROR_DISK_CORRUPT`.
#[cfg(windows)]
pub(super) const UNREADABLE_ERRORS: &[i32] = &[23, 1117, 1393];

/// The operating system's file system.
///
/// It is complete on Linux. On other systems `drop_cache` does nothing, no file system
/// counts as copy-on-write, and free space is unknown. On Windows directories cannot be
/// synced, and links cannot be counted, so that no segment is recycled.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFileSystem;

impl FileSystem for OsFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => drop(options.write(true)),
            OpenMode::CreateNew => drop(options.write(true).create_new(true)),
        }
        Ok(OsFile::boxed(options.open(path)?))
    }

    fn open_dir(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
        Ok(Some(Arc::new(OpenDir::open(path)?)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            // The log has only UTF-8 names.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if cfg!(windows) {
            // Windows has no directory handle that FlushFileBuffers takes. NTFS
            // journals its names.
            return Ok(());
        }
        let dir = File::open(path)?;
        dir.sync_all()?;
        journal::prove_names(&dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    #[cfg(target_os = "linux")]
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        super::open_dir::rename_new(rustix::fs::CWD, from, to)
    }

    #[cfg(unix)]
    fn links(&self, path: &Path) -> io::Result<u64> {
        fs::symlink_metadata(path).map(|metadata| std::os::unix::fs::MetadataExt::nlink(&metadata))
    }

    fn modified(&self, path: &Path) -> io::Result<Option<SystemTime>> {
        fs::metadata(path)?.modified().map(Some)
    }

    /// The standard library counts the links of a file on Unix alone.
    fn counts_links(&self) -> bool {
        cfg!(unix)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    #[cfg(target_os = "linux")]
    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        let from = File::open(from)?;
        let new = OpenOptions::new().write(true).create_new(true).open(to)?;
        rustix::fs::ioctl_ficlone(&new, &from).map_err(|error| {
            drop(fs::remove_file(to));
            error.into()
        })
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        OsFile::locked(file)
    }

    fn copy_on_write(&self, path: &Path) -> bool {
        copy_on_write(path)
    }

    /// The bytes available to an unprivileged user. Ignores quotas of a user or a
    /// directory, which may be lower.
    #[cfg(target_os = "linux")]
    fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
        Ok(Some(available(&rustix::fs::statvfs(path)?)))
    }

    #[cfg(target_os = "linux")]
    fn durability_warnings(&self, path: &Path) -> io::Result<Vec<DurabilityWarning>> {
        super::mounts::warnings(rustix::fs::CWD, path)
    }
}

#[cfg(target_os = "linux")]
pub(super) fn available(fs: &rustix::fs::StatVfs) -> u64 {
    fs.f_bavail.saturating_mul(fs.f_frsize)
}

#[cfg(target_os = "linux")]
fn copy_on_write(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| is_copy_on_write(&fs))
}

#[cfg(target_os = "linux")]
pub(super) fn is_copy_on_write(fs: &rustix::fs::StatFs) -> bool {
    const BTRFS: i64 = 0x9123_683e;
    const ZFS: i64 = 0x2fc1_2fc1;
    const BCACHEFS: i64 = 0xca45_1a4e;
    #[allow(clippy::unnecessary_cast, reason = "it is i32 or u32 on some machines")]
    let number = file_system_number(fs.f_type as i64);
    [BTRFS, ZFS, BCACHEFS].contains(&number)
}

/// The number of a file system has 32 bits. Where `f_type` is an `i32`, those of btrfs
/// and bcachefs are negative.
#[cfg(target_os = "linux")]
fn file_system_number(f_type: i64) -> i64 {
    f_type & 0xffff_ffff
}

#[cfg(not(target_os = "linux"))]
fn copy_on_write(_path: &Path) -> bool {
    false
}

/// Large enough for the blocks of every device, and the pages of most systems.
#[cfg(target_os = "linux")]
const DIRECT_BLOCK_BYTES: usize = 4096;

/// Opens the file again with `O_DIRECT`. Uses its descriptor, because its name may have
/// changed.
#[cfg(target_os = "linux")]
fn open_direct(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
    let flag = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let direct = OpenOptions::new().write(true).custom_flags(flag).open(path)?;
    // `/proc/self/fd` may show the descriptors of another thread that this one does not
    // share. Then another file has that number, and the write would overwrite it.
    let (expected, actual) = (file.metadata()?, direct.metadata()?);
    if (expected.dev(), expected.ino()) != (actual.dev(), actual.ino()) {
        return Err(io::Error::other("/proc/self/fd shows the files of another thread"));
    }
    Ok(direct)
}

/// An open file of the operating system.
#[derive(Debug)]
pub(super) struct OsFile {
    file: File,
    /// A second descriptor of this file, with `O_DIRECT`.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there is no such way"))]
    direct: Option<File>,
    journal: Journal,
    /// The process that locked this file, if it is locked.
    locked_by: Option<Origin>,
}

impl OsFile {
    pub(super) fn boxed(file: File) -> Box<dyn FileHandle> {
        Box::new(Self { file, direct: None, journal: Journal::new(), locked_by: None })
    }

    /// Takes the lock without blocking. `File::try_lock` is flock(2) on Unix. That lock
    /// belongs to the open file, so a second open in this process conflicts too.
    pub(super) fn locked(file: File) -> io::Result<Box<dyn FileHandle>> {
        file.try_lock().map_err(io::Error::from)?;
        Ok(Box::new(Self {
            file,
            direct: None,
            journal: Journal::new(),
            locked_by: Some(Origin::here()),
        }))
    }
}

impl Drop for OsFile {
    /// Unlocks the file. A close alone would release the lock only after every process
    /// that was forked in the meantime has closed its copy, or called `exec`. A forked
    /// child must not unlock: the open file, and so the lock, is shared with its
    /// parent.
    fn drop(&mut self) {
        if self.locked_by.is_some_and(|origin| !origin.is_other_process()) {
            // The descriptor is closed next; there is nothing else to do on an error.
            drop(self.file.unlock());
        }
    }
}

impl FileHandle for OsFile {
    #[cfg(unix)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, bytes, offset)
    }

    #[cfg(unix)]
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.journal.wrote(offset.saturating_add(bytes.len() as u64));
        std::os::unix::fs::FileExt::write_at(&self.file, bytes, offset)
    }

    #[cfg(windows)]
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.journal.wrote(offset.saturating_add(bytes.len() as u64));
        std::os::windows::fs::FileExt::seek_write(&self.file, bytes, offset)
    }

    #[cfg(target_os = "linux")]
    fn direct_io_alignment(&mut self) -> Option<usize> {
        let stated = match journal::direct_alignment(&self.file) {
            Direct::None => return None,
            Direct::Aligned(alignment) => alignment,
            Direct::Unknown => DIRECT_BLOCK_BYTES,
        };
        self.direct = open_direct(&self.file).ok();
        self.direct.as_ref().map(|_| stated.max(DIRECT_BLOCK_BYTES))
    }

    #[cfg(target_os = "linux")]
    fn write_direct(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.journal.wrote(offset.saturating_add(bytes.len() as u64));
        let file = self.direct.as_ref().unwrap_or(&self.file);
        std::os::unix::fs::FileExt::write_at(file, bytes, offset)
    }

    /// Syncs the file, whichever of its descriptors it was written by.
    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.journal.prove(&self.file)
    }

    /// True where links cannot be counted, as on Windows.
    fn is_hard_linked(&self) -> io::Result<bool> {
        #[cfg(unix)]
        return Ok(std::os::unix::fs::MetadataExt::nlink(&self.file.metadata()?) > 1);
        #[cfg(not(unix))]
        Ok(true)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.journal.cut(len);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    fn drop_cache(&self) {
        #[cfg(target_os = "linux")]
        {
            // This is advice. If the file system ignores it, the log cannot do more
            // here.
            let _advice =
                rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed).ok();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_is_known_where_its_number_is_signed_or_unsigned() {
        let btrfs = 0x9123_683e_u32;
        for f_type in [i64::from(btrfs), i64::from(btrfs.cast_signed())] {
            assert_eq!(file_system_number(f_type), 0x9123_683e);
        }
    }

    #[test]
    fn a_file_whose_links_cannot_be_counted_counts_as_linked() {
        let scratch = tempfile::tempdir().unwrap();
        let [path, link] = ["file", "link"].map(|name| scratch.path().join(name));
        let file = OsFileSystem.open(&path, OpenMode::CreateNew).unwrap();
        assert_eq!(file.is_hard_linked().unwrap(), !OsFileSystem.counts_links());
        OsFileSystem.link(&path, &link).unwrap();
        assert!(file.is_hard_linked().unwrap());
    }
}
