//! What every layer may use: the facade over std, loom and shuttle, and small helpers.
//!
//! [`sync`] is the only door to atomics, locks and threads, so that the models run the
//! shipped sources. The layer imports no other layer and knows nothing of logs.

pub(crate) mod byte_size;
pub(crate) mod catch_panic;
pub(crate) mod human_duration;
pub(crate) mod parallel;
pub(crate) mod slot_groups;
pub(crate) mod sync;
