//! Models of a shard that another thread ends, because it has found what the writer
//! cannot see: that the shard's folder is gone, say.

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

const WHY: &str = "its folder is gone";

/// How a record is queued.
type Append = fn(&Committer, u64) -> Result<u64, PushError>;

/// Condemns the shard. What this thread appends later is never acknowledged, and no
/// sync covers it.
fn request_fail(committer: &Committer, append: Option<Append>) {
    committer.request_fail(io::Error::other(WHY));
    let Some(Ok(ticket)) = append.map(|append| append(committer, 2)) else { return };
    let below = committer.queue.request_sync();
    let told = answer(committer, ticket);
    assert!(!matches!(told, Answer::Acknowledged), "C2 DURABLE: {told:?} after the end");
    committer.progress.wait_synced(below).expect_err("C2 DURABLE: synced after the end");
}

/// A record is appended and a sync asked for, while another thread condemns the shard:
/// both are answered, truly, and the shard ends for the reason that was given.
fn condemn_beside_a_sync(shape: Shape, later: Option<Append>) {
    let (fs, committer, writer) = Rig::new(shape).with_first(1).start();
    let condemning = committer.clone();
    let condemning = thread::spawn(move || request_fail(&condemning, later));
    let below = committer.queue.request_sync();
    let told = answer(&committer, FIRST);
    let is_synced = committer.progress.wait_synced(below).is_ok();
    condemning.join().expect("it was answered");
    let cause = writer.join().expect("no panic").expect_err("W2 STICKY: it was condemned");
    assert!(cause.to_string().contains(WHY), "C3 ANSWER: {cause}");
    assert!(append(&committer, 3).is_err(), "W2 STICKY: it takes no more");
    if is_synced || shape.sync && matches!(told, Answer::Acknowledged) {
        assert_survived(&after_power_loss(&fs), 1, FIRST);
    }
}

/// C2 DURABLE, C3 ANSWER, Q4 WAKE: nothing else wakes the writer.
#[test]
fn a_condemned_shard_answers_everybody() {
    check("a_condemned_shard_answers_everybody", 2, || condemn_beside_a_sync(SYNCED, None));
}

/// C2 DURABLE, C3 ANSWER: a record that comes later is never acknowledged, whether the
/// shard's thread commits or the caller.
#[test]
fn a_condemned_shard_acknowledges_nothing_more() {
    for shape in [UNSYNCED, SYNCED] {
        for later in [append as Append, append_inline] {
            check("a_condemned_shard_acknowledges_nothing_more", 1, move || {
                condemn_beside_a_sync(shape, Some(later));
            });
        }
    }
}
