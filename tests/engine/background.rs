//! Background threads may be late without harm: the sealer that cuts a tail, the
//! preparer that creates a segment, and the watcher that checks for file names.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shardwal::fs::sim::SimFileSystem;
use shardwal::fs::{FileHandle, FileSystem, OpenMode};
use shardwal::{Config, Durability};

use super::support::delegate::delegate;
use super::support::gate::Gate;
use super::support::ledger::Ledger;
use super::support::{DIR, config, must_end, open, replayed};

/// The calls that wait at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// Calls that shorten a file.
    Cuts,
    /// Calls that create a file.
    Creations,
    /// Checks for the name of a segment.
    SpaceChecks,
    /// Syncs of segments of the first shard.
    SyncsOfShard0,
}

#[derive(Debug)]
struct LateDisk {
    fs: SimFileSystem,
    late: Late,
    gate: Gate,
}

impl LateDisk {
    fn new(fs: &SimFileSystem, late: Late) -> (Arc<Self>, Gate) {
        let gate = Gate::default();
        (Arc::new(Self { fs: fs.clone(), late, gate: gate.clone() }), gate)
    }

    fn pass(&self, late: Late) -> io::Result<()> {
        if self.late == late { self.gate.pass() } else { Ok(()) }
    }
}

impl FileSystem for LateDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        if mode == OpenMode::CreateNew {
            self.pass(Late::Creations)?;
        }
        let file = self.fs.open(path, mode)?;
        let path = path.to_string_lossy();
        let is_late = match self.late {
            Late::Cuts => true,
            Late::SyncsOfShard0 => path.contains("shard-0000") && path.contains(".wal"),
            Late::Creations | Late::SpaceChecks => false,
        };
        let late = is_late.then(|| (self.late, self.gate.clone()));
        Ok(Box::new(LateFile { file, late }))
    }

    delegate!(self => self.fs);

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }

    fn links(&self, path: &Path) -> io::Result<u64> {
        if path.extension().is_some_and(|it| it == "wal") {
            self.pass(Late::SpaceChecks)?;
        }
        self.fs.links(path)
    }

    fn copy_on_write(&self, path: &Path) -> bool {
        self.fs.copy_on_write(path)
    }
}

#[derive(Debug)]
struct LateFile {
    file: Box<dyn FileHandle>,
    late: Option<(Late, Gate)>,
}

impl LateFile {
    fn pass(&self, late: Late) -> io::Result<()> {
        match &self.late {
            Some((which, gate)) if *which == late => gate.pass(),
            _ => Ok(()),
        }
    }
}

impl FileHandle for LateFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.pass(Late::SyncsOfShard0)?;
        self.file.sync_data()
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.pass(Late::Cuts)?;
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn drop_cache(&self) {
        self.file.drop_cache();
    }
}

/// Regression: the sealer cut a full segment's tail after the file had been recycled.
/// The cut removed acknowledged records of the later segment.
#[test]
fn a_late_tail_cut_does_not_touch_a_later_segment() {
    let sim = SimFileSystem::new();
    let (fs, gate) = LateDisk::new(&sim, Late::Cuts);
    let log = open(config(&sim).file_system(fs).segment_bytes(16 << 10));
    let mut ledger = Ledger::default();
    gate.shut();
    let mut random = super::support::Random::new(7);
    while log.stats().total.rolls < 40 {
        let length = 200 + usize::try_from(random.below(6000)).unwrap();
        ledger.append(&log, 1, length).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        let checkpoint = log.durable_checkpoint();
        ledger.truncated(&replayed(&log).below(&checkpoint));
        log.truncate_before(&checkpoint).unwrap();
    }
    for _ in 0..3 {
        ledger.append(&log, 1, 5900).unwrap();
    }
    gate.open();
    std::thread::sleep(Duration::from_millis(300));
    let after = sim.copy().crash(&mut || true);
    drop(log);
    let log = open(Config::new(DIR).file_system(Arc::new(after)).shards(1));
    ledger.check(&replayed(&log));
}

#[test]
fn an_append_does_not_wait_for_full_segments_of_another_shard() {
    must_end("an append to the other shard", || {
        let sim = SimFileSystem::new();
        let (fs, gate) = LateDisk::new(&sim, Late::SyncsOfShard0);
        let interval = Durability::Interval(Duration::from_millis(20));
        let config = Config::new(DIR).file_system(fs).shards(2).segment_bytes(16 << 10);
        let log = open(config.durability(interval));
        let [slow, quick] =
            [0, 1].map(|shard| (0..).find(|key| log.shard_of(*key) == shard).unwrap());
        gate.shut();
        let mut queued = Vec::new();
        for _ in 0..30 {
            queued.push(log.append(slow, vec![1; 2000]));
            std::thread::sleep(Duration::from_millis(1));
        }
        gate.wait_for_writer();
        let rolls = log.stats().total.rolls;
        for _ in 0..60 {
            log.append(quick, vec![2; 2000]).wait().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(log.stats().total.rolls > rolls, "segments of this shard wait for the other shard");
        gate.open();
        log.flush().wait().unwrap();
        assert_eq!(log.durable_checkpoint().sequences()[1], 60);
    });
}

#[test]
fn a_segment_truncated_during_a_name_check_is_not_reported_missing() {
    let sim = SimFileSystem::new();
    let (fs, gate) = LateDisk::new(&sim, Late::SpaceChecks);
    let log = open(config(&sim).file_system(fs).segment_bytes(16 << 10));
    let append = || log.append_wait(1, vec![1; 2000]).map(drop).unwrap();
    (0..6).for_each(|_| append());
    std::thread::sleep(Duration::from_millis(200));
    gate.shut();
    gate.wait_for_writer();
    (0..6).for_each(|_| append());
    let truncated = log.truncate_before(&log.durable_checkpoint()).unwrap();
    assert!(truncated.segments > 0, "the truncation deletes the segment being checked");
    gate.open();
    std::thread::sleep(Duration::from_millis(300));
    append();
}

#[test]
fn a_removed_log_is_noticed_while_a_segment_is_created() {
    let sim = SimFileSystem::new();
    let (fs, gate) = LateDisk::new(&sim, Late::Creations);
    let log = open(config(&sim).file_system(fs).segment_bytes(1 << 20));
    gate.shut();
    log.append_wait(1, vec![1; 600 << 10]).unwrap();
    gate.wait_for_writer();
    sim.remove_tree(DIR);
    std::thread::sleep(Duration::from_millis(1500));
    let refused = log.append_wait(1, "a record of a removed log");
    gate.open();
    refused.unwrap_err();
}
