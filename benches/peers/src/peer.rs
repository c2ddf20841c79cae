//! What the arena asks of a log, and the list of those that it asks.
//!
//! A peer may panic where its log fails: the run is then reported as a failure.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::peers;

/// What is appended: a key, which chooses the shard and is found again, and
/// 256 bytes that the caller keeps; who wants them copied copies them.
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
    Os,
}

/// Where a replay's records go; from several threads at once, if the peer can.
pub type Found = Arc<dyn Fn(u64, &[u8]) + Send + Sync>;

/// A record, and when it came.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// When it fell due, whether or not anybody was there to append it.
    pub at: Instant,
    /// The record.
    pub record: Record,
}

/// Records that come by the clock, whatever the log does meanwhile.
pub trait Arrivals {
    /// Sleeps until a record is due and puts all that are into `due`, up to a
    /// bound; false once there are no more.
    fn take(&mut self, due: &mut Vec<Due>) -> bool;
}

/// What became of the records that were offered to a log.
#[derive(Debug, Default)]
pub struct Offered {
    /// For each from when it was due to when its answer was seen.
    pub nanos: Vec<u32>,
    /// Appends that met a full queue.
    pub blocked: u64,
    /// How long they waited for room, all together.
    pub blocked_for: Duration,
}

/// All that is due as one batch, waited for before the next.
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

/// As far as 32 bits go: 4.3 s.
pub fn nanos_since(at: Instant) -> u32 {
    u32::try_from(at.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// Told once the log is open, recovery done, and what follows is the reading.
pub type Opened<'a> = &'a (dyn Fn() + Sync);

/// A log that is open. `thread` is the caller's number, from 0.
pub trait Peer: Send + Sync {
    /// Appends one record and waits for the answer.
    fn append(&self, thread: usize, record: Record);

    /// Appends these and waits for the answer to all of them.
    fn append_batch(&self, thread: usize, records: &[Record]);

    /// Appends what `next` gives, with `depth` of them unanswered at a time,
    /// until it gives no more and all are answered. A log whose append blocks
    /// has nothing closer than batches of as many: that is the default, and
    /// [`Kind::pipelines`] is false.
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

    /// Appends one record and does not wait, where the log knows the like.
    fn forget(&self, thread: usize, record: Record) {
        self.append(thread, record);
    }

    /// Appends each record once it is due, without waiting for the last, where
    /// the log knows the like; returns once all are answered. A log whose append
    /// blocks gets all that is due as one batch: that is the default.
    fn offer(&self, thread: usize, arrivals: &mut dyn Arrivals) -> Offered {
        offer_batches(&|records| self.append_batch(thread, records), arrivals)
    }

    /// Blocks until all of so many records are written, where an append may
    /// return before.
    fn written(&self, _records: u64) {}

    /// Writes what is still to be written, and ends.
    fn close(self: Box<Self>);
}

/// A peer before it is opened.
#[derive(Clone, Copy)]
pub struct Kind {
    /// Its name in the table.
    pub name: &'static str,
    /// What it does not promise although others do; empty if it promises the same.
    pub promises_less: &'static str,
    /// Counts of shards, writers, streams or files that are tried.
    pub shards: &'static [usize],
    /// Whether it answers after an fdatasync.
    pub sync: bool,
    /// Whether it answers after the write.
    pub os: bool,
    /// Whether it takes the next record before it has answered the last.
    pub pipelines: bool,
    /// Opens it in an empty directory.
    pub open: fn(&Path, usize, Durability) -> Box<dyn Peer>,
    /// Opens what a closed one left, with as many shards, and yields all of it.
    pub replay: fn(&Path, usize, Found, Opened<'_>),
}

/// Everybody, shardwal first.
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
