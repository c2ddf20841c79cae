//! Why a log was not copied.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// Why a log was not copied. The log is as it was, and there is no copy under
/// the name that was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackupError {
    /// The name is taken, or another backup works there or was killed there.
    /// Nothing is ever replaced. Remove it, or choose another name.
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// The target lies in the log itself.
    Inside {
        /// The log.
        dir: PathBuf,
        /// The target.
        to: PathBuf,
    },
    /// The log cannot be read: it is damaged, or changes without end.
    Log(OpenError),
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

impl BackupError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    /// Whether it says that a file is gone: the log has gone on meanwhile.
    pub(super) fn is_gone(&self) -> bool {
        let gone = io::ErrorKind::NotFound;
        match self {
            Self::Log(OpenError::Io { source, .. }) => source.kind() == gone,
            Self::Io { source, .. } => source.kind() == gone,
            _ => false,
        }
    }

    /// Whether a copy that is begun again may succeed.
    pub(super) fn may_pass(&self) -> bool {
        let is_of_the_log =
            matches!(self, Self::Log(OpenError::Damaged(_) | OpenError::Manifest { .. }));
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
                "backup: {} exists; remove it if it is of no use, or choose another name",
                path.display()
            ),
            Self::Inside { dir, to } => {
                write!(f, "backup: {} lies in the log {}", to.display(), dir.display())
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
