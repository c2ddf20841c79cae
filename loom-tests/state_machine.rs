//! Models of the state machine that a writer drives: what its callers see of it.

use loom::cell::UnsafeCell;
use loom::thread;

use super::rig::{FIRST, Rig, SYNCED, answer, append, finish};
use super::{check, drain, wait};
use crate::commit::progress::{Answer, TicketRegistration};
use crate::commit::state_machine::StateMachine;
use crate::fs::sim::{Call, Fault, FaultKind};
use crate::queue::queue::Queue;
use crate::queue::requests::Work;
use crate::util::sync::Arc;

/// The applied keys, and whether each was fresh. There is no lock, so that loom reports a
/// read that races the writer.
#[derive(Default)]
struct Applied {
    keys: UnsafeCell<Vec<(u64, bool)>>,
}

// SAFETY: loom checks every access: the writer's before an answer, the callers'
// after it.
unsafe impl Sync for Applied {}
// SAFETY: loom checks every access.
unsafe impl Send for Applied {}

/// A state machine that collects keys.
struct Keys {
    stored: Vec<(u64, bool)>,
    applied: Arc<Applied>,
}

impl StateMachine for Keys {
    fn encode(&mut self, reset: bool, key: u64, _payload: &[u8], stored: &mut Vec<u8>) {
        stored.push(0);
        self.stored.push((key, reset));
    }

    fn apply(&mut self) {
        // SAFETY: no thread reads before an answer; loom checks it.
        self.applied.keys.with_mut(|keys| unsafe { (*keys).append(&mut self.stored) });
    }

    fn rollback(&mut self) {
        self.stored.clear();
    }

    fn snapshot(&mut self, _next: u64) {}
}

fn applied(applied: &Applied) -> Vec<(u64, bool)> {
    // SAFETY: after the last answer the writer applies nothing; loom checks it.
    applied.keys.with(|keys| unsafe { (*keys).clone() })
}

/// S2 APPLY: a caller that is answered finds the acknowledged records applied, in the log's
/// order, and the writer done with them.
#[test]
fn an_answered_record_is_applied() {
    check("an_answered_record_is_applied", 3, || {
        let state = Arc::new(Applied::default());
        let machine = Keys { stored: Vec::new(), applied: state.clone() };
        let rig = Rig::driving(SYNCED, Some(Box::new(machine))).with_first(1);
        let (_, committer, writer) = rig.start();
        let (beside, seen) = (committer.clone(), state.clone());
        let beside = thread::spawn(move || {
            // Not in the ticket's slot, which has one waiter.
            let on_list = TicketRegistration::OnList(None);
            let answer = beside.progress.wait(FIRST, None, &on_list);
            assert!(matches!(answer, Some(Answer::Acknowledged)));
            assert_eq!(applied(&seen), [(1, true)], "S2 APPLY");
        });
        assert!(matches!(answer(&committer, FIRST), Answer::Acknowledged));
        assert_eq!(applied(&state), [(1, true)], "S2 APPLY");
        beside.join().expect("it was answered");
        finish(&committer, writer);
    });
}

/// S2 APPLY, S1 FRESH: the first commit finds no room. None of it is applied, and the next
/// record is fresh, as the first was.
#[test]
fn a_refused_commit_is_not_applied() {
    check("a_refused_commit_is_not_applied", 2, || {
        let state = Arc::new(Applied::default());
        let machine = Keys { stored: Vec::new(), applied: state.clone() };
        let rig = Rig::driving(SYNCED, Some(Box::new(machine))).with_first(1);
        rig.fs.fail(Fault::new(Call::Write, 1, FaultKind::Error(28)));
        let (_, committer, writer) = rig.start();
        let beside = committer.clone();
        let beside = thread::spawn(move || {
            let ticket = append(&beside, 2).expect("it is open");
            matches!(answer(&beside, ticket), Answer::Acknowledged)
        });
        let first = matches!(answer(&committer, FIRST), Answer::Acknowledged);
        let answers = [first, beside.join().expect("it was answered")];
        finish(&committer, writer);
        let expected: Vec<_> =
            answers.into_iter().zip([(1, true), (2, true)]).filter(|(is, _)| *is).collect();
        let expected: Vec<_> = expected.into_iter().map(|(_, applied)| applied).collect();
        assert_eq!(applied(&state), expected, "S2 APPLY: the acknowledged records; S1 FRESH");
        assert!(!first, "the first commit met the full disk");
    });
}

/// Q4 WAKE: a mark is requested beside a push. The receiver, parked or not, does each once.
#[test]
fn a_mark_request_races_push() {
    check("a_mark_request_races_push", 3, || {
        let (queue, mut receiver) = Queue::new(1, u64::MAX);
        let (asking, pushing) = (queue.clone(), queue.clone());
        let asked = thread::spawn(move || asking.request_snapshot());
        let pushed = thread::spawn(move || pushing.try_push(1, 0, |_, slot| *slot = 7_u64));
        let (mut marks, mut values) = (0, Vec::new());
        while marks + values.len() < 2 {
            match wait(&queue, &mut receiver) {
                Work::Snapshot => marks += 1,
                Work::Values => drain(&mut receiver, |value| {
                    values.push(*value.value);
                    true
                }),
                other => panic!("unexpected work: {other:?}"),
            }
        }
        assert_eq!((marks, values), (1, vec![7]), "one request, one mark");
        asked.join().expect("it has asked");
        pushed.join().expect("it has pushed").expect("there is room");
    });
}
