//! A generation without records is retired: its directory and its manifest line are
//! deleted. A generation with a record never is.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::ledger::Ledger;
use crate::support::{DIR, Random, config, open, replayed, seed};
use shardwal::fs::FileSystem as _;
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{ReplayOptions, ShardedWal};

/// The numbers of the generations' directories, and those of the manifest's lines.
fn generations(fs: &SimFileSystem) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let number = |text: &str| text.parse::<u32>().expect("a number");
    let names = fs.list(Path::new(DIR)).expect("the log is there");
    let dirs = names.iter().filter_map(|name| name.strip_prefix("generation-")).map(number);
    let manifest = fs.read_file(format!("{DIR}/MANIFEST")).expect("it is there");
    let manifest = String::from_utf8(manifest).expect("it is text");
    let lines = manifest.lines().filter_map(|line| line.strip_prefix("generation "));
    let lines = lines.map(|line| number(line.split(' ').next().expect("a word")));
    (dirs.collect(), lines.collect())
}

/// Opens with another shard count each time, appends, and truncates everything.
fn live_through(opens: u32) {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    for number in 1..=opens {
        let log = open(config(&fs).shards(1 + number as usize % 3));
        ledger.check(&replayed(&log));
        // A reused number would make old records valid again.
        assert_eq!(log.durable_checkpoint().generation(), number);
        (0..4).for_each(|key| ledger.append(&log, key, 100).expect("a sound disk"));
        ledger.truncated(&replayed(&log));
        log.truncate_before(&log.durable_checkpoint()).expect("a sound disk");
        log.close().expect("a sound disk");
        let (dirs, lines) = generations(&fs);
        assert!(dirs.len() <= 3 && dirs == lines, "{number}: {dirs:?}, {lines:?}");
        assert_eq!(lines.last(), Some(&number));
    }
}

#[test]
fn a_thousand_changes_of_the_shard_count_leave_three_directories() {
    live_through(1_000);
}

#[test]
fn a_generation_with_a_record_and_all_later_ones_stay() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let mut first = None;
    for shards in [1, 2, 3, 2] {
        let log = open(config(&fs).shards(shards));
        (0..8).for_each(|key| ledger.append(&log, key, 100).unwrap());
        first.get_or_insert_with(|| log.durable_checkpoint());
    }
    let log = open(config(&fs).shards(2));
    ledger.truncated(&replayed(&log).below(&first.clone().unwrap()));
    log.truncate_before(&first.unwrap()).unwrap();
    ledger.check(&replayed(&log));
    let all = BTreeSet::from([1, 2, 3, 4]);
    assert_eq!(generations(&fs), (all.clone(), all));
    drop(log);
    ledger.check(&replayed(&open(config(&fs).shards(2))));
}

/// Three generations. The next truncation leaves only the newest, and retires the
/// first.
fn before_the_last_truncation() -> (SimFileSystem, Ledger) {
    let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
    for shards in [1, 2, 3] {
        let log = open(config(&fs).shards(shards));
        (0..6).for_each(|key| ledger.append(&log, key, 100).unwrap());
        log.close().unwrap();
    }
    (fs, ledger)
}

/// After any crash the log opens, and in the end retires its old generations.
fn check_after(after: &SimFileSystem, mut ledger: Ledger) {
    let log = open(config(after).shards(2));
    ledger.check(&replayed(&log));
    ledger.append(&log, 1, 100).unwrap();
    let checkpoint = log.durable_checkpoint();
    ledger.truncated(&replayed(&log));
    log.truncate_before(&checkpoint).unwrap();
    drop(log);
    let log = open(config(after).shards(2));
    ledger.check(&replayed(&log));
    let (dirs, lines) = generations(after);
    assert!(dirs.len() <= 3 && dirs == lines, "{dirs:?}, {lines:?}");
    let each = |_: &shardwal::Record<'_>| Ok::<_, std::convert::Infallible>(());
    let left = log.replay_from(&checkpoint, ReplayOptions::default(), each);
    assert_eq!(left.unwrap().records, 0);
}

fn afters(fs: &SimFileSystem, random: &mut Random) -> Vec<SimFileSystem> {
    let mut afters = vec![fs.kill(), fs.crash(&mut || false), fs.crash(&mut || true)];
    afters.extend((0..3).map(|_| fs.crash(&mut || random.flip())));
    afters
}

#[test]
fn a_power_loss_at_any_call_of_a_truncation_that_retires_generations_loses_nothing() {
    let mut random = Random::new(seed());
    let (before, ledger) = before_the_last_truncation();
    for n in 1.. {
        let (fs, mut ledger) = (before.kill(), ledger.clone());
        let log = open(config(&fs).shards(3));
        ledger.maybe_truncated(&replayed(&log));
        fs.fail(Fault::new(Call::Any, n, FaultKind::TornPowerCut));
        drop(log.truncate_before(&log.durable_checkpoint()));
        let fired = fs.fired() > 0;
        let afters = afters(&fs, &mut random);
        drop(log);
        if !fired {
            let left = BTreeSet::from([2, 3]);
            assert_eq!(generations(&afters[0]), (left.clone(), left));
        }
        afters.iter().for_each(|after| check_after(after, ledger.clone()));
        if !fired {
            return;
        }
    }
}

/// The truncation had no room for the manifest. The next open retires the generation.
#[test]
fn a_power_loss_at_any_call_of_an_open_that_retires_generations_loses_nothing() {
    let mut random = Random::new(seed());
    let (before, mut ledger) = before_the_last_truncation();
    let log = open(config(&before).shards(3));
    ledger.truncated(&replayed(&log));
    let no_room = Fault::new(Call::Open, 1, FaultKind::Error(crate::support::ENOSPC));
    before.fail(Fault { path_contains: Some("MANIFEST.tmp".into()), ..no_room });
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    assert_eq!(before.fired(), 1);
    log.close().unwrap();
    assert_eq!(generations(&before).1.len(), 3);
    for (n, shards) in (1..).flat_map(|n| [(n, 3), (n, 1)]) {
        let fs = before.kill();
        fs.fail(Fault::new(Call::Any, n, FaultKind::TornPowerCut));
        let opened = ShardedWal::open(config(&fs).shards(shards));
        let fired = fs.fired() > 0;
        let afters = afters(&fs, &mut random);
        drop(opened);
        afters.iter().for_each(|after| check_after(after, ledger.clone()));
        if !fired && shards == 1 {
            return;
        }
    }
}

/// A directory was restored by hand, or the manifest is outdated.
#[test]
fn a_directory_below_the_first_generation_that_holds_records_is_left_alone() {
    let (fs, mut ledger) = before_the_last_truncation();
    let files: Vec<_> = fs
        .files()
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("generation-00001"))
        .map(|path| (fs.read_file(&path).unwrap(), path))
        .collect();
    let log = open(config(&fs).shards(3));
    ledger.truncated(&replayed(&log));
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    log.close().unwrap();
    drop(log);
    assert_eq!(generations(&fs).0, BTreeSet::from([2, 3]));
    let unlock = |without: &str| {
        let fs = fs.kill();
        let files = files.iter().filter(|(_, path)| !path.ends_with(without));
        files.for_each(|(bytes, path)| fs.write_file(path, bytes));
        ledger.clone().check(&replayed(&open(config(&fs).shards(3))));
        fs.files().iter().filter(|path| path.starts_with(format!("{DIR}/generation-00001"))).count()
    };
    assert_eq!(unlock("nothing"), files.len());
    assert_eq!(unlock("purge"), files.len() - 1);
}
