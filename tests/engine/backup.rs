//! A backup of a live log is complete, whatever the writer does at the time. It holds
//! every record that was durable when the backup began.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::support::delegate::delegate;
use crate::support::ledger::Ledger;
use crate::support::{DIR, config, open, replayed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::fs::{FileHandle, FileSystem, OpenMode};
use shardwal::{
    Backup, BackupError, BackupReport, Config, Durability, OpenError, Position, ShardedWal,
};

const COPY: &str = "/copy";
const UNFINISHED: &str = "/copy.unfinished";

type Act = Box<dyn FnOnce() + Send>;

/// The file system of the backup: at the n-th read of the log, the writer acts.
#[derive(Clone)]
struct Busy {
    fs: SimFileSystem,
    calls_and_action: Arc<Mutex<(u32, Option<Act>)>>,
}

impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Busy")
    }
}

impl Busy {
    fn count_call(&self, path: &Path) {
        let mut calls_and_action = self.calls_and_action.lock().unwrap();
        let (calls, act) = &mut *calls_and_action;
        if path.starts_with(DIR) {
            *calls = calls.saturating_sub(1);
        }
        let act = if *calls == 0 { act.take() } else { None };
        drop(calls_and_action);
        act.into_iter().for_each(|act| act());
    }
}

impl FileSystem for Busy {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        self.count_call(path);
        self.fs.open(path, mode)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.count_call(path);
        self.fs.list(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.fs.rename(from, to)
    }

    fn copy_on_write(&self, path: &Path) -> bool {
        self.fs.copy_on_write(path)
    }

    delegate!(self => self.fs; create_dir (), sync_dir (), unlink (), remove_dir (),
        lock Box<dyn FileHandle>);
}

fn backup(fs: impl FileSystem + 'static) -> Result<BackupReport, BackupError> {
    Backup::new(DIR).file_system(Arc::new(fs)).run(COPY)
}

fn in_copy(fs: &SimFileSystem) -> Config {
    Config::new(COPY).file_system(Arc::new(fs.clone())).segment_bytes(4096).keep_shards()
}

type Records = BTreeMap<Position, (u64, Bytes)>;

fn records(log: &ShardedWal) -> Records {
    let found = replayed(log).records.into_iter();
    found.map(|(position, key, payload)| (position, (key, payload))).collect()
}

/// A log of two shards and two generations, partly truncated.
fn lived(fs: &SimFileSystem) -> ShardedWal {
    let mut ledger = Ledger::default();
    let log = open(config(fs).shards(1));
    (0..12).for_each(|key| ledger.append(&log, key, 1000).unwrap());
    drop(log);
    let log = open(config(fs).shards(2));
    (0..6).for_each(|key| ledger.append(&log, key, 1000).unwrap());
    log
}

fn append(log: &ShardedWal, keys: std::ops::Range<u64>) {
    for key in keys {
        log.append_wait(key, vec![b'.'; 900]).unwrap();
    }
}

/// An action of the writer during a call of the backup.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Append,
    Roll,
    Truncate,
    Reshard,
}

impl Meanwhile {
    fn act(self, fs: &SimFileSystem, slot: &Arc<Mutex<Option<ShardedWal>>>) -> Act {
        let (fs, slot) = (fs.clone(), slot.clone());
        Box::new(move || {
            let mut slot = slot.lock().unwrap();
            let log = slot.take().expect("the log is open");
            *slot = Some(match self {
                Self::Append => {
                    append(&log, 0..1);
                    log
                }
                Self::Roll => {
                    append(&log, 0..30);
                    log
                }
                Self::Truncate => {
                    append(&log, 0..10);
                    log.truncate_before(&log.durable_checkpoint()).unwrap();
                    append(&log, 0..3);
                    log
                }
                Self::Reshard => {
                    drop(log);
                    let log = open(config(&fs).shards(3));
                    append(&log, 0..10);
                    log.truncate_before(&log.durable_checkpoint()).unwrap();
                    append(&log, 0..3);
                    log
                }
            });
        })
    }
}

#[test]
fn a_backup_beside_a_writer_is_whole_and_has_every_earlier_record() {
    for meanwhile in [Meanwhile::Append, Meanwhile::Roll, Meanwhile::Truncate, Meanwhile::Reshard] {
        for nth in 1.. {
            let fs = SimFileSystem::new();
            let log = lived(&fs);
            let before = records(&log);
            let slot = Arc::new(Mutex::new(Some(log)));
            let act = meanwhile.act(&fs, &slot);
            let calls_and_action = Arc::new(Mutex::new((nth, Some(act))));
            let busy = Busy { fs: fs.clone(), calls_and_action: calls_and_action.clone() };
            let report =
                backup(busy).unwrap_or_else(|error| panic!("{meanwhile:?} {nth}: {error}"));
            let done = calls_and_action.lock().unwrap().1.is_some();
            let log = slot.lock().unwrap().take().expect("it was put back");
            check_copy(&fs, &log, &before, &report);
            if done {
                break;
            }
        }
    }
}

/// The copy has every earlier record that was not truncated since, and no record that
/// the log does not have.
fn check_copy(fs: &SimFileSystem, log: &ShardedWal, before: &Records, report: &BackupReport) {
    let (now, after) = (records(log), fs.crash(&mut || false));
    assert_eq!(report.log, log.id());
    let copy = open(in_copy(&after));
    assert_eq!((copy.id(), copy.durable_checkpoint()), (log.id(), report.checkpoint.clone()));
    let found = records(&copy);
    for (position, record) in before {
        let is_truncated = !now.contains_key(position);
        let copied = found.get(position);
        assert!(copied == Some(record) || (copied.is_none() && is_truncated), "{position}");
    }
    for (position, record) in &found {
        let known = now.get(position).or(before.get(position));
        assert!(known.is_none_or(|known| known == record), "{position}");
    }
    // Appends to the copy work.
    append(&copy, 0..4);
    copy.truncate_before(&report.checkpoint).unwrap();
    assert_eq!(records(&copy).len(), 4);
}

#[test]
fn a_backup_keeps_truncation_marks_and_generations() {
    let fs = SimFileSystem::new();
    let log = lived(&fs);
    let old = log.durable_checkpoint();
    append(&log, 0..9);
    log.truncate_before(&old).unwrap();
    let report = backup(fs.clone()).unwrap();
    assert_eq!((report.cloned, report.linked, report.attempts), (0, 0, 1));
    assert!(report.copied > 0 && report.copied_bytes > 9 * 900, "{report}");
    assert_eq!(report.checkpoint, log.durable_checkpoint());
    let now = records(&log);
    let copy = open(in_copy(&fs));
    assert_eq!((copy.shards(), records(&copy)), (2, now));
    let none = |_: &shardwal::Record<'_>| Ok::<_, std::convert::Infallible>(());
    for log in [&log, &copy] {
        let start = shardwal::Checkpoint::new(2, [0, 0]).of_log(log.id());
        assert!(log.replay_from(&start, shardwal::ReplayOptions::default(), none).is_err());
        let left = log.replay_from(&old, shardwal::ReplayOptions::default(), none);
        assert_eq!(left.unwrap().records, 9);
    }
    // The copy has no lock, no recycled segments and no unfinished files.
    let names = fs.list(Path::new(COPY)).unwrap();
    assert!(names.iter().all(|name| !name.ends_with(".tmp")), "{names:?}");
}

#[test]
fn a_power_loss_at_any_call_leaves_a_whole_backup_or_none() {
    for n in 1.. {
        let fs = SimFileSystem::new();
        let log = lived(&fs);
        let before = records(&log);
        fs.fail(Fault::new(Call::Any, n, FaultKind::TornPowerCut));
        let report = backup(fs.clone());
        let fired = fs.fired() > 0;
        let afters = [fs.kill(), fs.crash(&mut || false), fs.crash(&mut || true)];
        drop(log);
        for after in afters {
            assert_eq!(records(&open(config(&after).shards(2))), before);
            match after.list(Path::new(COPY)) {
                Ok(_) => assert_eq!(records(&open(in_copy(&after))), before),
                Err(_) => assert!(report.is_err(), "the backup reported success"),
            }
        }
        if !fired {
            return;
        }
    }
}

#[test]
fn a_call_that_fails_fails_the_backup_and_leaves_nothing_behind() {
    for n in 1.. {
        let fs = SimFileSystem::new();
        let log = lived(&fs);
        let before = records(&log);
        let fault = Fault::new(Call::Any, n, FaultKind::Error(crate::support::ENOSPC));
        fs.fail(Fault { path_contains: Some("copy.unfinished".into()), ..fault });
        let report = backup(fs.clone());
        let fired = fs.fired() > 0;
        assert_eq!(records(&log), before);
        if !fired {
            report.unwrap();
            return;
        }
        if report.is_err() {
            let is_there = |path| fs.list(Path::new(path)).is_ok();
            assert!(!is_there(COPY) && !is_there(UNFINISHED), "call {n}");
        }
    }
}

#[test]
fn a_backup_to_an_existing_name_or_into_the_log_or_of_no_log_is_refused() {
    let fs = SimFileSystem::new();
    let refused = backup(fs.clone());
    assert!(matches!(refused, Err(BackupError::Log(OpenError::NotALog { .. }))), "{refused:?}");
    assert!(fs.list(Path::new(UNFINISHED)).is_err());
    let log = lived(&fs);
    backup(fs.clone()).unwrap();
    let refused = backup(fs.clone());
    assert!(matches!(refused, Err(BackupError::Exists { .. })), "{refused:?}");
    let inside =
        Backup::new(DIR).file_system(Arc::new(fs.clone())).run(Path::new(DIR).join("copy"));
    assert!(matches!(inside, Err(BackupError::Inside { .. })), "{inside:?}");
    fs.create_dir(Path::new("/other.unfinished")).unwrap();
    let other = Backup::new(DIR).file_system(Arc::new(fs)).run("/other");
    assert!(matches!(other, Err(BackupError::Exists { .. })), "{other:?}");
    log.close().unwrap();
}

#[test]
fn a_corrupt_log_is_not_backed_up() {
    let fs = SimFileSystem::new();
    let log = lived(&fs);
    log.close().unwrap();
    let oldest = format!("{DIR}/generation-00001/shard-0000/0000000001.wal");
    let mut bytes = fs.read_file(&oldest).expect("it is there");
    bytes[1000] ^= 1;
    fs.write_file(&oldest, &bytes);
    let refused = backup(fs.clone());
    assert!(matches!(refused, Err(BackupError::Log(OpenError::Corrupted(_)))), "{refused:?}");
    assert!(fs.list(Path::new(COPY)).is_err() && fs.list(Path::new(UNFINISHED)).is_err());
}

/// Bit rot in the newest segment, and in a header that only truncation marks refer to.
/// A copy would end before it and look complete.
#[test]
fn a_log_corrupt_in_any_part_is_not_backed_up() {
    let (sim, mut ledger) = (SimFileSystem::new(), Ledger::unsynced());
    let log = open(config(&sim).durability(Durability::Buffered));
    while log.stats().total.rolls < 6 {
        ledger.append(&log, 1, 900).unwrap();
    }
    log.flush().wait().unwrap();
    (0..3).for_each(|_| ledger.append(&log, 1, 900).unwrap());
    log.flush().wait().unwrap();
    let durable = log.durable_checkpoint();
    log.close().unwrap();
    let segments =
        sim.files().into_iter().filter(|it| it.extension().is_some_and(|it| it == "wal"));
    let mut refused = 0;
    for (path, byte) in segments.flat_map(|path| [(path.clone(), 20), (path, 500)]) {
        let sim = sim.copy();
        let mut bytes = sim.read_file(&path).unwrap();
        // A segment that was prepared and never used has no such byte.
        let Some(byte_of_it) = bytes.get_mut(byte) else { continue };
        *byte_of_it ^= 1;
        sim.write_file(&path, &bytes);
        match Backup::new(DIR).file_system(Arc::new(sim.clone())).run("/copy") {
            Ok(report) => assert_eq!(report.checkpoint, durable, "{} {byte}", path.display()),
            Err(error) => {
                refused += 1;
                assert!(matches!(error, BackupError::Log(_)), "{error}");
                assert!(sim.files().iter().all(|path| path.starts_with(DIR)), "nothing is left");
            }
        }
    }
    assert!(refused >= 8, "{refused} refused");
}
