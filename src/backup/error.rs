//! The errors of a backup.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// Why a backup failed. The log was not changed, and the target does not exist,
/// unless it existed before.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackupError {
    /// The target exists, or its `.unfinished` directory does: another backup is
    /// running there, or was killed. A backup never replaces anything. Delete the
    /// directory, or choose another target.
    Exists {
        /// The existing directory.
        path: PathBuf,
    },
    /// The target lies in the log's directory. Choose one outside.
    Inside {
        /// The log's directory.
        dir: PathBuf,
        /// The target.
        to: PathBuf,
    },
    /// The log cannot be read: it is corrupted, or it kept changing. Verify the log,
    /// or try again.
    Log(OpenError),
    /// The operating system returned an error. Fix its cause, then try again.
    Io {
        /// The operation that failed, such as `writing`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl BackupError {
    /// Adds the operation and the path to an error of the system.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    /// Whether a file is missing, because the writer truncated it meanwhile.
    pub(super) fn is_gone(&self) -> bool {
        let gone = io::ErrorKind::NotFound;
        match self {
            Self::Log(OpenError::Io { source, .. }) => source.kind() == gone,
            Self::Io { source, .. } => source.kind() == gone,
            _ => false,
        }
    }

    /// Whether another attempt may succeed.
    pub(super) fn may_pass(&self) -> bool {
        let is_of_the_log =
            matches!(self, Self::Log(OpenError::Corrupted(_) | OpenError::Manifest { .. }));
        is_of_the_log || self.is_gone()
    }
}

impl From<OpenError> for BackupError {
    fn from(error: OpenError) -> Self {
        Self::Log(error)
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { path } => write!(
                f,
                "backup: {} exists; delete it if it is not needed, or choose another target",
                path.display()
            ),
            Self::Inside { dir, to } => {
                write!(
                    f,
                    "backup: {} lies in the log {}; choose a target outside",
                    to.display(),
                    dir.display()
                )
            }
            Self::Log(error) => write!(f, "backup: {error}"),
            Self::Io { doing, path, source } => {
                write!(f, "backup: while {doing} {}: {source}", path.display())
            }
        }
    }
}

impl Error for BackupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Log(error) => Some(error),
            Self::Io { source, .. } => Some(source),
            Self::Exists { .. } | Self::Inside { .. } => None,
        }
    }
}
