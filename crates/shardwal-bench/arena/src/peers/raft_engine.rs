//! raft-engine 0.4: a write group whose leader appends and syncs for all that queued before. It
//! also keeps an index of each group's entries in memory, which its purpose demands. `write(..,
//! sync)` selects the durability.
//!
//! It orders the entries of a raft group by a count without gaps. Each appending thread is
//! therefore its own group, and sixteen engines are selected by group, not by key. Settings:
//! recycled files, filled with zeros at open, before the clock starts (`prefill_for_recycle`). No
//! compression, because the payloads are random. Two recovery threads for two cores.

use std::cell::RefCell;
use std::path::Path;

use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Many, keyed, replay_parts, unkeyed};
use crate::load;
use crate::peer::{Durability, Found, Kind, Opened, Peer, Record};

/// raft-engine as a peer.
pub const KIND: Kind = Kind {
    name: "raft-engine 0.4",
    promises_less: "",
    shards: &[1, 16],
    sync: true,
    os: true,
    pipelines: false,
    open: |dir, engines, durability| {
        let sync = durability == Durability::Sync;
        Many::open(dir, engines, true, |dir| Log { engine: open(dir, engines, true), sync })
    },
    replay: |dir, engines, found, opened| {
        replay_parts(dir, engines, |dir| replay(dir, engines, &found, opened))
    },
};

/// 0.4 s at the highest rate seen of this peer.
const PREFILLED_MIB: u64 = 128;
/// Entries fetched per step of a replay.
const FETCHED: u64 = 1024;

fn open(dir: &Path, engines: usize, prefill: bool) -> Engine {
    let prefilled = ReadableSize::mb(PREFILLED_MIB / engines as u64);
    let config = Config {
        dir: dir.to_str().expect("the scratch directory's name is text").into(),
        batch_compression_threshold: ReadableSize::kb(0),
        target_file_size: if engines == 1 { ReadableSize::mb(64) } else { prefilled },
        prefill_for_recycle: prefill,
        prefill_limit: prefill.then_some(prefilled),
        recovery_threads: 2,
        ..Config::default()
    };
    Engine::open(config).expect("the engine opens")
}

/// A value of bytes. Its index is the count in its key.
struct Counted;

impl MessageExt for Counted {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        load::count_of(unkeyed(&entry.value).0) + 1
    }
}

fn entry(record: &Record) -> BytesValue {
    let mut entry = BytesValue::new();
    entry.set_value(keyed(*record));
    entry
}

fn replay(dir: &Path, engines: usize, found: &Found, opened: Opened<'_>) {
    let engine = open(dir, engines, false);
    opened();
    let mut entries = Vec::new();
    for group in engine.raft_groups() {
        let first = engine.first_index(group).expect("a group has entries");
        let last = engine.last_index(group).expect("a group has entries");
        for from in (first..=last).step_by(FETCHED as usize) {
            let to = (from + FETCHED).min(last + 1);
            engine
                .fetch_entries_to::<Counted>(group, from, to, None, &mut entries)
                .expect("they can be read");
            for entry in entries.drain(..) {
                let (key, payload) = unkeyed(&entry.value);
                found(key, payload);
            }
        }
    }
}

struct Log {
    engine: Engine,
    sync: bool,
}

thread_local! {
    /// The buffer is reused.
    static BATCH: RefCell<LogBatch> = RefCell::new(LogBatch::with_capacity(1));
}

impl Log {
    fn write(&self, thread: usize, entries: &[BytesValue]) {
        BATCH.with_borrow_mut(|batch| {
            batch.add_entries::<Counted>(thread as u64 + 1, entries).expect("the batch has room");
            self.engine.write(batch, self.sync).expect("the batch is written");
        });
    }
}

impl Peer for Log {
    fn append(&self, thread: usize, record: Record) {
        self.write(thread, &[entry(&record)]);
    }

    fn append_batch(&self, thread: usize, records: &[Record]) {
        let entries: Vec<_> = records.iter().map(entry).collect();
        self.write(thread, &entries);
    }

    fn close(self: Box<Self>) {}
}
