//! Models of inline commits: the shard's thread and callers in turn drive the real writer,
//! over the simulated disk.

use std::sync::Mutex;
use std::task::{Context, Wake, Waker};

use loom::thread;

use super::check;
use super::flush::flush_beside;
use super::rig::{
    FIRST, Rig, SYNCED, Shape, UNSYNCED, after_power_loss, answer, append, append_inline,
    append_no_wake, assert_acknowledged, assert_survived, finish, wait_and_lose_power,
};
use crate::commit::committer::{Committer, SpinPolicy};
use crate::commit::progress::Answer;
use crate::commit::progress::TicketRegistration;
use crate::error::Cause;
use crate::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use crate::queue::queue::PushError;
use crate::util::sync::Arc;

const EIO: i32 = 5;

/// The power loss of another caller may end the shard, so an append may be refused.
fn commit_inline_and_lose_power(committer: &Committer, fs: &SimFileSystem, key: u64) {
    if let Ok(ticket) = append_inline(committer, key) {
        wait_and_lose_power(committer, fs, key, ticket);
    }
}

/// C2 DURABLE, Q4 WAKE, Q5 TURN: two callers commit inline, beside the shard's thread.
/// Each is answered, and its record is on the disk then.
#[test]
fn two_callers_commit_inline() {
    check("two_callers_commit_inline", 2, || {
        let (fs, committer, writer) = Rig::new(SYNCED).with_first(1).start();
        let (other, its_disk) = (committer.clone(), fs.clone());
        let other = thread::spawn(move || commit_inline_and_lose_power(&other, &its_disk, 2));
        committer.commit_inline(FIRST, SpinPolicy::Spin);
        wait_and_lose_power(&committer, &fs, 1, FIRST);
        other.join().expect("it was answered");
        finish(&committer, writer);
    });
}

/// Q4 WAKE, Q5 TURN: commits end without a sync. Two callers try for the commit lock
/// repeatedly, and commit for each other.
#[test]
fn two_callers_spin_for_the_lock() {
    check("two_callers_spin_for_the_lock", 2, || {
        let (_disk, committer, writer) = Rig::new(UNSYNCED).with_first(1).start();
        let other = committer.clone();
        let other = thread::spawn(move || {
            let ticket = append_inline(&other, 2).expect("it is open, and there is room for both");
            let answer = answer(&other, ticket);
            assert!(matches!(answer, Answer::Acknowledged), "C3 ANSWER: {answer:?}");
        });
        committer.commit_inline(FIRST, SpinPolicy::Spin);
        assert!(matches!(answer(&committer, FIRST), Answer::Acknowledged), "C3 ANSWER");
        other.join().expect("it was answered");
        finish(&committer, writer);
    });
}

/// Q4 WAKE, Q5 TURN, C2 DURABLE: a sync is requested while a caller has the commit lock. If
/// the caller leaves it, the shard's thread does it.
#[test]
fn a_flush_races_an_inline_commit() {
    flush_beside("a_flush_races_an_inline_commit", append_inline);
}

/// Q3 CLOSE, C3 ANSWER, W1 PREFIX: the log is closed during an inline commit. The caller is
/// refused, or acknowledged and on the disk once the writer has ended.
#[test]
fn close_races_an_inline_commit() {
    check("close_races_an_inline_commit", 2, || {
        let (fs, committer, writer) = Rig::new(SYNCED).start();
        let committing = committer.clone();
        let committing = thread::spawn(move || {
            let ticket = append_inline(&committing, 1).ok()?;
            let answer = answer(&committing, ticket);
            assert!(matches!(answer, Answer::Acknowledged), "Q3 CLOSE: {answer:?}");
            Some(ticket)
        });
        committer.queue.close();
        writer.join().expect("no panic").expect("it ended in order");
        let acknowledged = committing.join().expect("it returned");
        let records = after_power_loss(&fs);
        assert_eq!(records.len(), acknowledged.iter().count(), "W1 PREFIX: {records:?}");
        acknowledged.iter().for_each(|ticket| assert_survived(&records, 1, *ticket));
    });
}

/// C3 ANSWER, W2 STICKY: the second commit fails or panics. A caller makes it, unless the
/// shard's thread comes first. No thread waits forever, the caller does not unwind, and the
/// shard's thread ends and reports the cause.
#[test]
fn a_failed_inline_commit_answers_every_caller() {
    for kind in [FaultKind::Panic, FaultKind::Error(EIO)] {
        check("a_failed_inline_commit_answers_every_caller", 3, move || {
            let rig = Rig::new(SYNCED).with_first(1);
            rig.fs.fail(Fault::new(Call::Sync, 2, kind.clone()));
            let (fs, committer, writer) = rig.start();
            assert!(matches!(answer(&committer, FIRST), Answer::Acknowledged), "C1 ONCE");
            let ticket = append_inline(&committer, 2).expect("it is open");
            let outcome = answer(&committer, ticket);
            assert!(matches!(outcome, Answer::Indeterminate(_)), "C2 DURABLE: {outcome:?}");
            assert!(writer.join().expect("the panic was caught").is_err(), "W2 STICKY");
            assert_eq!(fs.calls(Call::Sync), 2, "W2 STICKY: never synced again");
        });
    }
}

/// Q1 BOUND, Q4 WAKE: the record of an inline commit fills the queue, in records and in
/// bytes, or in bytes alone. A producer that parks on the full queue is woken once that
/// record is received.
#[test]
fn a_producer_waits_for_room_beside_an_inline_commit() {
    for queue in [1, 2] {
        check("a_producer_waits_for_room_beside_an_inline_commit", 1, move || {
            let shape = Shape { queue, queue_bytes: 1, ..SYNCED };
            let (_disk, committer, writer) = Rig::new(shape).with_first(3).start();
            // The shard's thread has begun, and is about to park.
            assert_acknowledged(&committer, FIRST);
            let parked = committer.clone();
            let parked = thread::spawn(move || {
                let ticket = append(&parked, 2).expect("nobody closes, and there is no deadline");
                assert_acknowledged(&parked, ticket);
            });
            match append_inline(&committer, 1) {
                Ok(ticket) => assert_acknowledged(&committer, ticket),
                Err(refused) => assert_eq!(refused, PushError::Full, "nobody closes"),
            }
            parked.join().expect("it was answered");
            finish(&committer, writer);
        });
    }
}

/// Q4 WAKE: a caller fills the queue without a wake-up, and waits for another caller before
/// it commits. That caller finds no room, and must wake the shard's thread before it parks.
#[test]
fn a_producer_without_room_wakes_the_shard_thread() {
    check("a_producer_without_room_wakes_the_shard_thread", 1, || {
        let (_disk, committer, writer) = Rig::new(Shape { queue: 1, ..SYNCED }).start();
        let ticket = append_no_wake(&committer, 1).expect("the queue is empty");
        let other = committer.clone();
        let other = thread::spawn(move || {
            let ticket = append(&other, 2).expect("nobody closes, and there is no deadline");
            assert_acknowledged(&other, ticket);
        });
        other.join().expect("it was answered");
        committer.commit_inline(ticket, SpinPolicy::Spin);
        assert_acknowledged(&committer, ticket);
        finish(&committer, writer);
    });
}

/// The waker of a task that would append and wait as it is woken.
struct WouldWait {
    committer: Arc<Committer>,
    may_not: Mutex<Option<bool>>,
}

impl Wake for WouldWait {
    fn wake(self: Arc<Self>) {
        let cause = self.committer.would_deadlock();
        let may_not = matches!(cause, Some(Cause::WouldDeadlock));
        *self.may_not.lock().expect("nobody panics") = Some(may_not);
    }
}

/// C3 ANSWER: code that a commit runs must not wait for a commit, whichever thread
/// commits. A caller that has committed may wait again.
#[test]
fn code_that_a_commit_runs_must_not_wait() {
    check("code_that_a_commit_runs_must_not_wait", 2, || {
        let rig = Rig::new(SYNCED).with_first(1);
        let task =
            Arc::new(WouldWait { committer: rig.committer.clone(), may_not: Mutex::new(None) });
        // On the list: `assert_acknowledged` waits in the ticket's slot.
        let mut registration = TicketRegistration::OnList(None);
        let waker = Waker::from(task.clone());
        let answer =
            rig.committer.progress.poll(FIRST, &mut Context::from_waker(&waker), &mut registration);
        assert!(answer.is_none(), "the writer has not started");
        let (_disk, committer, writer) = rig.start();
        committer.commit_inline(FIRST, SpinPolicy::Spin);
        assert!(committer.would_deadlock().is_none(), "C3 ANSWER: this thread commits no more");
        assert_acknowledged(&committer, FIRST);
        finish(&committer, writer);
        let may_not = *task.may_not.lock().expect("nobody panics");
        assert_eq!(may_not, Some(true), "C3 ANSWER: it would wait for the thread that runs it");
    });
}
