//! Models of the backlog: pushes that wait for room in a ring of one slot are admitted, withdrawn,
//! refused by the close, or replaced by a reservation.

use std::task::Waker;

use loom::thread;

use super::{TaskThread, admit, check, drain, wait};
use crate::queue::backlog::{Admission, PendingPush, WaitsFor, Withdrawn};
use crate::queue::queue::{PushError, Queue};
use crate::queue::receiver::Receiver;
use crate::queue::requests::Work;
use crate::util::sync::Arc;
use crate::wait::sleeper::{NO_TASK, Sleeper, task_address};

/// No limit in bytes.
const ANY: u64 = u64::MAX;

/// A ring of one slot, with the value 1 in it.
fn full() -> (Arc<Queue<u64>>, Receiver<u64>) {
    let (queue, receiver) = Queue::new(1, ANY);
    queue.try_push(1, 0, |_, slot| *slot = 1).expect("the ring is empty");
    (queue, receiver)
}

/// Waits for nothing: the model checks the admission itself.
fn unwatched() -> Sleeper {
    Sleeper::Task(Waker::noop().clone())
}

/// Lines up a push that no thread waits for.
fn line_up(queue: &Queue<u64>, value: u64) -> Arc<PendingPush<u64>> {
    queue.line_up(1, 0, WaitsFor::Room, unwatched(), |_, slot| *slot = value)
}

/// Serves the queue until `is_done` holds for the values received so far.
fn serve(
    queue: &Queue<u64>,
    receiver: &mut Receiver<u64>,
    is_done: impl Fn(&[u64]) -> bool,
) -> Vec<u64> {
    let mut received = Vec::new();
    while !is_done(&received) {
        match wait(queue, receiver) {
            Work::Values => drain(receiver, |next| {
                received.push(*next.value);
                true
            }),
            Work::Admit => {}
            other => panic!("there is nothing else to do: {other:?}"),
        }
        admit(receiver);
    }
    received
}

/// B1 FIFO: a push finds a free slot while an earlier one still waits. It lines up behind.
#[test]
fn a_later_push_does_not_overtake() {
    check("a_later_push_does_not_overtake", 2, || {
        let (queue, mut receiver) = full();
        drop(line_up(&queue, 2));
        let pushing = queue.clone();
        let pushing = thread::spawn(move || {
            if pushing.try_push(1, 0, |_, slot| *slot = 3).is_err() {
                drop(line_up(&pushing, 3));
            }
        });
        let received = serve(&queue, &mut receiver, |received| received.len() == 3);
        assert_eq!(received, [1, 2, 3], "B1 FIFO");
        pushing.join().expect("it returned");
    });
}

/// Q4 WAKE: a push lines up while the receiver admits the one before it, and is about to open
/// the gate.
#[test]
fn a_push_that_comes_as_the_gate_opens_is_admitted() {
    check("a_push_that_comes_as_the_gate_opens_is_admitted", 2, || {
        let (queue, mut receiver) = full();
        drop(line_up(&queue, 2));
        let pushing = queue.clone();
        let pushing = thread::spawn(move || drop(line_up(&pushing, 3)));
        let received = serve(&queue, &mut receiver, |received| received.len() == 3);
        assert_eq!(received, [1, 2, 3], "B1 FIFO");
        pushing.join().expect("it lined up");
    });
}

/// B2 ANSWER: a producer withdraws while the receiver admits its push. The value is either
/// returned or received, and the next push is admitted.
#[test]
fn withdrawing_races_an_admission() {
    check("withdrawing_races_an_admission", 2, || {
        let (queue, mut receiver) = full();
        let pending = line_up(&queue, 2);
        drop(line_up(&queue, 3));
        let withdrawing = queue.clone();
        let withdrawing = thread::spawn(move || {
            let withdrawn = withdrawing.withdraw(&pending);
            withdrawn.map(|Withdrawn { value }| value)
        });
        let received = serve(&queue, &mut receiver, |received| received.contains(&3));
        match withdrawing.join().expect("it returned") {
            Some(value) => assert_eq!((value, received), (Some(2), vec![1, 3]), "B2 ANSWER"),
            None => assert_eq!(received, [1, 2, 3], "B2 ANSWER"),
        }
    });
}

/// B2 ANSWER: a producer withdraws while the queue is closed. The value is either returned or
/// refused. Either way nothing waits.
#[test]
fn withdrawing_races_the_close() {
    check("withdrawing_races_the_close", 3, || {
        let (queue, receiver) = full();
        let pending = line_up(&queue, 2);
        let closing = thread::spawn(move || drop(receiver));
        let withdrawn = queue.withdraw(&pending).map(|Withdrawn { value }| value);
        closing.join().expect("it has closed");
        match withdrawn {
            Some(value) => assert_eq!(value, Some(2), "B2 ANSWER"),
            None => assert_eq!(pending.take_refused(), Some(2), "B2 ANSWER"),
        }
    });
}

/// Q3 CLOSE: the queue is closed while the receiver admits, and one of two pushes finds no room.
/// The thread that comes last at the line refuses it.
#[test]
fn the_close_races_an_admission() {
    check("the_close_races_an_admission", 3, || {
        let (queue, mut receiver) = full();
        let pending = [2, 3].map(|value| line_up(&queue, value));
        let closing = queue.clone();
        let closing = thread::spawn(move || closing.close());
        drain(&mut receiver, |_| true);
        admit(&mut receiver);
        closing.join().expect("it has closed");
        let ends = pending.map(|pending| pending.admission());
        assert!(!ends.contains(&Admission::Waiting), "Q3 CLOSE: {ends:?}");
        assert_eq!(ends[1], Admission::Refused, "Q1 BOUND: there was no room for it");
        drop(queue);
    });
}

/// Q3 CLOSE, Q4 WAKE: a push lines up while the queue is closed. One of the two threads refuses
/// it and wakes its task.
#[test]
fn lining_up_races_the_close() {
    check("lining_up_races_the_close", 3, || {
        let (queue, receiver) = full();
        drop(line_up(&queue, 2));
        let closing = thread::spawn(move || drop(receiver));
        let (task, mut has_lined_up) = (TaskThread::new(), false);
        let sleeper = Sleeper::Task(Waker::from(task.clone()));
        let pending = queue.line_up(1, 0, WaitsFor::Room, sleeper, |_, slot| *slot = 3);
        // As the first poll of a future, it does not look at the push again.
        task.run(|| {
            (std::mem::replace(&mut has_lined_up, true)
                && pending.admission() == Admission::Refused)
                .then_some(())
        });
        closing.join().expect("it has closed");
    });
}

/// Q4 WAKE: a future that waits for room moves to another task while the receiver admits it.
/// The new task is woken.
#[test]
fn a_new_waker_races_an_admission() {
    check("a_new_waker_races_an_admission", 2, || {
        let (queue, mut receiver) = full();
        let moving = queue.clone();
        let moving = thread::spawn(move || {
            let pending = line_up(&moving, 2);
            let (task, mut known, mut attempts) = (TaskThread::new(), NO_TASK, 0);
            let waker = Waker::from(task.clone());
            task.run(|| {
                if pending.admission() == Admission::Waiting {
                    moving.set_waker(&pending, &mut known, &waker);
                    attempts += 1;
                    if attempts > 1 {
                        // The receiver is admitting it, and must go on.
                        thread::yield_now();
                    }
                }
                (pending.admission() != Admission::Waiting).then_some(())
            });
        });
        let received = serve(&queue, &mut receiver, |received| received.len() == 2);
        assert_eq!(received, [1, 2]);
        moving.join().expect("it was woken");
    });
}

/// Q1 BOUND: a reservation is granted, and another producer pushes. The reserved slot stays free
/// for the push that ends the reservation.
#[test]
fn a_reservation_keeps_its_slot() {
    check("a_reservation_keeps_its_slot", 3, || {
        let (queue, mut receiver) = Queue::new(1, ANY);
        let pending = queue.line_up_reservation(0, unwatched());
        admit(&mut receiver);
        assert!(matches!(pending.admission(), Admission::Admitted(_)), "the ring is empty");
        let pushing = queue.clone();
        let pushing = thread::spawn(move || pushing.try_push(1, 0, |_, slot| *slot = 9));
        let pushed = queue.push_reserved(0, 0, |_, slot| *slot = 1);
        assert_eq!(pushed, Ok(0), "Q1 BOUND: its slot was free");
        let other = pushing.join().expect("it returned");
        assert_eq!(other, Err(PushError::Full), "Q1 BOUND: the slot was reserved, then in use");
        assert_eq!(serve(&queue, &mut receiver, |received| !received.is_empty()), [1]);
    });
}

/// Q4 WAKE: a reservation is given back while a push waits for that room.
#[test]
fn a_returned_reservation_admits_the_next_push() {
    check("a_returned_reservation_admits_the_next_push", 2, || {
        let (queue, mut receiver) = Queue::new(1, ANY);
        drop(queue.line_up_reservation(0, unwatched()));
        admit(&mut receiver);
        let pending = line_up(&queue, 2);
        admit(&mut receiver);
        assert_eq!(pending.admission(), Admission::Waiting, "Q1 BOUND: the slot is reserved");
        let returning = queue.clone();
        let returning = thread::spawn(move || returning.unreserve(0));
        let received = serve(&queue, &mut receiver, |received| !received.is_empty());
        assert_eq!(received, [2]);
        returning.join().expect("it returned");
    });
}

/// Q1 BOUND: a reservation is made at once while a push lines up for the one slot, and the receiver
/// admits it. No slot is claimed twice.
#[test]
fn a_reservation_races_an_admission() {
    check("a_reservation_races_an_admission", 2, || {
        let (queue, mut receiver) = Queue::<u64>::new(1, ANY);
        let reserving = queue.clone();
        let reserving = thread::spawn(move || {
            reserving.try_reserve(0).is_ok()
                && reserving.push_reserved(0, 0, |_, slot| *slot = 1).is_ok()
        });
        let pending = line_up(&queue, 2);
        admit(&mut receiver);
        let pushed = reserving.join().expect("it returned");
        let is_admitted = pending.admission() != Admission::Waiting;
        let mut received = Vec::new();
        drain(&mut receiver, |next| {
            received.push(*next.value);
            true
        });
        let claimed = u64::from(pushed) + u64::from(is_admitted);
        assert!(claimed <= 1, "Q1 BOUND: two tickets in a ring of one slot");
        assert_eq!(received.len() as u64, claimed, "Q3 CLOSE: what was claimed is received");
        admit(&mut receiver);
        drain(&mut receiver, |_| true);
        admit(&mut receiver);
        assert!(pending.admission() != Admission::Waiting, "Q4 WAKE: there is room");
    });
}

/// Q4 WAKE: a future that waits for room goes to another task and back, while the receiver admits
/// its push. The last task is woken.
#[test]
fn a_waker_comes_back_during_an_admission() {
    check("a_waker_comes_back_during_an_admission", 2, || {
        let (queue, mut receiver) = full();
        let moving = queue.clone();
        let moving = thread::spawn(move || {
            let task = TaskThread::new();
            let waker = Waker::from(task.clone());
            let mut known = task_address(&waker);
            let sleeper = Sleeper::Task(waker.clone());
            let pending = moving.line_up(1, 0, WaitsFor::Room, sleeper, |_, slot| *slot = 2);
            let mut poll = |waker: &Waker| {
                if pending.admission() == Admission::Waiting {
                    moving.set_waker(&pending, &mut known, waker);
                }
                (pending.admission() != Admission::Waiting).then_some(())
            };
            if poll(Waker::noop()).is_some() {
                return;
            }
            let mut attempts = 0;
            task.run(|| {
                attempts += 1;
                if attempts > 1 {
                    // The receiver is admitting it, and must go on.
                    thread::yield_now();
                }
                poll(&waker)
            });
        });
        let received = serve(&queue, &mut receiver, |received| received.len() == 2);
        assert_eq!(received, [1, 2]);
        moving.join().expect("it was woken");
    });
}

/// B2 ANSWER, Q1 BOUND: a producer withdraws a reservation while the receiver grants it. Either way
/// the room is free for the next push.
#[test]
fn withdrawing_a_reservation_races_its_grant() {
    check("withdrawing_a_reservation_races_its_grant", 2, || {
        let (queue, mut receiver) = full();
        let pending = queue.line_up_reservation(0, unwatched());
        drop(line_up(&queue, 2));
        let withdrawing = queue.clone();
        let withdrawing = thread::spawn(move || {
            if withdrawing.withdraw(&pending).is_none() {
                assert_eq!(pending.admission(), Admission::Admitted(0), "B2 ANSWER");
                withdrawing.unreserve(0);
            }
        });
        let received = serve(&queue, &mut receiver, |received| received.len() == 2);
        assert_eq!(received, [1, 2]);
        withdrawing.join().expect("it returned");
    });
}

/// Q1 BOUND: a push waits for the slot of a reservation, which is used meanwhile. The receiver
/// counts the reservation or its ticket.
#[test]
fn using_a_reservation_races_an_admission() {
    check("using_a_reservation_races_an_admission", 2, || {
        let (queue, mut receiver) = Queue::new(1, ANY);
        queue.try_reserve(0).expect("the ring is empty");
        drop(line_up(&queue, 2));
        let using = queue.clone();
        let using = thread::spawn(move || using.push_reserved(0, 0, |_, slot| *slot = 1));
        let received = serve(&queue, &mut receiver, |received| received.len() == 2);
        assert_eq!(received, [1, 2], "Q1 BOUND");
        assert_eq!(using.join().expect("it returned"), Ok(0), "Q1 BOUND: its slot was free");
    });
}

/// Q1 BOUND, Q4 WAKE: a push lines up while room is reserved and used, or refused. The push is
/// admitted before or after the record of the reservation.
#[test]
fn reserving_races_an_admission() {
    check("reserving_races_an_admission", 2, || {
        let (queue, mut receiver) = Queue::new(1, ANY);
        let reserving = queue.clone();
        let reserving = thread::spawn(move || {
            let reserved = reserving.try_reserve(0);
            reserved.map(|()| reserving.push_reserved(0, 0, |_, slot| *slot = 3))
        });
        drop(line_up(&queue, 2));
        let received = serve(&queue, &mut receiver, |received| received.contains(&2));
        match reserving.join().expect("it returned") {
            Ok(pushed) => {
                let ticket = pushed.expect("Q1 BOUND: its slot was free");
                assert!(ticket > 0 || received == [3, 2], "Q1 BOUND: {received:?}");
            }
            Err(_) => assert_eq!(received, [2]),
        }
    });
}

/// Q4 WAKE: a batch waits for two slots, which two threads give back at once.
#[test]
fn two_returned_reservations_admit_a_batch() {
    check("two_returned_reservations_admit_a_batch", 2, || {
        let (queue, mut receiver) = Queue::new(2, ANY);
        for _ in 0..2 {
            queue.try_reserve(0).expect("the ring is empty");
        }
        drop(queue.line_up(2, 0, WaitsFor::Room, unwatched(), |_, slot| *slot = 2));
        let returning = [(), ()].map(|()| {
            let queue = queue.clone();
            thread::spawn(move || queue.unreserve(0))
        });
        let received = serve(&queue, &mut receiver, |received| !received.is_empty());
        assert_eq!(received, [2]);
        for thread in returning {
            thread.join().expect("it returned");
        }
    });
}

/// B2 ANSWER: a producer that sees that it was admitted sees its ticket claimed.
#[test]
fn an_admitted_producer_sees_its_ticket() {
    check("an_admitted_producer_sees_its_ticket", 2, || {
        let (queue, mut receiver) = full();
        let pending = line_up(&queue, 2);
        let looking = queue.clone();
        let looking = thread::spawn(move || {
            if let Admission::Admitted(first) = pending.admission() {
                assert_eq!(looking.tail(), first + 1, "a sync would not cover it");
            }
        });
        let received = serve(&queue, &mut receiver, |received| received.len() == 2);
        assert_eq!(received, [1, 2]);
        looking.join().expect("it returned");
    });
}

/// A full queue with one push that waits, and two that were withdrawn: the producer of the next
/// one that is withdrawn tidies the line.
fn untidy() -> (Arc<Queue<u64>>, Receiver<u64>, Arc<PendingPush<u64>>) {
    let (queue, receiver) = full();
    let waits = line_up(&queue, 2);
    for _ in 0..2 {
        let withdrawn = line_up(&queue, 9);
        queue.withdraw(&withdrawn).expect("it waits");
    }
    (queue, receiver, waits)
}

/// Q4 WAKE: a producer tidies the line and keeps the receiver away from it. The push that waits is
/// admitted.
#[test]
fn tidying_races_an_admission() {
    check("tidying_races_an_admission", 2, || {
        let (queue, mut receiver, _) = untidy();
        let last = line_up(&queue, 9);
        let tidying = queue.clone();
        let tidying = thread::spawn(move || tidying.withdraw(&last).is_some());
        let received = serve(&queue, &mut receiver, |received| received.contains(&2));
        let is_withdrawn = tidying.join().expect("it returned");
        assert!(!is_withdrawn || received == [1, 2], "B2 ANSWER: {received:?}");
    });
}

/// Q3 CLOSE: a producer tidies the line and keeps the closer away from it. The push that waits is
/// refused.
#[test]
fn tidying_races_the_close() {
    check("tidying_races_the_close", 3, || {
        let (queue, receiver, waits) = untidy();
        let last = line_up(&queue, 9);
        let closing = queue.clone();
        let closing = thread::spawn(move || closing.close());
        drop(queue.withdraw(&last));
        closing.join().expect("it has closed");
        assert_eq!(waits.admission(), Admission::Refused, "Q3 CLOSE");
        drop(receiver);
    });
}
