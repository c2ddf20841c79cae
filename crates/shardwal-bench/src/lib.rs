//! What benchmarks and comparisons need beside the log: the design that the sharded log
//! replaces, one log behind one mutex.

mod record_file;
mod single_mutex_log;

pub use single_mutex_log::SingleMutexLog;
