//! A power loss, a kill or a failed call, at every call of changes of holds and of the
//! truncations between them. The old hold or the new one is there, and so is every record that
//! it needs.
//!
//! Holds R6 HOLD (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic")]

use std::collections::BTreeMap;

use crate::support::{EIO, Random, append_all, config, open, replayed, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Checkpoint, HoldLimits, HoldPolicy, HoldState, Retention, ShardedWal};

const RECORDS: u64 = 30;
/// At most this many unsynced pieces: every subset is tried.
const EXHAUSTIVE_PIECES: usize = 6;

/// One change. The position is a sequence.
#[derive(Clone, Copy, Debug)]
enum Step {
    Hold(&'static str, u64),
    /// With a limit that it exceeds at once.
    HoldWithLimit(&'static str, u64),
    Release(&'static str),
    TruncateAll,
    RetainNothing,
}

const STEPS: [Step; 11] = [
    Step::Hold("a", 5),
    Step::HoldWithLimit("b", 10),
    Step::TruncateAll,
    Step::Hold("a", 15),
    Step::TruncateAll,
    Step::Hold("c", 20),
    Step::Release("a"),
    Step::TruncateAll,
    Step::RetainNothing,
    Step::Release("b"),
    Step::Release("c"),
];

/// The position of each hold, and whether it was dropped.
type Holds = BTreeMap<String, (u64, bool)>;

/// What `step` makes of the holds.
fn after(step: Step, before: &Holds) -> Holds {
    let mut after = before.clone();
    match step {
        Step::Hold(name, at) | Step::HoldWithLimit(name, at) => {
            after.insert(name.into(), (at, false));
        }
        Step::Release(name) => drop(after.remove(name)),
        Step::TruncateAll => {
            if let Some((_, is_dropped)) = after.get_mut("b") {
                *is_dropped = true;
            }
        }
        Step::RetainNothing => {}
    }
    after
}

fn run(log: &ShardedWal, step: Step) -> bool {
    let at = |sequence| Checkpoint::new(1, [sequence]).of_log(log.id());
    let none = HoldLimits { max_bytes: None, max_age: None, beyond: HoldPolicy::RefuseAppends };
    let limits = HoldLimits { max_bytes: Some(0), max_age: None, beyond: HoldPolicy::Drop };
    match step {
        Step::Hold(name, sequence) => log.hold(name, &at(sequence), none).is_ok(),
        Step::HoldWithLimit(name, sequence) => log.hold(name, &at(sequence), limits).is_ok(),
        Step::Release(name) => log.release_hold(name).is_ok(),
        Step::TruncateAll => log.truncate_before(&at(RECORDS)).is_ok(),
        Step::RetainNothing => log.retain(Retention::new().bytes(0)).is_ok(),
    }
}

/// Runs the steps until one fails. Returns the holds before it and after it.
fn run_until_failure(log: &ShardedWal) -> (Holds, Holds) {
    let mut before = Holds::new();
    for step in STEPS {
        let next = after(step, &before);
        if !run(log, step) {
            return (before, next);
        }
        before = next;
    }
    (before.clone(), before)
}

fn found(log: &ShardedWal) -> Holds {
    let of = |hold: shardwal::Holder| {
        let is_dropped = matches!(hold.state, HoldState::Dropped(_));
        assert!(is_dropped || hold.state == HoldState::Held, "{hold:?}");
        (hold.name, (hold.checkpoint.sequences()[0], is_dropped))
    };
    log.holders().into_iter().map(of).collect()
}

/// Checks the holds of an open log, and that it has every record that one of them needs, also
/// after another truncation.
fn check(log: &ShardedWal, before: &Holds, next: &Holds, what: &str) -> Holds {
    let holds = found(log);
    for name in ["a", "b", "c"] {
        let hold = holds.get(name);
        let is_known = hold == before.get(name) || hold == next.get(name);
        assert!(is_known, "{name} is {hold:?} after {what}: {before:?}, {next:?}");
    }
    let held = holds.values().filter(|(_, is_dropped)| !is_dropped).map(|(at, _)| *at);
    let lowest = held.min().unwrap_or(RECORDS);
    let first = || replayed(log).of(1).first().copied().unwrap_or(RECORDS);
    assert!(first() <= lowest, "{} is the first, {lowest} is held, after {what}", first());
    let last = replayed(log).of(1).last().copied();
    assert!(lowest == RECORDS || last == Some(RECORDS - 1), "{last:?} after {what}");
    holds
}

/// Checks that a truncation of everything stops at the lowest hold.
fn truncate_and_check(log: &ShardedWal, what: &str) {
    log.truncate_before(&Checkpoint::new(1, [RECORDS]).of_log(log.id())).unwrap();
    let holds = found(log);
    let held = holds.values().filter(|(_, is_dropped)| !is_dropped).map(|(at, _)| *at);
    let lowest = held.min().unwrap_or(RECORDS);
    let first = replayed(log).of(1).first().copied().unwrap_or(RECORDS);
    assert_eq!(first, lowest, "after {what}: {holds:?}");
}

/// Every subset of a few pieces; of more, none, all and some random ones.
fn subsets(pieces: usize, random: &mut Random) -> Vec<Vec<bool>> {
    if pieces <= EXHAUSTIVE_PIECES {
        let bits = |subset: u64| (0..pieces).map(move |piece| subset >> piece & 1 == 1).collect();
        return (0..1 << pieces).map(bits).collect();
    }
    let mut all = vec![vec![false; pieces], vec![true; pieces]];
    all.extend((0..8).map(|_| (0..pieces).map(|_| random.flip()).collect()));
    all
}

/// A closed log with [`RECORDS`] records and no hold.
fn closed() -> SimFileSystem {
    let fs = SimFileSystem::new();
    let log = open(config(&fs));
    append_all(&log, 1, 0..RECORDS, 1000);
    log.close().unwrap();
    fs
}

/// Runs the steps with this fault at each call in turn, until none meets it.
fn at_every_call(
    kind: FaultKind,
    judge: impl Fn(&SimFileSystem, ShardedWal, &Holds, &Holds, &str),
) {
    let closed = closed();
    let mut calls = 0;
    for nth in 1.. {
        let fs = closed.kill();
        let log = open(config(&fs));
        let before = fs.fired();
        fs.fail(Fault::new(Call::Any, nth, kind));
        let (holds, next) = run_until_failure(&log);
        if fs.fired() == before {
            break;
        }
        fs.clear_faults();
        judge(&fs, log, &holds, &next, &format!("{kind:?} at call {nth}"));
        calls += 1;
    }
    println!("{calls} calls");
    assert!(calls >= 40, "the steps make {calls} calls");
}

#[test]
fn a_power_loss_at_any_call_leaves_the_old_hold_or_the_new_one() {
    let seed = seed();
    for kind in [FaultKind::PowerCut, FaultKind::TornPowerCut] {
        at_every_call(kind, |fs, log, before, next, what| {
            drop(log);
            let mut random = Random::new(seed);
            for subset in subsets(fs.unsynced(), &mut random) {
                let mut pieces = subset.iter();
                let after = fs.crash(&mut || *pieces.next().unwrap());
                let what = format!("{what}, where {subset:?} lived");
                let log = open(config(&after));
                check(&log, before, next, &what);
                truncate_and_check(&log, &what);
            }
        });
    }
}

/// What the next process finds in the cache must last, because it truncates by it.
#[test]
fn a_kill_at_any_call_leaves_the_old_hold_or_the_new_one() {
    at_every_call(FaultKind::PowerCut, |fs, log, before, next, what| {
        drop(log);
        let after = fs.kill();
        let log = open(config(&after));
        let holds = check(&log, before, next, what);
        let reopened = after.copy().crash(&mut || false);
        check(&open(config(&reopened)), &holds, &holds, what);
        truncate_and_check(&log, what);
        let reopened = after.crash(&mut || false);
        drop(log);
        truncate_and_check(&open(config(&reopened)), what);
    });
}

/// After an error the log goes on: it truncates, and then the power fails.
#[test]
fn an_error_at_any_call_leaves_the_old_hold_or_the_new_one() {
    let seed = seed();
    at_every_call(FaultKind::Error(EIO), |fs, log, before, next, what| {
        check(&log, before, next, what);
        // It may be refused, after a failed sync.
        log.truncate_before(&Checkpoint::new(1, [RECORDS]).of_log(log.id())).ok();
        drop(log);
        let mut random = Random::new(seed);
        for subset in subsets(fs.unsynced(), &mut random) {
            let mut pieces = subset.iter();
            let after = fs.copy().crash(&mut || *pieces.next().unwrap());
            let what = format!("{what}, where {subset:?} lived");
            let next = super::holds_power_loss::after(Step::TruncateAll, next);
            let log = open(config(&after));
            let names: Vec<_> = found(&log).into_keys().collect();
            for name in names {
                assert!(before.contains_key(&name) || next.contains_key(&name), "{what}");
            }
            truncate_and_check(&log, &what);
        }
    });
}
