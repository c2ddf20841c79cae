//! What the behaviour tests share: a small log on a simulated disk, payloads
//! that say what they are, what a replay found, and a limit on waiting.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "seeds are printed")]
#![allow(dead_code, reason = "each program that includes it uses a part")]

pub(crate) mod gate;
pub(crate) mod ledger;
pub(crate) mod passed_on;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use shardwal::disk::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{Cause, Checkpoint, Config, Position, ReplayError, ReplayOptions, ShardedWal};

pub(crate) const DIR: &str = "/wal";
pub(crate) const EIO: i32 = 5;
pub(crate) const EINTR: i32 = 4;
pub(crate) const ENOSPC: i32 = 28;

/// One shard and the smallest segments.
pub(crate) fn config(disk: &SimDisk) -> Config {
    Config::new(DIR).disk(Arc::new(disk.clone())).shards(1).segment_bytes(4096)
}

pub(crate) fn open(config: Config) -> ShardedWal {
    ShardedWal::open(config).expect("the log opens")
}

/// The `index`-th payload of a key: it says so, and is `length` bytes long or
/// a little more.
pub(crate) fn payload(key: u64, index: u64, length: usize) -> Bytes {
    let mut bytes = format!("{key}:{index}:").into_bytes();
    bytes.resize(length.max(bytes.len()), b'.');
    bytes.into()
}

/// What [`payload`] was asked for.
pub(crate) fn key_and_index(payload: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(payload).expect("payloads are text");
    let mut words = text.split(':').map(|word| word.parse().expect("a number"));
    (words.next().expect("a key"), words.next().expect("an index"))
}

/// What a replay handed out, each shard's in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) records: Vec<(Position, u64, Bytes)>,
}

impl Found {
    /// What lies below a checkpoint.
    pub(crate) fn below(&self, checkpoint: &Checkpoint) -> Self {
        let given_up = |position: &Position| {
            let shard = usize::try_from(position.shard).expect("a small number");
            position.generation < checkpoint.generation()
                || (position.generation == checkpoint.generation()
                    && position.sequence < checkpoint.sequences()[shard])
        };
        let records = self.records.iter().filter(|(position, ..)| given_up(position));
        Self { records: records.cloned().collect() }
    }

    /// The payload indices of each key, in the order of the callbacks.
    pub(crate) fn by_key(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut keys: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (_, key, payload) in &self.records {
            let (said, index) = key_and_index(payload);
            assert_eq!(said, *key, "a payload under another key");
            keys.entry(*key).or_default().push(index);
        }
        keys
    }

    /// The payload indices of one key.
    pub(crate) fn of(&self, key: u64) -> Vec<u64> {
        self.by_key().remove(&key).unwrap_or_default()
    }
}

/// Replays all, and checks what holds of every replay: positions rise strictly
/// within each shard, generations come in order.
pub(crate) fn replayed(log: &ShardedWal) -> Found {
    try_replayed(log).expect("the log replays")
}

/// The same on a disk that may fail.
pub(crate) fn try_replayed(log: &ShardedWal) -> Result<Found, ReplayError<Infallible>> {
    let records = Mutex::new(Vec::new());
    let report = log.replay(ReplayOptions::default(), |record| {
        let record = (record.position(), record.key(), record.to_bytes());
        records.lock().expect("no callback panics").push(record);
        Ok::<_, Infallible>(())
    });
    let records = records.into_inner().expect("no callback panics");
    assert_in_order(&records);
    assert_eq!(report?.records, records.len() as u64);
    Ok(Found { records })
}

fn assert_in_order(records: &[(Position, u64, Bytes)]) {
    let mut last: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let mut generation = 0;
    for (position, ..) in records {
        assert!(position.generation >= generation, "generations come one after the other");
        generation = position.generation;
        let lane = (position.generation, position.shard);
        if let Some(before) = last.insert(lane, position.sequence) {
            assert!(before < position.sequence, "{position} after {before}");
        }
    }
}

/// Appends the payloads `from..to` of a key and waits for each.
pub(crate) fn append_all(log: &ShardedWal, key: u64, indices: std::ops::Range<u64>, length: usize) {
    for index in indices {
        let appended = log.append(key, payload(key, index, length)).wait();
        appended.unwrap_or_else(|error| panic!("record {key}:{index}: {error}"));
    }
}

/// A reproducible source of choices.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `below` (splitmix64).
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// The seed of this run: from `SHARDWAL_SEED`, or of the clock; printed.
pub(crate) fn seed() -> u64 {
    let named = std::env::var("SHARDWAL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = named.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.as_secs() ^ u64::from(now.subsec_nanos()) << 20)
    });
    println!("SHARDWAL_SEED={seed}");
    seed
}

/// Runs something that must not hang; fails after a limit no sound run meets.
pub(crate) fn must_end<R: Send + 'static>(
    what: &str,
    run: impl FnOnce() -> R + Send + 'static,
) -> R {
    must_end_within(Duration::from_secs(120), what, run)
}

/// The same with another limit.
pub(crate) fn must_end_within<R: Send + 'static>(
    limit: Duration,
    what: &str,
    run: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (done, waiting) = channel();
    let runner = thread::spawn(move || {
        let result = run();
        // Nobody waits any more once the limit has passed.
        done.send(()).ok();
        result
    });
    if waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
        panic!("{what} hangs");
    }
    runner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A fault at the next such call on a path with this in it.
pub(crate) fn fault_at(path: &str, call: Call, kind: FaultKind) -> Fault {
    Fault { path_contains: Some(path.into()), ..Fault::new(call, 1, kind) }
}

pub(crate) fn assert_poisoned(cause: &Cause, errno: i32) {
    match cause {
        Cause::Poisoned(error) => assert_eq!(error.raw_os_error(), Some(errno)),
        other => panic!("{other:?}"),
    }
}
