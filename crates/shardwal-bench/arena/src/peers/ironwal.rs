//! ironwal 0.6: streams, each behind a lock that is held through the write and the fdatasync
//! (`Strict`). Its streams count as shards. `Async` answers after the write.
//!
//! Settings: segments of 1 GiB, so that no run rolls, because a roll syncs file, index and
//! directory. Reads through a memory map, its fastest way. No compression, because the payloads are
//! random.

use std::path::Path;

use ironwal::{ReadStrategy, SyncMode, Wal, WalOptions};

use super::{by_key, keyed, unkeyed};
use crate::peer::{Durability, Found, Kind, Opened, Peer, Record};

/// ironwal as a peer.
pub const KIND: Kind = Kind {
    name: "ironwal 0.6",
    promises_less: "",
    shards: &[1, 16],
    sync: true,
    os: true,
    pipelines: false,
    open: |dir, streams, durability| {
        Box::new(Log { log: open(dir, durability), streams: names(streams) })
    },
    replay,
};

fn names(streams: usize) -> Vec<String> {
    (0..streams).map(|number| format!("stream{number}")).collect()
}

fn open(dir: &Path, durability: Durability) -> Wal {
    let mut options = WalOptions::new(dir);
    options.sync_mode = match durability {
        Durability::Sync => SyncMode::Strict,
        Durability::Buffered => SyncMode::Async,
    };
    options.max_segment_size = 1 << 30;
    options.read_strategy = ReadStrategy::Mmap;
    Wal::new(options).expect("the log opens")
}

fn replay(dir: &Path, streams: usize, found: Found, opened: Opened<'_>) {
    let log = open(dir, Durability::Sync);
    opened();
    for stream in names(streams) {
        for value in log.iter(&stream, 0).expect("the stream can be read") {
            let value = value.expect("the record can be read");
            let (key, payload) = unkeyed(&value);
            found(key, payload);
        }
    }
}

struct Log {
    log: Wal,
    streams: Vec<String>,
}

impl Peer for Log {
    fn append(&self, _thread: usize, record: Record) {
        let stream = &self.streams[by_key(record.key, self.streams.len())];
        self.log.append(stream, &keyed(record)).expect("the record is written");
    }

    fn append_batch(&self, thread: usize, records: &[Record]) {
        let values: Vec<_> = records.iter().copied().map(keyed).collect();
        let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
        let stream = &self.streams[thread % self.streams.len()];
        self.log.append_batch(stream, &values).expect("the batch is written");
    }

    fn close(self: Box<Self>) {}
}
