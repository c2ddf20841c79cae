//! Models of an answer and its waiters: threads, tasks, late ones, and those that stop
//! waiting.

use std::task::{Context, Waker};

use loom::thread;

use super::{TaskThread, Waits, check, deadline_once_registered};
use crate::commit::progress::{Answer, Progress, TicketRegistration};
use crate::error::Cause;
use crate::util::sync::Arc;

fn progress() -> Arc<Progress> {
    Arc::new(Progress::new(2))
}

fn acknowledge(progress: &Progress, end: u64) {
    progress.acknowledge(end);
    drop(progress.wake_answered_threads());
}

fn wait(progress: &Progress, ticket: u64) -> Answer {
    progress.wait(ticket, None, &TicketRegistration::None).expect("there was no deadline")
}

fn poll_until_answered(progress: &Progress, ticket: u64) -> Answer {
    let task = TaskThread::new();
    let waker = Waker::from(task.clone());
    let (mut context, mut registration) = (Context::from_waker(&waker), Default::default());
    task.run(|| progress.poll(ticket, &mut context, &mut registration))
}

fn no_room() -> Cause {
    Cause::DiskFull(std::io::Error::from(std::io::ErrorKind::StorageFull).into())
}

/// C1 ONCE, C3 ANSWER: two threads wait for two tickets, which are answered one after
/// the other.
#[test]
fn an_answer_races_wait() {
    check("an_answer_races_wait", 3, || {
        let progress = progress();
        for ticket in 0..2 {
            let progress = progress.clone();
            thread::spawn(move || {
                assert!(matches!(wait(&progress, ticket), Answer::Acknowledged));
                assert!(progress.acknowledged() > ticket, "C1 ONCE");
            });
        }
        acknowledge(&progress, 1);
        acknowledge(&progress, 2);
    });
}

/// C2 DURABLE: a thread that sees the answer sees all that the writer did before it.
#[test]
fn an_answer_publishes_earlier_writes() {
    check("an_answer_publishes_earlier_writes", 3, || {
        let progress = progress();
        let written = Arc::new(loom::cell::UnsafeCell::new(0));
        // One in the ticket's slot, one on the list.
        for registration in [TicketRegistration::None, TicketRegistration::OnList(None)] {
            let (progress, written) = (progress.clone(), written.clone());
            thread::spawn(move || {
                progress.wait(0, None, &registration).expect("there was no deadline");
                // SAFETY: written before the answer only; loom checks it.
                assert_eq!(written.with(|cell| unsafe { *cell }), 1, "C2 DURABLE");
            });
        }
        // SAFETY: no thread reads before the answer; loom checks it.
        written.with_mut(|cell| unsafe { *cell = 1 });
        acknowledge(&progress, 1);
    });
}

/// C3 ANSWER: a task and a thread wait side by side.
#[test]
fn an_answer_races_poll() {
    check("an_answer_races_poll", 3, || {
        let progress = progress();
        let (one, other) = (progress.clone(), progress.clone());
        thread::spawn(move || {
            assert!(matches!(poll_until_answered(&one, 1), Answer::Acknowledged));
        });
        thread::spawn(move || assert!(matches!(wait(&other, 0), Answer::Acknowledged)));
        acknowledge(&progress, 1);
        acknowledge(&progress, 2);
    });
}

/// C3 ANSWER: one task polls a future and then another does, as if it had moved. The
/// last one is woken.
#[test]
fn the_latest_waker_is_woken() {
    check("the_latest_waker_is_woken", 3, || {
        let progress = progress();
        let resolving = progress.clone();
        let resolving = thread::spawn(move || acknowledge(&resolving, 1));
        let (first, second) = (TaskThread::new(), TaskThread::new());
        let mut registration = TicketRegistration::default();
        let waker = Waker::from(first);
        let early = progress.poll(0, &mut Context::from_waker(&waker), &mut registration);
        if early.is_none() {
            let waker = Waker::from(second.clone());
            let mut context = Context::from_waker(&waker);
            let answer = second.run(|| progress.poll(0, &mut context, &mut registration));
            assert!(matches!(answer, Answer::Acknowledged));
        }
        resolving.join().expect("it has resolved");
    });
}

/// C3 ANSWER: a future is dropped while it is registered, and a wait ends at its deadline.
/// The other waiters are answered, and so is the thread that waits again.
#[test]
fn an_abandoned_wait_does_not_affect_others() {
    check("an_abandoned_wait_does_not_affect_others", 3, || {
        let progress = progress();
        let (abandoning, waiting) = (progress.clone(), progress.clone());
        thread::spawn(move || {
            let waker = Waker::from(TaskThread::new());
            let mut registration = TicketRegistration::default();
            let mut context = Context::from_waker(&waker);
            drop(abandoning.poll(0, &mut context, &mut registration));
            abandoning.withdraw(0, &mut registration);
        });
        let waiting = thread::spawn(move || {
            // Not in the slot of the ticket, which the other one has.
            let on_list = TicketRegistration::OnList(None);
            drop(waiting.wait(0, Some(deadline_once_registered()), &on_list));
            let answer = waiting.wait(0, None, &on_list).expect("there was no deadline");
            assert!(matches!(answer, Answer::Acknowledged));
        });
        acknowledge(&progress, 1);
        waiting.join().expect("it was answered");
    });
}

/// C1 ONCE: one ticket finds no room, the next one does. Each gets its own answer,
/// however often it checks.
#[test]
fn a_refusal_races_wait() {
    check("a_refusal_races_wait", 3, || {
        let progress = progress();
        for ticket in 0..2 {
            let progress = progress.clone();
            thread::spawn(move || {
                let answers = [wait(&progress, ticket), wait(&progress, ticket)];
                for answer in answers {
                    match answer {
                        Answer::NotWritten(Cause::DiskFull(_)) => assert_eq!(ticket, 0),
                        Answer::Acknowledged => assert_eq!(ticket, 1, "C1 ONCE"),
                        other => panic!("ticket {ticket}: {other:?}"),
                    }
                }
            });
        }
        progress.refuse(0, 1, no_room());
        progress.acknowledge(2);
        drop(progress.wake_answered_threads());
    });
}

/// C1 ONCE, C3 ANSWER: of three tickets the first is acknowledged, the second synced but
/// not yet answered, when the shard fails. Each gets its own answer.
#[test]
fn a_failure_races_wait() {
    check("a_failure_races_wait", 3, || {
        let progress = progress();
        let waiting = [1, 2].map(|ticket| {
            let progress = progress.clone();
            thread::spawn(move || match wait(&progress, ticket) {
                Answer::Acknowledged => panic!("C2 DURABLE: ticket {ticket} never was"),
                Answer::Indeterminate(_) => assert_eq!(ticket, 1, "C1 ONCE"),
                Answer::NotWritten(_) => assert_eq!(ticket, 2, "C1 ONCE"),
            })
        });
        acknowledge(&progress, 1);
        progress.mark_synced(2);
        progress.fail(2, Cause::WriterPanicked);
        for waiting in waiting {
            waiting.join().expect("it was answered");
        }
        assert!(matches!(progress.answer(0), Some(Answer::Acknowledged)), "C1 ONCE");
    });
}

/// C1 ONCE: a record that was synced before the shard failed stays reported as synced. The
/// failure holds from the lower mark on, here the acknowledged one.
#[test]
fn a_synced_flush_outlives_a_failure() {
    check("a_synced_flush_outlives_a_failure", 3, || {
        let progress = progress();
        let waiting = progress.clone();
        let waiting = thread::spawn(move || waiting.wait_synced(1));
        progress.mark_synced(1);
        progress.fail(1, Cause::WriterPanicked);
        let outcome = waiting.join().expect("it was answered");
        assert!(outcome.is_ok(), "C1 ONCE: {outcome:?}");
    });
}

/// C3 ANSWER, Q4 WAKE: a thread releases the commit lock, then wakes the waiters that it
/// answered. Meanwhile the next holder fails, which answers without raising the mark. A
/// waiter that the first thread puts back is still woken.
#[test]
fn a_failure_races_the_wake_of_answered_waiters() {
    check("a_failure_races_the_wake_of_answered_waiters", 3, || {
        let progress = progress();
        let (waiting, failing) = (progress.clone(), progress.clone());
        let waiting = thread::spawn(move || {
            // On the list, from which it may be put back.
            let answer = waiting.wait(1, None, &TicketRegistration::OnList(None));
            assert!(matches!(answer, Some(Answer::Indeterminate(_))), "C1 ONCE");
        });
        progress.acknowledge(1);
        let failing = thread::spawn(move || failing.fail(2, Cause::WriterPanicked));
        drop(progress.wake_answered_threads());
        for thread in [waiting, failing] {
            thread.join().expect("it returned");
        }
    });
}

/// C3 ANSWER: a failure answers a task that waits for its record, and a thread that waits
/// for a flush. The task's waker waits for that thread.
#[test]
fn a_waker_may_wait_for_a_thread_of_the_same_failure() {
    check("a_waker_may_wait_for_a_thread_of_the_same_failure", 3, || {
        let progress = progress();
        let (task, barrier) = (TaskThread::new(), progress.clone());
        let waker = Waker::from(Waits::on(task.clone()));
        let mut registration = TicketRegistration::default();
        let polled = progress.poll(0, &mut Context::from_waker(&waker), &mut registration);
        assert!(polled.is_none(), "nothing is answered yet");
        thread::spawn(move || {
            barrier.wait_synced(1).expect_err("nothing was synced");
            Waker::from(task).wake();
        });
        progress.fail(1, Cause::WriterPanicked);
    });
}

/// C1 ONCE: a thread that only checks, repeatedly, sees nothing and then the answer, which
/// never changes. An unsynced acknowledgement outlives the shard's failure, and a flush
/// over it fails.
#[test]
fn an_acknowledgement_outlives_a_failure() {
    check("an_acknowledgement_outlives_a_failure", 3, || {
        let progress = progress();
        let (looking, barrier) = (progress.clone(), progress.clone());
        thread::spawn(move || {
            for _ in 0..3 {
                let answer = looking.answer(0);
                assert!(matches!(answer, None | Some(Answer::Acknowledged)), "C1 ONCE");
            }
        });
        thread::spawn(move || barrier.wait_synced(1).expect_err("nothing was synced"));
        acknowledge(&progress, 1);
        progress.fail(1, Cause::WriterPanicked);
        assert!(matches!(progress.answer(0), Some(Answer::Acknowledged)), "C1 ONCE");
    });
}

/// W3 SLOT, C3 ANSWER: a wait of a ticket times out in its slot, and the next ticket of that slot
/// waits there. Each is answered.
#[test]
fn a_slot_serves_the_ticket_of_the_next_lap() {
    check("a_slot_serves_the_ticket_of_the_next_lap", 3, || {
        let progress = progress();
        let (early, late) = (progress.clone(), progress.clone());
        let early = thread::spawn(move || {
            let waited = early.wait(0, Some(deadline_once_registered()), &TicketRegistration::None);
            assert!(matches!(waited, None | Some(Answer::Acknowledged)));
        });
        let late = thread::spawn(move || {
            assert!(matches!(wait(&late, 2), Answer::Acknowledged), "the table has two slots");
        });
        acknowledge(&progress, 1);
        acknowledge(&progress, 3);
        for thread in [early, late] {
            thread.join().expect("it was answered");
        }
    });
}

/// W3 SLOT, C3 ANSWER: a task that waits in a ticket's slot is polled once more with another
/// waker, while it is answered.
#[test]
fn a_slot_replaces_its_earlier_waker() {
    check("a_slot_replaces_its_earlier_waker", 3, || {
        let progress = progress();
        let answering = progress.clone();
        let (first, second) = (TaskThread::new(), TaskThread::new());
        let mut registration = TicketRegistration::default();
        let waker = Waker::from(first.clone());
        let polled = progress.poll(0, &mut Context::from_waker(&waker), &mut registration);
        assert!(polled.is_none(), "nothing is answered yet");
        let answering = thread::spawn(move || acknowledge(&answering, 1));
        let waker = Waker::from(second.clone());
        let mut context = Context::from_waker(&waker);
        let answer = second.run(|| progress.poll(0, &mut context, &mut registration));
        assert!(matches!(answer, Answer::Acknowledged));
        answering.join().expect("it has answered");
    });
}
