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
//! | R3 FRESH | open writes into no old segment, and replays nothing that it has not synced and read from the disk, or written anew |

mod chain;
mod copy;
mod reading;
mod report;
mod salvage;
mod settle;
mod survey;
mod told;
mod verdict;

pub(crate) use chain::Chain;
pub use report::{Lost, RecoveryReport, RepairReport, ShardRecovery};
pub(crate) use salvage::Salvage;
pub(crate) use settle::{Settled, Start, remove_spares, settle, tidy};
pub(crate) use survey::{Folder, Purpose, Survey, survey};
