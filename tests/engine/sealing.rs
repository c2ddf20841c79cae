//! Full segments: which thread syncs them, which calls wait for that, how many may
//! wait, and when their tails are cut.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::support::delegate::delegate;
use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{EIO, assert_poisoned, config, must_end, open, payload, replayed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::fs::{FileHandle, FileSystem, OpenMode, OsFileSystem};
use shardwal::{Cause, Config, Durability, ShardedWal};

const MODES: [Durability; 2] =
    [Durability::Buffered, Durability::Interval(Duration::from_secs(3600))];
/// For the whole log: see `SEALED_SEGMENTS_MAX`.
const SEALED_MAX: u64 = 64;

fn durable(log: &ShardedWal) -> u64 {
    log.durable_checkpoint().sequences()[0]
}

#[test]
fn full_segments_become_durable_in_the_background_and_an_open_copies_only_the_newest() {
    for mode in MODES {
        must_end("a durable mark that rises", move || {
            let (fs, mut ledger) = (SimFileSystem::new(), Ledger::unsynced());
            let log = open(config(&fs).durability(mode));
            while log.stats().total.rolls < 20 {
                ledger.append(&log, 1, 900).unwrap();
            }
            // The segment being written holds a few records, and no caller requests a
            // sync.
            while durable(&log) + 16 < ledger.len(1) {
                std::thread::yield_now();
            }
            let durable = durable(&log);
            // A commit or a seal writes the mark.
            for _ in 0..3 {
                ledger.append(&log, 1, 900).unwrap();
            }
            let lucky = fs.copy().crash(&mut || true);
            let found = open(config(&lucky).durability(mode));
            let copied = found.recovery().shards[0].copied_records;
            assert!(copied < 32, "{mode}: {copied} records are copied");
            let after = fs.copy().crash(&mut || false);
            let found = replayed(&open(config(&after).durability(mode)));
            assert!(found.records.len() as u64 >= durable, "{mode}: durable records are there");
            ledger.check(&replayed(&log));
        });
    }
}

#[test]
fn appends_do_not_wait_for_syncs_of_full_segments_below_the_limit() {
    for mode in MODES {
        must_end("appends beside a sync that never ends", move || {
            let (fs, gate, mut ledger) =
                (SimFileSystem::new(), Gate::default(), Ledger::unsynced());
            let log =
                open(config(&fs).durability(mode).queue_capacity(8).file_system(gate.before(&fs)));
            gate.shut();
            while log.stats().total.rolls < SEALED_MAX {
                ledger.append(&log, 1, 900).unwrap();
            }
            gate.wait_for_writer();
            // A few more records fit into the segment being written. Then appends
            // block.
            let (mut completions, mut refused) = (Vec::new(), None);
            while refused.is_none() {
                match log.append_timeout(1, ledger.next(1, 900), Duration::from_millis(50)) {
                    Ok(completion) => completions.push((ledger.len(1) - 1, completion)),
                    Err(error) => refused = Some(error.cause),
                }
            }
            assert!(matches!(refused, Some(Cause::SegmentNotReady)), "{refused:?}");
            assert!(completions.len() < 40, "{} more", completions.len());
            assert!(log.stats().total.rolls <= SEALED_MAX + 1, "{}", log.stats().total.rolls);
            gate.open();
            for (index, completion) in completions {
                ledger.wait(1, index, completion).unwrap();
            }
            ledger.append(&log, 1, 900).expect("it goes on");
            log.flush().wait().unwrap();
        });
    }
}

#[test]
fn a_failed_sync_of_a_full_segment_poisons_even_an_idle_shard_and_is_not_retried() {
    must_end("an idle shard whose sync fails", || {
        let (fs, mut ledger) = (SimFileSystem::new(), Ledger::unsynced());
        let log = open(config(&fs).durability(Durability::Buffered));
        ledger.append(&log, 1, 900).unwrap();
        fs.fail(Fault { sticky: true, ..Fault::new(Call::Sync, 1, FaultKind::Error(EIO)) });
        let before = fs.calls(Call::Sync);
        while log.stats().total.rolls < 3 && ledger.append(&log, 1, 900).is_ok() {}
        let cause = loop {
            match log.try_append(1, payload(1, 0, 10)) {
                Err(refused) => break refused.cause,
                Ok(_) => std::thread::yield_now(),
            }
            // No record is appended any more.
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_poisoned(&cause, EIO);
        log.flush().wait().unwrap_err();
        log.close().unwrap_err();
        assert_eq!(fs.calls(Call::Sync), before + 1, "W2 STICKY: one sync, of one segment");
    });
}

#[test]
fn a_flush_waits_for_the_syncs_of_full_segments() {
    must_end("a flush", || {
        let (fs, gate, mut ledger) = (SimFileSystem::new(), Gate::default(), Ledger::unsynced());
        let log = open(config(&fs).durability(Durability::Buffered).file_system(gate.before(&fs)));
        gate.shut();
        while log.stats().total.rolls < 5 {
            ledger.append(&log, 1, 900).unwrap();
        }
        let flushed = log.flush();
        gate.wait_for_writer();
        assert_eq!(durable(&log), 0, "nothing is synced");
        gate.open();
        flushed.wait().unwrap();
        ledger.flushed();
        let after = fs.copy().crash(&mut || false);
        ledger.check(&replayed(&open(config(&after))));
    });
}

/// A file system on which the creation of segments waits at a gate.
#[derive(Debug)]
struct SlowToCreate {
    fs: SimFileSystem,
    gate: Gate,
}

impl FileSystem for SlowToCreate {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        if mode == OpenMode::CreateNew {
            self.gate.pass()?;
        }
        self.fs.open(path, mode)
    }
    delegate!(self => self.fs);
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }
    fn copy_on_write(&self, path: &Path) -> bool {
        self.fs.copy_on_write(path)
    }
}

#[test]
fn an_interval_sync_does_not_wait_for_the_next_segment() {
    must_end("a sync beside the creation of a segment", || {
        let gate = Gate::default();
        let fs = SlowToCreate { fs: SimFileSystem::new(), gate: gate.clone() };
        let interval = Durability::Interval(Duration::from_millis(20));
        let log = Config::new("/wal").file_system(Arc::new(fs)).shards(2).durability(interval);
        let log = open(log.segment_bytes(64 << 10));
        let [a, b] = [0, 1].map(|shard| (0..).find(|key| log.shard_of(*key) == shard).unwrap());
        gate.shut();
        log.append(a, vec![1; 40 << 10]).wait().unwrap();
        gate.wait_for_writer();
        log.append(b, "y").wait().unwrap();
        while log.durable_checkpoint().sequences()[1] < 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        gate.open();
    });
}

fn segments(fs: &SimFileSystem) -> Vec<(PathBuf, usize)> {
    let files = fs.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "wal"));
    let length = |path: &PathBuf| fs.read_file(path).map_or(0, |bytes| bytes.len());
    files.map(|path| (length(&path), path)).map(|(length, path)| (path, length)).collect()
}

#[test]
fn tails_are_cut_when_a_segment_is_full_at_close_and_at_open() {
    let ways = [Some(Durability::Sync), Some(Durability::Buffered), None];
    for way in ways {
        let (mut fs, mut ledger) = (SimFileSystem::new(), Ledger::unsynced());
        let config_of = |fs: &SimFileSystem| {
            config(fs).segment_bytes(1 << 20).durability(way.unwrap_or(Durability::Sync))
        };
        for _ in 0..10 {
            let log = open(config_of(&fs));
            ledger.append(&log, 1, 100).unwrap();
            ledger.append(&log, 1, 100).unwrap();
            if way.is_some() {
                log.close().unwrap();
            } else {
                // Without a close: the next open finds the tail.
                fs = fs.kill();
            }
        }
        let log = open(config_of(&fs));
        ledger.check(&replayed(&log));
        log.close().unwrap();
        for (path, length) in segments(&fs) {
            assert!(length < 1000, "{way:?}: {path:?} has {length} bytes");
        }
        ledger.check(&replayed(&open(config_of(&fs))));
    }
}

/// A backup by hard links shares the files.
#[test]
fn a_hard_linked_segment_is_not_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("wal");
    let config = || Config::new(&dir).file_system(Arc::new(OsFileSystem)).shards(1);
    let segment = dir.join("generation-00001/shard-0000/0000000001.wal");
    let link = scratch.path().join("backup");
    let log = open(config());
    log.append_wait(1, "x").unwrap();
    let before = std::fs::read(&segment).unwrap();
    std::fs::hard_link(&segment, &link).unwrap();
    log.close().unwrap();
    drop(log);
    drop(open(config()));
    let after = std::fs::read(&link).unwrap();
    assert_eq!(after.len(), before.len(), "the segment keeps its tail");
}
