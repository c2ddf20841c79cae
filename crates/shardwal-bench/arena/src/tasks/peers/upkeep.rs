//! shardwal while it rolls, and while it truncates. Tasks append as to any log.

use std::path::Path;
use std::sync::{Arc, Once};
use std::thread::JoinHandle;

use shardwal::{Checkpoint, ShardedWal};

use super::shardwal::config;
use crate::load;
use crate::peer::{Found, Record};
use crate::tasks::latencies;
use crate::tasks::log::TaskLog;

/// Bytes of the segments of a log that rolls often.
const SMALL_SEGMENT_BYTES: u64 = 512 << 10;

/// Segments of 512 KiB.
pub struct Rolling(ShardedWal);

impl TaskLog for Rolling {
    fn open(dir: &Path, shards: Option<usize>, _zeroed: u64) -> Self {
        let config = config(dir, shards, 0).segment_bytes(SMALL_SEGMENT_BYTES);
        Self(ShardedWal::open(config).expect("the log opens"))
    }

    fn append(&self, record: Record) -> impl Future<Output = ()> + Send {
        TaskLog::append(&self.0, record)
    }

    fn append_run(
        &self,
        records: impl Iterator<Item = Record> + Send,
    ) -> impl Future<Output = ()> + Send {
        self.0.append_run(records)
    }

    fn close(self) {
        TaskLog::close(self.0);
    }

    fn replay(dir: &Path, records: u64, found: &Found) {
        <ShardedWal as TaskLog>::replay(dir, records, found);
    }
}

/// Bytes of the payloads that are in the log beforehand.
const FILLED_BYTES: usize = 4 << 30;
/// The keys from this one on are those of the records that are in the log beforehand.
const FILLED_KEYS: u64 = u64::MAX - 1023;
/// Records per batch when the log is filled.
const BATCH: u64 = 1000;

/// 4 GiB are in the log. If `TRUNCATES`, they are truncated from the first append on, and only
/// appends that end during the truncation are measured.
pub struct Filled<const TRUNCATES: bool> {
    log: Arc<ShardedWal>,
    filled: Checkpoint,
    begins: Once,
}

impl<const TRUNCATES: bool> Filled<TRUNCATES> {
    fn begin(&self) {
        let (log, filled) = (Arc::clone(&self.log), self.filled.clone());
        let _detached: JoinHandle<()> = std::thread::spawn(move || {
            latencies::count(true);
            log.truncate_before(&filled).expect("the log truncates");
            latencies::count(false);
        });
    }
}

fn fill(log: &ShardedWal) {
    for batch in 0..(FILLED_BYTES / load::PAYLOAD_BYTES) as u64 / BATCH {
        let record = |number| {
            let payload = load::record(0, batch * BATCH + number).payload;
            (FILLED_KEYS + number, payload)
        };
        log.append_batch_wait((0..BATCH).map(record)).expect("the batch is written");
    }
}

impl<const TRUNCATES: bool> TaskLog for Filled<TRUNCATES> {
    fn open(dir: &Path, shards: Option<usize>, zeroed: u64) -> Self {
        let log = ShardedWal::open(config(dir, shards, zeroed)).expect("the log opens");
        fill(&log);
        latencies::count(!TRUNCATES);
        Self { filled: log.durable_checkpoint(), log: Arc::new(log), begins: Once::new() }
    }

    fn append(&self, record: Record) -> impl Future<Output = ()> + Send {
        if TRUNCATES {
            self.begins.call_once(|| self.begin());
        }
        TaskLog::append(&*self.log, record)
    }

    fn append_run(
        &self,
        records: impl Iterator<Item = Record> + Send,
    ) -> impl Future<Output = ()> + Send {
        self.log.append_run(records)
    }

    fn close(self) {
        let mut shared = self.log;
        // The truncation may still run.
        let log = loop {
            match Arc::try_unwrap(shared) {
                Ok(log) => break log,
                Err(still) => shared = still,
            }
            std::thread::yield_now();
        };
        latencies::count(true);
        TaskLog::close(log);
    }

    fn replay(dir: &Path, records: u64, found: &Found) {
        let found = Arc::clone(found);
        let others: Found = Arc::new(move |key, payload| {
            if key < FILLED_KEYS {
                found(key, payload);
            }
        });
        <ShardedWal as TaskLog>::replay(dir, records, &others);
    }
}
