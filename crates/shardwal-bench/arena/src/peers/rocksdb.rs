//! RocksDB 7.8 from Debian: its log, and the memtable that it feeds. With `WriteOptions::sync`, the
//! leader of the write group makes an fdatasync.
//!
//! Settings: a memtable that no run fills, so that nothing is flushed or compacted. Pipelined
//! writes, so that a group writes its log while the last one fills the memtable. No compression.
//! RocksDB sorts by key, so its replay (recovery at open, then the iterator) yields the records by
//! key, not in order of arrival.

use std::path::Path;

use rocksdb::{DB, DBCompressionType, IteratorMode, Options, WriteBatch, WriteOptions};

use super::{Many, replay_parts};
use crate::peer::{Durability, Found, Kind, Opened, Peer, Record};

/// RocksDB as a peer.
pub const KIND: Kind = Kind {
    name: "rocksdb 7.8",
    promises_less: "",
    shards: &[1],
    sync: true,
    os: true,
    pipelines: false,
    open: |dir, databases, durability| {
        Many::open(dir, databases, false, |dir| Log {
            db: open(dir),
            sync: durability == Durability::Sync,
        })
    },
    replay: |dir, databases, found, opened| {
        replay_parts(dir, databases, |dir| replay(dir, &found, opened))
    },
};

fn open(dir: &Path) -> DB {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(2 << 30);
    options.set_enable_pipelined_write(true);
    options.set_compression_type(DBCompressionType::None);
    DB::open(&options, dir.join("db")).expect("the database opens")
}

fn replay(dir: &Path, found: &Found, opened: Opened<'_>) {
    let db = open(dir);
    opened();
    for pair in db.iterator(IteratorMode::Start) {
        let (key, payload) = pair.expect("the record can be read");
        found(u64::from_be_bytes((*key).try_into().expect("eight bytes")), &payload);
    }
}

struct Log {
    db: DB,
    sync: bool,
}

impl Log {
    fn options(&self) -> WriteOptions {
        let mut options = WriteOptions::default();
        options.set_sync(self.sync);
        options
    }
}

impl Peer for Log {
    fn append(&self, _thread: usize, record: Record) {
        let key = record.key.to_be_bytes();
        self.db.put_opt(key, record.payload, &self.options()).expect("the record is written");
    }

    fn append_batch(&self, _thread: usize, records: &[Record]) {
        let mut batch = WriteBatch::default();
        for record in records {
            batch.put(record.key.to_be_bytes(), record.payload);
        }
        self.db.write_opt(batch, &self.options()).expect("the batch is written");
    }

    fn close(self: Box<Self>) {}
}
