//! The peers, one file each. This file has what several of them share: a format for logs without
//! keys, and shards made of several logs.

use std::path::{Path, PathBuf};

use crate::peer::{Arrivals, Offered, Peer, Record};

pub mod framed;
pub mod group_commit;
pub mod ironwal;
pub mod mutexes;
pub mod okaywal;
pub mod raft_engine;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
pub mod shardwal;
pub mod wal_db;
pub mod writeahead;

/// Several logs of one kind, each in its own directory. Single records go to a log by key. Batches
/// and pipelines go to a log by the thread's number, undivided. By key, they would split into
/// commits of a few records. This favours the peer.
pub struct Many<P> {
    logs: Vec<P>,
    /// Whether single records go by thread too, for a log whose key is the thread.
    by_thread: bool,
}

/// The directory of log `number`.
pub fn part(dir: &Path, number: usize) -> PathBuf {
    dir.join(number.to_string())
}

/// The index of the log for a key: the high bits of a product, scaled.
pub fn by_key(key: u64, logs: usize) -> usize {
    let mixed = (key ^ (key >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (mixed as usize * logs) >> 32
}

impl<P: Peer> Many<P> {
    /// Opens `logs` logs, each in an empty directory.
    pub fn open(dir: &Path, logs: usize, by_thread: bool, open: impl Fn(&Path) -> P) -> Box<Self> {
        let open_one = |number| {
            let dir = part(dir, number);
            std::fs::create_dir_all(&dir).expect("the scratch directory takes a directory");
            open(&dir)
        };
        Box::new(Self { logs: (0..logs).map(open_one).collect(), by_thread })
    }

    fn of(&self, thread: usize) -> &P {
        &self.logs[thread % self.logs.len()]
    }
}

impl<P: Peer + 'static> Peer for Many<P> {
    fn append(&self, thread: usize, record: Record) {
        let log = if self.by_thread {
            thread % self.logs.len()
        } else {
            by_key(record.key, self.logs.len())
        };
        self.logs[log].append(thread, record);
    }

    fn append_batch(&self, thread: usize, records: &[Record]) {
        self.of(thread).append_batch(thread, records);
    }

    fn pipeline(&self, thread: usize, depth: usize, next: &mut dyn FnMut() -> Option<Record>) {
        self.of(thread).pipeline(thread, depth, next);
    }

    fn offer(&self, thread: usize, arrivals: &mut dyn Arrivals) -> Offered {
        self.of(thread).offer(thread, arrivals)
    }

    fn close(self: Box<Self>) {
        self.logs.into_iter().for_each(|log| Box::new(log).close());
    }
}

/// Replays the logs of a [`Many`] on two threads.
pub fn replay_parts(dir: &Path, logs: usize, replay: impl Fn(&Path) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..logs.min(2) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if number >= logs {
                        return;
                    }
                    replay(&part(dir, number));
                }
            });
        }
    });
}

/// Key and payload as one value, for logs without keys.
pub fn keyed(record: Record) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + record.payload.len());
    value.extend_from_slice(&record.key.to_le_bytes());
    value.extend_from_slice(record.payload);
    value
}

/// Splits a value into key and payload.
pub fn unkeyed(value: &[u8]) -> (u64, &[u8]) {
    let (key, payload) = value.split_first_chunk().expect("a value begins with its key");
    (u64::from_le_bytes(*key), payload)
}
