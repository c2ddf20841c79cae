//! A log's directory: made, made durable, and locked.

use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskFile, OpenMode, open_dir, read_full, write_full};
use crate::error::OpenError;
use crate::sync::{Arc, Mutex};

const LOCK: &str = "LOCK";

/// Creates a directory and those above it that are missing. Their names are made
/// durable before the manifest is written, which is before the log exists.
pub(crate) fn create_dirs(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    if dir.as_os_str().is_empty() {
        return Ok(());
    }
    match disk.list(dir) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::io("opening the directory", dir)(error)),
    }
    let parent = dir.parent().unwrap_or(Path::new(""));
    create_dirs(disk, parent)?;
    create_dir(disk, dir)
}

pub(crate) fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    disk.create_dir(dir).map_err(OpenError::io("creating the directory", dir))
}

/// Opens a log's directory: what is read and written below it from then on is
/// reached through its descriptor, whatever becomes of its path.
pub(crate) fn open_log_dir(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Arc<dyn Disk>, OpenError> {
    open_dir(disk, dir).map_err(OpenError::io("opening the directory", dir))
}

/// The directory is locked while there is one of these: the log has one, which
/// close drops at last, and the housekeeping thread, which ends after all
/// writers, one for a log that nobody waited for.
pub(crate) type Lock = Arc<Mutex<Box<dyn DiskFile>>>;

/// Takes the exclusive lock on a directory.
pub(crate) fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskFile>, OpenError> {
    let path = dir.join(LOCK);
    match disk.lock(&path) {
        Ok(mut file) => {
            // For the message of the next opener only: the lock holds without.
            let pid = format!("{:<10}\n", std::process::id());
            drop(write_full(file.as_mut(), pid.as_bytes(), 0));
            Ok(file)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(OpenError::Locked { dir: dir.to_path_buf(), pid: lock_holder(disk, &path) })
        }
        Err(error) => Err(OpenError::io("locking", &path)(error)),
    }
}

fn lock_holder(disk: &dyn Disk, path: &Path) -> Option<u32> {
    let file = disk.open(path, OpenMode::Read).ok()?;
    let mut bytes = [0; 16];
    let read = read_full(file.as_ref(), &mut bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..read]).ok()?.trim().parse().ok()
}

/// Makes the names of the directory, and of those above it, durable: whoever
/// created them may have been killed before doing so. A directory that may not
/// be read cannot be synced either, and was not created by us. Nor was one of a
/// file system that is read-only or cannot sync a directory at all, as the roots
/// of squashfs, erofs and autofs.
pub(crate) fn sync_the_way_to(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    for parent in dir.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.sync_dir(parent) {
            Err(error) if !is_of_others(&error) => {
                return Err(OpenError::io("syncing", parent)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a directory that answers so to a sync cannot have been created here.
fn is_of_others(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | InvalidInput | ReadOnlyFilesystem)
}
