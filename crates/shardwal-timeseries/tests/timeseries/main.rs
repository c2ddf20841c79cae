//! Time series on the log: the codec, its format and the storage. `timeseries_memory.rs` tests the
//! codec's memory with a counting allocator.

#[path = "../codec_rig/mod.rs"]
mod codec_rig;
#[path = "../recording/mod.rs"]
mod recording;
#[path = "../../../../tests/support/mod.rs"]
mod support;

mod admission;
mod codec;
mod collisions;
mod cut;
mod format;
mod histograms;
mod hostile;
mod prepared_write;
mod reader;
mod retention;
mod series_scan;
mod snapshots;
mod storage;
mod storage_counter_examples;
mod storage_inline_commit;
mod storage_recorded;
