//! Counts records per key, takes a snapshot of the counts, and truncates the log below it.
//! To run it: `cargo run --example snapshots`

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::sync::{Mutex, mpsc};

use shardwal::{Checkpoint, Config, LogReader, ReplayOptions, ShardedWal, StateMachine};

const SHARDS: usize = 2;

/// The counts of one shard. The shard's writer calls it, one record after another.
struct Counts {
    shard: usize,
    counts: BTreeMap<u64, u64>,
    /// The keys of the current commit, which may still fail.
    pending: Vec<u64>,
    /// Snapshots: the shard, the first sequence after its counts, and the counts.
    snapshots: mpsc::Sender<(usize, u64, BTreeMap<u64, u64>)>,
}

impl StateMachine for Counts {
    fn encode(&mut self, _reset: bool, key: u64, payload: &[u8], stored: &mut Vec<u8>) {
        stored.extend_from_slice(payload);
        self.pending.push(key);
    }
    fn apply(&mut self) {
        self.pending.drain(..).for_each(|key| *self.counts.entry(key).or_default() += 1);
    }
    fn rollback(&mut self) {
        self.pending.clear();
    }
    fn snapshot(&mut self, next: u64) {
        self.snapshots.send((self.shard, next, self.counts.clone())).ok();
    }
}

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let (dir, file) = (scratch.path().join("log"), scratch.path().join("snapshot.json"));
    let (sender, snapshots) = mpsc::channel();
    let log =
        ShardedWal::open_with_state_machine(Config::new(&dir).shards(SHARDS), move |shard| {
            let (counts, pending) = (BTreeMap::new(), Vec::new());
            Box::new(Counts { shard, counts, pending, snapshots: sender.clone() })
        })?;
    log.append_batch_wait((0..1000).map(|n| (n % 10, "event")))?;

    // Each shard takes its snapshot between two commits, while appends go on.
    log.request_snapshot();
    let (mut below, mut counts) = ([0; SHARDS], BTreeMap::new());
    for (shard, next, part) in snapshots.iter().take(SHARDS) {
        below[shard] = next;
        counts.extend(part);
    }
    let checkpoint = Checkpoint::new(log.durable_checkpoint().generation(), below).of_log(log.id());
    // The snapshot must be durable before the records that it replaces are deleted.
    let out = File::create(&file)?;
    serde_json::to_writer(&out, &(checkpoint.to_string(), counts))?;
    out.sync_all()?;
    File::open(scratch.path())?.sync_all()?;
    log.truncate_before(&checkpoint)?;
    log.append_batch_wait((0..10).map(|key| (key, "event")))?;
    log.close()?;

    // After a restart: the snapshot, and the records from its checkpoint on.
    let (checkpoint, counts): (String, _) = serde_json::from_reader(File::open(&file)?)?;
    let counts: Mutex<BTreeMap<u64, u64>> = Mutex::new(counts);
    let from = checkpoint.parse()?;
    let report = LogReader::open(&dir)?.replay_from(&from, ReplayOptions::default(), |record| {
        let mut counts = counts.lock().expect("no callback panics");
        *counts.entry(record.key()).or_default() += 1;
        Ok::<_, Infallible>(())
    })?;
    assert_eq!(report.records, 10);
    assert_eq!(counts.into_inner()?, (0..10).map(|key| (key, 101)).collect());
    Ok(())
}
