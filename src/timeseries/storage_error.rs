//! What can go wrong in the storage, one enum an operation.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::codec::DecodeError;
use crate::checkpoint::CheckpointError;
use crate::error::{AppendError, Cause, OpenError, Position, TruncateError};

/// Why a storage could not be opened, or a snapshot not be taken. What was
/// acknowledged is still there.
#[derive(Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The log could not be opened or read.
    Log(OpenError),
    /// A record of the log is no batch of samples, or does not follow the one
    /// before it.
    Batch {
        /// Which.
        position: Position,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The snapshot is not as it was written.
    DamagedSnapshot {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The log was truncated beyond the snapshot: what stood between the two is
    /// in neither. Put the newest snapshot back.
    SnapshotTooOld {
        /// Where the snapshot should be; it may be missing.
        path: PathBuf,
        /// The first place that the log still has.
        log_begins: Position,
    },
    /// The log ends before the place up to which the snapshot reaches: it, or
    /// its newest part, is gone, or it is another log.
    LogTooShort {
        /// The snapshot.
        path: PathBuf,
        /// Where the log ends.
        log_ends: Position,
    },
    /// The snapshot was taken of another log.
    ForeignSnapshot {
        /// The snapshot.
        path: PathBuf,
    },
    /// The snapshot names a place that the log cannot have: another generation or
    /// number of shards.
    UnfitSnapshot {
        /// The snapshot.
        path: PathBuf,
        /// What does not fit.
        error: CheckpointError,
    },
    /// The place to replay from does not fit the log.
    Checkpoint(CheckpointError),
    /// A shard has failed, so that its state cannot be had. Reopen the storage.
    ShardFailed,
    /// What was to be in the snapshot could not be synced.
    Flush(AppendError),
    /// The snapshot stands; the log could not be truncated. Take another one.
    Truncate(TruncateError),
    /// The calling thread commits, or the calling process is not the log's: see
    /// [`Cause::WouldDeadlock`] and [`Cause::Forked`].
    NotHere(Cause),
    /// The operating system refused something.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
}

impl StorageError {
    /// The snapshot at `path` does not fit the log, or is missing there.
    pub(crate) fn unfit_snapshot(path: &Path, error: CheckpointError) -> Self {
        let path = path.to_path_buf();
        match error {
            CheckpointError::Truncated { first_kept, .. } => {
                Self::SnapshotTooOld { path, log_begins: first_kept }
            }
            CheckpointError::BeyondEnd { end, .. } => Self::LogTooShort { path, log_ends: end },
            CheckpointError::AnotherLog { .. } => Self::ForeignSnapshot { path },
            error => Self::UnfitSnapshot { path, error },
        }
    }

    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(error) => write!(f, "{error}"),
            Self::Batch { position, error } => {
                write!(f, "the record at {position} is no batch of samples: {error}")
            }
            Self::DamagedSnapshot { path, offset, what } => write!(
                f,
                "the snapshot {} is damaged at byte {offset}: {what}; put a copy of it back",
                path.display()
            ),
            Self::SnapshotTooOld { path, log_begins } => write!(
                f,
                "the log begins at {log_begins}, and the snapshot {} is missing or does not reach \
                 so far; put the newest one back",
                path.display()
            ),
            Self::LogTooShort { path, log_ends } => write!(
                f,
                "the log ends at {log_ends}, before the place that the snapshot {} reaches: put the \
                 log back, or move the snapshot away and lose what only it holds",
                path.display()
            ),
            Self::ForeignSnapshot { path } => write!(
                f,
                "the snapshot {} was taken of another log: put this log's back",
                path.display()
            ),
            Self::UnfitSnapshot { path, error } => {
                write!(f, "the snapshot {}: {error}", path.display())
            }
            Self::Checkpoint(error) => write!(f, "{error}"),
            Self::ShardFailed => f.write_str("a shard has failed; reopen the storage"),
            Self::NotHere(cause) => write!(f, "not done: {cause}"),
            Self::Flush(error) => write!(f, "the log could not be synced: {error}"),
            Self::Truncate(error) => {
                write!(f, "the snapshot stands, but the log is not truncated: {error}")
            }
            Self::Io { doing, path, source } => {
                write!(f, "{doing} {}: {source}", path.display())
            }
        }
    }
}

fn too_many(f: &mut fmt::Formatter<'_>, max: u32) -> fmt::Result {
    write!(f, "a shard holds at most {max} series; raise `series_max`, or send fewer label values")
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Log(error) => Some(error),
            Self::Batch { error, .. } => Some(error),
            Self::UnfitSnapshot { error, .. } | Self::Checkpoint(error) => Some(error),
            Self::Flush(error) => Some(error),
            Self::Truncate(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why samples were not written, or may not have been. Other parts of the same
/// call may have been: write all of it again, for a sample that is there
/// already is the same sample.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// There would be more series than the limit. Nothing was queued.
    TooManySeries {
        /// The most in one shard.
        max: u32,
    },
    /// Memory holds as many samples as it may, or would with these. Samples that
    /// are on their way count. Nothing was queued.
    MemoryFull {
        /// The most.
        max: u64,
    },
    /// A handle of another storage, or of an earlier opening of this one.
    /// Nothing was queued. Ask for the series' handle again.
    ForeignHandle,
    /// The log refused a part at once.
    Refused(Cause),
    /// The log did not acknowledge a part.
    Append(AppendError),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManySeries { max } => too_many(f, *max),
            Self::MemoryFull { max } => {
                write!(
                    f,
                    "memory holds at most {max} samples, and has no room for these; raise `samples_max`"
                )
            }
            Self::ForeignHandle => f.write_str(
                "a series' handle is of another storage, or from before it was reopened",
            ),
            Self::Refused(cause) => write!(f, "refused: {cause}"),
            Self::Append(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for WriteError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Append(error) => Some(error),
            _ => None,
        }
    }
}
