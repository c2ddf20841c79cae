//! A checkpoint is valid for its own log, at a position that the log has. Every other
//! checkpoint is refused with a reason, and changes nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use crate::support::ledger::Ledger;
use crate::support::{DIR, config, open, path_has, replayed};
use shardwal::fs::sim::SimFileSystem;
use shardwal::{
    Checkpoint, CheckpointError, LogReader, Position, ReplayError, ReplayOptions, ShardedWal,
    TruncateError,
};

/// A log of two shards with this many records.
fn log_of(fs: &SimFileSystem, records: u64) -> (ShardedWal, Ledger) {
    let log = open(config(fs).shards(2));
    let mut ledger = Ledger::default();
    (0..records).for_each(|key| ledger.append(&log, key, 100).expect("a sound disk"));
    (log, ledger)
}

fn replay_from(log: &ShardedWal, checkpoint: &Checkpoint) -> Result<u64, CheckpointError> {
    let each = |_: &shardwal::Record<'_>| Ok::<_, Infallible>(());
    match log.replay_from(checkpoint, ReplayOptions::default(), each) {
        Ok(report) => Ok(report.records),
        Err(ReplayError::Checkpoint(error)) => Err(error),
        Err(other) => panic!("{checkpoint}: {other:?}"),
    }
}

fn read_from(fs: &SimFileSystem, checkpoint: &Checkpoint) -> Result<u64, CheckpointError> {
    let reader = LogReader::open_in(Arc::new(fs.clone()), DIR).expect("a whole log");
    let each = |_: &shardwal::Record<'_>| Ok::<_, Infallible>(());
    match reader.replay_from(checkpoint, ReplayOptions::default(), each) {
        Ok(report) => Ok(report.records),
        Err(ReplayError::Checkpoint(error)) => Err(error),
        Err(other) => panic!("{checkpoint}: {other:?}"),
    }
}

fn truncate(log: &ShardedWal, checkpoint: &Checkpoint) -> Result<u64, CheckpointError> {
    match log.truncate_before(checkpoint) {
        Ok(report) => Ok(report.segments),
        Err(TruncateError::Checkpoint(error)) => Err(error),
        Err(other) => panic!("{checkpoint}: {other:?}"),
    }
}

/// The files that a truncation changes first. Segments are left out: they may change by
/// themselves, because an idle segment is sealed and the next one is prepared.
fn files(fs: &SimFileSystem) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut files = fs.files();
    files.retain(|path| path_has(path, "/purge") || path.ends_with("MANIFEST"));
    files.into_iter().map(|path| (path.clone(), fs.read_file(&path))).collect()
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_by_every_call_and_changes_nothing() {
    let fs = SimFileSystem::new();
    let (log, mut ledger) = log_of(&fs, 40);
    let (id, own) = (log.id(), log.durable_checkpoint());
    let ends = own.sequences().to_vec();
    let other = open(config(&SimFileSystem::new()).shards(2)).id();
    let of = |generation, below: &[u64]| Checkpoint::new(generation, below.to_vec()).of_log(id);
    let no_such = |generation| CheckpointError::NoSuchGeneration { generation, first: 1, last: 1 };
    let wrong = |named| CheckpointError::WrongShardCount { generation: 1, named, shards: 2 };
    let at = |shard, sequence| Position { generation: 1, shard, sequence };
    let beyond = |shard, named, end| CheckpointError::BeyondEnd {
        named: at(shard, named),
        end: at(shard, end),
    };
    let cases = [
        (Checkpoint::new(1, ends.clone()), CheckpointError::NamesNoLog { log: id }),
        (own.clone().of_log(other), CheckpointError::AnotherLog { named: other, log: id }),
        (of(2, &[]), no_such(2)),
        (of(2, &[0, 0]), no_such(2)),
        (of(0, &[0]), no_such(0)),
        (of(1, &[]), wrong(0)),
        (of(1, &[0]), wrong(1)),
        (of(1, &[0, 0, 0]), wrong(3)),
        (of(1, &[ends[0], ends[1] + 1]), beyond(1, ends[1] + 1, ends[1])),
        (of(1, &[u64::MAX, 0]), beyond(0, u64::MAX, ends[0])),
    ];
    let before = files(&fs);
    for (checkpoint, error) in cases {
        assert_eq!(truncate(&log, &checkpoint), Err(error.clone()), "{checkpoint}");
        assert_eq!(replay_from(&log, &checkpoint), Err(error.clone()), "{checkpoint}");
        assert_eq!(read_from(&fs, &checkpoint), Err(error), "{checkpoint}");
    }
    assert_eq!(files(&fs), before);
    ledger.check(&replayed(&log));
    assert_eq!((replay_from(&log, &own), read_from(&fs, &own)), (Ok(0), Ok(0)));
    assert_eq!(replay_from(&log, &of(1, &[0, 0])), Ok(40));
}

/// Otherwise replay would silently skip the records between the checkpoint and the
/// first kept record.
#[test]
fn a_replay_from_a_truncated_position_is_refused_with_the_first_kept_position() {
    let fs = SimFileSystem::new();
    let (log, mut ledger) = log_of(&fs, 40);
    let first = log.durable_checkpoint();
    (0..40).for_each(|key| ledger.append(&log, key, 100).unwrap());
    let second = log.durable_checkpoint();
    log.truncate_before(&second).unwrap();
    let at = |checkpoint: &Checkpoint| Position {
        generation: 1,
        shard: 0,
        sequence: checkpoint.sequences()[0],
    };
    let truncated = CheckpointError::Truncated { named: at(&first), first_kept: at(&second) };
    assert_eq!(replay_from(&log, &first), Err(truncated.clone()));
    assert_eq!(read_from(&fs, &first), Err(truncated));
    // A second truncation at this position is no error: there is nothing left to do.
    assert_eq!(truncate(&log, &first), Ok(0));
    ledger.append(&log, 0, 100).unwrap();
    assert_eq!(replay_from(&log, &second), Ok(1));
}

/// Otherwise later appends would count as covered by the checkpoint.
#[test]
fn a_checkpoint_beyond_the_end_of_a_restored_older_copy_is_refused() {
    let fs = SimFileSystem::new();
    let (log, mut ledger) = log_of(&fs, 10);
    log.close().unwrap();
    let older = fs.copy();
    drop(log);
    let log = open(config(&fs).shards(2));
    (0..10).for_each(|key| ledger.append(&log, key, 100).unwrap());
    let checkpoint = log.durable_checkpoint();
    let log = open(config(&older).shards(2));
    let refused = replay_from(&log, &checkpoint);
    assert!(matches!(refused, Err(CheckpointError::BeyondEnd { .. })), "{refused:?}");
    let refused = truncate(&log, &checkpoint);
    assert!(matches!(refused, Err(CheckpointError::BeyondEnd { .. })), "{refused:?}");
    // The check holds across a change of the shard count too, in the copy and in the
    // log.
    drop(log);
    let log = open(config(&older).shards(3));
    let refused = replay_from(&log, &checkpoint);
    assert!(matches!(refused, Err(CheckpointError::BeyondEnd { .. })), "{refused:?}");
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    let refused = replay_from(&log, &checkpoint);
    assert!(matches!(refused, Err(CheckpointError::BeyondEnd { .. })), "{refused:?}");
}

/// A checkpoint at the end of the previous generation stays valid. The caller may
/// truncate with it repeatedly, and replay from it afterwards.
#[test]
fn a_checkpoint_of_an_earlier_shard_count_stays_valid_after_it_truncates() {
    let fs = SimFileSystem::new();
    let (log, mut ledger) = log_of(&fs, 40);
    let end = log.durable_checkpoint();
    ledger.truncated(&replayed(&log));
    drop(log);
    // Twice: a generation without appends changes nothing.
    drop(open(config(&fs).shards(1)));
    let log = open(config(&fs).shards(3));
    assert_eq!(replay_from(&log, &end), Ok(0));
    (0..8).for_each(|key| ledger.append(&log, key, 100).unwrap());
    assert_eq!(replay_from(&log, &end), Ok(8));
    drop(log);
    for _ in 0..3 {
        let log = open(config(&fs).shards(3));
        log.truncate_before(&end).unwrap();
        assert_eq!((replay_from(&log, &end), read_from(&fs, &end)), (Ok(8), Ok(8)));
        ledger.check(&replayed(&log));
    }
    let log = open(config(&fs).shards(2));
    assert_eq!(replay_from(&log, &end), Ok(8));
}

/// Truncation goes through the shards in turn. After a power loss in between, a shard
/// may keep more than the checkpoint says.
#[test]
fn records_of_an_older_generation_below_a_checkpoint_may_be_missing() {
    let fs = SimFileSystem::new();
    let (log, _) = log_of(&fs, 40);
    let first = log.durable_checkpoint();
    drop(log);
    let log = open(config(&fs).shards(3));
    let second = log.durable_checkpoint();
    log.truncate_before(&second).unwrap();
    drop(log);
    let log = open(config(&fs).shards(3));
    assert_eq!(replay_from(&log, &second), Ok(0));
    // There is no record between the two.
    assert_eq!(replay_from(&log, &first), Ok(0));
    let start = Checkpoint::new(1, [0, 0]).of_log(log.id());
    let end =
        |shard: usize| Position { generation: 1, shard: 0, sequence: first.sequences()[shard] };
    let truncated = CheckpointError::Truncated {
        named: Position { generation: 1, shard: 0, sequence: 0 },
        first_kept: end(0),
    };
    assert_eq!(replay_from(&log, &start), Err(truncated));
}

#[test]
fn a_checkpoint_round_trips_as_text() {
    let log = open(config(&SimFileSystem::new()).shards(2));
    let own = log.durable_checkpoint();
    assert_eq!(own.log(), Some(log.id()));
    let text = own.to_string();
    assert_eq!(text, format!("{}/1/0,0", log.id()));
    assert_eq!(text.parse(), Ok(own));
    let id = "00ff000000000000000000000000fe01";
    assert_eq!(id.parse::<shardwal::LogId>().unwrap().to_string(), id);
    let largest = Checkpoint::new(u32::MAX, [u64::MAX; 3]);
    assert_eq!(largest.to_string().parse(), Ok(largest));
    let none = Checkpoint::new(1, []);
    assert_eq!((none.to_string().as_str(), none.to_string().parse()), ("-/1/", Ok(none)));
    for wrong in [
        "",
        "-",
        "-/1",
        "-/1/0/",
        "-/1/0,",
        "-/1/,0",
        "-/+1/0",
        "-/1/+0",
        "-/1/-1",
        "-/4294967296/0",
        "-/1/18446744073709551616",
        "x/1/0",
        "00ff/1/0",
        "/1/0",
        " -/1/0",
        "-/1/0 ",
        "-//0",
        "+0ff000000000000000000000000fe01/1/0",
    ] {
        let parsed = wrong.parse::<Checkpoint>();
        assert!(matches!(parsed, Err(CheckpointError::Unreadable { .. })), "{wrong}: {parsed:?}");
    }
}
