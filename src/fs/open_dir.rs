//! An open directory of the operating system.
//!
//! It is a [`FileSystem`] that resolves paths from a descriptor. So a rename, a mount or a
//! change of the working directory does not lead it to another directory's files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{FileHandle, FileSystem, OpenMode};

#[cfg(target_os = "linux")]
pub(super) use linux::rename_new;

/// An open directory, and the path that its files' paths begin with.
#[derive(Debug)]
pub(super) struct OpenDir {
    /// The path as the caller spelled it. It is never resolved again.
    path: PathBuf,
    #[cfg(target_os = "linux")]
    fd: std::fs::File,
    /// Replaces the descriptor on systems without one: the absolute path, which a
    /// change of the working directory does not move.
    #[cfg(not(target_os = "linux"))]
    absolute: PathBuf,
}

impl OpenDir {
    /// The part of `path` below this directory; `.` for the directory itself.
    fn name<'path>(&self, path: &'path Path) -> io::Result<&'path Path> {
        let Ok(name) = path.strip_prefix(&self.path) else {
            let what = format!("{} is not below {}", path.display(), self.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        };
        Ok(if name.as_os_str().is_empty() { Path::new(".") } else { name })
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::time::{Duration, UNIX_EPOCH};

    use rustix::fd::AsFd;
    use rustix::fs::{self as sys, AtFlags, Mode, OFlags, RenameFlags};
    use rustix::io::Errno;

    use super::super::DurabilityWarning;
    use super::super::journal::prove_names;
    use super::super::mounts::warnings;
    use super::super::os::{OsFile, available, is_copy_on_write};
    use super::*;

    const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
    const FILE_MODE: Mode = Mode::from_raw_mode(0o666);
    const DIR_MODE: Mode = Mode::from_raw_mode(0o777);

    impl OpenDir {
        pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
            let opened = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let fd = sys::open(opened, DIRECTORY, Mode::empty())?;
            Ok(Self { path: path.to_path_buf(), fd: fd.into() })
        }

        fn file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
            let flags = flags | OFlags::CLOEXEC;
            Ok(sys::openat(&self.fd, self.name(path)?, flags, FILE_MODE)?.into())
        }

        fn directory(&self, path: &Path) -> io::Result<rustix::fd::OwnedFd> {
            Ok(sys::openat(&self.fd, self.name(path)?, DIRECTORY, Mode::empty())?)
        }
    }

    impl FileSystem for OpenDir {
        fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
            let flags = match mode {
                OpenMode::Read => OFlags::RDONLY,
                OpenMode::Write => OFlags::RDWR,
                OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            };
            Ok(OsFile::boxed(self.file(path, flags)?))
        }

        fn open_dir(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
            let fd = self.directory(path)?;
            Ok(Some(Arc::new(Self { path: path.to_path_buf(), fd: fd.into() })))
        }

        fn create_dir(&self, path: &Path) -> io::Result<()> {
            Ok(sys::mkdirat(&self.fd, self.name(path)?, DIR_MODE)?)
        }

        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in sys::Dir::new(self.directory(path)?)? {
                // The log has only UTF-8 names.
                if let Ok(name) = entry?.file_name().to_str()
                    && name != "."
                    && name != ".."
                {
                    names.push(name.to_owned());
                }
            }
            Ok(names)
        }

        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            if self.name(path)? == Path::new(".") {
                // Uses the directory's own descriptor: a truncation must not need
                // another one.
                self.fd.sync_all()?;
                return prove_names(&self.fd);
            }
            let dir = File::from(self.directory(path)?);
            dir.sync_all()?;
            prove_names(&dir)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            Ok(sys::renameat(&self.fd, self.name(from)?, &self.fd, self.name(to)?)?)
        }

        fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
            rename_new(&self.fd, self.name(from)?, self.name(to)?)
        }

        fn links(&self, path: &Path) -> io::Result<u64> {
            let name = self.name(path)?;
            let stat = if name == Path::new(".") {
                // Not by name: a removed directory has no name, not even `.`.
                sys::fstat(&self.fd)?
            } else {
                sys::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)?
            };
            #[allow(clippy::useless_conversion, reason = "it is 32 bits on some machines")]
            Ok(u64::from(stat.st_nlink))
        }

        fn modified(&self, path: &Path) -> io::Result<Option<SystemTime>> {
            let stat = sys::statat(&self.fd, self.name(path)?, AtFlags::empty())?;
            // A time before 1970, or one that this machine cannot represent, is unknown.
            let seconds = u64::try_from(stat.st_mtime).ok();
            let nanos = u32::try_from(stat.st_mtime_nsec).ok();
            let since = seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos));
            Ok(since.and_then(|since| UNIX_EPOCH.checked_add(since)))
        }

        fn unlink(&self, path: &Path) -> io::Result<()> {
            Ok(sys::unlinkat(&self.fd, self.name(path)?, AtFlags::empty())?)
        }

        fn remove_dir(&self, path: &Path) -> io::Result<()> {
            Ok(sys::unlinkat(&self.fd, self.name(path)?, AtFlags::REMOVEDIR)?)
        }

        fn lock(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
            OsFile::locked(self.file(path, OFlags::RDWR | OFlags::CREATE)?)
        }

        fn copy_on_write(&self, path: &Path) -> bool {
            let fs = self.directory(path).and_then(|fd| Ok(sys::fstatfs(fd)?));
            fs.is_ok_and(|fs| is_copy_on_write(&fs))
        }

        fn free_bytes(&self, path: &Path) -> io::Result<Option<u64>> {
            let fs = match self.name(path)? {
                name if name == Path::new(".") => sys::fstatvfs(&self.fd)?,
                _ => sys::fstatvfs(self.directory(path)?)?,
            };
            Ok(Some(available(&fs)))
        }

        fn durability_warnings(&self, path: &Path) -> io::Result<Vec<DurabilityWarning>> {
            warnings(&self.fd, self.name(path)?)
        }
    }

    /// Renames within a directory to a name that must be free. If the file system has
    /// no such rename, this checks the name first.
    pub(in super::super) fn rename_new(dir: impl AsFd, from: &Path, to: &Path) -> io::Result<()> {
        let dir = dir.as_fd();
        match sys::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS) => match sys::statat(dir, to, AtFlags::empty()) {
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(Errno::NOENT) => Ok(sys::renameat(dir, from, dir, to)?),
                Err(error) => Err(error.into()),
            },
            renamed => Ok(renamed?),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::super::OsFileSystem;
    use super::*;

    impl OpenDir {
        pub(in super::super) fn open(path: &Path) -> io::Result<Self> {
            let opened = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let absolute = std::path::absolute(opened)?;
            OsFileSystem.list(&absolute)?;
            Ok(Self { path: path.to_path_buf(), absolute })
        }

        fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
            Ok(self.absolute.join(self.name(path)?))
        }
    }

    impl FileSystem for OpenDir {
        fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
            OsFileSystem.open(&self.resolve(path)?, mode)
        }
        fn open_dir(&self, path: &Path) -> io::Result<Option<Arc<dyn FileSystem>>> {
            let absolute = self.resolve(path)?;
            OsFileSystem.list(&absolute)?;
            Ok(Some(Arc::new(Self { path: path.to_path_buf(), absolute })))
        }
        fn create_dir(&self, path: &Path) -> io::Result<()> {
            OsFileSystem.create_dir(&self.resolve(path)?)
        }
        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            OsFileSystem.list(&self.resolve(path)?)
        }
        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            OsFileSystem.sync_dir(&self.resolve(path)?)
        }
        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            OsFileSystem.rename(&self.resolve(from)?, &self.resolve(to)?)
        }
        fn links(&self, path: &Path) -> io::Result<u64> {
            OsFileSystem.links(&self.resolve(path)?)
        }
        fn modified(&self, path: &Path) -> io::Result<Option<SystemTime>> {
            OsFileSystem.modified(&self.resolve(path)?)
        }
        fn counts_links(&self) -> bool {
            OsFileSystem.counts_links()
        }
        fn unlink(&self, path: &Path) -> io::Result<()> {
            OsFileSystem.unlink(&self.resolve(path)?)
        }
        fn remove_dir(&self, path: &Path) -> io::Result<()> {
            OsFileSystem.remove_dir(&self.resolve(path)?)
        }
        fn lock(&self, path: &Path) -> io::Result<Box<dyn FileHandle>> {
            OsFileSystem.lock(&self.resolve(path)?)
        }
        fn copy_on_write(&self, path: &Path) -> bool {
            self.resolve(path).is_ok_and(|path| OsFileSystem.copy_on_write(&path))
        }
    }
}
