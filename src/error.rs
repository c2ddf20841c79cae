//! What can go wrong, one enum an operation. It says what is certain, where,
//! and what to do; causes are kept as they came.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::checkpoint::CheckpointError;
pub use crate::position::Position;

/// Why an append was refused or has failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The shard's queue has no room, in records or in bytes. Wait, or shed load.
    QueueFull,
    /// The queue has no room because the shard waits for its next segment: the
    /// disk prepares files more slowly than they fill.
    SegmentNotReady,
    /// A record, or a batch's part in one shard, is over a limit of the config.
    TooLarge {
        /// Which limit.
        limit: &'static str,
        /// What was asked for.
        found: u64,
        /// The most that is allowed.
        max: u64,
    },
    /// The disk, quota or file size limit is reached. The log is whole, and
    /// appends work again as soon as there is room, without reopening.
    DiskFull(Arc<io::Error>),
    /// The system had no descriptor or no memory to spare at that moment (EMFILE,
    /// ENFILE, ENOMEM), or a signal came in between (EINTR). The log is whole, and
    /// the next append may succeed, without reopening.
    OutOfResources(Arc<io::Error>),
    /// Less is free on the file system than [`crate::Config::disk_hard_bytes`]
    /// asks for. Nothing was queued. Appends work again as soon as there is
    /// room, without reopening: truncate, or free it elsewhere.
    BelowWatermark {
        /// What was found free at the last look.
        free_bytes: u64,
        /// The mark.
        disk_hard_bytes: u64,
        /// So many must be free for appends to be taken again.
        required_bytes: u64,
    },
    /// A write or sync of this shard has failed for good. After a failed
    /// fdatasync the kernel may have dropped the data and yet report success
    /// the next time (Rebello et al., "Can Applications Recover from fsync
    /// Failures?", USENIX ATC 2020), so the shard refuses everything from then
    /// on. Check the disk; then reopen the log, which trusts only what it can
    /// read back from the disk.
    Poisoned(Arc<io::Error>),
    /// The shard's writer thread has panicked, a defect of shardwal or of its
    /// `Disk`. Reopen the log.
    WriterPanicked,
    /// The call would have to wait for a commit, on a thread that is committing: it comes
    /// from a waker, from the `Drop` of a payload, or from a state machine, which the log
    /// runs while it commits. Nothing was queued. Call [`crate::ShardedWal::try_append`]
    /// there, await, or leave the call to another thread.
    WouldDeadlock,
    /// The log belongs to another process: `fork` has copied it into this one, which has
    /// none of the log's threads. It can only be dropped here.
    Forked {
        /// The process that opened the log.
        opened_by: u32,
        /// The process that has called.
        called_by: u32,
    },
    /// The log has been closed.
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
                    "{limit} is at most {max}, found {found}; raise it in the config, or split the batch"
                )
            }
            Self::DiskFull(error) => {
                write!(f, "no room on the disk ({error}); appends work again once there is")
            }
            Self::OutOfResources(error) => write!(
                f,
                "the system is out of descriptors or memory ({error}); appends work again once it is not"
            ),
            Self::BelowWatermark { free_bytes, disk_hard_bytes, required_bytes } => write!(
                f,
                "{free_bytes} bytes are free on the disk, below disk_hard_bytes, {disk_hard_bytes}; appends work again once {required_bytes} are"
            ),
            Self::Poisoned(error) => write!(
                f,
                "the shard is out of service after a failed write or sync ({error}); check the disk and reopen the log"
            ),
            Self::WriterPanicked => {
                f.write_str("the shard's writer thread has panicked; reopen the log")
            }
            Self::WouldDeadlock => f.write_str(
                "the call would wait for a commit on a thread that commits; make it on another thread",
            ),
            Self::Forked { opened_by, called_by } => write!(
                f,
                "process {opened_by} has opened the log, and process {called_by} is a forked copy of it; open the log after the fork"
            ),
            Self::Closed => f.write_str("the log is closed"),
        }
    }
}

impl Cause {
    /// Why a commit was taken back.
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

/// An append that will not be acknowledged, and what is certain of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AppendError {
    /// The record is not in the log and never will be. Appending it again
    /// cannot double it.
    NotWritten {
        /// Its place, where it had got one. The number stays unused until the
        /// log is opened again.
        position: Option<Position>,
        /// Why.
        cause: Cause,
    },
    /// The record may or may not be there after the log is opened again.
    Indeterminate {
        /// Its place, if it is there.
        position: Position,
        /// Why.
        cause: Cause,
    },
}

impl AppendError {
    /// Why.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        match self {
            Self::NotWritten { cause, .. } | Self::Indeterminate { cause, .. } => cause,
        }
    }

    /// Whether the record was refused before it was queued.
    pub(crate) fn was_refused(&self) -> bool {
        matches!(self, Self::NotWritten { position: None, .. })
    }

    /// The record's place, where it had got one.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::NotWritten { position, .. } => *position,
            Self::Indeterminate { position, .. } => Some(*position),
        }
    }

    /// The same of a run of records whose last this speaks of: its position
    /// becomes the first one's.
    pub(crate) fn of_run(mut self, records: usize) -> Self {
        let (Self::NotWritten { position: Some(position), .. }
        | Self::Indeterminate { position, .. }) = &mut self
        else {
            return self;
        };
        position.sequence -= (records as u64).saturating_sub(1);
        self
    }

    /// Whether it is certain that the record is not, and never will be, there.
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
                write!(f, "it is not known whether {position} was written: {cause}")
            }
        }
    }
}

impl Error for AppendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().io()
    }
}

/// An append that was refused before it was queued, with the payload back.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The payload, as it was given.
    pub payload: Bytes,
    /// Why.
    pub cause: Cause,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.cause)
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.io()
    }
}

/// A batch of which not every part was acknowledged. Each shard's part is
/// whole or absent; the parts that are not named here were acknowledged.
#[derive(Clone, Debug)]
pub struct BatchError {
    /// The parts that failed, at least one, in shard order.
    pub failed: Vec<FailedPart>,
}

/// One shard's part of a batch, and its fate.
#[derive(Clone, Debug)]
pub struct FailedPart {
    /// The shard.
    pub shard: usize,
    /// The indices, in the batch as it was given, of the part's records.
    pub records: Vec<usize>,
    /// What is certain of all of them. Its position is the part's first record's.
    pub error: AppendError,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch was not acknowledged in full")?;
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

/// Damage found in what should have been intact. Nothing has been changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Damage {
    /// The generation.
    pub generation: u32,
    /// The shard.
    pub shard: u32,
    /// The damaged file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub offset: u64,
    /// The first sequence that cannot be read.
    pub first_sequence: u64,
    /// The sequence below which records are known to have been durable; all
    /// from `first_sequence` to here, exclusive, were acknowledged or may have
    /// been.
    pub durable_below: u64,
    /// What is wrong there.
    pub what: String,
    /// What to do about it.
    pub advice: String,
}

/// What to do where nothing more is known than that bytes have changed.
pub(crate) const RESTORE: &str = "restore the file from a copy";

impl fmt::Display for Damage {
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

/// Why a log could not be opened. Nothing acknowledged has been changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting is outside its limits.
    InvalidConfig {
        /// The setting's name.
        setting: &'static str,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// Somebody else has the log open: another process, or this one.
    Locked {
        /// The log.
        dir: PathBuf,
        /// The holder, if it could be read.
        pid: Option<u32>,
    },
    /// Data that was durable cannot be read. It says what to do.
    Damaged(Box<Damage>),
    /// The manifest, or a shard's purge mark, is missing, older than the log
    /// beside it, or cannot be read.
    Manifest {
        /// The manifest, or the purge file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The log was written by a later version of shardwal, or uses a feature
    /// of one. Use that version.
    NewerFormat {
        /// The file that says so.
        file: PathBuf,
        /// What this version does not know.
        what: String,
    },
    /// The log is in a format that is older than this version reads. Version 1
    /// is the first.
    OlderFormat {
        /// The file that says so.
        file: PathBuf,
        /// What this version does not know any more.
        what: String,
    },
    /// There is no log in the directory (said by those who only read).
    NotALog {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system refused something.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it answered.
        source: Arc<io::Error>,
    },
}

impl OpenError {
    /// Names what was being done when the system refused.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source: Arc::new(source) }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidConfig { setting, problem } => write!(f, "config: {setting} {problem}"),
            Self::Locked { dir, pid: Some(pid) } => {
                write!(f, "{} is open in process {pid}; close it there first", dir.display())
            }
            Self::Locked { dir, pid: None } => {
                write!(f, "{} is open elsewhere; close it there first", dir.display())
            }
            Self::Damaged(damage) => {
                write!(f, "the log is damaged and was left as it is: {damage}")
            }
            Self::Manifest { file, what } => {
                write!(f, "{}: {what}; the log was left as it is, {RESTORE}", file.display())
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
            Self::NotALog { dir } => write!(f, "there is no log in {}", dir.display()),
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

/// Why a replay ended early. The log is untouched.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayError<E> {
    /// The callback returned this; the other threads have stopped.
    Callback(E),
    /// The checkpoint to replay from does not fit the log.
    Checkpoint(CheckpointError),
    /// The log could not be read, or no longer reads as it did at open.
    Log(OpenError),
    /// The calling process is not the log's: see [`Cause::Forked`].
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

/// Why a truncation ended early. Records at or above the checkpoint are all
/// still there; some below it may be.
#[derive(Debug)]
#[non_exhaustive]
pub enum TruncateError {
    /// The checkpoint does not fit the log. Nothing was truncated.
    Checkpoint(CheckpointError),
    /// The log has been closed, and may be somebody else's by now.
    Closed,
    /// The calling thread commits, or the calling process is not the log's: see
    /// [`Cause::WouldDeadlock`] and [`Cause::Forked`]. Nothing was changed.
    NotHere(Cause),
    /// The operating system refused something. Truncate again.
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it answered.
        source: io::Error,
    },
}

impl TruncateError {
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

/// A shard that did not close in order. What was acknowledged before stays
/// acknowledged, under its durability mode's terms.
#[derive(Clone, Debug)]
pub struct CloseError {
    /// The first shard that failed.
    pub shard: usize,
    /// Why.
    pub cause: Cause,
}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {} did not close in order: {}", self.shard, self.cause)
    }
}

impl Error for CloseError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.io()
    }
}

/// Whether an error of a write means that there is no room, so that the write
/// can be taken back and the log goes on. The same error of a *sync* is fatal.
pub(crate) fn means_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}

/// Whether an error of a call says that the system lacked something for a moment: a
/// descriptor, memory, or time before a signal. The call may be tried again later.
/// The same error of a *sync* is fatal.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted)
        || (cfg!(unix) && matches!(error.raw_os_error(), Some(ENFILE | EMFILE)))
}
