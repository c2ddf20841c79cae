//! A follower passes every durable record once and in order, and nothing else. It ends with the
//! log, and says so if records are gone.
//!
//! Holds F1 DURABLE and F2 WHOLE (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use crate::support::{
    EIO, ENOSPC, Found, Random, WakeCounter, append_all, assert_poisoned, config, fault_at,
    must_end, open, payload, replayed, seed,
};
use shardwal::fs::sim::{Call, FaultKind, SimFileSystem};
use shardwal::{
    Checkpoint, CheckpointError, Config, Durability, FollowError, Followed, Follower, OnCorruption,
    ShardedWal,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Everything up to the end of the log, which is `CaughtUp`.
fn followed(follower: &mut Follower) -> Found {
    let mut found = Found::default();
    loop {
        match follower.try_next().unwrap() {
            Followed::Advanced(batch) => add(&mut found, &batch),
            Followed::CaughtUp => return found,
            other => panic!("{other:?}"),
        }
    }
}

fn add(found: &mut Found, batch: &shardwal::FollowedBatch) {
    assert_eq!(batch.records().len(), batch.len());
    for record in batch {
        found.records.push((record.position(), record.key(), record.to_bytes()));
    }
}

fn gone(follower: &mut Follower) -> Checkpoint {
    match follower.try_next().unwrap() {
        Followed::Gone { first_kept } => first_kept,
        other => panic!("{other:?}"),
    }
}

/// The records in the order of a replay: shard by shard.
fn by_shard(mut found: Found) -> Found {
    found.records.sort_by_key(|(at, ..)| (at.generation, at.shard, at.sequence));
    found
}

fn from_start(log: &ShardedWal) -> Follower {
    log.follow(&Checkpoint::start()).unwrap()
}

#[test]
fn a_follower_passes_what_a_replay_does_and_then_what_comes() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(3));
    let mut follower = from_start(&log);
    for round in 0..20 {
        (0..7).for_each(|key| append_all(&log, key, round * 5..round * 5 + 5, 300));
        let seen = by_shard(followed(&mut follower));
        assert_eq!(seen.records.len(), 35, "round {round}");
        let all = by_shard(followed(&mut from_start(&log)));
        assert_eq!(all, by_shard(replayed(&log)));
    }
    assert_eq!(follower.checkpoint(), log.durable_checkpoint());
}

#[test]
fn a_follower_goes_on_from_the_checkpoint_of_any_batch() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    (0..40).for_each(|index| append_all(&log, index % 5, index..index + 1, 200));
    let batch = |key, from: u64| (0..6).map(move |index| (key, payload(key, from + index, 20)));
    log.append_batch(batch(1, 100).chain(batch(4, 200)).collect::<Vec<_>>()).wait().unwrap();
    let whole = replayed(&log);
    let (mut follower, mut before) = (from_start(&log), Found::default());
    while let Followed::Advanced(batch) = follower.try_next().unwrap() {
        add(&mut before, &batch);
        assert_eq!(*batch.next(), follower.checkpoint());
        let rest = followed(&mut log.follow(batch.next()).unwrap());
        let joined = Found { records: [before.records.clone(), rest.records].concat() };
        assert_eq!(by_shard(joined), whole, "from {}", batch.next());
    }
    // A position within a batch.
    for below in 0..=log.durable_checkpoint().sequences()[0] {
        let from = Checkpoint::new(1, [below, 0]).of_log(log.id());
        let rest = followed(&mut log.follow(&from).unwrap());
        let kept = whole.records.iter().filter(|(at, ..)| at.shard == 1 || at.sequence >= below);
        assert_eq!(by_shard(rest).records, kept.cloned().collect::<Vec<_>>(), "from {from}");
    }
}

#[test]
fn only_what_is_on_stable_storage_is_passed() {
    for mode in [Durability::Buffered, Durability::Interval(HOUR)] {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).durability(mode));
        let mut follower = from_start(&log);
        append_all(&log, 1, 0..3, 100);
        assert!(followed(&mut follower).records.is_empty(), "{mode}");
        log.flush().wait().unwrap();
        append_all(&log, 1, 3..5, 100);
        assert_eq!(followed(&mut follower).of(1), [0, 1, 2], "{mode}");
        log.flush().wait().unwrap();
        assert_eq!(followed(&mut follower).of(1), [3, 4], "{mode}");
    }
}

#[test]
fn a_thread_that_waits_is_woken_by_the_commit() {
    must_end("a follower", || {
        let fs = SimFileSystem::new();
        let log = Arc::new(open(config(&fs).shards(2)));
        let writer = log.clone();
        let mut follower = from_start(&log);
        assert!(matches!(follower.next(), Some(Ok(Followed::CaughtUp))));
        assert!(follower.next_timeout(Duration::from_millis(5)).is_none());
        let appends = thread::spawn(move || {
            for index in 0..200 {
                append_all(&writer, index % 2, index..index + 1, 50);
            }
        });
        let mut found = Found::default();
        while found.records.len() < 200 {
            match follower.next().unwrap().unwrap() {
                Followed::Advanced(batch) => add(&mut found, &batch),
                Followed::CaughtUp => {}
                other => panic!("{other:?}"),
            }
        }
        appends.join().unwrap();
        assert_eq!(found.of(0), (0..200).step_by(2).collect::<Vec<_>>());
        assert_eq!(found.of(1), (1..200).step_by(2).collect::<Vec<_>>());
    });
}

#[test]
fn a_task_is_woken_by_each_shard_and_only_after_it_has_caught_up() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    let counter = Arc::new(WakeCounter::default());
    let waker = Waker::from(counter.clone());
    let mut context = Context::from_waker(&waker);
    let mut follower = from_start(&log);
    let keys = [0, 1].map(|shard| (0..).find(|key| log.shard_of(*key) == shard).unwrap());
    for wakes in 0..20 {
        // Once it says that it has caught up, then it waits.
        let caught_up = follower.poll_next(&mut context);
        assert!(matches!(caught_up, Poll::Ready(Some(Ok(Followed::CaughtUp)))), "{caught_up:?}");
        assert!(follower.poll_next(&mut context).is_pending());
        assert_eq!(counter.count(), wakes);
        append_all(&log, keys[usize::from(wakes % 2 == 1)], wakes..wakes + 1, 50);
        // The shard's thread wakes it after the append is answered.
        while counter.count() == wakes {
            thread::yield_now();
        }
        match follower.poll_next(&mut context) {
            Poll::Ready(Some(Ok(Followed::Advanced(batch)))) => assert_eq!(batch.len(), 1),
            other => panic!("{other:?}"),
        }
    }
    drop(follower);
    append_all(&log, 0, 100..102, 50);
    append_all(&log, 1, 100..102, 50);
    drop(log);
    assert_eq!(Arc::strong_count(&counter), 2, "a follower leaves no waker behind");
}

#[test]
fn a_follower_ends_with_the_log_once_it_has_passed_all() {
    must_end("a follower of a closed log", || {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).shards(2).durability(Durability::Buffered));
        let mut follower = from_start(&log);
        append_all(&log, 1, 0..10, 50);
        let follows = thread::spawn(move || {
            let mut found = Found::default();
            for answer in &mut follower {
                if let Followed::Advanced(batch) = answer.unwrap() {
                    add(&mut found, &batch);
                }
            }
            assert!(follower.next().is_none());
            (found, follower.checkpoint())
        });
        let (id, shards) = (log.id(), log.shards());
        log.close().unwrap();
        drop(log);
        let (found, checkpoint) = follows.join().unwrap();
        assert_eq!(found.of(1), (0..10).collect::<Vec<_>>());
        assert_eq!((checkpoint.log(), checkpoint.sequences().len()), (Some(id), shards));
        let log = open(config(&fs).shards(2));
        assert!(followed(&mut log.follow(&checkpoint).unwrap()).records.is_empty());
    });
}

#[test]
fn a_failed_shard_is_an_error_after_its_durable_records() {
    must_end("a follower of a failed shard", || {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        append_all(&log, 1, 0..5, 50);
        fs.fail(fault_at(".wal", Call::Sync, FaultKind::Error(EIO)));
        log.append(1, payload(1, 5, 50)).wait().unwrap_err();
        let answers: Vec<_> = from_start(&log).collect();
        let mut found = Found::default();
        for answer in &answers {
            if let Ok(Followed::Advanced(batch)) = answer {
                add(&mut found, batch);
            }
        }
        assert_eq!(found.of(1), [0, 1, 2, 3, 4]);
        match answers.last() {
            Some(Err(FollowError::ShardFailed { shard: 0, cause })) => assert_poisoned(cause, EIO),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn truncated_records_are_gone_and_the_rest_is_named() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    (0..40).for_each(|index| append_all(&log, index % 5, index..index + 1, 400));
    let mut idle = from_start(&log);
    let mut busy = from_start(&log);
    assert!(matches!(busy.try_next().unwrap(), Followed::Advanced(_)));
    let below = log.durable_checkpoint();
    (40..60).for_each(|index| append_all(&log, index % 5, index..index + 1, 400));
    log.truncate_before(&below).unwrap();
    let kept = replayed(&log);
    for follower in [&mut idle, &mut busy, &mut from_start(&log)] {
        // A segment that is open may still be passed to its end.
        while let Followed::Advanced(_) = follower.try_next().unwrap() {}
        let first_kept = gone(follower);
        assert_eq!(gone(follower), first_kept, "it stays gone");
        assert!(follower.next().is_none());
        let rest = followed(&mut log.follow(&first_kept).unwrap());
        assert_eq!(by_shard(rest), kept);
    }
    // Nothing that a follower at the checkpoint needs is gone.
    assert_eq!(by_shard(followed(&mut log.follow(&below).unwrap())), kept);
}

#[test]
fn sequences_that_were_refused_are_neither_passed_nor_gone() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    append_all(&log, 1, 0..3, 50);
    let mut follower = from_start(&log);
    assert_eq!(followed(&mut follower).of(1), [0, 1, 2]);
    fs.fail(fault_at(".wal", Call::Write, FaultKind::Error(ENOSPC)));
    log.append(1, payload(1, 3, 50)).wait().unwrap_err();
    assert!(followed(&mut follower).records.is_empty());
    // The checkpoint of a snapshot lies above the refused sequence.
    let snapshot = log.request_snapshot().wait().unwrap();
    append_all(&log, 1, 4..5, 50);
    log.truncate_before(&snapshot).unwrap();
    assert_eq!(followed(&mut follower).of(1), [4]);
}

#[test]
fn generations_come_in_order_and_a_checkpoint_outlives_a_reopen() {
    let fs = SimFileSystem::new();
    let (mut last, mut next) = (Checkpoint::start(), 0);
    for shards in [1, 3, 2, 2, 5] {
        let log = open(config(&fs).shards(shards));
        (0..4).for_each(|key| append_all(&log, key, next..next + 10, 100));
        let mut follower = log.follow(&last).unwrap();
        let found = followed(&mut follower);
        for key in 0..4 {
            assert_eq!(found.of(key), (next..next + 10).collect::<Vec<_>>());
        }
        let whole = followed(&mut from_start(&log));
        for key in 0..4 {
            assert_eq!(whole.of(key), (0..next + 10).collect::<Vec<_>>());
        }
        (last, next) = (follower.checkpoint(), next + 10);
    }
}

#[test]
fn a_generation_that_was_retired_is_gone() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    (0..4).for_each(|key| append_all(&log, key, 0..5, 100));
    let early = Checkpoint::new(1, [1, 0]).of_log(log.id());
    drop(log);
    let log = open(config(&fs).shards(3));
    let mut of_first = log.follow(&early).unwrap();
    (0..4).for_each(|key| append_all(&log, key, 5..9, 100));
    log.truncate_before(&Checkpoint::new(2, [0, 0, 0]).of_log(log.id())).unwrap();
    for follower in [&mut of_first, &mut log.follow(&early).unwrap(), &mut from_start(&log)] {
        let first_kept = gone(follower);
        let rest = followed(&mut log.follow(&first_kept).unwrap());
        assert_eq!(by_shard(rest), by_shard(replayed(&log)));
    }
}

#[test]
fn what_a_repair_has_lost_is_named_and_the_rest_is_passed() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    append_all(&log, 1, 0..20, 900);
    log.close().unwrap();
    drop(log);
    let second = "/wal/generation-00001/shard-0000/0000000002.wal";
    let mut bytes = fs.read_file(second).unwrap();
    bytes[1500] ^= 1;
    fs.write_file(second, &bytes);
    let log = open(config(&fs).on_corruption(OnCorruption::Quarantine));
    append_all(&log, 1, 20..22, 900);
    let (mut follower, mut found, mut lost) = (from_start(&log), Found::default(), Vec::new());
    while let Followed::Advanced(batch) = follower.try_next().unwrap() {
        lost.extend(batch.lost());
        assert_eq!(batch.is_empty(), batch.lost().is_some());
        add(&mut found, &batch);
    }
    let lost: Vec<_> = lost.into_iter().flatten().collect();
    assert!(!lost.is_empty());
    assert_eq!(found, replayed(&log));
    assert_eq!(found.of(1), (0..22).filter(|index| !lost.contains(index)).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_that_does_not_fit_is_an_error() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    append_all(&log, 1, 0..3, 50);
    let refused = |from: Checkpoint| match log.follow(&from) {
        Err(FollowError::Checkpoint(error)) => error,
        other => panic!("{other:?}"),
    };
    let beyond = refused(Checkpoint::new(1, [4]).of_log(log.id()));
    assert!(matches!(beyond, CheckpointError::BeyondEnd { .. }), "{beyond}");
    let other = refused(Checkpoint::new(1, [1]).of_log([7; 16].into()));
    assert!(matches!(other, CheckpointError::AnotherLog { .. }), "{other}");
    assert!(matches!(refused(Checkpoint::new(1, [1])), CheckpointError::NamesNoLog { .. }));
}

const KEYS: u64 = 6;
const RECORDS: u64 = 400;
const FOLLOWERS: usize = 3;

/// Followers beside writers and a truncation that stays below the slowest of them.
fn soak(config: Config, seed: u64) {
    let log = Arc::new(open(config));
    let is_over = Arc::new(AtomicBool::new(false));
    let (sender, checkpoints) = channel();
    let follow = |number| {
        let (follower, sender) = (from_start(&log), sender.clone());
        thread::spawn(move || follow_and_report(follower, number, &sender, seed))
    };
    let followers: Vec<_> = (0..FOLLOWERS).map(follow).collect();
    drop(sender);
    let truncates = {
        let (log, is_over) = (log.clone(), is_over.clone());
        thread::spawn(move || truncate_below_all(&log, &checkpoints, &is_over))
    };
    let write = |key| {
        let log = log.clone();
        thread::spawn(move || append_some(&log, key, seed))
    };
    let writers: Vec<_> = (0..KEYS).map(write).collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    log.flush().wait().unwrap();
    is_over.store(true, Ordering::SeqCst);
    log.close().unwrap();
    for follower in followers {
        let found = follower.join().unwrap();
        (0..KEYS).for_each(|key| assert_eq!(found.of(key), (0..RECORDS).collect::<Vec<_>>()));
    }
    truncates.join().unwrap();
}

fn append_some(log: &ShardedWal, key: u64, seed: u64) {
    let mut random = Random::new(seed ^ key);
    for index in 0..RECORDS {
        let length = 20 + usize::try_from(random.below(400)).unwrap();
        let appended = log.append(key, payload(key, index, length));
        if random.flip() {
            appended.wait().unwrap();
        }
    }
}

fn follow_and_report(
    follower: Follower,
    number: usize,
    sender: &Sender<(usize, Checkpoint)>,
    seed: u64,
) -> Found {
    let (mut found, mut random) = (Found::default(), Random::new(seed + number as u64));
    for answer in follower {
        match answer.unwrap() {
            Followed::Advanced(batch) => {
                add(&mut found, &batch);
                sender.send((number, batch.next().clone())).ok();
                if random.below(20) == 0 {
                    thread::yield_now();
                }
            }
            Followed::CaughtUp => {}
            other => panic!("{other:?}"),
        }
    }
    found
}

fn truncate_below_all(
    log: &ShardedWal,
    checkpoints: &Receiver<(usize, Checkpoint)>,
    is_over: &AtomicBool,
) {
    let mut last = [const { None }; FOLLOWERS];
    while let Ok((number, checkpoint)) = checkpoints.recv() {
        last[number] = Some(checkpoint);
        let all: Option<Vec<_>> = last.iter().map(Option::as_ref).collect();
        let Some(all) = all.filter(|_| !is_over.load(Ordering::SeqCst)) else { continue };
        let least = (0..log.shards()).map(|shard| all.iter().map(|it| it.sequences()[shard]).min());
        let least = Checkpoint::new(1, least.map(Option::unwrap)).of_log(log.id());
        log.truncate_before(&least).unwrap();
    }
}

#[test]
fn followers_beside_writers_and_truncation_see_each_record_once() {
    let seed = seed();
    for (round, mode) in
        [Durability::Sync, Durability::Buffered, Durability::Interval(Duration::from_millis(1))]
            .into_iter()
            .cycle()
            .take(6)
            .enumerate()
    {
        let fs = SimFileSystem::new();
        fs.set_copy_on_write(round >= 3);
        let config = config(&fs).shards(1 + round % 3).durability(mode);
        must_end("a soak", move || soak(config, seed));
    }
}

#[test]
fn a_task_needs_no_runtime_to_follow() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    append_all(&log, 1, 0..3, 50);
    let mut follower = from_start(&log);
    let mut next = pin!(poll_fn(|context| follower.poll_next(context)));
    match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(Followed::Advanced(batch)))) => assert_eq!(batch.len(), 1),
        other => panic!("{other:?}"),
    }
}

#[cfg(feature = "stream")]
#[test]
fn a_stream_has_the_answers_of_its_follower() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    append_all(&log, 1, 0..3, 50);
    let stream = from_start(&log).into_stream();
    log.close().unwrap();
    let batches =
        futures_executor::block_on_stream(stream).filter_map(|answer| match answer.unwrap() {
            Followed::Advanced(batch) => Some(batch.len()),
            _ => None,
        });
    assert_eq!(batches.sum::<usize>(), 3);
}
