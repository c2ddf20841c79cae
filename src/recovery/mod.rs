//! Recovery: what stands on the disk, what it means, how to go on from it.
//!
//! First every shard is surveyed, which writes nothing; only if all of them can
//! be opened are they settled: each gets a new segment, if there is room for one.
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
