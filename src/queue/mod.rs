//! The bounded MPSC queue of a shard, a variant of Vyukov's bounded queue.
//!
//! [`queue`] hands out tickets and bounds records and bytes. The ring has a slot per
//! ticket. An [`entry`] is one append, encoded by its caller. The layer does not know
//! what becomes of an entry: it does not know segments, commits or answers.

pub(crate) mod entry;
#[expect(clippy::module_inception, reason = "the directory is the layer, the file its main type")]
pub(crate) mod queue;
pub(crate) mod receiver;
pub(crate) mod requests;
mod ring;
#[cfg(all(test, not(loom)))]
mod tests;
