//! A disk that fails: callers get true answers, and each acknowledged record is there
//! once after the next open.
//!
//! Holds C1 ONCE, W2 STICKY, C3 ANSWER (ARCHITECTURE.md).

use std::thread;

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{
    EINTR, EIO, ENOSPC, assert_poisoned, config, fault_at, must_end, open, replayed,
};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{AppendError, Cause, ShardedWal};

/// The first key of a shard.
fn key_in(log: &ShardedWal, shard: usize) -> u64 {
    (0..).find(|key| log.shard_of(*key) == shard).expect("keys reach every shard")
}

/// A failing shard sets its cause and then closes its queue. A record queued in between
/// is answered as never written.
fn wait_until_closed(log: &ShardedWal, key: u64) {
    loop {
        match log.try_append(key, "late") {
            Ok(late) => {
                let error = late.wait().expect_err("the shard has failed");
                assert!(error.is_not_written(), "{error}");
            }
            Err(refused) if matches!(refused.cause, Cause::QueueFull) => thread::yield_now(),
            Err(_) => return,
        }
    }
}

mod failed {
    use super::*;

    /// All that promise 4 says about a failed fdatasync.
    #[test]
    fn a_failed_sync_poisons_its_shard_with_the_first_cause_and_no_other() {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = open(config(&fs).shards(2).file_system(gate.before(&fs)));
        let (bad, good) = (key_in(&log, 0), key_in(&log, 1));
        let mut ledger = Ledger::default();
        ledger.append(&log, bad, 10).unwrap();
        gate.shut();
        let synced = log.append(bad, ledger.next(bad, 10));
        gate.wait_for_writer();
        let queued = log.append(bad, ledger.next(bad, 10));
        fs.fail(fault_at("shard-0000", Call::Sync, FaultKind::Error(EIO)));
        gate.open();
        let error = ledger.wait(bad, 1, synced).unwrap_err();
        assert!(matches!(error, AppendError::Indeterminate { .. }), "{error}");
        assert_poisoned(error.cause(), EIO);
        let error = ledger.wait(bad, 2, queued).unwrap_err();
        assert!(error.is_not_written(), "the record was never taken from the queue: {error}");
        assert_poisoned(error.cause(), EIO);

        wait_until_closed(&log, bad);
        let syncs = fs.calls(Call::Sync);
        for _ in 0..3 {
            let refused = log.try_append(bad, "back").unwrap_err();
            assert_poisoned(&refused.cause, EIO);
            assert_eq!(refused.payload, "back");
            let error = log.flush().wait().unwrap_err();
            assert_poisoned(error.cause(), EIO);
        }
        ledger.append(&log, good, 10).unwrap();
        let error = log.close().unwrap_err();
        assert_eq!(error.shard, 0);
        // The two syncs are of the append above, and of the other shard's close with
        // its seal.
        assert_eq!(fs.calls(Call::Sync) - syncs, 2, "the failed file is not synced again");
        ledger.check(&replayed(&log));
    }

    /// The cache shows the pages of the failed sync as clean. A sync by the next open
    /// would succeed and save nothing.
    #[test]
    fn reopening_trusts_only_what_is_on_the_disk() {
        // So large that no other file is synced in the meantime.
        let config = |fs: &SimFileSystem| config(fs).segment_bytes(1 << 20);
        for (killed, call) in [(false, Call::Sync), (true, Call::Sync), (false, Call::Write)] {
            let fs = SimFileSystem::new();
            let log = open(config(&fs));
            let mut ledger = Ledger::default();
            (0..3).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
            fs.fail(fault_at(".wal", call, FaultKind::Error(EIO)));
            let error = ledger.append(&log, 1, 1000).unwrap_err();
            assert_poisoned(error.cause(), EIO);
            let fs = if killed { fs.kill() } else { fs };
            drop(log);
            let log = open(config(&fs));
            let found = replayed(&log);
            ledger.check(&found);
            assert_eq!(found.of(1), [0, 1, 2]);
            ledger.append(&log, 1, 1000).unwrap();
            let after = fs.crash(&mut || false);
            drop(log);
            ledger.check(&replayed(&open(config(&after))));
        }
    }

    #[test]
    fn a_failed_write_poisons_its_shard() {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).shards(2));
        let (bad, good) = (key_in(&log, 0), key_in(&log, 1));
        fs.fail(fault_at("shard-0000", Call::Write, FaultKind::Error(EIO)));
        let error = log.append(bad, "x").wait().unwrap_err();
        assert!(matches!(error, AppendError::Indeterminate { .. }), "{error}");
        assert_poisoned(error.cause(), EIO);
        log.append(good, "x").wait().unwrap();
        assert_eq!(fs.fired(), 1);
    }

    #[test]
    fn interrupted_and_short_writes_and_reads_are_continued() {
        for (call, kind) in [
            (Call::Write, FaultKind::Error(EINTR)),
            (Call::Write, FaultKind::Short),
            (Call::Read, FaultKind::Error(EINTR)),
            (Call::Read, FaultKind::Short),
        ] {
            let fs = SimFileSystem::new();
            let log = open(config(&fs));
            let mut ledger = Ledger::default();
            for nth in [1, 3, 4] {
                fs.fail(Fault::new(call, nth, kind));
            }
            (0..6).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
            ledger.check(&replayed(&log));
            drop(log);
            ledger.check(&replayed(&open(config(&fs))));
            assert_eq!(fs.fired(), 3, "{call:?} {kind:?}");
        }
    }
}

mod panicking {
    use super::*;

    #[test]
    fn a_writer_panic_poisons_its_shard_and_no_caller_hangs() {
        must_end("the callers of a writer that panics", || {
            let (fs, gate) = (SimFileSystem::new(), Gate::default());
            let config = |fs: &SimFileSystem| config(fs).shards(2).queue_capacity(2);
            let log = open(config(&fs).file_system(gate.before(&fs)));
            let (bad, good) = (key_in(&log, 0), key_in(&log, 1));
            gate.shut();
            fs.fail(fault_at("shard-0000", Call::Sync, FaultKind::Panic));
            let in_flight = log.append(bad, "in flight");
            gate.wait_for_writer();
            std::thread::scope(|scope| {
                // Some of these are queued, the others wait for room.
                let many: Vec<_> =
                    (0..6).map(|_| scope.spawn(|| log.append(bad, "queued").wait())).collect();
                gate.open();
                let error = in_flight.wait().unwrap_err();
                assert!(matches!(error, AppendError::Indeterminate { .. }), "{error}");
                assert!(matches!(error.cause(), Cause::WriterPanicked), "{error}");
                for waiting in many {
                    let error = waiting.join().unwrap().unwrap_err();
                    assert!(error.is_not_written(), "{error}");
                }
            });
            wait_until_closed(&log, bad);
            let refused = log.try_append(bad, "x").unwrap_err();
            assert!(matches!(refused.cause, Cause::WriterPanicked), "{refused}");
            log.append(good, "x").wait().unwrap();
            for _ in 0..2 {
                let error = log.close().unwrap_err();
                assert!(matches!(error.cause, Cause::WriterPanicked), "{error}");
            }
            open(config(&fs));
        });
    }
}

mod interrupted {
    use super::*;

    #[test]
    fn endless_interruptions_end_in_an_error() {
        must_end("an append that is interrupted for ever", || {
            let fs = SimFileSystem::new();
            let log = open(config(&fs));
            let fault = Fault::new(Call::Write, 1, FaultKind::Error(EINTR));
            fs.fail(Fault { sticky: true, ..fault });
            let error = log.append(1, "x").wait().unwrap_err();
            assert!(error.is_not_written(), "{error}");
            assert!(matches!(error.cause(), Cause::OutOfResources(_)), "{error}");
            fs.clear_faults();
            log.append(1, "x").wait().expect("it is interrupted no more");
        });
    }
}

mod preparing_the_next_segment {
    use super::*;

    #[test]
    fn may_fail_or_panic_at_any_call_and_the_log_keeps_working() {
        let kinds = [FaultKind::Panic, FaultKind::Error(EIO), FaultKind::Error(ENOSPC)];
        let calls = [Call::Open, Call::Write, Call::Sync];
        for (call, kind) in calls.into_iter().flat_map(|call| kinds.map(|kind| (call, kind))) {
            let fs = SimFileSystem::new();
            let log = open(config(&fs));
            let mut ledger = Ledger::default();
            fs.fail(fault_at("0000000002.wal", call, kind));
            while fs.fired() == 0 {
                ledger
                    .append(&log, 1, 900)
                    .unwrap_or_else(|error| panic!("{call:?} {kind:?}: {error}"));
            }
            // Far into the segment after that.
            (0..12).for_each(|_| ledger.append(&log, 1, 900).unwrap());
            ledger.check(&replayed(&log));
            drop(log);
            ledger.check(&replayed(&open(config(&fs))));
        }
    }

    /// At twice its size a segment waits for the next one. The preparer's answer may be
    /// old.
    #[test]
    fn a_past_failure_does_not_poison_the_shard() {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        let mut ledger = Ledger::default();
        let fault = Fault::new(Call::Open, 1, FaultKind::Error(EIO));
        fs.fail(Fault { path_contains: Some("0000000002.wal".into()), ..fault });
        ledger.append(&log, 1, 2500).unwrap();
        ledger.append(&log, 1, 6000).unwrap();
        ledger.append(&log, 1, 10).unwrap();
        assert_eq!(fs.fired(), 1);
        ledger.check(&replayed(&log));
    }
}
