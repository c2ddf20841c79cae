//! The bounded MPSC queue of a shard, a variant of Vyukov's bounded queue.
//!
//! [`queue`] hands out tickets and bounds records and bytes. The ring has a slot per
//! ticket. What finds no room waits in the [`backlog`], and is admitted in order. An
//! [`entry`] is one append, encoded by its caller. The layer does not know
//! what becomes of an entry: it does not know segments, commits or answers.

mod admission;
pub(crate) mod backlog;
pub(crate) mod entry;
pub(crate) mod producer;
#[expect(clippy::module_inception, reason = "the directory is the layer, the file its main type")]
pub(crate) mod queue;
pub(crate) mod receiver;
pub(crate) mod requests;
mod reservation;
mod ring;
#[cfg(all(test, not(loom)))]
mod tests;
