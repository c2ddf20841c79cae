//! Models of the queue's end: it is closed, or its receiver is dropped.

use loom::thread;

use super::{admit, check, drain, wait};
use crate::queue::queue::{PushError, Queue};
use crate::queue::receiver::Receiver;
use crate::queue::requests::Work;

/// No limit in bytes.
const ANY: u64 = u64::MAX;

/// Waits for work other than an admission.
fn wait_unless_admission(queue: &Queue<u64>, receiver: &mut Receiver<u64>) -> Work {
    loop {
        match wait(queue, receiver) {
            Work::Admit => admit(receiver),
            work => return work,
        }
    }
}

/// Q3 CLOSE, Q4 WAKE: a producer pushes two values into one slot while the queue is closed.
/// Claimed values are received, later ones refused, and all threads return.
#[test]
fn push_races_close() {
    check("push_races_close", 2, || {
        let (queue, mut receiver) = Queue::new(1, ANY);
        let (pushing, closing) = (queue.clone(), queue.clone());
        let pushing = thread::spawn(move || {
            let pushed = [0, 1].map(|n| pushing.push(1, 0, None, |_, slot| *slot = n));
            pushed.into_iter().flatten().collect::<Vec<u64>>()
        });
        let closing = thread::spawn(move || closing.close());
        let mut received = Vec::new();
        while wait(&queue, &mut receiver) != Work::Closed {
            admit(&mut receiver);
            drain(&mut receiver, |value| {
                assert_eq!(value.ticket, *value.value, "Q2 ORDER");
                received.push(value.ticket);
                true
            });
        }
        let pushed = pushing.join().expect("it returned");
        assert_eq!(received, pushed, "Q3 CLOSE: what was claimed is received, nothing else is");
        closing.join().expect("it has closed");
        let late = queue.try_push(1, 0, |_, slot| *slot = 9);
        assert_eq!(late, Err(PushError::Closed), "Q3 CLOSE: pushed after it");
    });
}

/// Q3 CLOSE, Q4 WAKE: the ring stays full. Only the close can wake the parked producers.
#[test]
fn close_wakes_parked_producers() {
    check("close_wakes_parked_producers", 1, || {
        let (queue, mut receiver) = Queue::new(1, ANY);
        queue.try_push(1, 0, |_, _: &mut u64| {}).expect("the ring is empty");
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || queue.push(1, 0, None, |_, _| {}))
            })
            .collect();
        queue.close();
        let work = wait_unless_admission(&queue, &mut receiver);
        assert_eq!(work, Work::Values, "Q3 CLOSE: what was claimed before stays");
        drain(&mut receiver, |_| true);
        assert_eq!(wait_unless_admission(&queue, &mut receiver), Work::Closed);
        for producer in producers {
            let refused = producer.join().expect("it returned").expect_err("it is closed");
            assert_eq!(refused.error, PushError::Closed);
        }
    });
}

/// Q3 CLOSE, Q4 WAKE: the receiver is dropped during pushes of one ticket and of two, into
/// two slots. A producer that still waits for room is woken and refused.
#[test]
fn a_dropped_receiver_refuses_every_producer() {
    check("a_dropped_receiver_refuses_every_producer", 3, || {
        let (queue, receiver) = Queue::<u64>::new(2, ANY);
        let pushes = [1, 2].map(|count| {
            let queue = queue.clone();
            thread::spawn(move || queue.push(count, 0, None, |_, _| {}))
        });
        drop(receiver);
        for push in pushes {
            if let Err(refused) = push.join().expect("it returned") {
                assert_eq!(refused.error, PushError::Closed, "Q4 WAKE: there was no deadline");
            }
        }
        assert_eq!(queue.try_push(1, 0, |_, _| {}), Err(PushError::Closed), "Q3 CLOSE");
    });
}
