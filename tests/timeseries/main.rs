//! Time series on the log: the codec, its bytes, the storage. What memory the
//! codec takes is in `timeseries_memory.rs`, whose allocator counts.

#[path = "../codec_rig/mod.rs"]
mod codec_rig;
#[path = "../recording/mod.rs"]
mod recording;
#[path = "../support/mod.rs"]
mod support;

mod admission;
mod codec;
mod collisions;
mod format;
mod hostile;
mod storage;
mod storage_counter_examples;
mod storage_lending;
mod storage_recorded;
