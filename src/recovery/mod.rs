//! Recovery: reads what is on the disk, decides what it means, and resumes from it.
//!
//! An open first scans every shard, which writes nothing. If all shards can be
//! opened, it resumes each of them: a shard gets a new segment, if there is room
//! for one. This module does not know callers, threads that append, or replay.
//!
//! | label | invariant |
//! |---|---|
//! | R1 REPLAY | what is replayed is a gapless prefix of what was accepted, with all that was acknowledged |
//! | R2 EXHAUSTIVE | every way in which a segment can end has a row in one table |
//! | R3 FRESH | open writes into no old segment, and replays only what is on the disk |

pub(crate) mod beside_writer;
mod diagnosis;
pub(crate) mod inspect;
mod log_end;
pub(crate) mod open_segment;
pub(crate) mod repair;
pub(crate) mod replay;
mod report;
mod resume;
mod salvage;
mod segment_builder;
mod segment_chain;
mod segment_file;
mod segment_scan;
mod shard_scan;
mod verdict;

pub use report::{LostRange, RecoveryReport, RepairReport, ShardRecovery};
pub(crate) use resume::{Resumed, Start, remove_recycled, resume, tidy};
pub(crate) use salvage::Salvage;
pub(crate) use segment_chain::SegmentChain;
pub(crate) use shard_scan::{ScanPurpose, ShardScan, scan_shard};
