//! writeahead 0.4, whose writes are futures. Its settings are those of the rows with threads. A
//! run of records is one batch, because it has no other way to wait for several.

use std::path::Path;

use ::writeahead::{SimpleFile, WriteAhead, WriteHandle};

use crate::peer::{Found, Record};
use crate::peers::{keyed, writeahead as threads};
use crate::tasks::log::TaskLog;

/// The log.
pub struct Writeahead {
    handle: WriteHandle,
    _log: WriteAhead<SimpleFile>,
}

impl TaskLog for Writeahead {
    fn open(dir: &Path, _shards: Option<usize>, _zeroed: u64) -> Self {
        let log = threads::start(dir);
        Self { handle: log.writer().expect("a started log has a writer"), _log: log }
    }

    async fn append(&self, record: Record) {
        self.handle.write(keyed(record)).await.expect("the record is durable");
    }

    async fn append_run(&self, records: impl Iterator<Item = Record> + Send) {
        self.handle.write_batch(records.map(keyed).collect()).await.expect("the batch is durable");
    }

    fn close(self) {}

    fn replay(dir: &Path, _records: u64, found: &Found) {
        threads::replay(dir, found, &|| {});
    }
}
