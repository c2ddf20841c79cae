//! Models of the real writer loop with faults: a failed sync or write, a full disk, a panic.
//! Every caller is answered, and correctly.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Wake, Waker};

use loom::thread;

use super::check;
use super::rig::{
    BASE, FIRST, Rig, SYNCED, Shape, after_lucky_power_loss, after_power_loss, answer, append,
    assert_survived, read,
};
use crate::commit::committer::Committer;
use crate::commit::progress::{Answer, TicketRegistration};
use crate::error::Cause;
use crate::fs::sim::{Call, Fault, FaultKind};
use crate::queue::queue::PushError;
use crate::util::sync::Arc;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// What a caller knows of a record: its key, its ticket, its answer. `None` if the record
/// was not queued.
type Answered = Option<(u64, u64, Answer)>;

fn append_and_wait(committer: &Committer, key: u64) -> Answered {
    match append(committer, key) {
        Ok(ticket) => wait(committer, key, ticket),
        Err(PushError::Closed) => {
            let failure = committer.progress.failure();
            assert!(
                failure.is_some(),
                "only a failed writer closes, and it stores the cause first"
            );
            None
        }
        Err(PushError::Full) => panic!("there was no deadline"),
    }
}

fn wait(committer: &Committer, key: u64, ticket: u64) -> Answered {
    Some((key, ticket, answer(committer, ticket)))
}

/// Compares an answer with the log on the disk, without luck and with all bytes surviving.
fn assert_true(answers: &Answered, unlucky: &[(u64, u64)], lucky: &[(u64, u64)]) {
    match answers {
        Some((key, ticket, Answer::Acknowledged)) => assert_survived(unlucky, *key, *ticket),
        Some((key, ticket, Answer::NotWritten(_))) => {
            let there = lucky.contains(&(*key, BASE + ticket));
            assert!(!there, "C1 ONCE: {key} is there, and was said not to be: {lucky:?}");
        }
        Some((_, _, Answer::Indeterminate(_))) | None => {}
    }
}

/// Two callers meet one permanent fault. Checks how it all ended.
fn two_callers_meet(fault: Fault) {
    let rig = Rig::new(SYNCED).with_first(1);
    rig.fs.fail(fault.clone());
    let (fs, committer, writer) = rig.start();
    let other = committer.clone();
    let other = thread::spawn(move || append_and_wait(&other, 2));
    let mut answers = vec![wait(&committer, 1, FIRST)];
    answers.push(other.join().expect("it was answered"));
    // One more record, so that a fault at the second commit is certainly met.
    loom::stop_exploring();
    answers.push(append_and_wait(&committer, 3));
    let ended = writer.join().expect("the panic was caught");
    assert!(ended.is_err(), "W2 STICKY: the shard has failed");
    assert_eq!(append(&committer, 4), Err(PushError::Closed), "W2 STICKY: it takes no more");
    assert_eq!(fs.calls(fault.call), fault.nth, "W2 STICKY: that was the last such call");
    let (unlucky, lucky) = (after_power_loss(&fs), after_lucky_power_loss(&fs));
    for answer in &answers {
        assert_true(answer, &unlucky, &lucky);
    }
}

/// C3 ANSWER, W2 STICKY, C1 ONCE: the first sync fails, or the second.
#[test]
fn a_failed_sync_answers_every_caller() {
    for nth in [1, 2] {
        check("a_failed_sync_answers_every_caller", 2, move || {
            two_callers_meet(Fault::new(Call::Sync, nth, FaultKind::Error(EIO)));
        });
    }
}

/// C3 ANSWER, W2 STICKY: the second write fails.
#[test]
fn a_failed_write_answers_every_caller() {
    check("a_failed_write_answers_every_caller", 2, || {
        two_callers_meet(Fault::new(Call::Write, 2, FaultKind::Error(EIO)));
    });
}

/// C3 ANSWER: the writer panics in the middle of a commit.
#[test]
fn a_writer_panic_answers_every_caller() {
    for call in [Call::Write, Call::Sync] {
        check("a_writer_panic_answers_every_caller", 2, move || {
            two_callers_meet(Fault::new(call, 2, FaultKind::Panic));
        });
    }
}

/// C1 ONCE, W1 PREFIX: the first commit finds no room, later ones do. Its callers get
/// `NotWritten`, the other records are written, and the log has no hole elsewhere.
#[test]
fn a_full_disk_refuses_and_goes_on() {
    check("a_full_disk_refuses_and_goes_on", 2, || {
        let rig = Rig::new(SYNCED).with_first(1);
        rig.fs.fail(Fault::new(Call::Write, 1, FaultKind::Error(ENOSPC)));
        let (fs, committer, writer) = rig.start();
        let other = committer.clone();
        let other = thread::spawn(move || append_and_wait(&other, 2));
        let answers = [wait(&committer, 1, FIRST), other.join().expect("it was answered")];
        loom::stop_exploring();
        committer.queue.close();
        writer.join().expect("no panic").expect("a full disk is no failure of the shard");
        let refused = answers
            .iter()
            .flatten()
            .filter(|(_, _, answer)| matches!(answer, Answer::NotWritten(Cause::DiskFull(_))));
        assert!((1..=2).contains(&refused.count()), "the first commit met it");
        // A refused record's sequence stays unused, which is the only hole allowed.
        let (unlucky, lucky) = (read(&fs.crash(&mut || false)), read(&fs.crash(&mut || true)));
        answers.iter().for_each(|answer| assert_true(answer, &unlucky, &lucky));
    });
}

/// Q4 WAKE, C3 ANSWER: a producer is parked on the full ring of a shard whose sync fails. It
/// is woken, and gets the cause.
#[test]
fn a_parked_producer_gets_the_cause_of_the_failure() {
    check("a_parked_producer_gets_the_cause_of_the_failure", 1, || {
        let rig = Rig::new(Shape { queue: 1, ..SYNCED }).with_first(1);
        rig.fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
        let (_, committer, writer) = rig.start();
        let parked = committer.clone();
        let parked = thread::spawn(move || append_and_wait(&parked, 2));
        if let Some((_, _, answer)) = append_and_wait(&committer, 3) {
            assert!(!matches!(answer, Answer::Acknowledged), "C2 DURABLE");
        }
        drop(parked.join().expect("it was let go"));
        assert!(writer.join().expect("no panic").is_err());
    });
}

/// A task whose waker panics.
struct Panicking(AtomicU64);

impl Wake for Panicking {
    fn wake(self: std::sync::Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &std::sync::Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        panic!("a planned panic in a waker");
    }
}

/// Registers a task whose waker panics. The result keeps its node alive: loom must not see
/// an address reused in some executions and not in others.
fn register_panicking<R: Default>(poll: impl FnOnce(&mut Context<'_>, &mut R)) -> R {
    let waker = Waker::from(Arc::new(Panicking(AtomicU64::new(0))));
    let mut registration = R::default();
    poll(&mut Context::from_waker(&waker), &mut registration);
    registration
}

/// C3 ANSWER, Q4 WAKE: a caller's waker panics on the writer's thread, on the list of a
/// flush or of an append. The other callers are still woken.
#[test]
fn a_panicking_waker_does_not_affect_other_callers() {
    check("a_panicking_waker_does_not_affect_other_callers", 2, || {
        let rig = Rig::new(SYNCED).with_first(1);
        let progress = &rig.committer.progress;
        let registrations = (
            register_panicking(|context, registration| {
                drop(progress.poll_synced(1, context, registration))
            }),
            register_panicking(|context, registration| {
                // `wait` waits in the ticket's slot.
                *registration = TicketRegistration::OnList(None);
                drop(progress.poll(FIRST, context, registration))
            }),
        );
        let (_disk, committer, writer) = rig.start();
        let other = committer.clone();
        let other = thread::spawn(move || append_and_wait(&other, 2));
        let answers = [wait(&committer, 1, FIRST), other.join().expect("it was answered")];
        loom::stop_exploring();
        for (_, _, answer) in answers.iter().flatten() {
            assert!(matches!(answer, Answer::Acknowledged), "C3 ANSWER: {answer:?}");
        }
        committer.queue.close();
        writer.join().expect("no panic").expect("a caller's panic is not the shard's");
        drop(registrations);
    });
}
