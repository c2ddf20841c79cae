//! A log on a simulated disk, the ways in which it ends, and the check of what is left.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use shardwal::fs::sim::SimFileSystem;
use shardwal::{Config, LogReader, ReplayOptions, ShardedWal};
use shuttle::rand::{RngCore, thread_rng};

use crate::fs::with_choices;
use crate::producer::Book;
use crate::support::{DIR, Found, Random, replayed};

/// The text of a panic that a fault of the simulated disk causes.
pub(crate) const PLANNED_PANIC: &str = "a planned panic";

/// One in this many endings opens the log for writing too, and reads it again.
const REOPENED_ONE_IN: u64 = 8;

pub(crate) const SHARDS: usize = 2;

thread_local! {
    /// All threads of a scenario are coroutines of one thread.
    static SEEN: RefCell<BTreeMap<&'static str, u64>> = const { RefCell::new(BTreeMap::new()) };
}

/// Records that a scenario has met an event that it is meant to meet.
pub(crate) fn record_event(event: &'static str) {
    SEEN.with_borrow_mut(|seen| *seen.entry(event).or_default() += 1);
}

pub(crate) fn seen() -> BTreeMap<&'static str, u64> {
    SEEN.with_borrow_mut(std::mem::take)
}

/// A random number below `below`, part of the schedule.
pub(crate) fn below(below: u64) -> u64 {
    thread_rng().next_u64() % below
}

pub(crate) fn flip() -> bool {
    below(2) == 1
}

/// A log of two shards with the smallest segments, whose queues hold two records each.
pub(crate) fn config(fs: &SimFileSystem) -> Config {
    Config::new(DIR)
        .file_system(with_choices(fs))
        .shards(SHARDS)
        .queue_capacity(2)
        .segment_bytes(4096)
}

pub(crate) struct Scene {
    pub(crate) fs: SimFileSystem,
    pub(crate) log: ShardedWal,
}

impl Scene {
    /// A new log.
    pub(crate) fn new() -> Arc<Self> {
        Self::with(|config| config)
    }

    pub(crate) fn with(change: impl Fn(Config) -> Config) -> Arc<Self> {
        let fs = SimFileSystem::with_dir("/");
        // Zeros ahead are most of the bytes, and not the subject here.
        let zeros_ahead = below(8) == 0;
        fs.set_copy_on_write(!zeros_ahead);
        if zeros_ahead {
            record_event("zeros ahead");
        }
        let log = ShardedWal::open(change(config(&fs))).expect("a new log opens");
        Arc::new(Self { fs, log })
    }

    /// Ends the log in a random way, and checks that every acknowledged record is left.
    pub(crate) fn end(self, books: &mut [Book]) {
        let Self { fs, log } = self;
        let stats = log.stats().total;
        if stats.rolls > 0 {
            record_event("a segment was rolled");
        }
        let after = match below(3) {
            0 => {
                books.iter_mut().for_each(Book::lose_power);
                lose_power(&fs)
            }
            1 => fs.kill(),
            _ => {
                close(&log, books);
                fs.crash(&mut || false)
            }
        };
        // Ends the log's threads, on a disk that takes no more calls.
        drop(log);
        verify(&after, books);
    }
}

/// Cuts the power. Bytes that were not synced survive at random.
pub(crate) fn lose_power(fs: &SimFileSystem) -> SimFileSystem {
    let mut random = Random::new(thread_rng().next_u64());
    fs.crash(&mut || random.flip())
}

/// Closes the log, which must succeed unless a shard had failed.
pub(crate) fn close(log: &ShardedWal, books: &mut [Book]) {
    let closed = log.close();
    let failed = books.iter().any(|book| book.has_seen_failure());
    assert!(!(failed && closed.is_ok()), "C3 ANSWER: close has forgotten that a shard failed");
    let may_fail = books.iter().any(|book| book.may_fail());
    assert!(closed.is_ok() || may_fail, "close: {closed:?}");
    if closed.is_ok() {
        books.iter_mut().for_each(Book::closed_in_order);
    }
}

/// Compares the records on the disk with what the producers know.
pub(crate) fn verify(fs: &SimFileSystem, books: &mut [Book]) {
    let found = read(fs);
    let known: usize = books.iter_mut().map(|book| book.check(&found)).sum();
    assert_eq!(known, found.records.len(), "some of {found:?} was never appended");
    if below(REOPENED_ONE_IN) == 0 {
        let log = ShardedWal::open(config(fs)).expect("what can be read opens");
        assert_eq!(replayed(&log), found, "R1 REPLAY: an open changed what is in the log");
        let append = log.append(0, "one more");
        append.wait().expect("a log that was opened again takes records");
    }
}

fn read(fs: &SimFileSystem) -> Found {
    let reader = LogReader::open_in(Arc::new(fs.copy()), DIR).expect("the log is readable");
    let corruption = reader.report().corruption().next();
    assert!(corruption.is_none(), "R2 EXHAUSTIVE: {corruption:?}");
    let records = std::sync::Mutex::new(Vec::new());
    let report = reader.replay(ReplayOptions::default(), |record| {
        let record = (record.position(), record.key(), record.to_bytes());
        records.lock().expect("no callback panics").push(record);
        Ok::<_, std::convert::Infallible>(())
    });
    let records = records.into_inner().expect("no callback panics");
    assert_eq!(report.expect("it replays").records, records.len() as u64);
    Found { records }
}
