//! What this project's own crates use beyond the public interface. No promise is made
//! about anything in here: it may change in any release.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use crate::checkpoint::{Reach, ShardReach};
pub use crate::fs::{read_full, unlink_if_exists, write_full};
pub use crate::layout::dir_lock::{LockedDir, create_and_lock};
pub use crate::layout::router::shard_of;

use crate::error::{OpenError, TruncateError};
use crate::fs::FileSystem;
use crate::{
    AppendError, Cause, Checkpoint, CheckpointError, Completion, Config, Position, ShardedWal,
};

/// Opens the log in another directory, reached through another file system.
pub fn set_dir(config: &mut Config, dir: PathBuf, fs: Arc<dyn FileSystem>) {
    (config.dir, config.fs) = (dir, fs);
}

/// A completion that has its answer.
pub fn answered<'log>(answer: Result<Position, AppendError>) -> Completion<'log> {
    Completion::answered(answer)
}

/// Why the calling thread must not wait for the log; `None` if it may.
#[must_use]
pub fn would_deadlock(log: &ShardedWal) -> Option<Cause> {
    log.would_deadlock()
}

/// Checks that the log holds everything from the checkpoint on; without a checkpoint,
/// everything that was ever appended.
///
/// # Errors
/// The first difference.
pub fn check(log: &ShardedWal, checkpoint: Option<&Checkpoint>) -> Result<(), CheckpointError> {
    log.check(checkpoint)
}

/// Whether an error of a write means that there is no room.
#[must_use]
pub fn means_full(error: &io::Error) -> bool {
    crate::error::means_full(error)
}

/// Makes an error of `open` that names the operation and its file.
pub fn open_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    OpenError::io(doing, path)
}

/// Makes an error of a truncation that names the operation and its file.
#[must_use]
pub fn truncate_error(doing: &'static str, path: &Path, source: io::Error) -> TruncateError {
    TruncateError::io(doing, path)(source)
}
