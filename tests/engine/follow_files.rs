//! A follower of a log's files, beside the writer: it passes what is durable, in order and once,
//! through rolls, truncation, new generations and writers that die.
//!
//! Holds F1 DURABLE and F2 WHOLE (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::support::{
    DIR, ENOSPC, Found, Random, WakeCounter, append_all, config, fault_at, must_end, open,
    path_has, payload, replayed, seed,
};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Checkpoint, Durability, FollowError, Followed, Follower, LogReader, ShardedWal};

fn follow(fs: &SimFileSystem, from: &Checkpoint) -> Follower {
    let reader = LogReader::open_in(Arc::new(fs.clone()), DIR).unwrap();
    reader.follow(from).unwrap()
}

/// Adds what the files prove by now.
fn add_all(found: &mut Found, follower: &mut Follower) {
    loop {
        match follower.try_next().unwrap() {
            Followed::Advanced(batch) => {
                for record in &batch {
                    found.records.push((record.position(), record.key(), record.to_bytes()));
                }
            }
            Followed::CaughtUp => return,
            other => panic!("{other:?}"),
        }
    }
}

fn all(follower: &mut Follower) -> Found {
    let mut found = Found::default();
    add_all(&mut found, follower);
    found
}

#[test]
fn a_record_is_passed_once_a_later_frame_proves_it() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    append_all(&log, 1, 0..1, 50);
    let mut follower = follow(&fs, &Checkpoint::start());
    assert!(all(&mut follower).records.is_empty(), "nothing says that it was synced");
    append_all(&log, 1, 1..30, 400);
    assert_eq!(all(&mut follower).of(1), (0..29).collect::<Vec<_>>(), "over several segments");
    let last = all(&mut follow(&fs, &follower.checkpoint()));
    assert!(last.records.is_empty());
    log.close().unwrap();
    assert_eq!(all(&mut follower).of(1), [29], "the close seals the log");
}

#[test]
fn an_idle_writer_proves_its_last_commit_within_seconds() {
    must_end("a follower of an idle log", || {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        append_all(&log, 1, 0..3, 50);
        let (mut follower, mut records) = (follow(&fs, &Checkpoint::start()), 0);
        while records < 3 {
            // Blocks, as nothing ends the log of another process.
            if let Followed::Advanced(batch) = follower.next().unwrap().unwrap() {
                records += batch.len();
            }
        }
        assert!(matches!(follower.next(), Some(Ok(Followed::CaughtUp))));
        assert!(follower.next_timeout(Duration::from_millis(50)).is_none());
        drop(log);
    });
}

#[test]
fn acknowledged_records_that_no_sync_covers_are_not_passed() {
    let fs = SimFileSystem::new();
    let mode = Durability::Interval(Duration::from_secs(3600));
    let log = open(config(&fs).segment_bytes(1 << 20).durability(mode));
    append_all(&log, 1, 0..20, 100);
    let mut follower = follow(&fs, &Checkpoint::start());
    assert!(all(&mut follower).records.is_empty());
    log.flush().wait().unwrap();
    append_all(&log, 1, 20..22, 100);
    assert_eq!(all(&mut follower).of(1), (0..20).collect::<Vec<_>>());
}

#[test]
fn writers_that_die_and_generations_are_followed_without_a_gap() {
    let seed = seed();
    for round in 0..40 {
        let mut random = Random::new(seed + round);
        let mut fs = SimFileSystem::new();
        fs.set_copy_on_write(random.flip());
        let mut found = Found::default();
        let (mut next, mut checkpoint) = (0, Checkpoint::start());
        for _ in 0..6 {
            let shards = 1 + usize::try_from(random.below(3)).unwrap();
            let log = open(config(&fs).shards(shards));
            // A follower that outlives its writer, or a new one.
            let mut follower = follow(&fs, &checkpoint);
            for _ in 0..random.below(5) {
                let count = random.below(8);
                (0..3).for_each(|key| append_all(&log, key, next..next + count, 300));
                next += count;
                add_all(&mut found, &mut follower);
            }
            match random.below(3) {
                0 => {
                    log.close().unwrap();
                    add_all(&mut found, &mut follower);
                }
                // The simulated machine, and with it this follower, ends with its log.
                1 => fs = fs.kill(),
                _ => fs = fs.crash(&mut || random.flip()),
            }
            drop(log);
            checkpoint = follower.checkpoint();
        }
        let log = open(config(&fs).shards(1));
        append_all(&log, 0, next..next + 1, 10);
        log.close().unwrap();
        add_all(&mut found, &mut follow(&fs, &checkpoint));
        let log = open(config(&fs).shards(1));
        let mut all = replayed(&log).records;
        all.sort_by_key(|(at, ..)| (at.generation, at.shard, at.sequence));
        found.records.sort_by_key(|(at, ..)| (at.generation, at.shard, at.sequence));
        assert_eq!(found.records, all, "seed {seed} round {round}");
    }
}

#[test]
fn one_follower_sees_other_writers_take_over() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    let mut follower = follow(&fs, &Checkpoint::start());
    drop(log);
    let (mut found, mut next) = (Found::default(), 0);
    for shards in [2, 2, 3, 3, 1, 2] {
        let log = open(config(&fs).shards(shards));
        for _ in 0..3 {
            (0..4).for_each(|key| append_all(&log, key, next..next + 5, 200));
            next += 5;
            add_all(&mut found, &mut follower);
        }
        drop(log);
        // The directory is listed once per second.
        thread::sleep(Duration::from_millis(1100));
        add_all(&mut found, &mut follower);
    }
    for key in 0..4 {
        assert_eq!(found.of(key), (0..next).collect::<Vec<_>>());
    }
}

#[test]
fn what_was_truncated_or_retired_is_gone() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    (0..4).for_each(|key| append_all(&log, key, 0..20, 300));
    let mut of_first = follow(&fs, &Checkpoint::start());
    assert!(matches!(of_first.try_next().unwrap(), Followed::Advanced(_)));
    let mut idle = follow(&fs, &Checkpoint::start());
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    (0..4).for_each(|key| append_all(&log, key, 20..25, 300));
    log.close().unwrap();
    drop(log);
    let is_gone = |follower: &mut Follower| loop {
        match follower.try_next().unwrap() {
            Followed::Advanced(_) => {}
            Followed::Gone { first_kept } => return first_kept,
            other => panic!("{other:?}"),
        }
    };
    for follower in [&mut of_first, &mut idle, &mut follow(&fs, &Checkpoint::start())] {
        let rest = all(&mut follow(&fs, &is_gone(follower)));
        (0..4).for_each(|key| assert_eq!(rest.of(key), [20, 21, 22, 23, 24]));
    }
    let early = Checkpoint::new(1, [1, 1])
        .of_log(LogReader::open_in(Arc::new(fs.clone()), DIR).unwrap().id());
    let mut of_early = follow(&fs, &early);
    let log = open(config(&fs).shards(3));
    (0..4).for_each(|key| append_all(&log, key, 25..26, 300));
    log.truncate_before(&Checkpoint::new(2, [0, 0, 0]).of_log(log.id())).unwrap();
    log.close().unwrap();
    drop(log);
    for follower in [&mut of_early, &mut follow(&fs, &early)] {
        let rest = all(&mut follow(&fs, &is_gone(follower)));
        (0..4).for_each(|key| assert_eq!(rest.of(key), [25]));
    }
}

/// Appends commits of several frames, of which every third finds no room after its first half was
/// written. Returns the indices of those that were acknowledged.
fn append_commits_that_may_fail(log: &ShardedWal, fs: &SimFileSystem) -> Vec<u64> {
    let mut kept = Vec::new();
    for commit in 0..60 {
        if commit % 3 == 1 {
            fs.fail(fault_at(".wal", Call::Write, FaultKind::Short));
            fs.fail(Fault { nth: 2, ..fault_at(".wal", Call::Write, FaultKind::Error(ENOSPC)) });
        }
        let length = 35_000 + usize::try_from(commit % 7).unwrap() * 3_000;
        let appends: Vec<_> = (0..4)
            .map(|part| (commit * 4 + part, log.append(1, payload(1, commit * 4 + part, length))))
            .collect();
        let acknowledged =
            appends.into_iter().filter_map(|(index, it)| it.wait().ok().map(|_| index));
        kept.extend(acknowledged);
    }
    kept
}

#[test]
fn commits_that_were_taken_back_are_not_passed_though_they_were_read() {
    for copy_on_write in [false, true] {
        let fs = SimFileSystem::new();
        fs.set_copy_on_write(copy_on_write);
        let log = open(config(&fs).segment_bytes(64 << 20));
        let mut follower = follow(&fs, &Checkpoint::start());
        let is_over = Arc::new(AtomicBool::new(false));
        let follows = {
            let is_over = is_over.clone();
            thread::spawn(move || {
                let mut found = Found::default();
                while !is_over.load(Ordering::SeqCst) {
                    add_all(&mut found, &mut follower);
                }
                // A commit that was taken back may have been read. It is forgotten by then.
                thread::sleep(Duration::from_millis(1100));
                add_all(&mut found, &mut follower);
                found
            })
        };
        let kept = append_commits_that_may_fail(&log, &fs);
        log.close().unwrap();
        is_over.store(true, Ordering::SeqCst);
        assert!((100..240).contains(&kept.len()), "{}", kept.len());
        assert_eq!(follows.join().unwrap().of(1), kept, "copy on write: {copy_on_write}");
    }
}

/// Wakes the thread that made it.
struct Unpark(thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn a_task_is_woken_to_look_again() {
    must_end("a task that follows files", || {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        append_all(&log, 1, 0..1, 50);
        let mut follower = follow(&fs, &Checkpoint::start());
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let (done, mut seen) = (Arc::new(AtomicBool::new(false)), 0);
        let appends = {
            let done = done.clone();
            thread::spawn(move || {
                (1..).take_while(|_| !done.load(Ordering::SeqCst)).for_each(|index| {
                    append_all(&log, 1, index..index + 1, 50);
                    thread::sleep(Duration::from_millis(5));
                });
            })
        };
        while seen < 20 {
            let mut next = pin!(poll_fn(|context| follower.poll_next(context)));
            match next.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(Ok(Followed::Advanced(batch)))) => seen += batch.len(),
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(other) => panic!("{other:?}"),
                Poll::Pending => thread::park(),
            }
        }
        done.store(true, Ordering::SeqCst);
        appends.join().unwrap();
    });
}

#[test]
fn polls_that_find_nothing_share_one_look_at_the_files() {
    let fs = SimFileSystem::new();
    let _log = open(config(&fs));
    let mut follower = follow(&fs, &Checkpoint::start());
    assert!(all(&mut follower).records.is_empty());
    let counter = Arc::new(WakeCounter::default());
    let waker = Waker::from(counter.clone());
    for _ in 0..1000 {
        assert!(follower.poll_next(&mut Context::from_waker(&waker)).is_pending());
    }
    thread::sleep(Duration::from_millis(200));
    let wakes = counter.count();
    // One per 20 ms of the polls, however slow they are.
    assert!((1..200).contains(&wakes), "{wakes} wake-ups of 1000 polls");
}

#[test]
fn a_reader_follows_from_a_checkpoint_that_is_newer_than_itself() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    let reader = LogReader::open_in(Arc::new(fs.clone()), DIR).unwrap();
    append_all(&log, 1, 0..5, 50);
    let newer = log.durable_checkpoint();
    append_all(&log, 1, 5..7, 50);
    log.close().unwrap();
    drop(log);
    assert_eq!(all(&mut reader.follow(&newer).unwrap()).of(1), [5, 6]);
    let log = open(config(&fs).shards(2));
    let of_next = log.durable_checkpoint();
    append_all(&log, 1, 7..8, 50);
    log.close().unwrap();
    assert_eq!(all(&mut reader.follow(&of_next).unwrap()).of(1), [7]);
    let beyond = Checkpoint::new(2, [9, 9]).of_log(reader.id());
    assert!(matches!(reader.follow(&beyond), Err(FollowError::Checkpoint(_))));
}

#[test]
fn an_error_at_the_end_of_a_generation_leaves_nothing_out() {
    const EMFILE: i32 = 24;
    for nth in 1..40 {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).shards(2));
        (0..4).for_each(|key| append_all(&log, key, 0..6, 100));
        let fs = fs.kill();
        drop(log);
        let mut follower = follow(&fs, &Checkpoint::start());
        let mut found = Found::default();
        add_all(&mut found, &mut follower);
        let log = open(config(&fs).shards(3));
        (0..4).for_each(|key| append_all(&log, key, 6..9, 100));
        log.close().unwrap();
        drop(log);
        fs.fail(Fault::new(Call::Open, nth, FaultKind::Error(EMFILE)));
        for _ in 0..2 {
            while let Ok(Followed::Advanced(batch)) = follower.try_next() {
                let of = |record: shardwal::Record<'_>| {
                    (record.position(), record.key(), record.to_bytes())
                };
                found.records.extend(batch.records().map(of));
            }
        }
        (0..4).for_each(|key| assert_eq!(found.of(key), (0..9).collect::<Vec<_>>(), "{nth}"));
    }
}

#[test]
fn a_generation_that_was_retired_meanwhile_is_gone() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(2));
    (0..4).for_each(|key| append_all(&log, key, 0..6, 100));
    log.close().unwrap();
    drop(log);
    let mut follower = follow(&fs, &Checkpoint::start());
    assert_eq!(all(&mut follower).records.len(), 24);
    // Later records, which the follower never sees.
    let log = open(config(&fs).shards(2));
    (0..4).for_each(|key| append_all(&log, key, 6..30, 300));
    drop(log);
    drop(open(config(&fs).shards(3)));
    let log = open(config(&fs).shards(1));
    log.truncate_before(&Checkpoint::new(3, [0]).of_log(log.id())).unwrap();
    append_all(&log, 1, 30..31, 100);
    log.close().unwrap();
    assert!(!fs.files().iter().any(|file| path_has(file, "generation-00001")));
    let first_kept = match follower.try_next().unwrap() {
        Followed::Gone { first_kept } => first_kept,
        other => panic!("{other:?}"),
    };
    assert_eq!(all(&mut follow(&fs, &first_kept)).of(1), [30]);
}
