//! Models of the queue in use: order, limits, parking, batches, requests.

use std::task::Waker;

use loom::thread::{self, JoinHandle};

use super::{TaskThread, admit, check, drain, wait};
use crate::queue::backlog::{Admission, WaitsFor};
use crate::queue::queue::Queue;
use crate::queue::receiver::Receiver;
use crate::queue::requests::Work;
use crate::wait::sleeper::Sleeper;

/// No limit in bytes.
const ANY: u64 = u64::MAX;
/// No limit in values.
const ANY_NUMBER: usize = usize::MAX;

/// Puts a value into its slot.
fn put(value: u64) -> impl FnOnce(u64, &mut u64) {
    move |_, slot| *slot = value
}

/// Receives `count` values, and checks that their tickets are dense from 0, and that at most
/// `most` of them are in the ring: the receiver frees no slot before it has taken them all.
fn receive(
    queue: &Queue<u64>,
    receiver: &mut Receiver<u64>,
    count: usize,
    most: usize,
) -> Vec<u64> {
    let mut values = Vec::new();
    while values.len() < count {
        wait_for_values(queue, receiver);
        let earlier = values.len();
        drain(receiver, |received| {
            let next = values.len() as u64;
            assert_eq!(received.ticket, next, "Q2 ORDER: tickets come in order");
            values.push(std::mem::take(received.value));
            true
        });
        admit(receiver);
        assert!(values.len() - earlier <= most, "Q1 BOUND: {values:?} after {earlier}");
    }
    values
}

/// Waits until there are values, and admits pushes until then.
fn wait_for_values(queue: &Queue<u64>, receiver: &mut Receiver<u64>) {
    loop {
        match wait(queue, receiver) {
            Work::Values => return,
            Work::Admit => admit(receiver),
            other => panic!("there is nothing else to do: {other:?}"),
        }
    }
}

/// Two producers push one value each, while a third thread receives them. At most `most`
/// values are in the ring at any time.
fn two_producers(capacity: usize, bytes_max: u64, most: usize) {
    let (queue, mut receiver) = Queue::new(capacity, bytes_max);
    let produce = |value: u64| {
        let queue = queue.clone();
        thread::spawn(move || {
            queue.push(1, 1, None, put(value)).expect("the queue stays open");
        })
    };
    let producers = [produce(1), produce(2)];
    let mut values = receive(&queue, &mut receiver, 2, most);
    values.sort_unstable();
    assert_eq!(values, [1, 2], "Q2 ORDER: each value comes once");
    join(producers);
}

/// Joins every thread. Loom does not see the orderings of std's `Arc`, so no model thread
/// may be the one that drops the queue.
fn join<R>(threads: impl IntoIterator<Item = JoinHandle<R>>) -> Vec<R> {
    threads.into_iter().map(|thread| thread.join().expect("it returned")).collect()
}

/// Q1 BOUND, Q2 ORDER, Q4 WAKE: two producers share one slot. One of them finds the ring
/// full and may park, and so may the receiver.
#[test]
fn two_producers_share_one_slot() {
    check("two_producers_share_one_slot", 2, || two_producers(1, ANY, 1));
}

/// Q1 BOUND, Q2 ORDER, Q4 WAKE: one producer, two slots, three values.
#[test]
fn slots_are_reused() {
    check("slots_are_reused", 2, || {
        let (queue, mut receiver) = Queue::new(2, ANY);
        let pushing = queue.clone();
        let producer = thread::spawn(move || {
            (0..3_u64).all(|n| matches!(pushing.push(1, 0, None, put(n + 1)), Ok(at) if at == n))
        });
        let values = receive(&queue, &mut receiver, 3, ANY_NUMBER);
        assert_eq!(values, [1, 2, 3], "Q2 ORDER");
        assert_eq!(join([producer]), [true], "Q2 ORDER: a push returns its ticket");
    });
}

/// Q4 WAKE: the receiver parks on an empty ring before or after each push.
#[test]
fn an_empty_ring_parks_the_receiver() {
    check("an_empty_ring_parks_the_receiver", 3, || {
        let (queue, mut receiver) = Queue::new(2, ANY);
        let pushing = queue.clone();
        let producer = thread::spawn(move || {
            for n in 1..=2_u64 {
                pushing.try_push(1, 0, put(n)).expect("two values fit two slots");
            }
        });
        assert_eq!(receive(&queue, &mut receiver, 2, ANY_NUMBER), [1, 2]);
        join([producer]);
    });
}

/// Q1 BOUND, Q4 WAKE: there are free slots, but each value alone reaches the byte limit.
/// One producer parks until the other's value is received, unless both raced past the limit.
#[test]
fn the_byte_limit_parks_and_wakes_producers() {
    check("the_byte_limit_parks_and_wakes_producers", 2, || two_producers(2, 1, 2));
}

/// Q1 BOUND, Q2 ORDER: a batch of two beside single values, in two slots. It has two
/// consecutive tickets, and no other value uses its second slot meanwhile.
#[test]
fn a_batch_appears_whole() {
    check("a_batch_appears_whole", 2, || {
        let (queue, mut receiver) = Queue::new(2, ANY);
        let (single, batch) = (queue.clone(), queue.clone());
        let single = thread::spawn(move || single.push(1, 0, None, put(7)));
        let batch = thread::spawn(move || batch.push(2, 0, None, put(10)));
        let (mut next, mut received) = (0, Vec::new());
        while next < 3 {
            wait_for_values(&queue, &mut receiver);
            drain(&mut receiver, |value| {
                assert_eq!(value.ticket, next, "Q2 ORDER: tickets come in order");
                next += u64::from(value.tickets);
                received.push((*value.value, value.tickets));
                true
            });
            admit(&mut receiver);
        }
        received.sort_unstable();
        assert_eq!(received, [(7, 1), (10, 2)], "Q2 ORDER: each value comes once");
        for pushed in join([single, batch]) {
            assert!(pushed.is_ok(), "the queue stays open");
        }
    });
}

/// Q4 WAKE: a task waits for room in a ring of one slot, beside a thread that does.
#[test]
fn a_task_and_a_thread_wait_for_room() {
    check("a_task_and_a_thread_wait_for_room", 1, || {
        let (queue, mut receiver) = Queue::new(1, ANY);
        queue.try_push(1, 0, put(1)).expect("the ring is empty");
        let (beside, polling) = (queue.clone(), queue.clone());
        let beside = thread::spawn(move || beside.push(1, 0, None, put(10)));
        let awaiting = thread::spawn(move || {
            let task = TaskThread::new();
            let sleeper = Sleeper::Task(Waker::from(task.clone()));
            let pending = polling.line_up(1, 0, WaitsFor::Room, sleeper, put(20));
            task.run(|| match pending.admission() {
                Admission::Waiting => None,
                decided => Some(decided),
            })
        });
        let mut values = receive(&queue, &mut receiver, 3, ANY_NUMBER);
        values.sort_unstable();
        assert_eq!(values, [1, 10, 20], "Q2 ORDER: each value comes once");
        join([beside]);
        join([awaiting]);
    });
}

/// Q4 WAKE, Q2 ORDER: a thread requests a sync after its push, while another thread
/// pushes. The sync is due once that push is received, and not before.
#[test]
fn a_sync_request_races_push() {
    check("a_sync_request_races_push", 1, || {
        let (queue, mut receiver) = Queue::new(2, ANY);
        let (beside, asking) = (queue.clone(), queue.clone());
        let beside = thread::spawn(move || beside.try_push(1, 0, put(1)));
        let asked = thread::spawn(move || {
            let ticket = asking.try_push(1, 0, put(2)).expect("there is room");
            let below = asking.request_sync();
            assert!(ticket < below, "what this thread pushed lies below its request");
            below
        });
        let (mut synced, mut received) = (None, Vec::new());
        while synced.is_none() || received.len() < 2 {
            match wait(&queue, &mut receiver) {
                Work::Values => drain(&mut receiver, |value| {
                    received.push(*value.value);
                    true
                }),
                Work::Sync => {
                    assert!(synced.is_none(), "one request, one sync");
                    assert!(received.contains(&2), "the request came after the push");
                    synced = Some(receiver.head());
                }
                other => panic!("unexpected work: {other:?}"),
            }
        }
        let below = asked.join().expect("it has asked");
        assert!(synced >= Some(below), "all below the request was received");
        join([beside]);
    });
}

/// Q4 WAKE: a seal is the only request, and an idle receiver wakes for it.
#[test]
fn a_seal_request_wakes_an_idle_receiver() {
    check("a_seal_request_wakes_an_idle_receiver", 3, || {
        let (queue, mut receiver) = Queue::<u64>::new(1, ANY);
        let asking = queue.clone();
        let asked = thread::spawn(move || asking.request_seal());
        assert_eq!(wait(&queue, &mut receiver), Work::Seal);
        join([asked]);
        let closing = queue.clone();
        let closing = thread::spawn(move || closing.close());
        assert_eq!(wait(&queue, &mut receiver), Work::Closed, "one request, one seal");
        join([closing]);
    });
}
