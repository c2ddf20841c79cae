//! Models of the mailbox at work: order, bounds, parking, batches, requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

use loom::thread::{self, JoinHandle};

use super::{TaskThread, check};
use crate::mailbox::{Mailbox, Receiver, Work};
use crate::sync::Arc;

/// No bound in bytes.
const ANY: u64 = u64::MAX;

/// Receives until `count` values are there, and checks that their tickets are
/// dense from 0.
fn receive<T>(receiver: &mut Receiver<T>, count: usize) -> Vec<T> {
    let mut values = Vec::new();
    while values.len() < count {
        assert_eq!(receiver.wait(), Work::Values, "there is nothing else to do");
        receiver.drain(
            |_| 0,
            |ticket, value| {
                assert_eq!(ticket, values.len() as u64, "Q2 ORDER: tickets come in order");
                values.push(value);
                true
            },
        );
    }
    values
}

/// Two producers push a value each, while a third thread receives them. In
/// between there are never more than `most`.
fn two_producers(capacity: usize, bytes_max: u64, most: u64) {
    let (mailbox, mut receiver) = Mailbox::new(capacity, bytes_max);
    let live = Arc::new(AtomicU64::new(0));
    let produce = |value: u64| {
        let (mailbox, live) = (mailbox.clone(), live.clone());
        thread::spawn(move || {
            let make = |_| {
                let live = live.fetch_add(1, Ordering::Relaxed) + 1;
                assert!(live <= most, "Q1 BOUND: {live} values of one byte in the ring");
                value
            };
            mailbox.push(1, 1, None, make).expect("nobody closes");
        })
    };
    let producers = [produce(0), produce(1)];
    let mut values = receive_live(&mut receiver, 2, &live);
    values.sort_unstable();
    assert_eq!(values, [0, 1], "Q2 ORDER: each value comes once");
    join(producers);
}

/// Loom does not see what std's `Arc` orders, so the mailbox must not end on
/// one of its threads.
fn join<R>(threads: impl IntoIterator<Item = JoinHandle<R>>) -> Vec<R> {
    threads.into_iter().map(|thread| thread.join().expect("it returned")).collect()
}

/// Receives while counting down `live`.
fn receive_live(receiver: &mut Receiver<u64>, count: usize, live: &AtomicU64) -> Vec<u64> {
    let mut values = Vec::new();
    while values.len() < count {
        assert_eq!(receiver.wait(), Work::Values, "there is nothing else to do");
        receiver.drain(
            |_| 1,
            |ticket, value| {
                live.fetch_sub(1, Ordering::Relaxed);
                assert_eq!(ticket, values.len() as u64, "Q2 ORDER: tickets come in order");
                values.push(value);
                true
            },
        );
    }
    values
}

/// Q1 BOUND, Q2 ORDER, Q4 WAKE: one slot for two producers: one of them finds
/// the ring full and may park, and so may the receiver.
#[test]
fn two_producers_share_one_slot() {
    check("two_producers_share_one_slot", 2, || two_producers(1, ANY, 1));
}

/// Q1 BOUND, Q2 ORDER, Q4 WAKE: one producer, two slots, three values.
#[test]
fn the_slots_are_used_again() {
    check("the_slots_are_used_again", 2, || {
        let (mailbox, mut receiver) = Mailbox::new(2, ANY);
        let producer =
            thread::spawn(move || (0..3_u64).all(|n| mailbox.push(1, 0, None, |_| n) == Ok(n)));
        assert_eq!(receive(&mut receiver, 3), [0, 1, 2], "Q2 ORDER");
        assert_eq!(join([producer]), [true], "Q2 ORDER: a push returns its ticket");
    });
}

/// Q4 WAKE: the receiver parks on an empty ring before or after each push.
#[test]
fn an_empty_ring_parks_the_receiver() {
    check("an_empty_ring_parks_the_receiver", 3, || {
        let (mailbox, mut receiver) = Mailbox::new(2, ANY);
        let producer = thread::spawn(move || {
            for n in 0..2_u64 {
                mailbox.try_push(1, 0, |_| n).expect("two values fit two slots");
            }
        });
        assert_eq!(receive(&mut receiver, 2), [0, 1]);
        join([producer]);
    });
}

/// Q1 BOUND, Q4 WAKE: there are slots left, but one value is as heavy as all
/// may be together: the other parks until it has been received, unless both
/// raced past the bound.
#[test]
fn a_bound_in_bytes_parks_producers_and_wakes_them() {
    check("a_bound_in_bytes_parks_producers_and_wakes_them", 2, || two_producers(2, 1, 2));
}

/// Q2 ORDER: a batch of two beside single values, in two slots: where its
/// first value is seen, its second follows in the same drain.
#[test]
fn a_batch_appears_whole() {
    check("a_batch_appears_whole", 2, || {
        let (mailbox, mut receiver) = Mailbox::new(2, ANY);
        let single = mailbox.clone();
        let single = thread::spawn(move || single.push(1, 0, None, |_| 7));
        let batch = thread::spawn(move || {
            let mut values = [11, 10].into_iter();
            let make = |_| values.next().expect("two tickets, the last one first");
            mailbox.push(2, 0, None, make)
        });
        let mut drains = Vec::new();
        while drains.iter().flatten().count() < 3 {
            assert_eq!(receiver.wait(), Work::Values, "there is nothing else to do");
            let mut drained = Vec::new();
            receiver.drain(
                |_| 0,
                |_, value| {
                    drained.push(value);
                    true
                },
            );
            drains.push(drained);
        }
        let whole = drains.iter().any(|drained| drained.windows(2).any(|pair| pair == [10, 11]));
        assert!(whole, "Q2 ORDER: the batch came in parts: {drains:?}");
        join([single, batch]);
    });
}

/// Q4 WAKE: a task waits for room in a ring of one slot, beside a thread that
/// does.
#[test]
fn a_task_and_a_thread_wait_for_room() {
    check("a_task_and_a_thread_wait_for_room", 2, || {
        let (mailbox, mut receiver) = Mailbox::new(1, ANY);
        mailbox.try_push(1, 0, |_| 0).expect("the ring is empty");
        let beside = mailbox.clone();
        let beside = thread::spawn(move || beside.push(1, 0, None, |_| 10));
        let awaiting = thread::spawn(move || {
            let task = TaskThread::new();
            let waker = Waker::from(task.clone());
            let (mut context, mut enrolled) = (Context::from_waker(&waker), None);
            task.run(|| mailbox.poll_push(0, &mut context, &mut enrolled, |_| 20))
        });
        let mut values = receive(&mut receiver, 3);
        values.sort_unstable();
        assert_eq!(values, [0, 10, 20], "Q2 ORDER: each value comes once");
        join([beside, awaiting]);
    });
}

/// Q4 WAKE, Q2 ORDER: a sync is asked for after a push, while another thread
/// pushes: it is due once the push was received, and not before.
#[test]
fn a_sync_request_races_push() {
    check("a_sync_request_races_push", 2, || {
        let (mailbox, mut receiver) = Mailbox::new(2, ANY);
        let beside = mailbox.clone();
        let beside = thread::spawn(move || beside.push(1, 0, None, |_| 1));
        let asked = thread::spawn(move || {
            let ticket = mailbox.push(1, 0, None, |_| 2).expect("nobody closes");
            let below = mailbox.request_sync();
            assert!(ticket < below, "what this thread pushed lies below its request");
            below
        });
        let (mut synced, mut received) = (None, Vec::new());
        while synced.is_none() || received.len() < 2 {
            match receiver.wait() {
                Work::Values => receiver.drain(
                    |_| 0,
                    |_, value| {
                        received.push(value);
                        true
                    },
                ),
                Work::Sync => {
                    assert!(synced.is_none(), "one request, one sync");
                    assert!(received.contains(&2), "the request came after the push");
                    synced = Some(receiver.head());
                }
                other => panic!("nobody asked for {other:?}"),
            }
        }
        let below = asked.join().expect("it has asked");
        assert!(synced >= Some(below), "all below the request was received");
        join([beside]);
    });
}

/// Q4 WAKE: a seal is the only thing that there is to do, twice.
#[test]
fn a_seal_request_wakes_an_idle_receiver() {
    check("a_seal_request_wakes_an_idle_receiver", 3, || {
        let (mailbox, mut receiver) = Mailbox::<u64>::new(1, ANY);
        let asking = mailbox.clone();
        let asked = thread::spawn(move || asking.request_seal());
        assert_eq!(receiver.wait(), Work::Seal);
        join([asked]);
        let closing = thread::spawn(move || mailbox.close());
        assert_eq!(receiver.wait(), Work::Closed, "one request, one seal");
        join([closing]);
    });
}
