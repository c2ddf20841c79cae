//! A full queue reports itself through four calls. None of them loses or adds a record.
//! A gate blocks the writer in its sync, so that the queue stays full.
//!
//! Holds Q1 BOUND, Q4 WAKE (ARCHITECTURE.md).

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::gate::Gate;
use crate::support::{WakeCounter, append_all, config, must_end, open, payload, replayed};
use futures_executor::block_on;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{Cause, Config, ShardedWal, TryAppendError};

const LONG: Duration = Duration::from_secs(3600);

/// A log whose writer is blocked at the gate with one record. Its queue of four is
/// full: payloads 0 to 4 of key 1.
struct FullQueue {
    fs: SimFileSystem,
    gate: Gate,
    log: ShardedWal,
}

impl FullQueue {
    fn new() -> Self {
        Self::of(|config| config.queue_capacity(4), 4)
    }

    fn of(settings: impl Fn(Config) -> Config, depth: u64) -> Self {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = open(settings(config(&fs)).file_system(gate.before(&fs)));
        gate.shut();
        drop(log.append(1, payload(1, 0, 10)));
        gate.wait_for_writer();
        // The writer has taken the first record. The others stay in the queue.
        (1..=depth).for_each(|index| drop(log.append(1, payload(1, index, 10))));
        Self { fs, gate, log }
    }

    /// Blocks until the thread has found the queue full and waits.
    fn wait_until_blocked(&self, blocked: &thread::ScopedJoinHandle<'_, ()>) {
        // A blocked thread reports nothing. But while the gate is shut it can do
        // nothing else.
        (0..1000).for_each(|_| thread::yield_now());
        assert!(!blocked.is_finished(), "the producer must wait");
    }

    /// Opens the gate and checks that the log holds exactly these payloads.
    fn assert_holds(self, indices: impl Iterator<Item = u64>) {
        self.gate.open();
        self.log.close().expect("a sound disk");
        let log = open(config(&self.fs));
        assert_eq!(replayed(&log).of(1), indices.collect::<Vec<_>>());
    }
}

impl Drop for FullQueue {
    /// Opens the gate, so that a failing test reports its error and does not wait for
    /// the writer.
    fn drop(&mut self) {
        self.gate.open();
    }
}

fn assert_full(refused: TryAppendError, index: u64) {
    assert!(matches!(refused.cause, Cause::QueueFull), "{refused}");
    assert_eq!(refused.payload, payload(1, index, 10), "the payload comes back");
}

#[test]
fn try_append_on_a_full_queue_returns_the_payload() {
    let full = FullQueue::new();
    let refused = full.log.try_append(1, payload(1, 5, 10)).unwrap_err();
    assert_full(refused, 5);
    full.assert_holds(0..5);
}

#[test]
fn a_queue_over_its_byte_limit_is_full() {
    let full = FullQueue::of(|config| config.queue_bytes(45), 4);
    let refused = full.log.try_append(1, payload(1, 5, 10)).unwrap_err();
    assert_full(refused, 5);
    assert!(full.log.try_append(1, "1:5:").is_ok(), "a smaller one fits");
    full.assert_holds(0..6);
}

#[test]
fn a_record_larger_than_the_queue_is_queued_alone() {
    must_end("a record larger than the queue", || {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).queue_bytes(100));
        append_all(&log, 1, 0..3, 500);
        assert_eq!(replayed(&log).of(1), [0, 1, 2]);
    });
}

#[test]
fn append_timeout_returns_the_payload_after_its_timeout() {
    must_end("append_timeout", || {
        let full = FullQueue::new();
        let begun = Instant::now();
        let timeout = Duration::from_millis(30);
        assert_full(full.log.append_timeout(1, payload(1, 5, 10), timeout).unwrap_err(), 5);
        assert!(begun.elapsed() >= timeout);
        assert_full(full.log.append_timeout(1, payload(1, 5, 10), Duration::ZERO).unwrap_err(), 5);
        thread::scope(|scope| {
            let in_time =
                scope.spawn(|| drop(full.log.append_timeout(1, payload(1, 5, 10), LONG).unwrap()));
            full.wait_until_blocked(&in_time);
            full.gate.open();
        });
        full.assert_holds(0..6);
    });
}

#[test]
fn append_blocks_until_there_is_room() {
    must_end("append", || {
        let full = FullQueue::new();
        thread::scope(|scope| {
            let blocked = scope.spawn(|| drop(full.log.append(1, payload(1, 5, 10))));
            full.wait_until_blocked(&blocked);
            full.gate.open();
        });
        full.assert_holds(0..6);
    });
}

#[test]
fn append_batch_blocks_until_there_is_room_for_all_of_it() {
    must_end("append_batch", || {
        let full = FullQueue::new();
        thread::scope(|scope| {
            let batch = || full.log.append_batch((5..9).map(|index| (1, payload(1, index, 10))));
            let blocked = scope.spawn(move || batch().wait().unwrap());
            full.wait_until_blocked(&blocked);
            full.gate.open();
        });
        full.assert_holds(0..9);
    });
}

#[test]
fn all_blocked_producers_append_once_there_is_room() {
    must_end("sixteen producers", || {
        let full = FullQueue::new();
        thread::scope(|scope| {
            for key in 2..18 {
                let log = &full.log;
                scope.spawn(move || append_all(log, key, 0..20, 10));
            }
            full.gate.open();
        });
        let found = replayed(&full.log);
        (2..18).for_each(|key| assert!(found.of(key).into_iter().eq(0..20)));
        full.assert_holds(0..5);
    });
}

#[test]
fn append_async_resolves_when_there_is_room() {
    must_end("append_async", || {
        let full = FullQueue::new();
        {
            let mut waiting = pin!(full.log.append_async(1, payload(1, 5, 10)));
            let woken = Arc::new(WakeCounter::default());
            let waker = Waker::from(woken.clone());
            let first = waiting.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(first.is_pending());
            assert_eq!(woken.count(), 0);
            full.gate.open();
            block_on(waiting).unwrap();
        }
        full.assert_holds(0..6);
    });
}

#[test]
fn a_dropped_append_future_leaves_nothing_behind() {
    must_end("a dropped future", || {
        let full = FullQueue::new();
        drop(full.log.append_async(1, payload(1, 90, 10)));
        let waker = Waker::from(Arc::new(WakeCounter::default()));
        {
            let mut dropped = pin!(full.log.append_async(1, payload(1, 91, 10)));
            let polled = dropped.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(matches!(polled, Poll::Pending));
        }
        full.gate.open();
        append_all(&full.log, 1, 5..7, 10);
        full.assert_holds(0..7);
    });
}

/// Q1 BOUND: a permit counts against the queue until it is dropped.
#[test]
fn a_dropped_permit_gives_its_room_back() {
    must_end("a dropped permit", || {
        let log = open(config(&SimFileSystem::new()).queue_capacity(1));
        let permit = block_on(log.reserve(1, 10)).unwrap();
        let refused = log.try_append(1, payload(1, 0, 10)).unwrap_err();
        assert!(matches!(refused.cause, Cause::QueueFull), "{refused:?}");
        drop(permit);
        log.append_timeout(1, payload(1, 0, 10), LONG).unwrap().wait().unwrap();
    });
}

/// Q4 WAKE: an append moves to another task after its record is queued.
#[test]
fn an_append_future_calls_the_waker_of_its_last_poll() {
    must_end("a moved append", || {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = open(config(&fs).file_system(gate.before(&fs)));
        gate.shut();
        let mut moved = pin!(log.append_async(1, payload(1, 0, 10)));
        let woken = Arc::new(WakeCounter::default());
        for waker in [Waker::noop().clone(), Waker::from(woken.clone())] {
            assert!(moved.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        gate.open();
        while woken.count() == 0 {
            thread::yield_now();
        }
        block_on(moved).unwrap();
    });
}
