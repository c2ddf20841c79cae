//! Errors of the storage, one enum per operation.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::HISTOGRAM_BYTES_MAX;
use super::codec::DecodeError;
use shardwal::CheckpointError;
use shardwal::{AppendError, Cause, OpenError, Position, ReplayError, TruncateError};

/// Why a storage could not be opened, or a snapshot not be taken. Acknowledged samples are not
/// lost.
#[derive(Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The log could not be opened or read.
    Log(OpenError),
    /// A record of the log is not a batch of samples, or does not continue the batch before it.
    Batch {
        /// Position of the record.
        position: Position,
        /// How it is corrupted.
        error: DecodeError,
    },
    /// The snapshot file is corrupt.
    CorruptedSnapshot {
        /// The snapshot file.
        path: PathBuf,
        /// Byte offset of the corruption.
        offset: u64,
        /// The problem at that offset.
        what: &'static str,
    },
    /// The log was truncated beyond the snapshot. The records between the two are in neither.
    /// Restore the newest snapshot.
    SnapshotTooOld {
        /// Where the snapshot should be. It may be missing.
        path: PathBuf,
        /// The first position that the log still holds.
        log_begins: Position,
    },
    /// The log ends before the position that the snapshot covers. Its newest part is missing, or it
    /// is another log.
    LogTooShort {
        /// The snapshot file.
        path: PathBuf,
        /// Where the log ends.
        log_ends: Position,
    },
    /// The snapshot belongs to another log.
    ForeignSnapshot {
        /// The snapshot file.
        path: PathBuf,
    },
    /// The snapshot names a position that the log cannot have. Its generation or number of shards
    /// differs.
    UnfitSnapshot {
        /// The snapshot file.
        path: PathBuf,
        /// What does not fit.
        error: CheckpointError,
    },
    /// The position to replay from does not fit the log.
    Checkpoint(CheckpointError),
    /// A shard has failed, so the storage cannot read its state. Reopen the storage.
    ShardFailed,
    /// The log could not be synced before the snapshot.
    Flush(AppendError),
    /// The snapshot is in place, but the log could not be truncated. Take another snapshot.
    Truncate(TruncateError),
    /// The calling thread is a committer of the log, or the calling process did not open it: see
    /// [`Cause::WouldDeadlock`] and [`Cause::Forked`].
    NotHere(Cause),
    /// The replay failed for a reason that this version does not know.
    Replay(String),
    /// An I/O error.
    Io {
        /// The operation that failed.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl StorageError {
    /// Maps the error of a check of the snapshot at `path`, which may be missing.
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

    /// Maps the error of a replay.
    pub(crate) fn of_replay(error: ReplayError<Self>) -> Self {
        match error {
            ReplayError::Checkpoint(error) => Self::Checkpoint(error),
            ReplayError::Callback(error) => error,
            ReplayError::Log(error) => Self::Log(error),
            ReplayError::NotHere(cause) => Self::NotHere(cause),
            error => Self::Replay(error.to_string()),
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
                write!(f, "the record at {position} is not a batch of samples: {error}")
            }
            Self::CorruptedSnapshot { path, offset, what } => write!(
                f,
                "the snapshot {} is corrupt at byte {offset}: {what}; restore it from a copy",
                path.display()
            ),
            Self::SnapshotTooOld { path, log_begins } => write!(
                f,
                "the log begins at {log_begins}, and the snapshot {} is missing or ends before \
                 that; restore the newest snapshot",
                path.display()
            ),
            Self::LogTooShort { path, log_ends } => write!(
                f,
                "the log ends at {log_ends}, before the end of the snapshot {}; restore the log, \
                 or move the snapshot away and lose the samples that only it holds",
                path.display()
            ),
            Self::ForeignSnapshot { path } => write!(
                f,
                "the snapshot {} belongs to another log; restore the snapshot of this log",
                path.display()
            ),
            Self::UnfitSnapshot { path, error } => {
                write!(f, "the snapshot {} does not fit the log: {error}", path.display())
            }
            Self::Checkpoint(error) => write!(f, "{error}"),
            Self::ShardFailed => f.write_str("a shard has failed; reopen the storage"),
            Self::NotHere(cause) => write!(f, "the log cannot be used from here: {cause}"),
            Self::Replay(what) => write!(f, "the replay failed: {what}"),
            Self::Flush(error) => {
                write!(f, "the log could not be synced, and no snapshot was taken: {error}")
            }
            Self::Truncate(error) => {
                write!(f, "the snapshot is in place, but the log was not truncated: {error}")
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

/// Why samples were not written, or may not have been. Other parts of the call may have been
/// written. Retry the whole call: writing a sample twice changes nothing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WriteError {
    /// The write needs more series than the limit. Nothing was queued.
    TooManySeries {
        /// The limit per shard.
        max: u32,
    },
    /// The write would exceed the number of samples that memory may hold. Queued samples count.
    /// Nothing was queued.
    MemoryFull {
        /// The limit.
        max: u64,
    },
    /// A histogram is larger than [`HISTOGRAM_BYTES_MAX`](crate::HISTOGRAM_BYTES_MAX). Nothing was
    /// queued.
    HistogramTooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// A handle belongs to another storage, or to this one before it was reopened. Nothing was
    /// queued. Request a new handle.
    ForeignHandle,
    /// The series of a handle has left the storage, because all of its samples have expired: see
    /// [`Storage::drop_expired`](crate::Storage::drop_expired). Nothing was queued. Write by
    /// labels, or request a new handle.
    SeriesGone,
    /// The log refused a part before queueing it.
    Refused(Cause),
    /// The log did not acknowledge a part.
    Append(AppendError),
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManySeries { max } => too_many(f, *max),
            Self::MemoryFull { max } => {
                write!(f, "memory is full: it holds at most {max} samples; raise `samples_max`")
            }
            Self::HistogramTooLarge { bytes } => write!(
                f,
                "a native histogram has {bytes} bytes, more than {HISTOGRAM_BYTES_MAX}; send fewer \
                 buckets"
            ),
            Self::ForeignHandle => f.write_str(
                "a series handle belongs to another storage, or to this one before it was \
                 reopened; request a new handle",
            ),
            Self::SeriesGone => f.write_str(
                "a series has left the storage, because its samples have expired; write by labels, \
                 or request a new handle",
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
