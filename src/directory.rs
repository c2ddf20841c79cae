//! A log's directory: created, synced and locked. Knows directories and the lock
//! file; it does not know what a log holds.

use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskFile, OpenMode, open_dir, read_full, write_full};
use crate::error::OpenError;
use crate::sync::{Arc, Mutex};

const LOCK: &str = "LOCK";

/// Creates a directory and its missing parents. [`sync_the_way_to`] syncs their
/// names later, before the manifest is written.
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

/// Opens a log's directory. The returned file system reaches all files through the
/// directory's descriptor, even if the directory is moved.
pub(crate) fn open_log_dir(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Arc<dyn Disk>, OpenError> {
    open_dir(disk, dir).map_err(OpenError::io("opening the directory", dir))
}

/// The lock on a log's directory. It is held until the last clone is dropped. The
/// log has one clone, which `close` drops last. The housekeeping thread has the
/// other: it ends after all writers, also if the log was dropped without a close.
pub(crate) type Lock = Arc<Mutex<Box<dyn DiskFile>>>;

/// Takes the exclusive lock on a directory. Does not wait: fails with
/// [`OpenError::Locked`] if another open has it.
pub(crate) fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskFile>, OpenError> {
    let path = dir.join(LOCK);
    match disk.lock(&path) {
        Ok(mut file) => {
            // The id is for the message of the next opener only. The lock holds
            // without it.
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

/// Syncs the name of the directory and of each directory above it. An earlier open
/// may have created them and then been killed before the sync.
///
/// Skips a directory that this program cannot have created, because it cannot
/// be synced: one without read permission, on a read-only file system, or on one
/// that syncs no directories (the roots of squashfs, erofs and autofs).
pub(crate) fn sync_the_way_to(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    for parent in dir.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match disk.sync_dir(parent) {
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
