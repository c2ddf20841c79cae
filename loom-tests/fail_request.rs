//! Models of a shard that another thread fails. That thread has found what the writer cannot
//! see, for example that the shard's directory is gone.

use std::io;

use loom::thread;

use super::check;
use super::rig::{
    FIRST, Rig, SYNCED, Shape, UNSYNCED, after_power_loss, answer, append, append_inline,
    assert_survived,
};
use crate::commit::committer::Committer;
use crate::commit::progress::Answer;
use crate::queue::queue::PushError;

const WHY: &str = "its directory is gone";

/// How a record is queued.
type Append = fn(&Committer, u64) -> Result<u64, PushError>;

/// Fails the shard. A record that this thread appends later is never acknowledged, and no
/// sync covers it.
fn request_fail(committer: &Committer, append: Option<Append>) {
    committer.request_fail(io::Error::other(WHY));
    let Some(Ok(ticket)) = append.map(|append| append(committer, 2)) else { return };
    let below = committer.queue.request_sync();
    let outcome = answer(committer, ticket);
    assert!(!matches!(outcome, Answer::Acknowledged), "C2 DURABLE: {outcome:?} after the end");
    committer.progress.wait_synced(below).expect_err("C2 DURABLE: synced after the end");
}

/// Appends a record and requests a sync, while another thread fails the shard. Both are
/// answered correctly, and the shard ends with the cause of that thread.
fn request_fail_beside_a_sync(shape: Shape, later: Option<Append>) {
    let (fs, committer, writer) = Rig::new(shape).with_first(1).start();
    let failing = committer.clone();
    let failing = thread::spawn(move || request_fail(&failing, later));
    let below = committer.queue.request_sync();
    let outcome = answer(&committer, FIRST);
    let is_synced = committer.progress.wait_synced(below).is_ok();
    failing.join().expect("it was answered");
    let cause = writer.join().expect("no panic").expect_err("W2 STICKY: the request failed it");
    assert!(cause.to_string().contains(WHY), "C3 ANSWER: {cause}");
    assert!(append(&committer, 3).is_err(), "W2 STICKY: it takes no more");
    if is_synced || shape.mode.syncs_each_commit() && matches!(outcome, Answer::Acknowledged) {
        assert_survived(&after_power_loss(&fs), 1, FIRST);
    }
}

/// C2 DURABLE, C3 ANSWER, Q4 WAKE: only the request wakes the writer.
#[test]
fn a_fail_request_answers_every_caller() {
    check("a_fail_request_answers_every_caller", 2, || request_fail_beside_a_sync(SYNCED, None));
}

/// C2 DURABLE, C3 ANSWER: a later record is never acknowledged, whether the shard's thread
/// commits it or the caller.
#[test]
fn nothing_is_acknowledged_after_a_fail_request() {
    for shape in [UNSYNCED, SYNCED] {
        for later in [append as Append, append_inline] {
            check("nothing_is_acknowledged_after_a_fail_request", 1, move || {
                request_fail_beside_a_sync(shape, Some(later));
            });
        }
    }
}
