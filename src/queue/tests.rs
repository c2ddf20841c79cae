//! Tests of the queue on one thread: order, requests, how a drain ends.

use std::task::Waker;

use crate::queue::backlog::{Admission, PendingPush, WaitsFor};
use crate::queue::queue::Queue;
use crate::queue::receiver::{Received, Receiver};
use crate::queue::requests::Work;
use crate::util::sync::Arc;
use crate::wait::sleeper::Sleeper;

/// Q2 ORDER: a value that the owner pushes to itself comes after the queued values.
#[test]
fn a_bypassing_value_keeps_its_place() {
    let (queue, mut receiver) = Queue::<u64>::new(8, u64::MAX);
    let fill = |ticket, value: &mut u64| *value = 10 * (ticket + 1);
    queue.try_push(1, 1, fill).expect("there is room");
    receiver.try_push(1, fill).expect("there is room");
    assert!(!receiver.has_bypassed(), "the value is in its slot");
    let mut received = Vec::new();
    let mut drain = |receiver: &mut Receiver<u64>| {
        receive(receiver, |Received { ticket, value, .. }| {
            received.push((ticket, *value));
            true
        });
    };
    drain(&mut receiver);
    receiver.try_push(1, fill).expect("there is room");
    assert!(receiver.has_bypassed(), "nothing was before it");
    queue.try_push(1, 1, fill).expect("there is room");
    drain(&mut receiver);
    drain(&mut receiver);
    assert_eq!(received, [(0, 10), (1, 20), (2, 30), (3, 40)]);
    assert_eq!((queue.depth(), queue.next_work()), (0, None));
}

/// Q4 WAKE: sync requests come faster than the values below them are received, and
/// the ring is never empty. Each request is still done.
#[test]
fn later_requests_do_not_postpone_a_sync() {
    let (queue, mut receiver) = Queue::<u64>::new(8, u64::MAX);
    let push = || queue.try_push(1, 0, |_, _| {}).expect("there is room");
    for _ in 0..3 {
        push();
    }
    let mut syncs = 0;
    for _ in 0..100 {
        push();
        queue.request_sync();
        let work = queue.next_work().expect("the ring is not empty");
        receiver.accept(work);
        match work {
            Work::Sync => {
                syncs += 1;
                receive(&mut receiver, |_| false);
            }
            _ => receive(&mut receiver, |_| false),
        }
    }
    assert!(syncs >= 20, "{syncs} syncs for 100 requests");
}

/// C3 ANSWER: a drain ends, so that its callers get their answers, even if a producer
/// pushes another value for each one that is received.
#[test]
fn drain_present_leaves_later_values() {
    let (queue, mut receiver) = Queue::<u64>::new(256, u64::MAX);
    let push = || queue.try_push(1, 0, |_, _| {}).is_ok();
    assert!((0..256).all(|_| push()), "there is room");
    let mut received = 0;
    let take = |_: Received<'_, u64>| {
        received += 1;
        assert!(received <= 256, "it goes on with what has come meanwhile");
        push();
    };
    drop(receiver.drain_present(|_, sleeper| Some(sleeper), take));
    assert_eq!(received, 256);
    assert_eq!(receiver.head(), 256);
}

/// B2 ANSWER: pushes are withdrawn while the receiver is in a commit that does not end. They do
/// not pile up.
#[test]
fn withdrawn_pushes_do_not_pile_up_behind_a_stopped_receiver() {
    let (queue, _receiver) = Queue::<u64>::new(1, u64::MAX);
    queue.try_push(1, 0, |_, _| {}).expect("there is room");
    let line_up = || {
        let sleeper = Sleeper::Task(Waker::noop().clone());
        queue.line_up(1, 0, WaitsFor::Answer, sleeper, |_, _| {})
    };
    let stays = line_up();
    let withdrawn = (0..10_000).map(|_| {
        let pending = line_up();
        queue.withdraw(&pending).expect("it waits");
        Arc::downgrade(&pending)
    });
    let withdrawn: Vec<_> = withdrawn.collect();
    let left = withdrawn.iter().filter(|pending| pending.upgrade().is_some()).count();
    assert!(left <= 256, "{left} of 10,000 are left");
    assert_eq!(Arc::strong_count(&stays), 2, "it keeps its place");
}

/// Lines up a push of `tickets` that no thread waits for.
fn line_up(queue: &Queue<u64>, tickets: u32) -> Arc<PendingPush<u64>> {
    let sleeper = Sleeper::Task(Waker::noop().clone());
    queue.line_up(tickets, 0, WaitsFor::Room, sleeper, |_, _| {})
}

/// Admits the pushes that have room.
fn admit(receiver: &mut Receiver<u64>) {
    receiver.accept(Work::Admit);
    drop(receiver.admit(|_, sleeper| Some(sleeper)));
}

/// Receives values, and admits pushes meanwhile.
fn receive(receiver: &mut Receiver<u64>, take: impl FnMut(Received<'_, u64>) -> bool) {
    drop(receiver.drain(|_, sleeper| Some(sleeper), take));
}

/// Q4 WAKE: a push that has room waits behind one that has none. The first is withdrawn,
/// which admits the second.
#[test]
fn a_withdrawn_push_lets_the_next_one_pass() {
    let (queue, mut receiver) = Queue::new(2, u64::MAX);
    queue.try_reserve(0).expect("the ring is empty");
    let (whole, single) = (line_up(&queue, 2), line_up(&queue, 1));
    admit(&mut receiver);
    assert_eq!(single.admission(), Admission::Waiting, "B1 FIFO");
    assert_eq!(queue.next_work(), None);
    assert!(queue.withdraw(&whole).is_some(), "it waits");
    assert_eq!(queue.next_work(), Some(Work::Admit));
    admit(&mut receiver);
    assert_eq!(single.admission(), Admission::Admitted(0));
    receive(&mut receiver, |_| true);
    assert_eq!(queue.next_work(), None);
}

/// B2 ANSWER: pushes that line up after the close are dropped with the queue.
#[test]
fn a_dropped_queue_drops_what_waits() {
    let (queue, receiver) = Queue::new(1, u64::MAX);
    queue.try_push(1, 0, |_, _| {}).expect("the ring is empty");
    let earlier = line_up(&queue, 1);
    drop(receiver);
    let late = line_up(&queue, 1);
    for pending in [&earlier, &late] {
        assert_eq!(pending.admission(), Admission::Refused, "Q3 CLOSE");
    }
    drop(queue);
    assert_eq!([earlier, late].map(|pending| Arc::strong_count(&pending)), [1, 1]);
}

/// Q1 BOUND: a push that waits has a slot, and exceeds the byte limit.
#[test]
fn an_admission_observes_the_byte_limit() {
    let (queue, mut receiver) = Queue::new(4, 10);
    queue.try_push(1, 6, |_, _| {}).expect("the ring is empty");
    let sleeper = Sleeper::Task(Waker::noop().clone());
    let pending = queue.line_up(1, 6, WaitsFor::Room, sleeper, |_, _| {});
    admit(&mut receiver);
    assert_eq!(pending.admission(), Admission::Waiting);
    receive(&mut receiver, |_| true);
    assert_eq!(pending.admission(), Admission::Admitted(1));
}

/// B1 FIFO: a push that waits gets its slot once 512 values before it are received, while the
/// receiver goes on with the others. Several pushes wait for more, but for half of them at most.
#[test]
fn a_drain_admits_what_waits_before_its_end() {
    // The first look is after 64 values, when 1,984 are left.
    for (waiting, expected) in [(1, 64 + 512), (3, 64 + 992)] {
        let (queue, mut receiver) = Queue::<u64>::new(2048, u64::MAX);
        let push = || queue.try_push(1, 0, |_, _| {});
        assert!((0..2048).all(|_| push().is_ok()), "there is room");
        let pending: Vec<_> = (0..waiting).map(|_| line_up(&queue, 1)).collect();
        let mut admitted_at = None;
        receive(&mut receiver, |received| {
            if pending.iter().all(|pending| pending.admission() != Admission::Waiting) {
                admitted_at.get_or_insert(received.ticket);
            }
            true
        });
        let admitted_at = admitted_at.expect("they are admitted before the end");
        assert!(
            (expected..expected + 64).contains(&admitted_at),
            "{admitted_at} is not {expected}"
        );
        assert_eq!(receiver.head(), 2048 + waiting, "they are received with the others");
        assert!(push().is_ok(), "the gate is open");
    }
}

/// B1 FIFO: a producer is stopped between its claim and its value. There is nothing to receive, and
/// a push that has room gets it at once.
#[test]
fn a_stopped_producer_delays_no_admission() {
    let (queue, mut receiver) = Queue::<u64>::new(1024, u64::MAX);
    let first = queue.claim(1, 0).expect("the ring is empty");
    assert!((0..99).all(|_| queue.try_push(1, 0, |_, _| {}).is_ok()), "there is room");
    let whole = line_up(&queue, 1024);
    let single = line_up(&queue, 1);
    assert!(queue.withdraw(&whole).is_some(), "it waits");
    assert_eq!(queue.next_work(), Some(Work::Admit));
    admit(&mut receiver);
    assert_eq!(single.admission(), Admission::Admitted(100));
    queue.publish(first, 1, 0, |_, _| {});
    receive(&mut receiver, |_| true);
    assert_eq!(receiver.head(), 101, "Q2 ORDER");
}

/// The ring keeps memory for as many values as were in it at once, whatever its capacity.
#[test]
fn a_ring_reuses_the_memory_of_few_slots() {
    let (queue, mut receiver) = Queue::<u64>::new(1 << 16, u64::MAX);
    let mut uses = 0;
    for _ in 0..1_000 {
        let fill = |_, uses_of_slot: &mut u64| *uses_of_slot += 1;
        assert!((0..100).all(|_| queue.try_push(1, 0, fill).is_ok()), "there is room");
        uses = 0;
        drop(receiver.drain(
            |_, _| None,
            |received| {
                uses += *received.value;
                true
            },
        ));
    }
    let slots = 100 * 100_000 / uses;
    assert!(slots <= 400, "{slots} slots for 100 values at once");
}
