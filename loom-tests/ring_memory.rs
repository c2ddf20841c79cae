//! Models of the ring's memory: groups of slots that are allocated as they are used, and moved.
//! A group has two slots here.

use loom::thread;

use super::{check, drain};
use crate::queue::queue::Queue;
use crate::queue::receiver::Receiver;

/// Receives the values below `end`, and checks that they are those of their tickets.
fn receive(receiver: &mut Receiver<u64>, end: u64) {
    drain(receiver, |next| {
        assert_eq!(*next.value, next.ticket, "Q2 ORDER");
        next.ticket + 1 < end
    });
    assert_eq!(receiver.head(), end, "Q2 ORDER: every value is received");
}

fn push(queue: &Queue<u64>) {
    queue.try_push(1, 0, |ticket, slot| *slot = ticket).expect("there is room");
}

/// Q2 ORDER: the receiver moves a group to a place for which two producers are about to allocate
/// one.
#[test]
fn a_move_races_two_allocations() {
    check("a_move_races_two_allocations", 2, || {
        let (queue, mut receiver) = Queue::new(4, u64::MAX);
        (0..2).for_each(|_| push(&queue));
        let producers = [queue.clone(), queue.clone()];
        let producers = producers.map(|queue| thread::spawn(move || push(&queue)));
        receive(&mut receiver, 2);
        for producer in producers {
            producer.join().expect("it has pushed");
        }
        receive(&mut receiver, 4);
    });
}

/// Q1 BOUND: the receiver frees more than a group at once. A producer then claims the ticket that
/// has the place of the group's first one.
#[test]
fn a_group_leaves_its_place_before_the_place_is_claimed() {
    check("a_group_leaves_its_place_before_the_place_is_claimed", 3, || {
        let (queue, mut receiver) = Queue::new(6, u64::MAX);
        (0..6).for_each(|_| push(&queue));
        let pushing = queue.clone();
        let producer = thread::spawn(move || {
            let fill = |ticket, slot: &mut u64| *slot = ticket;
            (0..3).filter(|_| pushing.try_push(1, 0, fill).is_ok()).count() as u64
        });
        receive(&mut receiver, 3);
        let pushed = producer.join().expect("it has tried");
        receive(&mut receiver, 6 + pushed);
    });
}
