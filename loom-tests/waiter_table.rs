//! Models of the waiter table: registrations against the threads that take them out.

use std::task::{Context, Wake, Waker};

use loom::thread;

use super::{TaskThread, check, deadline_once_registered};
use crate::commit::progress::{Answer, Progress, TicketRegistration};
use crate::error::Cause;
use crate::util::sync::{Arc, AtomicU64, Ordering};
use crate::wait::sleeper::{Sleeper, Sleepers};
use crate::wait::waiter_table::WaiterTable;
use crate::wait::wake_chain::ParkState;

/// A table of two slots, and the number below which every ticket is answered.
struct Answers {
    below: AtomicU64,
    table: WaiterTable,
}

impl Answers {
    fn new() -> Arc<Self> {
        Arc::new(Self { below: AtomicU64::new(0), table: WaiterTable::new(2) })
    }

    /// Answers with a Relaxed store, so that only the table's own fences keep a wake-up from
    /// being lost.
    fn answer(&self, from: u64, to: u64) {
        self.below.store(to, Ordering::Relaxed);
        let mut sleepers = Sleepers::default();
        self.table.take(from, to, &mut |sleeper| sleepers.push(sleeper));
        drop(sleepers.wake_threads());
    }

    /// Answers every ticket, as a failure does.
    fn answer_all(&self) {
        self.below.store(u64::MAX, Ordering::Relaxed);
        let mut sleepers = Sleepers::default();
        self.table.take_all(&mut |sleeper| sleepers.push(sleeper));
        drop(sleepers.wake_threads());
    }

    fn below(&self) -> u64 {
        self.below.load(Ordering::Relaxed)
    }

    fn wait(&self, ticket: u64) {
        let thread = ParkState::of_this_thread();
        let refused = self.table.register(ticket, Sleeper::Thread(thread.clone()));
        assert!(refused.is_none(), "no other ticket has the slot");
        while self.below() <= ticket {
            thread.park(|| self.below() <= ticket, None);
        }
        self.table.withdraw(ticket);
    }
}

/// Q4 WAKE: a thread registers while its ticket is answered.
#[test]
fn an_answer_races_a_registration() {
    check("an_answer_races_a_registration", 3, || {
        let answers = Answers::new();
        let waiting = answers.clone();
        let waiting = thread::spawn(move || waiting.wait(0));
        answers.answer(0, 1);
        waiting.join().expect("it was woken");
    });
}

/// Q4 WAKE: a thread registers while every ticket is answered.
#[test]
fn a_failure_races_a_registration() {
    check("a_failure_races_a_registration", 3, || {
        let answers = Answers::new();
        let waiting = answers.clone();
        let waiting = thread::spawn(move || waiting.wait(0));
        answers.answer_all();
        waiting.join().expect("it was woken");
    });
}

/// Q4 WAKE: two threads wait for two tickets of one group, and are answered one after the other.
#[test]
fn neighbours_are_answered_one_after_the_other() {
    check("neighbours_are_answered_one_after_the_other", 2, || {
        let answers = Answers::new();
        let waiting = [0, 1].map(|ticket| {
            let answers = answers.clone();
            thread::spawn(move || answers.wait(ticket))
        });
        answers.answer(0, 1);
        answers.answer(1, 2);
        for waiting in waiting {
            waiting.join().expect("it was woken");
        }
    });
}

/// A task that is only kept, and never woken.
struct Kept;

impl Wake for Kept {
    fn wake(self: Arc<Self>) {}
}

/// W3 SLOT: a task withdraws while its ticket is answered. One of the two drops its waker. It
/// also withdraws from a ticket that is not answered.
#[test]
fn a_withdrawn_waiter_leaves_nothing_behind() {
    check("a_withdrawn_waiter_leaves_nothing_behind", 3, || {
        let answers = Answers::new();
        let task = Arc::new(Kept);
        let waker = Waker::from(task.clone());
        for ticket in 0..2 {
            assert!(
                answers.table.register(ticket, Sleeper::Task(waker.clone())).is_none(),
                "the slot is free"
            );
        }
        drop(waker);
        let taking = answers.clone();
        let taking = thread::spawn(move || taking.table.take(0, 1, &mut Sleeper::discard));
        (0..2).for_each(|ticket| answers.table.withdraw(ticket));
        taking.join().expect("it returned");
        assert_eq!(Arc::strong_count(&task), 1, "W3 SLOT: a waker was left behind");
    });
}

/// W3 SLOT: a future is leaked, and its log dropped.
#[test]
fn a_dropped_table_leaves_no_waker_behind() {
    check("a_dropped_table_leaves_no_waker_behind", 1, || {
        let answers = Answers::new();
        let task = Arc::new(Kept);
        let waker = Waker::from(task.clone());
        assert!(
            answers.table.register(1, Sleeper::Task(waker.clone())).is_none(),
            "the slot is free"
        );
        drop((waker, answers));
        assert_eq!(Arc::strong_count(&task), 1, "W3 SLOT: a waker was left behind");
    });
}

/// Q4 WAKE: one commit answers the waiters of two groups.
#[test]
fn tickets_of_two_groups_are_answered_together() {
    check("tickets_of_two_groups_are_answered_together", 1, || {
        let table = WaiterTable::new(4);
        let waker = Waker::from(Arc::new(Kept));
        for ticket in [1, 2] {
            assert!(
                table.register(ticket, Sleeper::Task(waker.clone())).is_none(),
                "the slot is free"
            );
        }
        let mut taken = 0;
        table.take(0, 4, &mut |sleeper| {
            taken += 1;
            sleeper.discard();
        });
        assert_eq!(taken, 2, "Q4 WAKE");
    });
}

/// W3 SLOT: a completion was answered, and is dropped once the next ticket has the slot.
#[test]
fn a_withdrawal_leaves_the_next_ticket_of_the_slot() {
    check("a_withdrawal_leaves_the_next_ticket_of_the_slot", 1, || {
        let table = WaiterTable::new(2);
        let waker = Waker::from(Arc::new(Kept));
        let mut taken = 0;
        let mut each = |sleeper: Sleeper| {
            taken += 1;
            sleeper.discard();
        };
        assert!(table.register(0, Sleeper::Task(waker.clone())).is_none(), "the slot is free");
        table.take(0, 1, &mut each);
        assert!(
            table.register(2, Sleeper::Task(waker.clone())).is_none(),
            "the slot is free again"
        );
        table.withdraw(0);
        table.take(1, 3, &mut each);
        assert_eq!(taken, 2, "W3 SLOT: the waiter of ticket 2 is gone");
    });
}

fn acknowledge(progress: &Progress, to: u64) {
    progress.acknowledge(to);
    drop(progress.wake_answered_threads());
}

fn wait(progress: &Progress, ticket: u64) {
    let answer = progress.wait(ticket, None, &TicketRegistration::None);
    assert!(matches!(answer, Some(Answer::Acknowledged)), "C3 ANSWER: {answer:?}");
}

/// W3 SLOT: a wait times out. The next ticket of its slot finds it free.
#[test]
fn a_wait_that_timed_out_frees_its_slot() {
    check("a_wait_that_timed_out_frees_its_slot", 1, || {
        let progress = Progress::new(2);
        let waited = progress.wait(0, Some(deadline_once_registered()), &TicketRegistration::None);
        assert!(waited.is_none(), "nothing is answered yet");
        let waker = Waker::from(Arc::new(Kept));
        let mut registration = TicketRegistration::default();
        let answer = progress.poll(2, &mut Context::from_waker(&waker), &mut registration);
        assert!(answer.is_none(), "nothing is answered yet");
        assert!(matches!(registration, TicketRegistration::InTable), "W3 SLOT: {registration:?}");
        progress.withdraw(2, &mut registration);
    });
}

/// W3 SLOT, Q4 WAKE: two tickets share a slot. The waiter that comes second waits on the list.
#[test]
fn two_tickets_share_a_slot() {
    check("two_tickets_share_a_slot", 2, || {
        let progress = Arc::new(Progress::new(2));
        let waiting = [0, 2].map(|ticket| {
            let progress = progress.clone();
            thread::spawn(move || wait(&progress, ticket))
        });
        acknowledge(&progress, 1);
        acknowledge(&progress, 3);
        for waiting in waiting {
            waiting.join().expect("it was woken");
        }
    });
}

/// Q4 WAKE: a thread answers a ticket and finds the waiter of a later one in its slot. Another
/// thread answers that one meanwhile.
#[test]
fn a_waiter_found_too_early_is_woken_later() {
    check("a_waiter_found_too_early_is_woken_later", 3, || {
        let progress = Arc::new(Progress::new(2));
        let waiting = progress.clone();
        let waiting = thread::spawn(move || wait(&waiting, 2));
        progress.acknowledge(1);
        let answering = progress.clone();
        let answering = thread::spawn(move || acknowledge(&answering, 3));
        drop(progress.wake_answered_threads());
        for thread in [waiting, answering] {
            thread.join().expect("it returned");
        }
    });
}

/// C3 ANSWER: as above, and the shard fails meanwhile, which answers without raising the mark.
#[test]
fn a_waiter_found_too_early_is_answered_by_a_failure() {
    check("a_waiter_found_too_early_is_answered_by_a_failure", 3, || {
        let progress = Arc::new(Progress::new(2));
        let (waiting, failing) = (progress.clone(), progress.clone());
        let waiting = thread::spawn(move || {
            let task = TaskThread::new();
            let waker = Waker::from(task.clone());
            let mut registration = TicketRegistration::default();
            let mut context = Context::from_waker(&waker);
            let answer = task.run(|| waiting.poll(2, &mut context, &mut registration));
            assert!(matches!(answer, Answer::Indeterminate(_)), "C1 ONCE: {answer:?}");
        });
        progress.acknowledge(1);
        let failing = thread::spawn(move || failing.fail(3, Cause::WriterPanicked));
        drop(progress.wake_answered_threads());
        for thread in [waiting, failing] {
            thread.join().expect("it returned");
        }
    });
}

/// C3 ANSWER: a thread that has answered a ticket is stopped before it wakes the waiter. The next
/// answer wakes it.
#[test]
fn a_stopped_thread_leaves_its_waiters_to_the_next() {
    check("a_stopped_thread_leaves_its_waiters_to_the_next", 3, || {
        let progress = Arc::new(Progress::new(2));
        let waiting = progress.clone();
        let waiting = thread::spawn(move || wait(&waiting, 0));
        progress.acknowledge(1);
        acknowledge(&progress, 2);
        waiting.join().expect("it was woken");
    });
}
