//! Holds: no truncation removes a record that a hold needs, and beyond its limits a hold is
//! dropped or refuses appends. Retention deletes whole segments, and passes no hold.
//!
//! Holds R6 HOLD (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use crate::support::{DIR, EIO, append_all, config, fault_at, open, replayed};
use shardwal::fs::FileSystem;
use shardwal::fs::sim::{Call, FaultKind, SimFileSystem};
use shardwal::{
    Backup, Cause, Checkpoint, CheckpointError, FreeSpaceState, HOLDS_MAX, HoldError, HoldLimit,
    HoldLimits, HoldPolicy, HoldState, Holder, OpenError, ReplayOptions, Retention, ShardedWal,
    TruncateError,
};

const NONE: HoldLimits =
    HoldLimits { max_bytes: None, max_age: None, beyond: HoldPolicy::RefuseAppends };

fn at(log: &ShardedWal, sequence: u64) -> Checkpoint {
    Checkpoint::new(1, [sequence]).of_log(log.id())
}

/// A log of one shard with `records` records of 1,000 bytes, about four per segment.
fn log_of(fs: &SimFileSystem, records: u64) -> ShardedWal {
    let log = open(config(fs));
    append_all(&log, 1, 0..records, 1000);
    log
}

/// The name, the position and the state of each hold.
fn listed(log: &ShardedWal) -> Vec<(String, Checkpoint, HoldState)> {
    log.holders().into_iter().map(|it| (it.name, it.checkpoint, it.state)).collect()
}

fn the_hold(log: &ShardedWal) -> Holder {
    let mut holders = log.holders();
    assert_eq!(holders.len(), 1, "{holders:?}");
    holders.remove(0)
}

fn first(log: &ShardedWal) -> u64 {
    replayed(log).records.first().expect("records are left").0.sequence
}

#[test]
fn a_truncation_stops_at_the_lowest_hold_and_reports_what_each_kept() {
    let fs = SimFileSystem::new();
    let log = log_of(&fs, 40);
    log.hold("slow", &at(&log, 10), NONE).unwrap();
    log.hold("fast", &at(&log, 30), NONE).unwrap();
    let all = log.durable_checkpoint();
    let report = log.truncate_before(&all).unwrap();
    assert!(report.segments > 0 && first(&log) == 10, "{report:?}");
    let kept: Vec<_> = report.held.iter().map(|held| held.name.as_str()).collect();
    assert_eq!(kept, ["fast", "slow"]);
    let [fast, slow] = [&report.held[0], &report.held[1]];
    assert!(fast.segments > 0 && slow.segments > fast.segments, "{report:?}");
    assert!(slow.bytes > fast.bytes && fast.bytes >= 4096, "{report:?}");
    assert_eq!(report.dropped, Vec::<String>::new());

    // A replay returns what the hold kept. A replay from the checkpoint leaves it out.
    let from = log.replay_from(&all, ReplayOptions::default(), |_| Ok::<_, Infallible>(()));
    assert_eq!(from.unwrap().records, 0);
    assert_eq!(replayed(&log).records.len(), 30);

    log.hold("slow", &at(&log, 35), NONE).unwrap();
    let report = log.truncate_before(&all).unwrap();
    assert_eq!(first(&log), 30, "{report:?}");
    log.release_hold("fast").unwrap();
    log.release_hold("slow").unwrap();
    let report = log.truncate_before(&all).unwrap();
    assert!(report.held.is_empty() && replayed(&log).records.is_empty(), "{report:?}");
}

#[test]
fn a_truncation_below_every_hold_reports_none() {
    let fs = SimFileSystem::new();
    let log = log_of(&fs, 20);
    log.hold("a", &at(&log, 10), NONE).unwrap();
    let report = log.truncate_before(&at(&log, 10)).unwrap();
    assert!(report.held.is_empty() && report.segments > 0, "{report:?}");
    assert_eq!(first(&log), 10);
}

#[test]
fn a_hold_survives_a_power_loss_right_after_its_acknowledgement() {
    let fs = SimFileSystem::new();
    let log = log_of(&fs, 20);
    let hold = log.hold("a", &at(&log, 5), NONE).unwrap();
    let set = fs.copy().crash(&mut || false);
    hold.advance(&at(&log, 10)).unwrap();
    let advanced = fs.copy().crash(&mut || false);
    log.release_hold("a").unwrap();
    let released = fs.crash(&mut || false);
    drop(log);
    let position = |fs: &SimFileSystem| {
        let log = open(config(fs));
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        let kept = replayed(&log).records.first().map(|record| record.0.sequence);
        (log.holders().into_iter().map(|it| it.checkpoint.sequences()[0]).next(), kept)
    };
    assert_eq!(position(&set), (Some(5), Some(5)));
    assert_eq!(position(&advanced), (Some(10), Some(10)));
    assert_eq!(position(&released), (None, None));
}

#[test]
fn what_cannot_be_held_is_refused_and_changes_nothing() {
    let fs = SimFileSystem::new();
    let log = log_of(&fs, 20);
    log.truncate_before(&at(&log, 8)).unwrap();
    for name in ["", "A", "a/b", "a b", &"n".repeat(65)] {
        let refused = log.hold(name, &at(&log, 10), NONE).unwrap_err();
        assert!(matches!(refused, HoldError::InvalidName { .. }), "{refused}");
    }
    let checkpoint = |error| match error {
        HoldError::Checkpoint(error) => error,
        other => panic!("{other}"),
    };
    let gone = checkpoint(log.hold("a", &at(&log, 7), NONE).unwrap_err());
    assert!(matches!(gone, CheckpointError::Truncated { .. }), "{gone}");
    let gone = checkpoint(log.hold("a", &Checkpoint::start(), NONE).unwrap_err());
    assert!(matches!(gone, CheckpointError::Truncated { .. }), "{gone}");
    let beyond = checkpoint(log.hold("a", &at(&log, 21), NONE).unwrap_err());
    assert!(matches!(beyond, CheckpointError::BeyondEnd { .. }), "{beyond}");
    let unnamed = checkpoint(log.hold("a", &Checkpoint::new(1, [9]), NONE).unwrap_err());
    assert!(matches!(unnamed, CheckpointError::NamesNoLog { .. }), "{unnamed}");
    let missing = log.release_hold("a").unwrap_err();
    assert!(matches!(missing, HoldError::NoSuchHold { .. }), "{missing}");
    assert_eq!(listed(&log), []);

    let hold = log.hold("a", &at(&log, 10), NONE).unwrap();
    let back = hold.advance(&at(&log, 9)).unwrap_err();
    assert!(matches!(&back, HoldError::MovesBack { at, .. } if at.sequences() == [10]), "{back}");
    let back = log.hold("a", &at(&log, 9), NONE).unwrap_err();
    assert!(matches!(back, HoldError::MovesBack { .. }), "{back}");
    let stays = ("a".into(), at(&log, 10), HoldState::Held);
    assert_eq!(listed(&log), std::slice::from_ref(&stays));

    for number in 1..HOLDS_MAX {
        log.hold(&format!("b{number}"), &at(&log, 10), NONE).unwrap();
    }
    let full = log.hold("c", &at(&log, 10), NONE).unwrap_err();
    assert!(matches!(full, HoldError::TooMany { holds: HOLDS_MAX }), "{full}");
    log.hold("a", &at(&log, 11), NONE).unwrap();
    log.release_hold("a").unwrap();
    let missing = hold.advance(&at(&log, 12)).unwrap_err();
    assert!(matches!(missing, HoldError::NoSuchHold { .. }), "{missing}");
    log.hold("c", &at(&log, 10), NONE).unwrap();

    log.close().unwrap();
    let closed = log.hold("c", &at(&log, 11), NONE).unwrap_err();
    assert!(matches!(closed, HoldError::Closed), "{closed}");
    assert!(matches!(log.release_hold("c").unwrap_err(), HoldError::Closed));
    assert!(matches!(log.retain(Retention::new().bytes(0)), Err(TruncateError::Closed)));
}

mod beyond_its_limits {
    use super::*;

    const DROP: HoldLimits =
        HoldLimits { max_bytes: Some(10_000), max_age: None, beyond: HoldPolicy::Drop };
    const REFUSE: HoldLimits = HoldLimits { beyond: HoldPolicy::RefuseAppends, ..DROP };

    #[test]
    fn a_hold_is_dropped_durably_by_the_truncation_that_it_is_in_the_way_of() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 40);
        let hold = log.hold("slow", &at(&log, 10), DROP).unwrap();
        log.hold("fast", &at(&log, 38), DROP).unwrap();
        assert!(log.holders()[1].bytes > 10_000, "{:?}", log.holders());

        // Not in the way: nothing below it needs a drop.
        let report = log.truncate_before(&at(&log, 10)).unwrap();
        assert_eq!(report.dropped, Vec::<String>::new());
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!(report.dropped, ["slow"]);
        assert!(report.held.iter().all(|held| held.name != "slow"), "{report:?}");
        assert_eq!(first(&log), 38, "the other hold counts");
        let dropped = hold.advance(&at(&log, 39)).unwrap_err();
        assert!(matches!(dropped, HoldError::Dropped { .. }), "{dropped}");

        let after = fs.crash(&mut || false);
        drop(log);
        let log = open(config(&after));
        let (kept, gone) = (HoldState::Held, HoldState::Dropped(HoldLimit::Bytes));
        let expected = [("fast".into(), at(&log, 38), kept), ("slow".into(), at(&log, 10), gone)];
        assert_eq!(listed(&log), expected);
        assert_eq!(log.holders()[1].bytes, 0, "it keeps nothing");
        // It can be set anew where the log still has its records, and only there.
        assert!(matches!(log.hold("slow", &at(&log, 37), DROP), Err(HoldError::Checkpoint(_))));
        log.hold("slow", &at(&log, 38), DROP).unwrap();
        assert_eq!(listed(&log)[1], ("slow".into(), at(&log, 38), kept));
    }

    #[test]
    fn a_hold_within_its_limits_is_not_dropped() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 40);
        log.hold("a", &at(&log, 10), HoldLimits { max_bytes: Some(1 << 20), ..DROP }).unwrap();
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert!(report.dropped.is_empty() && report.held.len() == 1, "{report:?}");
        assert_eq!(first(&log), 10);
    }

    /// Appends until one is refused.
    fn refusal(log: &ShardedWal) -> Cause {
        let began = Instant::now();
        loop {
            if let Err(refused) = log.append(1, vec![1; 1000]).wait() {
                assert!(refused.was_refused(), "{refused}");
                return refused.cause().clone();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "the hold never refuses");
        }
    }

    fn wait_until_accepted(log: &ShardedWal) {
        let began = Instant::now();
        while log.append(1, "x").wait().is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "the hold refuses for ever");
            yield_now();
        }
    }

    #[test]
    fn every_append_is_refused_until_the_hold_advances_or_is_released() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 4);
        let hold = log.hold("slow-1", &at(&log, 0), REFUSE).unwrap();
        let Cause::HoldLimit { hold: name, found, max, .. } = refusal(&log) else {
            panic!("another cause");
        };
        assert_eq!((&*name, max, found > max), ("slow-1", 10_000, true));
        let is_named = |cause: &Cause| {
            let text = cause.to_string();
            assert!(text.contains("`slow-1`") && text.contains("10000"), "{text}");
            assert_eq!(cause.as_label(), "hold_limit");
        };
        is_named(&log.try_append(1, "x").unwrap_err().cause);
        is_named(&log.append_timeout(1, "x", Duration::from_secs(1)).unwrap_err().cause);
        is_named(log.append_wait(1, "x").unwrap_err().cause());
        is_named(log.append_batch([(1_u64, "x")]).wait().unwrap_err().failed[0].error.cause());
        is_named(futures_executor::block_on(log.append_async(1, "x")).unwrap_err().cause());
        is_named(futures_executor::block_on(log.reserve(1, 1)).unwrap_err().cause());
        assert_eq!(log.stats().total.refused_appends.of("hold_limit"), 7);
        // No truncation drops it.
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!((report.dropped.len(), report.held.len(), first(&log)), (0, 1, 0));

        hold.advance(&log.durable_checkpoint()).unwrap();
        log.append(1, "accepted at once").wait().unwrap();
        refusal(&log);
        log.close().unwrap();
        let log = open(config(&fs));
        is_named(log.append_wait(1, "refused from the open on").unwrap_err().cause());
        log.release_hold("slow-1").unwrap();
        log.append(1, "accepted at once").wait().unwrap();
    }

    #[test]
    fn a_change_of_the_free_space_keeps_the_refusal() {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).free_space_low_bytes(1 << 20));
        append_all(&log, 1, 0..20, 1000);
        log.hold("slow-1", &at(&log, 0), REFUSE).unwrap();
        let is_refused = || {
            let refused = log.append(1, "x").wait().unwrap_err();
            assert!(matches!(refused.cause(), Cause::HoldLimit { .. }), "{refused}");
        };
        is_refused();
        fs.set_capacity(Some(1 << 20));
        // It ends with a check of the free space, and none of the holds.
        log.truncate_before(&at(&log, 0)).unwrap();
        is_refused();
        assert_eq!(log.stats().free_space.state, FreeSpaceState::Low, "of the disk alone");
        log.release_hold("slow-1").unwrap();
        log.append(1, "x").wait().unwrap();
    }

    #[test]
    fn appends_are_refused_by_age_and_accepted_after_the_hold_has_moved() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 20);
        let limits = HoldLimits {
            max_age: Some(Duration::from_secs(60)),
            max_bytes: None,
            beyond: HoldPolicy::RefuseAppends,
        };
        log.hold("a", &at(&log, 10), limits).unwrap();
        fs.advance_clock(Duration::from_secs(60));
        assert_eq!(the_hold(&log).age, Some(Duration::from_secs(60)));
        log.append(1, "not beyond it").wait().unwrap();
        fs.advance_clock(Duration::from_millis(1));
        let Cause::HoldLimit { limit, found, max, .. } = refusal(&log) else {
            panic!("another cause");
        };
        assert_eq!((limit, found, max), ("milliseconds", 60_001, 60_000));
        log.hold("a", &log.durable_checkpoint(), limits).unwrap();
        wait_until_accepted(&log);
    }

    #[test]
    fn a_hold_is_dropped_by_age() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 20);
        let max_age = Some(Duration::from_secs(60));
        log.hold("a", &at(&log, 10), HoldLimits { max_age, max_bytes: None, ..DROP }).unwrap();
        fs.advance_clock(Duration::from_secs(60));
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!((report.dropped.len(), report.held.len()), (0, 1), "{report:?}");
        fs.advance_clock(Duration::from_millis(1));
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!(report.dropped, ["a"]);
        assert_eq!(the_hold(&log).state, HoldState::Dropped(HoldLimit::Age));
    }
}

mod across_generations {
    use super::*;

    /// A log whose generations have 1, 2 and 1 shards. The one in the middle has no record.
    fn resharded(fs: &SimFileSystem) -> (ShardedWal, Checkpoint) {
        let log = log_of(fs, 10);
        let end = log.durable_checkpoint();
        log.hold("a", &end, NONE).unwrap();
        log.close().unwrap();
        open(config(fs).shards(2)).close().unwrap();
        let log = open(config(fs));
        append_all(&log, 1, 10..30, 1000);
        (log, end)
    }

    #[test]
    fn a_hold_at_the_end_of_a_generation_stays_valid_while_later_ones_are_truncated() {
        let fs = SimFileSystem::new();
        let (log, end) = resharded(&fs);
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert!(report.held.iter().any(|held| held.name == "a"), "{report:?}");
        log.close().unwrap();
        let log = open(config(&fs));
        assert_eq!(the_hold(&log).state, HoldState::Held);
        let from = log.replay_from(&end, ReplayOptions::default(), |_| Ok::<_, Infallible>(()));
        assert_eq!(from.unwrap().records, 20, "everything after the first generation");
        // Moves on to the current generation, and the first ones go.
        log.hold("a", &log.durable_checkpoint(), NONE).unwrap();
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!(replayed(&log).records.len(), 0);
    }

    #[test]
    fn a_hold_at_the_start_keeps_every_generation() {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        log.hold("all", &Checkpoint::start(), NONE).unwrap();
        append_all(&log, 1, 0..10, 1000);
        log.close().unwrap();
        let log = open(config(&fs).shards(2));
        append_all(&log, 1, 10..20, 1000);
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!(replayed(&log).of(1), (0..20).collect::<Vec<_>>());
    }
}

mod on_a_failing_disk {
    use super::*;

    #[test]
    fn a_full_disk_neither_loses_a_hold_nor_keeps_one_from_being_released_or_dropped() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 40);
        let drop_beyond =
            HoldLimits { max_bytes: Some(5000), max_age: None, beyond: HoldPolicy::Drop };
        let hold = log.hold("a", &at(&log, 10), NONE).unwrap();
        log.hold("b", &at(&log, 20), drop_beyond).unwrap();
        fs.set_capacity(Some(0));
        let full = hold.advance(&at(&log, 15)).unwrap_err();
        assert!(matches!(full, HoldError::Io { .. }), "{full}");
        assert_eq!(log.holders()[0].checkpoint, at(&log, 10), "it is where it was");
        log.release_hold("a").unwrap();
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!(report.dropped, ["b"]);
        assert_eq!((listed(&log).len(), replayed(&log).records.len()), (0, 0));
        fs.set_capacity(None);
        let after = fs.crash(&mut || false);
        drop(log);
        assert_eq!(listed(&open(config(&after))), []);
    }

    #[test]
    fn recycled_segments_make_room_for_a_hold() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 40);
        let recycled = |fs: &SimFileSystem| {
            let files = fs.files().into_iter();
            files.filter(|it| it.extension().is_some_and(|end| end == "spare")).count()
        };
        // A truncation deletes what it could recycle while the tail of a full segment is cut.
        for next in (40..4000).step_by(8) {
            append_all(&log, 1, next..next + 8, 1000);
            sleep(Duration::from_millis(5));
            log.truncate_before(&log.durable_checkpoint()).unwrap();
            if recycled(&fs) > 0 {
                break;
            }
        }
        assert!(recycled(&fs) > 0);
        // No room but for what the recycled files give back.
        fs.set_capacity(Some(1 << 40));
        let free = |fs: &SimFileSystem| fs.free_bytes(DIR.as_ref()).unwrap().unwrap();
        fs.set_capacity(Some((1 << 40) - free(&fs)));
        assert_eq!(free(&fs), 0);
        log.hold("a", &log.durable_checkpoint(), NONE).unwrap();
        assert_eq!(recycled(&fs), 0);
    }

    /// Calls `change`, after `prepare`, until a planned fault meets its sync of a directory. The
    /// thread that prepares segments syncs directories too, and may meet the fault first.
    fn until_the_sync_fails<E>(
        fs: &SimFileSystem,
        prepare: impl Fn(),
        change: impl Fn() -> Result<(), E>,
    ) -> E {
        let mut changes = (0..20).map(|_| {
            prepare();
            fs.fail(fault_at(DIR, Call::SyncDir, FaultKind::Error(EIO)));
            change()
        });
        changes.find_map(Result::err).expect("the other thread is idle by then")
    }

    /// After a failed sync of the directory, the disk may have either hold. The log goes on
    /// with the one that keeps more.
    #[test]
    fn a_failed_sync_of_the_directory_keeps_what_either_hold_needs() {
        let io = |error| assert!(matches!(error, HoldError::Io { .. }), "{error}");
        for what in ["set", "advance", "release"] {
            let fs = SimFileSystem::new();
            let log = log_of(&fs, 40);
            let failed = until_the_sync_fails(
                &fs,
                || {
                    let is_there = listed(&log).iter().any(|hold| hold.1 == at(&log, 10));
                    if what != "set" && !is_there {
                        log.release_hold("a").ok();
                        log.hold("a", &at(&log, 10), NONE).unwrap();
                    }
                },
                || match what {
                    "set" => log.hold("a", &at(&log, 10), NONE).map(drop),
                    "advance" => log.hold("a", &at(&log, 20), NONE).map(drop),
                    _ => log.release_hold("a"),
                },
            );
            io(failed);
            io(log.hold("a", &at(&log, 30), NONE).unwrap_err());
            io(log.release_hold("a").unwrap_err());
            log.truncate_before(&log.durable_checkpoint()).unwrap();
            assert_eq!(first(&log), 10, "{what}");
            log.close().unwrap();
            let log = open(config(&fs));
            if let Ok(hold) = log.hold("a", &at(&log, 30), NONE) {
                hold.advance(&at(&log, 40)).unwrap();
            }
            assert_eq!(the_hold(&log).checkpoint, at(&log, 40), "{what}: it can be changed");
        }
    }

    #[test]
    fn no_hold_is_taken_after_a_truncation_whose_mark_may_be_on_the_disk() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 20);
        let below = Cell::new(0);
        let next = || below.set(below.get() + 1);
        until_the_sync_fails(&fs, next, || log.truncate_before(&at(&log, below.get())).map(drop));
        let before = below.get() - 1;
        assert_eq!(first(&log), before, "this log has the records");
        let refused = log.hold("late", &at(&log, before), NONE).unwrap_err();
        assert!(matches!(refused, HoldError::Io { .. }), "{refused}");
        drop(log);
        // The next open may find that they were truncated.
        let log = open(config(&fs));
        assert!(listed(&log).is_empty());
        log.hold("late", &at(&log, 20), NONE).unwrap();
    }

    #[test]
    fn a_hold_that_cannot_be_dropped_stops_the_truncation() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 40);
        let limits = HoldLimits { max_bytes: Some(0), max_age: None, beyond: HoldPolicy::Drop };
        log.hold("a", &at(&log, 10), limits).unwrap();
        fs.fail(fault_at("HOLD.tmp", Call::Sync, FaultKind::Error(EIO)));
        let failed = log.truncate_before(&log.durable_checkpoint()).unwrap_err();
        assert!(matches!(failed, TruncateError::Io { .. }), "{failed}");
        assert_eq!((first(&log), the_hold(&log).state), (0, HoldState::Held));
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!(report.dropped, ["a"], "the next one tries again");
    }
}

mod stored {
    use super::*;

    fn refused(fs: &SimFileSystem) -> (String, OpenError) {
        let error = ShardedWal::open(config(fs)).unwrap_err();
        (error.to_string(), error)
    }

    /// A log with the hold `a`, closed; and the path of the hold's file.
    fn held(fs: &SimFileSystem) -> String {
        let log = log_of(fs, 10);
        log.hold("a", &at(&log, 5), NONE).unwrap();
        log.close().unwrap();
        format!("{DIR}/hold-a")
    }

    #[test]
    fn a_torn_rotten_foreign_or_unreadable_hold_refuses_the_open() {
        let fs = SimFileSystem::new();
        let path = held(&fs);
        let whole = fs.read_file(&path).unwrap();
        let is_refused = |fs: &SimFileSystem, what: &str| {
            let before = fs.files();
            let (text, error) = refused(fs);
            assert!(matches!(error, OpenError::Hold { .. }), "{text}");
            assert!(text.contains("hold-a") && text.contains(what), "{text}");
            assert_eq!(fs.files(), before, "nothing was changed");
            let error = Holder::list_in(Arc::new(fs.clone()), DIR).unwrap_err();
            assert!(matches!(error, OpenError::Hold { .. }), "{error}");
        };
        for length in 0..whole.len() {
            fs.write_file(&path, &whole[..length]);
            is_refused(&fs, "checksum");
        }
        for at in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[at] ^= 4;
            fs.write_file(&path, &rotten);
            is_refused(&fs, "");
        }
        fs.write_file(&path, &[0xff; 100]);
        is_refused(&fs, "it is not text");
        fs.write_file(&path, &vec![b'x'; 40_000]);
        is_refused(&fs, "too many for a hold");
        let other = SimFileSystem::new();
        fs.write_file(&path, &other.read_file(held(&other)).unwrap());
        is_refused(&fs, "it belongs to log");
        fs.write_file(&path, &whole);
        let unreadable = fs.copy();
        unreadable.make_unreadable(&path, 3..4);
        is_refused(&unreadable, "the disk cannot read bytes");
        assert_eq!(listed(&open(config(&fs))).len(), 1, "the whole file is accepted");
    }

    #[test]
    fn a_hold_under_another_name_and_too_many_holds_are_refused() {
        let fs = SimFileSystem::new();
        let path = held(&fs);
        let whole = fs.read_file(&path).unwrap();
        fs.write_file(format!("{DIR}/hold-b"), &whole);
        let (text, error) = refused(&fs);
        assert!(matches!(error, OpenError::Hold { .. }) && text.contains("hold-b"), "{text}");
        for number in 0..HOLDS_MAX {
            fs.write_file(format!("{DIR}/hold-c{number}"), &whole);
        }
        assert!(refused(&fs).0.contains("at most 64"), "{}", refused(&fs).0);
    }

    #[test]
    fn other_names_are_ignored_and_a_log_without_holds_has_none() {
        let fs = SimFileSystem::new();
        log_of(&fs, 10).close().unwrap();
        for name in ["hold", "hold-", "hold-A", "hold-a~", "HOLD.tmp", "holds"] {
            fs.write_file(format!("{DIR}/{name}"), b"something else");
        }
        let log = open(config(&fs));
        assert_eq!(listed(&log), []);
        log.hold("a", &at(&log, 5), NONE).unwrap();
        assert_eq!(listed(&log).len(), 1, "an unfinished file is replaced");
    }

    #[test]
    fn a_backup_has_no_holds() {
        let fs = SimFileSystem::new();
        held(&fs);
        Backup::new(DIR).file_system(Arc::new(fs.clone())).run("/copy").unwrap();
        let copied = |name: &str| fs.read_file(format!("/copy/{name}")).is_some();
        assert!(copied("MANIFEST") && !copied("hold-a"));
        assert_eq!(Holder::list_in(Arc::new(fs.clone()), "/copy").unwrap(), []);
    }

    /// FORMAT.md, "Holds".
    #[test]
    fn the_file_is_as_format_md_says() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 10);
        let limits = HoldLimits {
            max_bytes: Some(1 << 30),
            max_age: Some(Duration::from_secs(86_400)),
            beyond: HoldPolicy::Drop,
        };
        log.hold("mirror-b", &at(&log, 7), limits).unwrap();
        let text = String::from_utf8(fs.read_file(format!("{DIR}/hold-mirror-b")).unwrap());
        let (id, text) = (log.id(), text.unwrap());
        let body = format!(
            "shardwal hold 1\nlog {id}\nname mirror-b\nstate held\nmax-bytes 1073741824\n\
             max-age-ms 86400000\nbeyond drop\ncheckpoint {id}/1/7\n"
        );
        let crc = crc32fast::hash(body.as_bytes());
        assert_eq!(text, format!("{body}crc {crc:08x}\n"));
    }

    #[test]
    fn a_live_log_and_its_directory_list_the_same_holds() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 20);
        log.close().unwrap();
        let log = open(config(&fs).shards(3));
        append_all(&log, 1, 20..60, 1000);
        append_all(&log, 2, 0..40, 1000);
        fs.advance_clock(Duration::from_secs(7));
        let limits = HoldLimits { max_bytes: Some(0), max_age: None, beyond: HoldPolicy::Drop };
        log.hold("gone", &at(&log, 0), limits).unwrap();
        let report = log.truncate_before(&at(&log, 14)).unwrap();
        assert_eq!(report.dropped, ["gone"]);
        log.hold("old", &at(&log, 14), NONE).unwrap();
        log.hold("end", &log.durable_checkpoint(), NONE).unwrap();
        let list = || Holder::list_in(Arc::new(fs.clone()), DIR).unwrap();
        assert_eq!(list(), log.holders());
        let ages: Vec<_> = list().iter().map(|it| it.age.map(|age| age.as_secs())).collect();
        assert_eq!(ages, [None, None, Some(7)]);
        log.close().unwrap();
        assert_eq!(list(), log.holders(), "a closed log has them too");
    }

    /// An older copy of a hold's file lies below what was truncated since.
    #[test]
    fn a_hold_whose_records_are_gone_says_so_and_keeps_the_rest() {
        let fs = SimFileSystem::new();
        let path = held(&fs);
        let older = fs.read_file(&path).unwrap();
        let log = open(config(&fs));
        append_all(&log, 1, 10..30, 1000);
        log.release_hold("a").unwrap();
        log.truncate_before(&at(&log, 20)).unwrap();
        log.close().unwrap();
        fs.write_file(&path, &older);
        let log = open(config(&fs));
        assert_eq!(the_hold(&log).state, HoldState::Truncated);
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert_eq!(first(&log), 20);
    }
}

mod retention {
    use super::*;

    /// The bytes of all full segments: what a hold at the beginning keeps.
    fn full_bytes(log: &ShardedWal) -> u64 {
        log.hold("probe", &Checkpoint::start(), NONE).unwrap();
        let bytes = the_hold(log).bytes;
        log.release_hold("probe").unwrap();
        bytes
    }

    #[test]
    fn the_oldest_full_segments_beyond_a_number_of_bytes_are_deleted() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 40);
        let all = full_bytes(&log);
        assert_eq!(log.retain(Retention::new()).unwrap().segments, 0, "no limit");
        assert_eq!(log.retain(Retention::new().bytes(all)).unwrap().segments, 0);
        let report = log.retain(Retention::new().bytes(all - 1)).unwrap();
        assert_eq!(report.segments, 1, "{report:?}");
        let left = all - report.bytes;
        let report = log.retain(Retention::new().bytes(left / 2)).unwrap();
        assert!(left - report.bytes <= left / 2 && report.segments > 1, "{report:?}");
        let kept = first(&log);
        assert!(kept > 0);
        log.retain(Retention::new().bytes(0)).unwrap();
        assert!(first(&log) > kept, "the active segment stays");
        let positions: Vec<_> = replayed(&log).of(1);
        assert_eq!(positions.last(), Some(&39));
    }

    #[test]
    fn the_full_segments_beyond_an_age_are_deleted() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 20);
        fs.advance_clock(Duration::from_secs(100));
        append_all(&log, 1, 20..40, 1000);
        fs.advance_clock(Duration::from_secs(10));
        let older_than = |secs| Retention::new().age(Duration::from_secs(secs));
        assert_eq!(log.retain(older_than(110)).unwrap().segments, 0);
        let report = log.retain(older_than(50)).unwrap();
        assert!(report.segments >= 3 && (10..=23).contains(&first(&log)), "{report:?}");
        assert_eq!(log.retain(older_than(10)).unwrap().segments, 0);
        log.retain(older_than(9)).unwrap();
        assert!(first(&log) > 30);
    }

    #[test]
    fn retention_passes_no_hold() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 40);
        log.hold("a", &at(&log, 13), NONE).unwrap();
        let report = log.retain(Retention::new().bytes(0)).unwrap();
        assert_eq!((first(&log), report.held.len()), (13, 1), "{report:?}");
        fs.advance_clock(Duration::from_secs(100));
        log.retain(Retention::new().age(Duration::from_secs(1))).unwrap();
        assert_eq!(first(&log), 13);
    }

    #[test]
    fn the_shards_lose_what_is_oldest_whichever_has_it() {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).shards(2));
        let keys: Vec<u64> =
            (0..2).map(|shard| (0..).find(|key| log.shard_of(*key) == shard).unwrap()).collect();
        append_all(&log, keys[0], 0..20, 1000);
        // The tail of each full segment is cut before the clock goes on.
        log.close().unwrap();
        let log = open(config(&fs).shards(2));
        fs.advance_clock(Duration::from_secs(1));
        append_all(&log, keys[1], 0..20, 1000);
        let all = full_bytes(&log);
        log.retain(Retention::new().bytes(all / 2)).unwrap();
        let found = replayed(&log);
        assert_eq!(found.of(keys[1]).len(), 20, "the younger shard loses nothing");
        assert!(found.of(keys[0]).len() < 10, "the older one loses its full segments");
    }

    #[test]
    fn an_earlier_generation_leaves_before_a_later_one_loses_anything() {
        let fs = SimFileSystem::new();
        let log = log_of(&fs, 20);
        log.close().unwrap();
        let log = open(config(&fs).shards(2));
        append_all(&log, 1, 20..40, 1000);
        let (mut lost_before, mut is_partly_gone) = (0, false);
        for bytes in (0..100_000).rev().step_by(1000) {
            log.retain(Retention::new().bytes(bytes)).unwrap();
            let found = replayed(&log);
            let left: Vec<_> = found.records.iter().map(|it| it.0.generation).collect();
            let lost = 40 - left.len();
            assert!(lost >= lost_before);
            is_partly_gone |= (1..20).contains(&lost);
            lost_before = lost;
            assert_eq!(found.of(1), (lost as u64..40).collect::<Vec<_>>(), "no hole");
        }
        assert!(lost_before > 20, "the first generation is gone: {lost_before}");
        assert!(is_partly_gone, "it leaves segment by segment");
    }
}
