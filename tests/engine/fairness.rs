//! Appends that wait for room get it in the order in which they asked for it, and newcomers
//! come after them. What is withdrawn, closed or failed meanwhile leaves nothing behind.
//!
//! Holds B1 FIFO, B2 ANSWER, Q3 CLOSE, Q4 WAKE (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_executor::block_on;

use crate::support::gate::Gate;
use crate::support::{config, must_end, open, payload};
use shardwal::fs::sim::SimFileSystem;
use shardwal::{AppendError, Cause, Config, Durability, ShardedWal};

const LONG: Duration = Duration::from_secs(3600);

/// A log whose writer is blocked at the gate with one record, and whose queue is full.
struct Full {
    gate: Gate,
    log: ShardedWal,
}

impl Full {
    fn new(capacity: usize, settings: impl Fn(Config) -> Config) -> Self {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let config = settings(config(&fs).shards(1).queue_capacity(capacity));
        let log = open(config.file_system(gate.before(&fs)));
        gate.shut();
        drop(log.append(1, payload(1, 0, 10)));
        gate.wait_for_writer();
        while log.try_append(1, payload(1, 1, 10)).is_ok() {}
        Self { gate, log }
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        self.gate.open();
    }
}

/// Polls with a waker that does nothing, and returns whether it is pending.
fn is_pending(future: std::pin::Pin<&mut impl Future>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// B1 FIFO: tasks, a thread with a batch and a record larger than the queue wait. Newcomers
/// try without a pause. Each gets its position in the order in which it came.
#[test]
fn room_is_given_in_order() {
    must_end("room in order", || {
        let full = Full::new(8, |config| config.queue_bytes(400));
        let (log, is_over) = (&full.log, AtomicBool::new(false));
        let first = pin!(log.append_async(1, payload(1, 2, 10)));
        let heavy = pin!(log.append_async(2, payload(2, 0, 1000)));
        let last = pin!(log.append_async(3, payload(3, 0, 10)));
        let mut lined_up = [first, heavy];
        assert!(lined_up.iter_mut().all(|future| is_pending(future.as_mut())));
        let [first, heavy] = lined_up;
        thread::scope(|scope| {
            let batch = scope.spawn(|| {
                let batch = (0..6).map(|index| (4, payload(4, index, 10)));
                log.append_batch(batch).wait().unwrap();
            });
            // A batch that waits is seen by nothing. Its place in the line is not checked.
            let newcomers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut accepted = None;
                        while !is_over.load(Ordering::Relaxed) {
                            if let Ok(queued) = log.try_append(5, payload(5, 0, 10)) {
                                accepted = accepted.or(queued.position());
                            }
                        }
                        accepted
                    })
                })
                .collect();
            let mut last = last;
            assert!(is_pending(last.as_mut()));
            full.gate.open();
            let places = [block_on(first), block_on(heavy), block_on(last)];
            let places = places.map(|answer| answer.unwrap().sequence);
            is_over.store(true, Ordering::Relaxed);
            batch.join().unwrap();
            assert!(places.is_sorted(), "B1 FIFO: {places:?}");
            for newcomer in newcomers {
                let accepted = newcomer.join().unwrap().map(|position| position.sequence);
                assert!(accepted.is_none_or(|place| place > places[0]), "B1 FIFO: {accepted:?}");
            }
        });
    });
}

/// B1 FIFO: appends with a timeout, batches and tasks under an overload of newcomers. None is
/// refused.
#[test]
fn an_overload_of_newcomers_starves_nobody() {
    must_end("an overload of newcomers", || {
        let fs = SimFileSystem::new();
        let log = open(config(&fs).shards(1).queue_capacity(64));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        drop(log.try_append(1, payload(1, 0, 10)));
                    }
                });
            }
            for index in 0..50 {
                log.append_timeout(2, payload(2, index, 10), LONG).unwrap().wait().unwrap();
                let batch = (0..64).map(|index| (3, payload(3, index, 10)));
                log.append_batch(batch).wait().unwrap();
                block_on(log.append_async(4, payload(4, index, 10))).unwrap();
                let permit = block_on(log.reserve(5, 100)).unwrap();
                block_on(permit.append(payload(5, index, 10))).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
        });
    });
}

/// A payload that counts how many of its kind exist.
struct Counted(Arc<AtomicU64>);

impl Counted {
    fn payload(live: &Arc<AtomicU64>) -> Bytes {
        live.fetch_add(1, Ordering::Relaxed);
        Bytes::from_owner(Self(live.clone()))
    }
}

impl AsRef<[u8]> for Counted {
    /// Large enough to be moved, and not copied.
    fn as_ref(&self) -> &[u8] {
        &[7; 2000]
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// B2 ANSWER: futures that are withdrawn while the queue is full drop their payloads and wakers
/// at once, whatever waits before them.
#[test]
fn what_is_withdrawn_leaves_nothing_behind() {
    must_end("withdrawn futures", || {
        let full = Full::new(1, |config| config);
        let (live, waker) = (Arc::new(AtomicU64::new(0)), Arc::new(Noop));
        let mut stays = pin!(full.log.append_async(1, Counted::payload(&live)));
        assert!(is_pending(stays.as_mut()));
        for _ in 0..1000 {
            let waker = Waker::from(waker.clone());
            let mut withdrawn = pin!(full.log.append_async(1, Counted::payload(&live)));
            assert!(withdrawn.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            let mut reserve = pin!(full.log.reserve(1, 10));
            assert!(reserve.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(live.load(Ordering::Relaxed), 1, "only the one that stays");
        assert_eq!(Arc::strong_count(&waker), 1);
        full.gate.open();
        block_on(stays).unwrap();
        full.log.close().unwrap();
        assert_eq!(live.load(Ordering::Relaxed), 0);
    });
}

struct Noop;

impl Wake for Noop {
    fn wake(self: Arc<Self>) {}
}

/// Q3 CLOSE, B2 ANSWER: the log is closed while its disk hangs. What waits for room is refused
/// at once, and a payload comes back.
#[test]
fn a_close_refuses_what_waits_while_the_disk_hangs() {
    must_end("a close on a disk that hangs", || {
        let full = Full::new(1, |config| config);
        let log = &full.log;
        let mut append = pin!(log.append_async(1, payload(1, 5, 10)));
        let mut reserve = pin!(log.reserve(1, 10));
        assert!(is_pending(append.as_mut()) && is_pending(reserve.as_mut()));
        thread::scope(|scope| {
            let blocked = scope.spawn(|| {
                let refused = log.append_timeout(1, vec![7; 5000], LONG).unwrap_err();
                assert_eq!(refused.payload.len(), 5000, "the payload comes back");
            });
            // A blocked thread reports nothing. It must wait before the close.
            thread::sleep(Duration::from_millis(50));
            let closing = scope.spawn(|| log.close().unwrap());
            let is_closed = |error: AppendError| matches!(error.cause(), Cause::Closed);
            assert!(is_closed(block_on(append).unwrap_err()));
            assert!(is_closed(block_on(reserve).unwrap_err()));
            blocked.join().unwrap();
            full.gate.open();
            closing.join().unwrap();
        });
    });
}

/// Shuts the gate again as the first commit is answered.
struct Shuts(Gate);

impl Wake for Shuts {
    fn wake(self: Arc<Self>) {
        self.0.shut();
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Q4 WAKE: a commit makes room for a reservation, and then its sync hangs. The task that has the
/// room is woken nevertheless.
#[test]
fn a_granted_reservation_is_woken_while_the_disk_hangs() {
    must_end("a granted reservation", || {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = open(config(&fs).shards(1).queue_capacity(4).file_system(gate.before(&fs)));
        gate.shut();
        let mut first = pin!(log.append_async(1, payload(1, 0, 10)));
        let shuts = Waker::from(Arc::new(Shuts(gate.clone())));
        assert!(first.as_mut().poll(&mut Context::from_waker(&shuts)).is_pending());
        gate.wait_for_writer();
        while log.try_append(1, payload(1, 1, 10)).is_ok() {}
        let woken = Arc::new(Flag(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut reserve = pin!(log.reserve(1, 10));
        assert!(reserve.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        gate.open();
        // In the sync of the second commit, or past it if the waker came late.
        while !woken.0.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let granted = reserve.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(matches!(granted, Poll::Ready(Ok(_))));
        gate.open();
    });
}

/// B1 FIFO: many tasks wait for room, and a commit of few records makes some. The first of them
/// have it while the sync hangs.
#[test]
fn a_commit_gives_room_before_its_sync() {
    must_end("room before a sync", || {
        let full = Full::new(256, |config| config.max_commit_records(4));
        let waiting = (0..40).map(|index| full.log.append_async(1, payload(1, index, 10)));
        let mut waiting: Vec<_> = waiting.map(Box::pin).collect();
        assert!(waiting.iter_mut().all(|append| is_pending(append.as_mut())));
        let given = || waiting.iter().filter(|append| append.position().is_some()).count();
        assert_eq!(given(), 0);
        // The first commit has one record, each later one makes room for four. One of the two calls
        // may be that of the next segment.
        full.gate.let_pass(2);
        wait_until(|| given() > 0);
        assert!(given() <= 8, "{}", given());
    });
}

/// Q4 WAKE: a future that waits for room moves to another task, and that one is woken.
#[test]
fn an_append_that_waits_for_room_calls_its_last_waker() {
    must_end("a moved append", || {
        let full = Full::new(1, |config| config);
        let mut append = pin!(full.log.append_async(1, payload(1, 5, 10)));
        assert!(is_pending(append.as_mut()));
        full.gate.open();
        block_on(append).unwrap();
    });
}

/// Q4 WAKE: a record is admitted while its future is not polled. The next poll finds the answer.
#[test]
fn a_record_is_admitted_without_its_task() {
    must_end("an admission without a poll", || {
        let full = Full::new(1, |config| config);
        let mut append = pin!(full.log.append_async(1, payload(1, 5, 10)));
        assert!(is_pending(append.as_mut()));
        assert_eq!(append.position(), None);
        full.gate.open();
        full.log.append(1, payload(1, 6, 10)).wait().unwrap();
        let position = append.position().expect("it was before that one");
        let polled = append.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(answer) = polled else { panic!("it is answered") };
        assert_eq!(answer.unwrap(), position);
    });
}

/// Q1 BOUND: a permit's room is its own. A larger payload is refused, and the room is free again.
#[test]
fn a_permit_holds_its_room() {
    must_end("a permit", || {
        let log = open(config(&SimFileSystem::new()).shards(1).queue_capacity(2));
        let permits =
            [block_on(log.reserve(1, 10)).unwrap(), block_on(log.reserve(1, 10)).unwrap()];
        let refused = log.try_append(1, "x").unwrap_err();
        assert!(matches!(refused.cause, Cause::QueueFull), "{refused}");
        let mut waits = pin!(log.reserve(1, 10));
        assert!(is_pending(waits.as_mut()), "the capacity is two");
        let [kept, used] = permits;
        let refused = block_on(used.append("longer than ten bytes")).unwrap_err();
        assert!(matches!(refused.cause(), Cause::TooLarge { found: 21, max: 10, .. }), "{refused}");
        drop(block_on(waits).unwrap());
        block_on(kept.append("kept")).unwrap();
        assert_eq!(log.stats().total.records, 1);
    });
}

/// A reservation is refused below the minimum of free space. A permit that was given before
/// appends nevertheless.
#[test]
fn a_reservation_observes_the_free_space() {
    must_end("free space", || {
        let fs = SimFileSystem::new();
        fs.set_capacity(Some(400 << 10));
        let log = open(config(&fs).shards(1).free_space_min_bytes(96 << 10));
        let permit = block_on(log.reserve(1, 10)).unwrap();
        fs.set_capacity(Some(80 << 10));
        while log.try_append(1, "x").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
        let refused = block_on(log.reserve(1, 10)).unwrap_err();
        assert!(matches!(refused.cause(), Cause::BelowFreeSpaceMin { .. }), "{refused}");
        block_on(permit.append("y")).unwrap();
    });
}

/// Counts the calls of its waker.
#[derive(Default)]
struct Woken(AtomicU64);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Polls a future that is pending, with a waker of its own.
fn poll_pending(future: std::pin::Pin<&mut impl Future>) -> Arc<Woken> {
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
    woken
}

fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A log of one record whose writer is idle. A permit has the room.
fn reserved(durability: Durability) -> (Gate, ShardedWal) {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let config = config(&fs).shards(1).queue_capacity(1).durability(durability);
    let log = open(config.file_system(gate.before(&fs)));
    (gate, log)
}

/// Q1 BOUND: a reservation is granted, and its future is dropped without another poll.
#[test]
fn a_granted_reservation_that_is_dropped_gives_its_room_back() {
    must_end("a dropped reservation", || {
        for durability in [Durability::Sync, Durability::Buffered] {
            let (_, log) = reserved(durability);
            let permit = block_on(log.reserve(1, 10)).unwrap();
            {
                let mut waits = pin!(log.reserve(1, 10));
                let woken = poll_pending(waits.as_mut());
                drop(permit);
                wait_until(|| woken.0.load(Ordering::Relaxed) > 0);
            }
            log.append_timeout(1, payload(1, 0, 10), LONG).unwrap().wait().unwrap();
            let permit = block_on(log.reserve(1, 10)).unwrap().into_owned();
            let refused = log.try_append(1, payload(1, 1, 10)).unwrap_err();
            assert!(matches!(refused.cause, Cause::QueueFull), "{refused}");
            drop(permit);
        }
    });
}

/// Q4 WAKE: a record is admitted before its commit, and its task is woken by the answer. A future
/// that is dropped in between drops its waker.
#[test]
fn an_admitted_append_waits_for_its_answer() {
    must_end("an admitted append", || {
        for is_dropped in [true, false] {
            let (gate, log) = reserved(Durability::Sync);
            let permit = block_on(log.reserve(1, 10)).unwrap();
            let mut append = Box::pin(log.append_async(1, payload(1, 0, 10)));
            let woken = poll_pending(append.as_mut());
            gate.shut();
            drop(permit);
            gate.wait_for_writer();
            assert!(append.position().is_some(), "it is in the commit");
            assert_eq!(woken.0.load(Ordering::Relaxed), 0, "it has no answer");
            if is_dropped {
                drop(append);
                let count = Arc::strong_count(&woken);
                gate.open();
                assert_eq!(count, 1, "the waker was dropped");
            } else {
                gate.open();
                wait_until(|| woken.0.load(Ordering::Relaxed) > 0);
                block_on(append).unwrap();
            }
        }
    });
}

/// B2 ANSWER: a payload that waited for room comes back after its timeout.
#[test]
fn a_payload_comes_back_after_its_timeout() {
    must_end("a timeout", || {
        let full = Full::new(1, |config| config);
        let timeout = Duration::from_millis(20);
        let refused = full.log.append_timeout(1, vec![7; 5000], timeout).unwrap_err();
        assert!(matches!(refused.cause, Cause::QueueFull), "{refused}");
        assert_eq!(refused.payload, vec![7; 5000]);
    });
}

/// Q4 WAKE: several tasks wait for one slot, and none of them does anything meanwhile. Each commit
/// admits the next one.
#[test]
fn each_commit_admits_the_next_append() {
    must_end("appends that wait", || {
        let full = Full::new(1, |config| config);
        let mut appends: Vec<_> =
            (2..6).map(|index| Box::pin(full.log.append_async(1, payload(1, index, 10)))).collect();
        let woken: Vec<_> =
            appends.iter_mut().map(|append| poll_pending(append.as_mut())).collect();
        full.gate.open();
        for (append, woken) in appends.into_iter().zip(woken) {
            wait_until(|| woken.0.load(Ordering::Relaxed) > 0);
            block_on(append).unwrap();
        }
    });
}
