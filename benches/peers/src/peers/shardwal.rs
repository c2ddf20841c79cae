//! shardwal: its defaults, and as many shards as are tried.
//!
//! Payloads are lent as slices; the log copies them into its queue.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::path::Path;

use shardwal::{Config, ReplayOptions, ShardedWal};

use crate::peer::{Durability, Found, Kind, Opened, Peer, Record};

/// The first of the table.
pub const KIND: Kind = Kind {
    name: "shardwal",
    promises_less: "",
    shards: &[1, 2, 4, 16],
    sync: true,
    os: true,
    pipelines: true,
    open: |dir, shards, durability| Box::new(open(dir, shards, durability)),
    replay,
};

fn open(dir: &Path, shards: usize, durability: Durability) -> ShardedWal {
    let durability = match durability {
        Durability::Sync => shardwal::Durability::Sync,
        Durability::Os => shardwal::Durability::Os,
    };
    let config = Config::new(dir.join("log")).shards(shards).durability(durability);
    ShardedWal::open(config).expect("the log opens")
}

fn replay(dir: &Path, shards: usize, found: Found, opened: Opened<'_>) {
    let log = open(dir, shards, Durability::Sync);
    opened();
    log.replay(ReplayOptions::default().threads(2), |record| {
        found(record.key(), record.payload());
        Ok::<_, Infallible>(())
    })
    .expect("what was written can be read");
}

impl Peer for ShardedWal {
    fn append(&self, _thread: usize, record: Record) {
        self.append_wait(record.key, record.payload).expect("the record is written");
    }

    fn append_batch(&self, _thread: usize, records: &[Record]) {
        self.append_batch_wait(records.iter().map(|record| (record.key, record.payload)))
            .expect("the batch is written");
    }

    fn pipeline(&self, _thread: usize, depth: usize, next: &mut dyn FnMut() -> Option<Record>) {
        let mut under_way = VecDeque::with_capacity(depth);
        while let Some(record) = next() {
            if under_way.len() == depth {
                under_way
                    .pop_front()
                    .map(shardwal::Completion::wait)
                    .transpose()
                    .expect("it is written");
            }
            under_way.push_back(ShardedWal::append(self, record.key, record.payload));
        }
        for completion in under_way {
            completion.wait().expect("the record is written");
        }
    }

    fn forget(&self, _thread: usize, record: Record) {
        drop(ShardedWal::append(self, record.key, record.payload));
    }

    fn close(self: Box<Self>) {
        ShardedWal::close(&self).expect("the log closes");
    }
}
