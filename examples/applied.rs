//! Keeps the last value of each key in a map outside of the log. Takes snapshots of it,
//! truncates the log below them, and starts again with another number of shards.
//! To run it: `cargo run --example applied`

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use shardwal::{Applied, Checkpoint, Config, Position, ReplayOptions, ShardedWal};

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Values = BTreeMap<u64, u64>;

/// The last value of each key. A value that is put twice in a row changes nothing, so a replay
/// may pass a record that the snapshot holds already.
pub(crate) struct Store {
    pub(crate) log: ShardedWal,
    pub(crate) applied: Applied,
    values: Mutex<Values>,
    dir: PathBuf,
}

impl Store {
    /// Loads the last snapshot, then replays the log from its checkpoint on. The number of
    /// shards may differ from that of the snapshot.
    pub(crate) fn open(dir: &Path, shards: usize) -> Result<Self, Failed> {
        let config = Config::new(dir.join("log")).shards(shards).segment_bytes(64 << 10);
        let log = ShardedWal::open(config)?;
        let (checkpoint, values) = load(dir)?;
        let values = Mutex::new(values);
        log.replay_from(&checkpoint, ReplayOptions::default(), |record| {
            let value = u64::from_le_bytes(record.payload().try_into()?);
            values.lock().expect("no holder panics").insert(record.key(), value);
            Ok::<_, Failed>(())
        })
        .map_err(|error| error.to_string())?;
        Ok(Self { applied: Applied::new(&log), log, values, dir: dir.into() })
    }

    /// Sets a value. It is durable when this returns. One thread at a time sets a key.
    pub(crate) fn put(&self, key: u64, value: u64) -> Result<(), Failed> {
        let position = self.log.append_wait(key, &value.to_le_bytes())?;
        self.apply(position, key, value);
        Ok(())
    }

    /// Changes the map first, then reports the record as applied.
    pub(crate) fn apply(&self, position: Position, key: u64, value: u64) {
        self.values().insert(key, value);
        self.applied.done(position);
    }

    pub(crate) fn values(&self) -> MutexGuard<'_, Values> {
        self.values.lock().expect("no holder panics")
    }

    /// Stores a snapshot, then truncates the log below it. Values are put meanwhile. One
    /// thread at a time takes snapshots.
    pub(crate) fn snapshot(&self) -> Result<Checkpoint, Failed> {
        // First the checkpoint, then the copy: it holds every record below the checkpoint.
        let checkpoint = self.applied.checkpoint();
        let values = self.values().clone();
        store(&self.dir, &checkpoint, &values)?;
        self.log.truncate_before(&checkpoint)?;
        Ok(checkpoint)
    }
}

/// The last snapshot. Without one, the state is empty and the log is complete.
fn load(dir: &Path) -> Result<(Checkpoint, Values), Failed> {
    match fs::read(dir.join("snapshot.json")) {
        Ok(bytes) => {
            let (checkpoint, values): (String, Values) = serde_json::from_slice(&bytes)?;
            Ok((checkpoint.parse()?, values))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok((Checkpoint::start(), Values::new()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Replaces the snapshot. It is durable when this returns, so the log may be truncated.
fn store(dir: &Path, checkpoint: &Checkpoint, values: &Values) -> Result<(), Failed> {
    let new = dir.join("snapshot.new");
    let file = File::create(&new)?;
    serde_json::to_writer(&file, &(checkpoint.to_string(), values))?;
    file.sync_all()?;
    fs::rename(&new, dir.join("snapshot.json"))?;
    Ok(File::open(dir)?.sync_all()?)
}

pub(crate) fn main() -> Result<(), Failed> {
    let scratch = tempfile::tempdir()?;
    for (restart, shards) in (1..).zip([2, 3, 1]) {
        let store = Store::open(scratch.path(), shards)?;
        assert!(store.values().values().all(|value| *value == restart - 1));
        (0..10).try_for_each(|key| store.put(key, 0))?;
        store.snapshot()?;
        (0..10).try_for_each(|key| store.put(key, restart))?;
        store.log.close()?;
    }
    Ok(())
}
