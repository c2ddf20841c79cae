//! camus 1.0, a durable buffer for tasks. Its reactor and its writes have a runtime of their own.
//!
//! Settings: 16,384 commands per queue and per commit, instead of 1,024 and 64. All records are in
//! one stream, and the key is metadata. A run of records is one batch.

use std::path::Path;

use bytes::Bytes;
use camus::{Capacity, Config, Log, ReadLimits, Stream, StreamId};
use futures::executor::block_on;

use crate::peer::{Found, Record};
use crate::tasks::log::TaskLog;

/// Commands per queue and per commit.
const COMMANDS: usize = 16 << 10;

/// The log.
pub struct Camus {
    log: Log,
    stream: Stream,
}

fn open(dir: &Path) -> Camus {
    let config = Config::new(dir.join("log"), Capacity::Unbounded);
    let config = config.with_command_queue_capacity(COMMANDS).with_max_commit_units(COMMANDS);
    let log = block_on(Log::open(config)).expect("the log opens");
    Camus { stream: log.stream(StreamId::new(0)), log }
}

fn keyed(record: Record) -> camus::Record {
    let key = Bytes::copy_from_slice(&record.key.to_le_bytes());
    camus::Record { metadata: key, payload: Bytes::from_static(record.payload) }
}

impl TaskLog for Camus {
    fn open(dir: &Path, _shards: Option<usize>, _zeroed: u64) -> Self {
        open(dir)
    }

    async fn append(&self, record: Record) {
        self.stream.append(keyed(record)).await.expect("the record is durable");
    }

    async fn append_run(&self, records: impl Iterator<Item = Record> + Send) {
        let batch = records.map(keyed).collect();
        self.stream.append_batch(batch).await.expect("the batch is durable");
    }

    fn close(self) {
        block_on(self.log.shutdown()).expect("the log closes");
    }

    fn replay(dir: &Path, records: u64, found: &Found) {
        let camus = open(dir);
        // A read of an empty stream waits for a record.
        if records > 0 {
            let limits = ReadLimits::new(usize::MAX, u64::MAX);
            let all = block_on(camus.stream.read(limits)).expect("the log can be read");
            for record in &all {
                let key = record.metadata[..].try_into().expect("the key has eight bytes");
                found(u64::from_le_bytes(key), &record.payload);
            }
        }
        camus.close();
    }
}
