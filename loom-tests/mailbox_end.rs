//! Models of the mailbox's end: close, and a receiver that goes away.

use std::sync::atomic::{AtomicU64, Ordering};

use loom::thread;

use super::check;
use crate::mailbox::{Mailbox, PushError, Work};
use crate::sync::Arc;

/// No bound in bytes.
const ANY: u64 = u64::MAX;

/// Q3 CLOSE, Q4 WAKE: a producer pushes two values into one slot while it is
/// closed: what was claimed is received, the rest refused, and all return.
#[test]
fn push_races_close() {
    check("push_races_close", 2, || {
        let (mailbox, mut receiver) = Mailbox::new(1, ANY);
        let (pushing, closing) = (mailbox.clone(), mailbox.clone());
        let pushing = thread::spawn(move || {
            let pushed = [0, 1].map(|n| pushing.push(1, 0, None, |_| n));
            pushed.into_iter().flatten().collect::<Vec<u64>>()
        });
        let closing = thread::spawn(move || closing.close());
        let mut received = Vec::new();
        while receiver.wait() != Work::Closed {
            receiver.drain(
                |_| 0,
                |ticket, value| {
                    assert_eq!(ticket, value, "Q2 ORDER");
                    received.push(value);
                    true
                },
            );
        }
        let pushed = pushing.join().expect("it returned");
        assert_eq!(received, pushed, "Q3 CLOSE: what was claimed is received, nothing else is");
        closing.join().expect("it has closed");
        let late = mailbox.try_push(1, 0, |_| 9);
        assert_eq!(late, Err(PushError::Closed), "Q3 CLOSE: pushed after it");
    });
}

/// Q3 CLOSE, Q4 WAKE: the ring is full and stays so: close is all that can wake
/// the producers that are parked.
#[test]
fn close_wakes_parked_producers() {
    check("close_wakes_parked_producers", 3, || {
        let (mailbox, mut receiver) = Mailbox::new(1, ANY);
        mailbox.try_push(1, 0, |_| 0).expect("the ring is empty");
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let mailbox = mailbox.clone();
                thread::spawn(move || mailbox.push(1, 0, None, |_| 1))
            })
            .collect();
        mailbox.close();
        for producer in producers {
            assert_eq!(producer.join().expect("it returned"), Err(PushError::Closed));
        }
        assert_eq!(receiver.wait(), Work::Values, "Q3 CLOSE: what was claimed before stays");
        receiver.drain(|_| 0, |_, _| true);
        assert_eq!(receiver.wait(), Work::Closed);
    });
}

/// A value that counts its end.
struct Counted(Arc<AtomicU64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Q2 ORDER, Q3 CLOSE: the receiver goes away amid pushes of one value and of a
/// batch of two: each value is dropped, and once, whether it was inside, is
/// still on its way in, or was refused.
#[test]
fn a_receiver_that_goes_away_drops_each_value_once() {
    check("a_receiver_that_goes_away_drops_each_value_once", 3, || {
        let (mailbox, receiver) = Mailbox::new(2, ANY);
        let ended: Vec<_> = (0..3).map(|_| Arc::new(AtomicU64::new(0))).collect();
        let pushes = [&ended[..1], &ended[1..]].map(|values| {
            let mailbox = mailbox.clone();
            let mut values: Vec<_> = values.iter().cloned().map(Counted).collect();
            thread::spawn(move || {
                let count = values.len() as u64;
                let make = |_| values.pop().expect("as many values as tickets");
                let pushed = mailbox.push(count, 0, None, make);
                assert_ne!(pushed, Err(PushError::Full), "Q4 WAKE: there was no deadline");
            })
        });
        drop(receiver);
        for push in pushes {
            push.join().expect("it returned");
        }
        drop(mailbox);
        let ended: Vec<_> = ended.iter().map(|ended| ended.load(Ordering::Relaxed)).collect();
        assert_eq!(ended, [1, 1, 1], "each value is dropped once");
    });
}
