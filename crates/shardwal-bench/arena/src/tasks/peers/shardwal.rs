//! shardwal at its defaults, with the number of shards under test. Tasks use only its public
//! interface, and only in this file.

use std::convert::Infallible;
use std::path::Path;

use shardwal::{Config, LogReader, Position, ReplayOptions, ShardedWal};

use crate::peer::{Found, Record};
use crate::tasks::log::TaskLog;

/// Bytes of a segment, by default.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The number of shards of a log that is opened without a setting.
fn default_shards(dir: &Path) -> usize {
    let log = ShardedWal::open(Config::new(dir.join("default"))).expect("the log opens");
    ShardedWal::close(&log).expect("the log closes");
    log.shards()
}

/// Queues a record. Waits for room if there is none.
async fn queue(log: &ShardedWal, Record { key, payload }: Record) -> Position {
    if let Ok(queued) = log.try_append(key, payload) {
        return queued.position().expect("the record is queued");
    }
    let permit = log.reserve(key, payload.len()).await.expect("there will be room");
    let appended = permit.append(payload);
    match appended.position() {
        Some(position) => position,
        None => appended.await.expect("the record is durable"),
    }
}

/// The configuration of a log with this number of bytes filled with zeros, over all shards.
pub fn config(dir: &Path, shards: Option<usize>, zeroed: u64) -> Config {
    let config = Config::new(dir.join("log"));
    let config = shards.into_iter().fold(config, Config::shards);
    if zeroed == 0 {
        return config;
    }
    let shards = shards.unwrap_or_else(|| default_shards(dir));
    let segments = zeroed.div_ceil(SEGMENT_BYTES * shards as u64) as usize;
    config.recycled_segments_max(segments.max(2)).preallocated_segments(segments)
}

impl TaskLog for ShardedWal {
    fn open(dir: &Path, shards: Option<usize>, zeroed: u64) -> Self {
        ShardedWal::open(config(dir, shards, zeroed)).expect("the log opens")
    }

    async fn append(&self, record: Record) {
        self.append_async(record.key, record.payload).await.expect("the record is durable");
    }

    async fn append_run(&self, records: impl Iterator<Item = Record> + Send) {
        let mut last = None;
        for record in records {
            last = Some(queue(self, record).await);
        }
        if let Some(last) = last {
            let last = self.acknowledged(last);
            last.await.expect("the last record is durable, and so are all before it");
        }
    }

    fn close(self) {
        ShardedWal::close(&self).expect("the log closes");
    }

    fn replay(dir: &Path, _records: u64, found: &Found) {
        let log = LogReader::open(dir.join("log")).expect("the log can be read");
        log.replay(ReplayOptions::default().threads(2), |record| {
            found(record.key(), record.payload());
            Ok::<_, Infallible>(())
        })
        .expect("what was written can be read");
    }
}
