//! The interface of a log in the arena, and the list of peers.
//!
//! A peer may panic if its log fails. The run is then reported as failed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::peers;

/// A record: a key, which selects the shard and is replayed, and 256 bytes that the caller keeps. A
/// peer that needs its own copy makes one.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The appending thread and its count: see `load::key`.
    pub key: u64,
    /// The caller's bytes.
    pub payload: &'static [u8],
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the write and an fdatasync.
    Sync,
    /// After the write.
    Buffered,
}

/// Receives replayed records. A peer that can calls it from several threads.
pub type Found = Arc<dyn Fn(u64, &[u8]) + Send + Sync>;

/// A record, and when it was due.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// When it was due, even if no thread was ready to append it.
    pub at: Instant,
    /// The record.
    pub record: Record,
}

/// Records that fall due by the clock, regardless of the log.
pub trait Arrivals {
    /// Sleeps until a record is due, then adds all due records to `due`, up to a bound. Returns
    /// false if no more follow.
    fn take(&mut self, due: &mut Vec<Due>) -> bool;
}

/// The result of offering records to a log.
#[derive(Debug, Default)]
pub struct Offered {
    /// Per record, nanoseconds from when it was due until its answer was seen.
    pub nanos: Vec<u32>,
    /// Number of appends that met a full queue.
    pub blocked: u64,
    /// Their total wait for room.
    pub blocked_for: Duration,
}

/// Appends all due records as one batch, and waits for it before the next.
pub fn offer_batches(append_batch: &dyn Fn(&[Record]), arrivals: &mut dyn Arrivals) -> Offered {
    let (mut due, mut records, mut offered) = (Vec::new(), Vec::new(), Offered::default());
    while arrivals.take(&mut due) {
        records.clear();
        records.extend(due.iter().map(|due| due.record));
        append_batch(&records);
        offered.nanos.extend(due.iter().map(|due| nanos_since(due.at)));
    }
    offered
}

/// Nanoseconds since `at`, saturating at 32 bits (4.3 s).
pub fn nanos_since(at: Instant) -> u32 {
    u32::try_from(at.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// Called once the log is open and recovered. The reading follows.
pub type Opened<'a> = &'a (dyn Fn() + Sync);

/// An open log. `thread` is the caller's number, from 0.
pub trait Peer: Send + Sync {
    /// Appends one record. Blocks until it is answered.
    fn append(&self, thread: usize, record: Record);

    /// Appends a batch. Blocks until all of it is answered.
    fn append_batch(&self, thread: usize, records: &[Record]);

    /// Appends the records of `next`, with `depth` of them unanswered at a time. Returns when
    /// `next` ends and all are answered. The default appends batches of `depth` records: a blocking
    /// log has no closer equivalent, and its [`Kind::pipelines`] is false.
    fn pipeline(&self, thread: usize, depth: usize, next: &mut dyn FnMut() -> Option<Record>) {
        let mut batch = Vec::with_capacity(depth);
        loop {
            batch.extend(std::iter::from_fn(&mut *next).take(depth));
            if batch.is_empty() {
                return;
            }
            self.append_batch(thread, &batch);
            batch.clear();
        }
    }

    /// Appends one record without waiting. The default waits.
    fn forget(&self, thread: usize, record: Record) {
        self.append(thread, record);
    }

    /// Appends each record when it is due, without waiting for earlier ones. Returns when all are
    /// answered. The default, for a blocking log, appends all due records as one batch.
    fn offer(&self, thread: usize, arrivals: &mut dyn Arrivals) -> Offered {
        offer_batches(&|records| self.append_batch(thread, records), arrivals)
    }

    /// Blocks until all records are written, if appends may return before.
    fn written(&self, _records: u64) {}

    /// Writes what is left, and closes the log.
    fn close(self: Box<Self>);
}

/// A peer that is not open yet.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name in the table.
    pub name: &'static str,
    /// What it promises less than others. Empty if it promises as much.
    pub promises_less: &'static str,
    /// Numbers of shards, writers, streams or files to try.
    pub shards: &'static [usize],
    /// Whether it supports answers after an fdatasync.
    pub sync: bool,
    /// Whether it supports answers after the write.
    pub os: bool,
    /// Whether it accepts a record before the last one is answered.
    pub pipelines: bool,
    /// Opens it in an empty directory.
    pub open: fn(&Path, usize, Durability) -> Box<dyn Peer>,
    /// Opens a closed log with its number of shards, and replays all of it.
    pub replay: fn(&Path, usize, Found, Opened<'_>),
}

/// All peers, shardwal first.
pub const KINDS: &[Kind] = &[
    peers::shardwal::KIND,
    peers::mutexes::ONE,
    peers::mutexes::FOUR,
    peers::mutexes::SIXTEEN,
    peers::mutexes::BUFFERED,
    peers::group_commit::GROWING,
    peers::group_commit::ZERO_FILLED,
    peers::okaywal::KIND,
    peers::raft_engine::KIND,
    peers::writeahead::KIND,
    peers::wal_db::KIND,
    peers::ironwal::KIND,
    #[cfg(feature = "rocksdb")]
    peers::rocksdb::KIND,
];
