//! Errors of holds.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Cause;
use crate::checkpoint::{Checkpoint, CheckpointError};

/// Why a hold was not set, moved or released.
///
/// Unless it is `Io`, nothing was changed. After `Io` the log goes on with the hold that keeps
/// more, and the next open may find either.
#[derive(Debug)]
#[non_exhaustive]
pub enum HoldError {
    /// A name has 1 to [`crate::HOLD_NAME_BYTES_MAX`] of the letters `a` to `z`, the digits, `_`,
    /// `.` and `-`.
    InvalidName {
        /// The name.
        name: String,
    },
    /// The log has this number of holds already, [`crate::HOLDS_MAX`]. Release one.
    TooMany {
        /// The number of holds.
        holds: usize,
    },
    /// The checkpoint does not fit the log, or records above it were truncated.
    Checkpoint(CheckpointError),
    /// The checkpoint is before the hold's position. To move a hold back, release it and set it
    /// anew.
    MovesBack {
        /// The hold's name.
        name: String,
        /// Its position.
        at: Checkpoint,
    },
    /// The hold was dropped beyond its limits. Records above its position may be gone. Set it
    /// anew, at a checkpoint that the log still has.
    Dropped {
        /// The hold's name.
        name: String,
    },
    /// There is no hold of this name. It was never set, was released, or was dropped on a full
    /// disk.
    NoSuchHold {
        /// The name.
        name: String,
    },
    /// The log is closed, and another process may have opened it since. Open the log.
    Closed,
    /// The calling thread commits, or the calling process did not open the log: see
    /// [`Cause::WouldDeadlock`] and [`Cause::Forked`].
    NotHere(Cause),
    /// The operating system returned an error. After a failed sync of the log's directory, holds
    /// cannot be changed until the log is opened again. A full disk needs room for one small
    /// file, but none to release a hold.
    Io {
        /// The operation that failed, such as `storing`.
        doing: &'static str,
        /// The log's directory, or a file in it.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl HoldError {
    /// Adds the operation and the path to an error of the system.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }
}

impl fmt::Display for HoldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidName { name } => {
                write!(f, "`{name}` is no name of a hold; use 1 to 64 of a-z, 0-9, `_`, `.`, `-`")
            }
            Self::TooMany { holds } => write!(f, "the log has {holds} holds; release one"),
            Self::Checkpoint(error) => write!(f, "hold: {error}"),
            Self::MovesBack { name, at } => {
                write!(f, "the hold `{name}` is at {at} and moves forward only; release it first")
            }
            Self::Dropped { name } => write!(
                f,
                "the hold `{name}` was dropped beyond its limits; set it anew at a later checkpoint"
            ),
            Self::NoSuchHold { name } => write!(f, "there is no hold `{name}`; set it first"),
            Self::Closed => f.write_str("the log is closed; open it to change its holds"),
            Self::NotHere(cause) => write!(f, "the hold was not changed: {cause}"),
            Self::Io { doing, path, source } => {
                write!(f, "while {doing} {}: {source}", path.display())
            }
        }
    }
}

impl Error for HoldError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Checkpoint(error) => Some(error),
            _ => None,
        }
    }
}
