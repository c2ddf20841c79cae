//! A sharded write-ahead log. Many threads append small records, and each record is durable
//! when its [`Completion`] resolves.
//!
//! Each record has a key, and each key belongs to one shard. A shard has a bounded queue and one
//! writer thread, which turns all queued records into one write and one fdatasync.
//!
//! ```
//! use shardwal::{Config, ReplayOptions, ShardedWal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let scratch = tempfile::tempdir()?;
//! # let dir = scratch.path().join("log");
//! let log = ShardedWal::open(Config::new(&dir))?;
//! let completion = log.append(7, "cpu 0.93"); // queued, not yet durable
//! println!("durable at {}", completion.wait()?); // after its fdatasync
//! log.close()?;
//!
//! let log = ShardedWal::open(Config::new(&dir))?;
//! let report = log.replay(ReplayOptions::default(), |record| {
//!     println!("{} {:?}", record.key(), record.payload());
//!     Ok::<_, std::io::Error>(())
//! })?;
//! assert_eq!(report.records, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to find what
//!
//! | task | start at |
//! |---|---|
//! | open a log, with settings | [`ShardedWal::open`], [`Config`], [`OpenError`] |
//! | choose what an acknowledgement promises | [`Durability`] |
//! | append from a thread | [`ShardedWal::append_wait`], [`ShardedWal::append`], [`Completion::wait`] |
//! | append from a task | [`ShardedWal::append_async`]; [`Completion`] is a future |
//! | shed load | [`ShardedWal::try_append`], [`ShardedWal::append_timeout`], [`TryAppendError`] |
//! | make a key of a name | [`key_of`] |
//! | append many records as a unit | [`ShardedWal::append_batch`], [`BatchError`] |
//! | handle an error | [`AppendError`], [`Cause`] |
//! | read the records back | [`ShardedWal::replay`], [`ShardedWal::replay_into`], [`Record`] |
//! | follow the records as they become durable | [`ShardedWal::follow`], [`Follower`] |
//! | keep state in step with the log | [`StateMachine`], [`ShardedWal::request_snapshot`] |
//! | keep state outside of the log | [`Applied`] |
//! | delete old records | [`ShardedWal::truncate_before`], [`Checkpoint`], [`ShardedWal::retain`] |
//! | keep records for another reader | [`ShardedWal::hold`], [`HoldLimits`], [`Holder`] |
//! | read a log that another process writes | [`LogReader`] |
//! | copy or repair a log | [`Backup`], [`Repair`] |
//! | watch it | [`ShardedWal::stats`], [`WalStats`] |
//! | test with disk faults | [`fs::FileSystem`], and `fs::sim` with the feature `sim` |
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `metrics` | the numbers of [`WalStats`] through the `metrics` crate |
//! | `tracing` | events for open, replay, roll and poisoning; none per record |
//! | `serde` | [`Config`], [`Checkpoint`], reports and stats as serde types |
//! | `stream` | [`FollowerStream`], a follower as a `Stream` of `futures-core` |
//! | `sim` | `fs::sim`, a simulated file system with faults and power losses |

mod backup;
mod checkpoint;
mod commit;
mod config;
mod error;
mod follow;
pub mod fs;
#[doc(hidden)]
pub mod internals;
mod layout;
mod open;
mod payload;
mod position;
mod queue;
mod recovery;
mod segment;
mod shard;
mod space;
mod stats;
mod trace;
mod util;
mod wait;
mod wal;

/// The crate of [`bytes::Bytes`], which payloads are made of.
pub use bytes;

pub use backup::{Backup, BackupError, BackupReport};
pub use checkpoint::{Checkpoint, CheckpointError, LogId};
pub use commit::state_machine::StateMachine;
pub use config::{
    BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Config, Durability, OnCorruption, QUEUE_CAPACITY_MAX,
    SHARDS_MAX,
};
pub use error::{
    AppendError, BatchError, Cause, CloseError, Corruption, FailedShard, FollowError, HoldError,
    OpenError, Position, ReplayError, SnapshotError, TruncateError, TryAppendError,
};
#[cfg(feature = "stream")]
pub use follow::FollowerStream;
pub use follow::{Followed, FollowedBatch, Follower, Records};
pub use layout::hold_file::{HOLD_NAME_BYTES_MAX, HOLDS_MAX, HoldLimit, HoldLimits, HoldPolicy};
pub use layout::key_of::key_of;
pub use open::log_reader::LogReader;
pub use payload::Payload;
pub use recovery::repair::Repair;
pub use recovery::replay::{
    Record, ReplayOptions, ReplayProgress, ReplayReport, Replayed, ShardId, ShardState,
};
pub use recovery::{LostRange, RecoveryReport, RepairReport, ShardRecovery};
pub use shard::append_future::AppendFuture;
pub use shard::completion::{BatchCompletion, Completion, Flush};
pub use shard::holds::{HeldBack, HoldState, Holder};
pub use shard::reserve::{Permit, ReserveFuture};
pub use shard::retention::Retention;
pub use shard::snapshot::SnapshotRequest;
pub use shard::truncate::TruncateReport;
#[cfg(feature = "metrics")]
pub use stats::describe_metrics;
pub use stats::{
    FreeSpace, FreeSpaceState, Latency, RecordsPerCommit, RefusedAppends, ShardStats, WalStats,
};
pub use util::byte_size::{ByteSize, ByteSizeError};
pub use wal::{Applied, Closing, Hold, ShardedWal};

/// Compiles and runs the README's example with the doc tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs the examples of the embedding guide.
#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct Embedding;

#[cfg(all(test, loom))]
#[path = "../loom-tests/mod.rs"]
mod loom_tests;
