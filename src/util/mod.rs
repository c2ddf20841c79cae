//! What every layer may use: the facade over std, loom and shuttle, and small helpers.

pub(crate) mod catch_panic;
pub(crate) mod human_duration;
pub(crate) mod parallel;
pub(crate) mod sync;
