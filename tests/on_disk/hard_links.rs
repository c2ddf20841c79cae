//! A backup by hard links (`cp -al`) shares every file with the log. No action on one
//! may change the other.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::ledger::Ledger;
use crate::support::{open, path_has, replayed};
use shardwal::{Config, LogReader, RecoveryReport};

fn config(dir: &Path) -> Config {
    Config::new(dir).shards(2).segment_bytes(4096)
}

/// Does what `cp -al FROM TO` does.
fn link_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = entry.map(|it| (it.path(), to.join(it.file_name()))).unwrap();
        if path.is_dir() {
            link_all(&path, &to);
        } else {
            fs::hard_link(path, to).unwrap();
        }
    }
}

/// Appends, truncates everything, appends.
fn live(dir: &Path, ledger: &mut Ledger) {
    let log = open(config(dir));
    (0..20).for_each(|key| ledger.append(&log, key % 4, 700).unwrap());
    let (found, checkpoint) = (replayed(&log), log.durable_checkpoint());
    ledger.truncated(&found.below(&checkpoint));
    log.truncate_before(&checkpoint).unwrap();
    (0..20).for_each(|key| ledger.append(&log, key % 4, 700).unwrap());
    log.close().unwrap();
}

fn check(dir: &Path, ledger: &mut Ledger) {
    let report = LogReader::open(dir).unwrap().report().clone();
    assert_eq!(report.corruption().count(), 0, "{report:?}");
    let log = open(config(dir));
    ledger.check(&replayed(&log));
    log.close().unwrap();
}

#[test]
fn a_backup_by_hard_links_and_its_log_do_not_change_each_other() {
    let scratch = tempfile::tempdir().unwrap();
    let [log, backup, second] = ["log", "backup", "second"].map(|name| scratch.path().join(name));
    let mut ledger = Ledger::default();
    live(&log, &mut ledger);
    link_all(&log, &backup);
    let mut of_backup = ledger.clone();
    live(&log, &mut ledger);
    check(&backup, &mut of_backup);
    check(&log, &mut ledger);
    // The reverse direction, and a second backup.
    link_all(&backup, &second);
    let mut of_second = of_backup.clone();
    live(&backup, &mut of_backup);
    live(&second, &mut of_second);
    check(&log, &mut ledger);
    check(&backup, &mut of_backup);
    check(&second, &mut of_second);
}

/// A log that is older than marks in file names: its mark files were overwritten in
/// place.
#[test]
fn a_backup_of_an_older_log_keeps_its_own_truncation_marks() {
    let scratch = tempfile::tempdir().unwrap();
    let [log, backup] = ["log", "backup"].map(|name| scratch.path().join(name));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1/log");
    copy_all(&golden, &log);
    link_all(&log, &backup);
    let count = |dir: &Path| LogReader::open(dir).unwrap().report().records();
    let before = count(&backup);
    let opened = open(config(&log).shards(3));
    opened.truncate_before(&opened.durable_checkpoint()).unwrap();
    assert!(replayed(&opened).records.is_empty());
    opened.close().unwrap();
    assert_eq!(count(&backup), before);
    assert_eq!(LogReader::open(&backup).unwrap().report().corruption().count(), 0);
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, to) = entry.map(|it| (it.path(), to.join(it.file_name()))).unwrap();
        if path.is_dir() {
            copy_all(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

/// The files of a shard whose names carry its truncation marks.
fn carriers(dir: &Path, shard: u32) -> Vec<PathBuf> {
    let directory = dir.join(format!("generation-00001/shard-{shard:04}"));
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let is_carrier = |path: &PathBuf| path_has(path, "/purge-");
    let mut found: Vec<_> = entries.filter(is_carrier).collect();
    found.sort();
    found
}

/// No segment is missed for it, because the truncation ended within the first one.
#[test]
fn a_removed_truncation_mark_is_reported_by_verify_and_open() {
    for removed in [&[0][..], &[1], &[0, 1]] {
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join("log");
        let config = || Config::new(&dir).shards(2);
        let log = open(config());
        for _ in 0..3 {
            (0..4).for_each(|key| assert!(log.append_wait(key, "truncated").is_ok()));
            log.truncate_before(&log.durable_checkpoint()).unwrap();
        }
        log.close().unwrap();
        let hard_linked = |report: &RecoveryReport| {
            let missing: Vec<_> = report.shards.iter().map(|it| it.mark_file_missing).collect();
            let is_said = report.to_string().contains("truncated records may be back");
            assert_eq!(is_said, missing.contains(&true), "{report}");
            missing
        };
        assert_eq!(hard_linked(LogReader::open(&dir).unwrap().report()), [false, false]);
        let files = carriers(&dir, 1);
        assert_eq!(files.len(), 2);
        removed.iter().for_each(|index| fs::remove_file(&files[*index]).unwrap());
        assert_eq!(hard_linked(LogReader::open(&dir).unwrap().report()), [false, true]);
        let log = open(config());
        assert_eq!(hard_linked(log.recovery()), [false, true]);
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!(replayed(&log).records.len(), 0, "truncated again");
        log.close().unwrap();
        assert_eq!(carriers(&dir, 1).len(), 2, "open has made them again");
        assert_eq!(hard_linked(LogReader::open(&dir).unwrap().report()), [false, false]);
    }
}
