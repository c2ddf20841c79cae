//! Errors: one enum per operation.
//!
//! Each error says what is certain, where it happened and what to do. An error
//! of the operating system is kept as its `source`. This file does not know how
//! the errors arise.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::CheckpointError;
pub use crate::position::Position;

/// Why an append was refused or failed.
///
/// `QueueFull`, `SegmentNotReady`, `DiskFull`, `OutOfResources` and
/// `BelowFreeSpaceMin` are temporary: the log is intact, and appends work again
/// without a reopen. `Poisoned` and `WriterPanicked` last until the log is
/// reopened. The others are errors of the caller.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The shard's queue is full, in records or in bytes. Wait, or shed load.
    /// [`crate::Config::queue_capacity`] and [`crate::Config::queue_bytes`] set
    /// the limits.
    QueueFull,
    /// The shard's queue is full because the shard waits for its next segment:
    /// segments fill faster than the disk prepares them. Wait, or shed load.
    /// Recycled segments need less preparation: see
    /// [`crate::Config::recycled_segments_max`].
    SegmentNotReady,
    /// A record, or the part of a batch that goes to one shard, is too large.
    /// Nothing was queued, and a retry fails again. Split it.
    ///
    /// The payloads may have [`crate::BATCH_BYTES_MAX`] bytes, a constant. A part
    /// may have [`crate::BATCH_RECORDS_MAX`] records, and no more than the queue
    /// holds ([`crate::Config::queue_capacity`]).
    TooLarge {
        /// What is limited: records or payload bytes, of a record or of a batch.
        limit: &'static str,
        /// The size of the record or of the part.
        found: u64,
        /// The largest size that is allowed.
        max: u64,
    },
    /// The disk is full, or a quota or file size limit is reached. The log is
    /// intact. Appends work again as soon as there is room, without a reopen:
    /// truncate the log, or free space elsewhere.
    DiskFull(Arc<io::Error>),
    /// The system was out of file descriptors or memory (EMFILE, ENFILE, ENOMEM),
    /// or a signal interrupted the call (EINTR). The log is intact. Try again
    /// later; no reopen is needed.
    OutOfResources(Arc<io::Error>),
    /// The log's file system has fewer free bytes than
    /// [`crate::Config::free_space_min_bytes`]. Nothing was queued. Appends work again
    /// as soon as there is room, without a reopen: truncate the log, or free
    /// space elsewhere.
    BelowFreeSpaceMin {
        /// Free bytes at the last check. The log checks ten times a second.
        free_bytes: u64,
        /// The configured limit, in bytes.
        free_space_min_bytes: u64,
        /// Free bytes at which the log accepts appends again: the limit plus a
        /// sixteenth.
        required_bytes: u64,
    },
    /// A write or a sync of this shard failed, and the shard refuses all later
    /// appends. The other shards go on. Check the disk, then reopen the log.
    ///
    /// A second sync would prove nothing. After a failed fdatasync the kernel may
    /// have dropped the data, and still report success the next time. See Rebello
    /// et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
    /// The reopen trusts only what it reads back from the disk.
    Poisoned(Arc<io::Error>),
    /// The shard's writer panicked. That is a defect of shardwal or of the
    /// [`FileSystem`](crate::fs::FileSystem) in use. The shard refuses all later appends.
    /// Reopen the log, and report the panic.
    WriterPanicked,
    /// The call would wait for a commit on a thread that is committing, and that
    /// could deadlock. The log runs wakers, the `Drop` of payloads and state
    /// machines on such threads. Nothing was queued. Call
    /// [`crate::ShardedWal::try_append`] there, await the result in a task, or
    /// call from another thread.
    WouldDeadlock,
    /// The log belongs to another process. `fork` copied the log into this
    /// process, but none of the log's threads. Drop the copy, and open the log
    /// after the fork.
    Forked {
        /// The id of the process that opened the log.
        opened_by: u32,
        /// The id of the process that made the call.
        called_by: u32,
    },
    /// The log is closed. Open it again to append.
    Closed,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QueueFull => f.write_str("the shard's queue is full"),
            Self::SegmentNotReady => {
                f.write_str("the shard's queue is full while its next segment is being prepared")
            }
            Self::TooLarge { limit, found, max } => {
                write!(
                    f,
                    "too large: {found} {limit}, at most {max} are allowed; split it into smaller appends"
                )
            }
            Self::DiskFull(error) => {
                write!(f, "no room on the disk ({error}); truncate the log or free space")
            }
            Self::OutOfResources(error) => write!(
                f,
                "the system is out of file descriptors or memory ({error}); try again later"
            ),
            Self::BelowFreeSpaceMin { free_bytes, free_space_min_bytes, required_bytes } => write!(
                f,
                "{free_bytes} bytes are free on the disk, below free_space_min_bytes ({free_space_min_bytes}); truncate the log or free space, up to {required_bytes} bytes"
            ),
            Self::Poisoned(error) => write!(
                f,
                "the shard is out of service after a failed write or sync ({error}); check the disk and reopen the log"
            ),
            Self::WriterPanicked => {
                f.write_str("the shard's writer panicked; reopen the log, and report the panic")
            }
            Self::WouldDeadlock => f.write_str(
                "the call would wait for a commit on a thread that commits; call from another thread",
            ),
            Self::Forked { opened_by, called_by } => write!(
                f,
                "process {opened_by} opened the log, and process {called_by} is a fork of it; open the log after the fork"
            ),
            Self::Closed => f.write_str("the log is closed; open it again to append"),
        }
    }
}

impl Cause {
    /// The cause of a commit that failed without effect, from the system's error.
    pub(crate) fn of_refusal(error: io::Error) -> Self {
        let error = Arc::new(error);
        if is_passing(&error) { Self::OutOfResources(error) } else { Self::DiskFull(error) }
    }

    fn io(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::DiskFull(error) | Self::OutOfResources(error) | Self::Poisoned(error) => {
                Some(error.as_ref())
            }
            _ => None,
        }
    }
}

/// An append that will not be acknowledged. The variant says whether the record
/// can be in the log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AppendError {
    /// The record is not in the log and never will be. A retry cannot write it
    /// twice.
    NotWritten {
        /// The record's position, if it had one already. No other record gets this
        /// position before the log is reopened.
        position: Option<Position>,
        /// Why the record was not written.
        cause: Cause,
    },
    /// The record may or may not be in the log after a reopen. Do not acknowledge
    /// it. Reopen the log, then append it again if a duplicate is harmless.
    Indeterminate {
        /// The record's position, if it is in the log.
        position: Position,
        /// Why it is not known.
        cause: Cause,
    },
}

impl AppendError {
    /// Why the append failed.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match self {
            Self::NotWritten { cause, .. } | Self::Indeterminate { cause, .. } => cause,
        }
    }

    /// Whether the record was refused before it was queued.
    #[must_use]
    pub fn was_refused(&self) -> bool {
        matches!(self, Self::NotWritten { position: None, .. })
    }

    /// The record's position, if it had one already.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::NotWritten { position, .. } => *position,
            Self::Indeterminate { position, .. } => Some(*position),
        }
    }

    /// Turns the error of a run's last record into the error of the whole run:
    /// the position becomes that of the run's first record.
    pub(crate) fn of_run(mut self, records: usize) -> Self {
        let (Self::NotWritten { position: Some(position), .. }
        | Self::Indeterminate { position, .. }) = &mut self
        else {
            return self;
        };
        position.sequence -= (records as u64).saturating_sub(1);
        self
    }

    /// Whether it is certain that the record is not in the log and never will be.
    #[must_use]
    pub fn is_not_written(&self) -> bool {
        matches!(self, Self::NotWritten { .. })
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWritten { position: Some(position), cause } => {
                write!(f, "not written at {position}: {cause}")
            }
            Self::NotWritten { position: None, cause } => write!(f, "not written: {cause}"),
            Self::Indeterminate { position, cause } => {
                write!(f, "it is unknown whether {position} was written: {cause}")
            }
        }
    }
}

impl Error for AppendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().io()
    }
}

/// An append that was refused before it was queued. The record is not in the log
/// and never will be. The payload comes back to the caller.
#[derive(Clone, Debug)]
pub struct TryAppendError {
    /// The payload, unchanged.
    pub payload: Bytes,
    /// Why the append was refused.
    pub cause: Cause,
}

impl fmt::Display for TryAppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.cause)
    }
}

impl Error for TryAppendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.io()
    }
}

/// A batch that was not acknowledged in full.
///
/// A batch has one part per shard. Each part is in the log as a whole or not at
/// all. Parts that are not listed here were acknowledged.
#[derive(Clone, Debug)]
pub struct BatchError {
    /// The parts that failed, in shard order. There is at least one.
    pub failed: Vec<FailedShard>,
}

/// One shard's part of a batch that failed.
#[derive(Clone, Debug)]
pub struct FailedShard {
    /// The shard.
    pub shard: usize,
    /// The part's records, as indices into the batch that the caller passed.
    pub records: Vec<usize>,
    /// The error, which holds for all of these records. Its position is that of
    /// the part's first record.
    pub error: AppendError,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the batch was not acknowledged in full")?;
        for part in &self.failed {
            write!(f, "; {} records in shard {}: {}", part.records.len(), part.shard, part.error)?;
        }
        Ok(())
    }
}

impl Error for BatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failed.first().map(|part| &part.error as _)
    }
}

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
    /// What is wrong with the file.
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
        /// What is wrong with the value, and what is allowed.
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
        /// What is wrong with the file.
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
            Self::Callback(error) => write!(f, "the replay's callback failed: {error}"),
            Self::Checkpoint(error) => write!(f, "replay: {error}"),
            Self::Log(error) => write!(f, "replay: {error}"),
            Self::NotHere(cause) => write!(f, "not replayed: {cause}"),
        }
    }
}

impl<E: Error + 'static> Error for ReplayError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Callback(error) => Some(error),
            Self::Checkpoint(error) => Some(error),
            Self::Log(error) => Some(error),
            Self::NotHere(_) => None,
        }
    }
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

/// Whether an error of a *write* means that there is no room. Then the writer can
/// undo the write and go on. After a *sync* such an error is fatal.
pub(crate) fn means_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}

/// Whether an error of a call is temporary: no descriptor or memory was free, or
/// a signal interrupted the call. The caller may retry later. After a *sync* such
/// an error is fatal.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    /// Of Windows.
    const ERROR_TOO_MANY_OPEN_FILES: i32 = 4;
    let numbers: &[i32] = if cfg!(unix) { &[ENFILE, EMFILE] } else { &[ERROR_TOO_MANY_OPEN_FILES] };
    matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted)
        || error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}
