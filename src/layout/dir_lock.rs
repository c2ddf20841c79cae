//! A log's directory: created, synced and locked. Knows directories and the lock
//! file; it does not know what a log holds.

use std::io;
use std::path::Path;

use crate::error::OpenError;
use crate::fs::{
    FileHandle, FileSystem, OpenMode, host_name, open_dir, pid_namespace, read_full, write_full,
};
use crate::util::sync::{Arc, Mutex};

const LOCK: &str = "LOCK";

/// Creates a directory and its missing parents. [`sync_the_way_to`] syncs their
/// names later, before the manifest is written.
///
/// # Errors
/// The file system refuses.
pub(crate) fn create_dirs(fs: &dyn FileSystem, dir: &Path) -> Result<(), OpenError> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    match fs.list(dir) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::io("opening the directory", dir)(error)),
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dirs(fs, parent)?;
    create_dir(fs, dir)
}

pub(crate) fn create_dir(fs: &dyn FileSystem, dir: &Path) -> Result<(), OpenError> {
    fs.create_dir(dir).map_err(OpenError::io("creating the directory", dir))
}

/// Opens a log's directory. The returned file system reaches all files through the
/// directory's descriptor, even if the directory is moved.
///
/// # Errors
/// The directory cannot be opened.
pub(crate) fn open_log_dir(
    fs: &Arc<dyn FileSystem>,
    dir: &Path,
) -> Result<Arc<dyn FileSystem>, OpenError> {
    open_dir(fs, dir).map_err(OpenError::io("opening the directory", dir))
}

/// The lock on a log's directory. It is held until the last clone is dropped. The
/// log has one clone, which `close` drops last. The housekeeping thread has the
/// other: it ends after all writers, also if the log was dropped without a close.
pub(crate) type Lock = Arc<Mutex<Box<dyn FileHandle>>>;

/// Takes the exclusive lock on a directory. Does not wait.
///
/// # Errors
/// [`OpenError::Locked`] if another open has it, or what the file system returns.
pub(crate) fn take_lock(fs: &dyn FileSystem, dir: &Path) -> Result<Box<dyn FileHandle>, OpenError> {
    let path = dir.join(LOCK);
    match fs.lock(&path) {
        Ok(mut file) => {
            // For the message of the next opener only: the lock holds without.
            drop(write_full(file.as_mut(), LockHolder::here().encode().as_bytes(), 0));
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            let LockHolder { pid, host, pid_namespace } = LockHolder::read(fs, &path);
            Err(OpenError::Locked { dir: dir.to_path_buf(), pid, host, pid_namespace })
        }
        Err(error) => Err(OpenError::io("locking", &path)(error)),
    }
}

/// An open and locked directory.
#[derive(Debug)]
pub struct LockedDir {
    /// Reaches all files through the directory's descriptor.
    pub fs: Arc<dyn FileSystem>,
    /// Held until it is dropped.
    pub lock: Box<dyn FileHandle>,
}

/// Creates a directory and its missing parents, makes their names durable, opens the
/// directory and locks it.
///
/// # Errors
/// [`OpenError::Locked`] if another open has the lock, or what the file system returns.
pub fn create_and_lock(fs: &Arc<dyn FileSystem>, dir: &Path) -> Result<LockedDir, OpenError> {
    create_dirs(fs.as_ref(), dir)?;
    sync_the_way_to(fs.as_ref(), dir)?;
    let fs = open_log_dir(fs, dir)?;
    let lock = take_lock(fs.as_ref(), dir)?;
    Ok(LockedDir { fs, lock })
}

/// The process that holds the lock, as its file says: one line for people, with the process
/// id, its namespace and the host name. `-` is what the system does not say.
#[derive(Debug, Default, PartialEq, Eq)]
struct LockHolder {
    pid: Option<u32>,
    host: Option<String>,
    pid_namespace: Option<u64>,
}

impl LockHolder {
    const BYTES_MAX: usize = 512;

    fn here() -> Self {
        let (host, pid_namespace) = (host_name(), pid_namespace());
        Self { pid: Some(std::process::id()), host, pid_namespace }
    }

    /// Longer lines of earlier holders may follow the first.
    fn encode(&self) -> String {
        let pid = self.pid.unwrap_or_default();
        let namespace = self.pid_namespace.map_or("-".into(), |number| number.to_string());
        format!("{pid:<10} {namespace} {}\n", self.host.as_deref().unwrap_or("-"))
    }

    /// What cannot be read is not known.
    fn parse(text: &str) -> Self {
        let mut words = text.lines().next().unwrap_or_default().split_whitespace();
        let pid = words.next().and_then(|word| word.parse().ok());
        let pid_namespace = words.next().and_then(|word| word.parse().ok());
        let host = words.next().filter(|host| *host != "-").map(String::from);
        Self { pid, host, pid_namespace }
    }

    fn read(fs: &dyn FileSystem, path: &Path) -> Self {
        let mut bytes = [0; Self::BYTES_MAX];
        let read = fs
            .open(path, OpenMode::Read)
            .and_then(|file| read_full(file.as_ref(), &mut bytes, 0))
            .unwrap_or(0);
        Self::parse(&String::from_utf8_lossy(&bytes[..read]))
    }
}

/// Syncs the name of the directory and of each directory above it. An earlier open
/// may have created them and then been killed before the sync.
///
/// Skips a directory that this program cannot have created, because it cannot
/// be synced: one without read permission, on a read-only file system, or on one
/// that syncs no directories (the roots of squashfs, erofs and autofs).
///
/// # Errors
/// A directory that this program may have created cannot be synced.
pub(crate) fn sync_the_way_to(fs: &dyn FileSystem, dir: &Path) -> Result<(), OpenError> {
    for parent in dir.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match fs.sync_dir(parent) {
            Err(error) if !cannot_be_ours(&error) => {
                return Err(OpenError::io("syncing", parent)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether an error of a directory's sync proves that this program did not create
/// the directory.
fn cannot_be_ours(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | InvalidInput | ReadOnlyFilesystem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_read_as_it_was_written_and_as_older_versions_wrote_it() {
        let (pid, host) = (Some(7), Some("db-1.example".to_owned()));
        let holders = [
            LockHolder { pid, host, pid_namespace: Some(4_026_531_836) },
            LockHolder { pid, host: None, pid_namespace: None },
        ];
        for holder in holders {
            let text = holder.encode() + "4711 what a longer line has left\n";
            assert_eq!(LockHolder::parse(&text), holder);
        }
        let old = LockHolder { pid, ..LockHolder::default() };
        assert_eq!(LockHolder::parse("7         \n"), old);
        assert_eq!(LockHolder::parse(""), LockHolder::default());
        let here = LockHolder::here();
        assert!(
            !cfg!(target_os = "linux") || (here.host.is_some() && here.pid_namespace.is_some())
        );
        assert!(here.encode().len() < LockHolder::BYTES_MAX);
    }
}
