//! Why an append or a shard failed.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use super::is_passing;

/// Why an append was refused or failed.
///
/// `QueueFull`, `SegmentNotReady`, `DiskFull`, `OutOfResources`,
/// `BelowFreeSpaceMin` and `HoldLimit` are temporary: the log is intact, and appends
/// work again without a reopen. `Poisoned` and `WriterPanicked` last until the log is
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
        /// The limited quantity: records or payload bytes, of a record or of a batch.
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
    /// A hold exceeds one of its limits, and [`crate::HoldPolicy::RefuseAppends`] is its policy.
    /// Nothing was queued. Appends work again once the hold advances or is released:
    /// [`crate::Hold::advance`], [`crate::ShardedWal::release_hold`].
    HoldLimit {
        /// The hold's name.
        hold: Arc<str>,
        /// The limited quantity: bytes of full segments, or milliseconds.
        limit: &'static str,
        /// What the hold keeps, in this quantity.
        found: u64,
        /// What it may keep.
        max: u64,
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
            Self::HoldLimit { hold, limit, found, max } => write!(
                f,
                "the hold `{hold}` keeps {found} {limit}, at most {max} are allowed; advance or release it"
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
    /// Every result of [`Cause::as_label`].
    pub const LABELS: [&'static str; 12] = [
        "queue_full",
        "segment_not_ready",
        "too_large",
        "disk_full",
        "out_of_resources",
        "below_free_space_min",
        "poisoned",
        "writer_panicked",
        "would_deadlock",
        "forked",
        "closed",
        "hold_limit",
    ];

    /// The name of the variant in snake case, for a label of a metric or a log.
    #[must_use]
    pub fn as_label(&self) -> &'static str {
        Self::LABELS[self.label_index()]
    }

    /// The index of the label in [`Cause::LABELS`].
    pub(crate) fn label_index(&self) -> usize {
        match self {
            Self::QueueFull => 0,
            Self::SegmentNotReady => 1,
            Self::TooLarge { .. } => 2,
            Self::DiskFull(_) => 3,
            Self::OutOfResources(_) => 4,
            Self::BelowFreeSpaceMin { .. } => 5,
            Self::Poisoned(_) => 6,
            Self::WriterPanicked => 7,
            Self::WouldDeadlock => 8,
            Self::Forked { .. } => 9,
            Self::Closed => 10,
            Self::HoldLimit { .. } => 11,
        }
    }

    /// The cause of a commit that failed without effect, from the system's error.
    pub(crate) fn of_refusal(error: io::Error) -> Self {
        let error = Arc::new(error);
        if is_passing(&error) { Self::OutOfResources(error) } else { Self::DiskFull(error) }
    }

    pub(super) fn io(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::DiskFull(error) | Self::OutOfResources(error) | Self::Poisoned(error) => {
                Some(error.as_ref())
            }
            _ => None,
        }
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.io()
    }
}
