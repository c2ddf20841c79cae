//! wal-db 1.1: appends reserve their position with an atomic and write in parallel. The first
//! caller that syncs leads for all. `append` answers after the write, `append_and_sync` after an
//! fdatasync. The only setting is the record's size.
//!
//! A batch is several appends and one sync, as wal-db itself does it. It is not atomic.

use std::path::Path;

use wal_db::Wal;

use super::{Many, keyed, replay_parts, unkeyed};
use crate::peer::{Durability, Found, Kind, Opened, Peer, Record};

/// wal-db as a peer.
pub const KIND: Kind = Kind {
    name: "wal-db 1.1",
    promises_less: "",
    shards: &[1, 16],
    sync: true,
    os: true,
    pipelines: false,
    open: |dir, logs, durability| {
        Many::open(dir, logs, false, |dir| Log {
            log: open(dir),
            sync: durability == Durability::Sync,
        })
    },
    replay: |dir, logs, found, opened| replay_parts(dir, logs, |dir| replay(dir, &found, opened)),
};

fn open(dir: &Path) -> Wal {
    Wal::open(dir.join("log")).expect("the log opens")
}

fn replay(dir: &Path, found: &Found, opened: Opened<'_>) {
    let log = open(dir);
    opened();
    for record in log.iter().expect("the log can be read") {
        let record = record.expect("the record can be read");
        let (key, payload) = unkeyed(record.data());
        found(key, payload);
    }
}

struct Log {
    log: Wal,
    sync: bool,
}

impl Peer for Log {
    fn append(&self, _thread: usize, record: Record) {
        let value = keyed(record);
        let written =
            if self.sync { self.log.append_and_sync(&value) } else { self.log.append(&value) };
        let _lsn = written.expect("the record is written");
    }

    fn append_batch(&self, _thread: usize, records: &[Record]) {
        for record in records {
            let _lsn = self.log.append(&keyed(*record)).expect("the record is written");
        }
        if self.sync {
            self.log.sync().expect("the log syncs");
        }
    }

    fn close(self: Box<Self>) {}
}
