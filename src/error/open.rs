//! Errors of an open, and the corruption that it finds.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Corruption: durable data that cannot be read. The log was not changed.
///
/// [`Corruption::file`] and [`Corruption::offset`] say where, [`Corruption::advice`] says what
/// to do. [`crate::Repair`] can rewrite the shard without the lost records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Corruption {
    /// The generation of the corrupted shard.
    pub generation: u32,
    /// The corrupted shard.
    pub shard: u32,
    /// The corrupted file.
    pub file: PathBuf,
    /// The first byte of the file that cannot be used.
    pub offset: u64,
    /// The first sequence that cannot be read.
    pub first_sequence: u64,
    /// Records below this sequence were durable. So the records of
    /// `first_sequence..durable_below` may have been acknowledged, and are lost.
    pub durable_below: u64,
    /// The defect of the file.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// The advice if all that is known is that bytes have changed.
pub(crate) const RESTORE: &str = "restore the file from a copy";

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { generation, shard, offset, first_sequence, durable_below, .. } = self;
        let Self { file, what, advice, .. } = self;
        let file = file.display();
        write!(f, "generation {generation} shard {shard}: {what} at byte {offset} of {file}; ")?;
        if first_sequence < durable_below {
            let lost = format!("{first_sequence}..{durable_below} were durable and cannot be read");
            write!(f, "sequences {lost}; {advice}")
        } else {
            write!(f, "records from sequence {first_sequence} on may have been durable; {advice}")
        }
    }
}

/// Why a log could not be opened. No acknowledged record was changed or lost by
/// the attempt.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting of the [`Config`](crate::Config) is outside its limits. No log was
    /// created or changed.
    InvalidConfig {
        /// The setting's name.
        setting: &'static str,
        /// Why the value is refused, and which values are allowed.
        problem: String,
    },
    /// The log is open already, in another process or in this one. Close it
    /// there first.
    Locked {
        /// The log's directory.
        dir: PathBuf,
        /// The process that has it open, if its `LOCK` file says so. The number is one of
        /// that process's host and namespace.
        pid: Option<u32>,
        /// The host on which it runs, likewise.
        host: Option<String>,
        /// The number of its process id namespace: what `readlink /proc/PID/ns/pid` prints.
        pid_namespace: Option<u64>,
    },
    /// Durable records cannot be read. The log was not changed.
    ///
    /// Follow [`Corruption::advice`]. If there is no copy to restore from, use
    /// [`crate::Repair`] or [`OnCorruption::Quarantine`](crate::OnCorruption::Quarantine).
    Corrupted(Box<Corruption>),
    /// The manifest or a shard's truncation mark is missing, cannot be read, or
    /// is older than the log. The log was not changed. Restore the file from a
    /// copy: [`crate::Repair`] does not replace it.
    Manifest {
        /// The manifest, or the file of the truncation mark.
        file: PathBuf,
        /// The defect of the file.
        what: String,
    },
    /// The file of a hold is torn, rotten or foreign. The log was not changed. Restore the file
    /// from a copy. To release the hold, delete the file.
    Hold {
        /// The hold's file.
        file: PathBuf,
        /// The defect of the file.
        what: String,
    },
    /// A later version of shardwal wrote the log, or it uses a feature of a later
    /// version. Open it with that version.
    NewerFormat {
        /// The file in the newer format.
        file: PathBuf,
        /// What this version does not know.
        what: String,
    },
    /// The log's format is older than this version can read. Version 1 is the
    /// first format. Read the log with an older version, and append its records
    /// to a new log.
    OlderFormat {
        /// The file in the older format.
        file: PathBuf,
        /// What this version no longer knows.
        what: String,
    },
    /// There is no log in the directory, and the operation creates none:
    /// [`LogReader`](crate::LogReader), [`Repair`](crate::Repair),
    /// [`Backup`](crate::Backup), and an open with
    /// [`Config::keep_shards`](crate::Config::keep_shards). Check the path.
    NotALog {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system returned an error. Fix its cause, then open again.
    Io {
        /// The operation that failed, such as `opening`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
}

impl OpenError {
    /// Adds the operation and the path to an error of the system.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source: Arc::new(source) }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidConfig { setting, problem } => write!(f, "config: {setting} {problem}"),
            Self::Locked { dir, pid, host, pid_namespace } => {
                write!(f, "{} is open ", dir.display())?;
                match pid {
                    Some(pid) => write!(f, "in process {pid}")?,
                    None => f.write_str("elsewhere")?,
                }
                if let Some(host) = host {
                    write!(f, " on host {host}")?;
                }
                if let Some(number) = pid_namespace {
                    write!(f, " (pid namespace {number})")?;
                }
                f.write_str("; close it there first")
            }
            Self::Corrupted(corruption) => {
                write!(f, "the log is corrupted, and was not changed: {corruption}")
            }
            Self::Manifest { file, what } => {
                write!(f, "{}: {what}; the log was not changed; {RESTORE}", file.display())
            }
            Self::Hold { file, what } => {
                write!(f, "{}: {what}; {RESTORE}, or delete it to release the hold", file.display())
            }
            Self::NewerFormat { file, what } => write!(
                f,
                "{}: {what}; open it with the version of shardwal that wrote it",
                file.display()
            ),
            Self::OlderFormat { file, what } => write!(
                f,
                "{}: {what}; read it with a version of shardwal that knows it, and append it to a new log",
                file.display()
            ),
            Self::NotALog { dir } => {
                write!(f, "there is no log in {}; check the path", dir.display())
            }
            Self::Io { doing, path, source } => {
                write!(f, "while {doing} {}: {source}", path.display())
            }
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
