//! Errors of the other operations: replay, snapshot, truncation, close.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::{Cause, OpenError};
use crate::checkpoint::CheckpointError;

/// Why a replay ended early. The callback may have seen some of the records. The
/// log was not changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError<E> {
    /// The callback returned this error. The other threads have stopped.
    Callback(E),
    /// The checkpoint to replay from does not fit the log. No record was
    /// replayed.
    Checkpoint(CheckpointError),
    /// The log could not be read, or its files have changed since it was opened.
    /// Check the disk, then reopen the log.
    Log(OpenError),
    /// The calling thread commits, or the calling process is not the log's: see
    /// [`Cause::WouldDeadlock`] and [`Cause::Forked`]. Nothing was read.
    NotHere(Cause),
}

impl<E: fmt::Display> fmt::Display for ReplayError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The alternate form of `anyhow::Error` has its whole chain.
            Self::Callback(error) => write!(f, "the replay's callback failed: {error:#}"),
            Self::Checkpoint(error) => write!(f, "replay: {error}"),
            Self::Log(error) => write!(f, "replay: {error}"),
            Self::NotHere(cause) => write!(f, "not replayed: {cause}"),
        }
    }
}

impl<E> ReplayError<E> {
    /// The callback's own error, or this error if the callback did not fail.
    ///
    /// # Errors
    /// The replay itself failed.
    pub fn into_callback(self) -> Result<E, Self> {
        match self {
            Self::Callback(error) => Ok(error),
            other => Err(other),
        }
    }
}

/// For `?`, also if the callback fails with `anyhow::Error` or
/// `Box<dyn Error + Send + Sync>`, which are no `Error` themselves. The text contains that of
/// the callback's error. [`ReplayError::into_callback`] returns the error itself.
impl<E: fmt::Debug + fmt::Display + 'static> Error for ReplayError<E> {
    /// The callback's error if it is an `io::Error` or a `Box<dyn Error + Send + Sync>`.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Callback(error) => known_error(error),
            Self::Checkpoint(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::NotHere(_) => None,
        }
    }
}

/// An error whose type is no bound of the callback, because two common types are no `Error`.
fn known_error<E: 'static>(error: &E) -> Option<&(dyn Error + 'static)> {
    let error: &dyn Any = error;
    if let Some(error) = error.downcast_ref::<Box<dyn Error + Send + Sync>>() {
        return Some(error.as_ref());
    }
    error.downcast_ref::<io::Error>().map(|error| error as _)
}

/// Why a truncation ended early. Every record at or above the checkpoint is still
/// in the log. Some records below it may be.
#[derive(Debug)]
#[non_exhaustive]
pub enum TruncateError {
    /// The checkpoint does not fit the log. Nothing was truncated.
    Checkpoint(CheckpointError),
    /// The log is closed, and another process may have opened it since. Nothing
    /// was truncated. Open the log to truncate it.
    Closed,
    /// The calling thread is committing, or the calling process did not open the
    /// log: see [`Cause::WouldDeadlock`] and [`Cause::Forked`]. Nothing was
    /// truncated.
    NotHere(Cause),
    /// The operating system returned an error. Fix its cause, then truncate
    /// again.
    Io {
        /// The operation that failed, such as `deleting`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl TruncateError {
    /// Adds the operation and the path to an error of the system.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }
}

impl fmt::Display for TruncateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkpoint(error) => write!(f, "truncate: {error}"),
            Self::Closed => f.write_str("the log is closed; open it to truncate it"),
            Self::NotHere(cause) => write!(f, "not truncated: {cause}"),
            Self::Io { doing, path, source } => {
                write!(f, "while {doing} {}: {source}", path.display())
            }
        }
    }
}

impl Error for TruncateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Checkpoint(error) => Some(error),
            Self::Closed | Self::NotHere(_) => None,
        }
    }
}

/// A close that did not complete. Records that were acknowledged before keep the
/// guarantee of their [`Durability`](crate::Durability) mode. Records that were
/// not acknowledged may be missing after the next open.
#[derive(Clone, Debug)]
pub struct CloseError {
    /// The first shard that failed.
    pub shard: usize,
    /// Why the shard failed.
    pub cause: Cause,
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} was not closed cleanly: {}", self.shard, self.cause)
    }
}

impl Error for CloseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.io()
    }
}

/// A snapshot that not every shard took. What was stored before is still valid.
#[derive(Clone, Debug)]
pub struct SnapshotError {
    /// The first shard that took none.
    pub shard: usize,
    /// Why the shard took none: it has failed or closed, or this thread must not wait for it.
    pub cause: Cause,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} took no snapshot: {}", self.shard, self.cause)
    }
}

impl Error for SnapshotError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.io()
    }
}
