//! Counts records per key in a state machine. Takes exact snapshots, truncates the log below
//! them, and starts again with another number of shards.
//! To run it: `cargo run --example snapshots`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};

use shardwal::{Checkpoint, Config, Position, ReplayOptions, ShardedWal, StateMachine};

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Counts = BTreeMap<u64, u64>;
/// A shard, the first sequence after its counts, and the counts.
type Part = (usize, u64, Counts);

/// The state machine of one shard. The shard's writer calls it, one record after another.
struct Counter {
    shard: usize,
    counts: Arc<Mutex<Counts>>,
    /// The keys of the current commit, which may still fail.
    pending: Vec<u64>,
    snapshots: mpsc::Sender<Part>,
}

impl StateMachine for Counter {
    fn encode(&mut self, _reset: bool, key: u64, payload: &[u8], stored: &mut Vec<u8>) {
        stored.extend_from_slice(payload);
        self.pending.push(key);
    }
    fn apply(&mut self) {
        let mut counts = self.counts.lock().expect("no holder panics");
        self.pending.drain(..).for_each(|key| *counts.entry(key).or_default() += 1);
    }
    fn rollback(&mut self) {
        self.pending.clear();
    }
    fn snapshot(&mut self, next: u64) {
        let counts = self.counts.lock().expect("no holder panics").clone();
        self.snapshots.send((self.shard, next, counts)).ok();
    }
}

/// Counts of keys that survive a crash.
pub(crate) struct Service {
    log: ShardedWal,
    /// The counts of each shard's keys.
    counts: Vec<Arc<Mutex<Counts>>>,
    snapshots: Mutex<mpsc::Receiver<Part>>,
    dir: PathBuf,
}

impl Service {
    /// Loads the last snapshot, then replays the log from its checkpoint on. The number of
    /// shards may differ from that of the snapshot.
    pub(crate) fn open(dir: &Path, shards: usize) -> Result<Self, Failed> {
        let counts: Vec<Arc<Mutex<Counts>>> = (0..shards).map(|_| Arc::default()).collect();
        let (sender, snapshots) = mpsc::channel();
        let config = Config::new(dir.join("log")).shards(shards).segment_bytes(64 << 10);
        let log = ShardedWal::open_with_state_machine(config, |shard| {
            let (counts, snapshots) = (counts[shard].clone(), sender.clone());
            Box::new(Counter { shard, counts, pending: Vec::new(), snapshots })
        })?;
        let service = Self { log, counts, snapshots: Mutex::new(snapshots), dir: dir.into() };
        let (checkpoint, stored) = load(dir)?;
        stored.into_iter().for_each(|(key, count)| service.add(key, count));
        service.log.replay_from(&checkpoint, ReplayOptions::default(), |record| {
            service.add(record.key(), 1);
            Ok::<_, Infallible>(())
        })?;
        Ok(service)
    }

    /// Adds to a count that is in the log already. Only before the first append.
    fn add(&self, key: u64, count: u64) {
        let counts = &self.counts[self.log.shard_of(key)];
        *counts.lock().expect("no holder panics").entry(key).or_default() += count;
    }

    /// Counts an event of a key. It is durable when this returns.
    pub(crate) fn count(&self, key: u64) -> Result<Position, Failed> {
        Ok(self.log.append_wait(key, "event")?)
    }

    pub(crate) fn counted(&self, key: u64) -> u64 {
        let counts = self.counts[self.log.shard_of(key)].lock().expect("no holder panics");
        counts.get(&key).copied().unwrap_or(0)
    }

    /// Stores a snapshot, then truncates the log below it. Events are counted meanwhile.
    pub(crate) fn snapshot(&self) -> Result<Checkpoint, Failed> {
        let snapshots = self.snapshots.lock().expect("no holder panics"); // one at a time
        let checkpoint = self.log.request_snapshot().wait()?;
        // Every part was sent before the checkpoint was returned. Parts of an earlier attempt
        // that failed may come first.
        let parts = snapshots.try_iter();
        let is_new = |(shard, next, _): &Part| checkpoint.sequences()[*shard] == *next;
        let counts = parts.filter(is_new).flat_map(|(.., counts)| counts).collect();
        store(&self.dir, &checkpoint, &counts)?;
        self.log.truncate_before(&checkpoint)?;
        Ok(checkpoint)
    }

    pub(crate) fn close(self) -> Result<(), Failed> {
        Ok(self.log.close()?)
    }
}

/// The last snapshot. Without one, the state is empty and the log is complete.
fn load(dir: &Path) -> Result<(Checkpoint, Counts), Failed> {
    match fs::read(dir.join("snapshot.json")) {
        Ok(bytes) => {
            let (checkpoint, counts): (String, Counts) = serde_json::from_slice(&bytes)?;
            Ok((checkpoint.parse()?, counts))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok((Checkpoint::start(), Counts::new()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Replaces the snapshot. It is durable when this returns, so the log may be truncated.
fn store(dir: &Path, checkpoint: &Checkpoint, counts: &Counts) -> Result<(), Failed> {
    let new = dir.join("snapshot.new");
    let file = File::create(&new)?;
    serde_json::to_writer(&file, &(checkpoint.to_string(), counts))?;
    file.sync_all()?;
    fs::rename(&new, dir.join("snapshot.json"))?;
    Ok(File::open(dir)?.sync_all()?)
}

pub(crate) fn main() -> Result<(), Failed> {
    let scratch = tempfile::tempdir()?;
    for (restart, shards) in (1..).zip([2, 3, 1]) {
        let service = Service::open(scratch.path(), shards)?;
        for key in 0..10 {
            assert_eq!(service.counted(key), 2 * (restart - 1));
            service.count(key)?;
        }
        service.snapshot()?;
        for key in 0..10 {
            service.count(key)?;
        }
        service.close()?;
    }
    Ok(())
}
