//! The interface of a log to tasks.

use std::path::Path;

use crate::load;
use crate::peer::{Found, Record};

/// A log that many tasks share. It may panic if it fails; the run then counts as failed.
pub trait TaskLog: Send + Sync + Sized + 'static {
    /// Opens it in an empty directory. `shards` is `None` for the log's default. A log that can
    /// fill its files with zeros ahead of time does so for `zeroed` bytes. Blocks.
    fn open(dir: &Path, shards: Option<usize>, zeroed: u64) -> Self;

    /// Appends a record. Resolves once it is durable.
    fn append(&self, record: Record) -> impl Future<Output = ()> + Send;

    /// Appends records of one key without waiting for each. Resolves once all are durable.
    fn append_run(
        &self,
        records: impl Iterator<Item = Record> + Send,
    ) -> impl Future<Output = ()> + Send;

    /// Writes what is left, and closes the log. Blocks.
    fn close(self);

    /// Reads a closed log. Records of one key are found in their order. Blocks.
    fn replay(dir: &Path, records: u64, found: &Found);
}

/// Record number `count` of a task. Its key is the number of the task.
pub fn record(task: usize, count: u32) -> Record {
    Record { key: task as u64, payload: load::record(task, u64::from(count)).payload }
}
