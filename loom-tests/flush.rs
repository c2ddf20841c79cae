//! Models of a flush: a requested sync races appends, in a mode that does not sync
//! each commit.

use std::task::{Context, Waker};

use loom::thread;

use super::rig::{
    CRAMPED, FIRST, Rig, Shape, UNSYNCED, after_power_loss, answer, append, assert_survived, finish,
};
use super::{TaskThread, check};
use crate::commit::committer::Committer;
use crate::commit::progress::Answer;
use crate::fs::sim::{Call, Fault, FaultKind};
use crate::queue::queue::PushError;

const EIO: i32 = 5;

fn poll_synced(committer: &Committer, below: u64) -> bool {
    let task = TaskThread::new();
    let waker = Waker::from(task.clone());
    let (mut context, mut registration) = (Context::from_waker(&waker), None);
    task.run(|| committer.progress.poll_synced(below, &mut context, &mut registration)).is_ok()
}

/// This thread appends, then waits for a flush. What it appended is on the disk after it. A
/// concurrent append by `append` is answered, durable or not.
pub(super) fn flush_beside(
    name: &str,
    append: impl Fn(&Committer, u64) -> Result<u64, PushError> + Copy + Send + Sync + 'static,
) {
    check(name, 2, move || {
        let (fs, committer, writer) = Rig::new(UNSYNCED).with_first(1).start();
        let other = committer.clone();
        let other = thread::spawn(move || {
            let ticket = append(&other, 2).expect("it is open, and there is room for both");
            let answer = answer(&other, ticket);
            assert!(matches!(answer, Answer::Acknowledged), "C3 ANSWER: {answer:?}");
        });
        let below = committer.queue.request_sync();
        committer.progress.wait_synced(below).expect("no fault is planned");
        other.join().expect("it was answered");
        assert_survived(&after_power_loss(&fs), 1, FIRST);
        finish(&committer, writer);
    });
}

/// C2 DURABLE: the concurrent append is committed by the shard's thread.
#[test]
fn a_flush_races_append() {
    flush_beside("a_flush_races_append", append);
}

/// C2 DURABLE, W1 PREFIX: each commit has a segment of its own, and the sync reaches
/// them all. Here a task waits for the flush.
#[test]
fn a_flush_covers_earlier_segments() {
    check("a_flush_covers_earlier_segments", 2, || {
        let (fs, committer, writer) =
            Rig::new(Shape { segment_bytes: CRAMPED, ..UNSYNCED }).with_first(1).start();
        let other = committer.clone();
        let other = thread::spawn(move || append(&other, 2).expect("it is open"));
        let below = committer.queue.request_sync();
        assert!(poll_synced(&committer, below), "no fault is planned");
        assert_survived(&after_power_loss(&fs), 1, FIRST);
        other.join().expect("it returned");
        finish(&committer, writer);
    });
}

/// C3 ANSWER, C1 ONCE: the sync fails for two flushes, one after an append and one that
/// may come before or after it. The caller of the failed flush gets the error, and the
/// append is answered.
#[test]
fn a_failed_sync_fails_the_flush() {
    check("a_failed_sync_fails_the_flush", 2, || {
        let (fs, committer, writer) = Rig::new(UNSYNCED).start();
        fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
        let other = committer.clone();
        let other = thread::spawn(move || {
            let below = other.queue.request_sync();
            let synced = other.progress.wait_synced(below);
            assert_eq!(synced.is_ok(), below == 0, "C2 DURABLE: nothing was ever synced");
        });
        let ticket = append(&committer, 1).expect("only its own sync can fail the shard");
        let below = committer.queue.request_sync();
        committer.progress.wait_synced(below).expect_err("the one sync failed");
        let answer = committer.progress.answer(ticket);
        assert!(matches!(answer, Some(Answer::Acknowledged)), "C1 ONCE: {answer:?}");
        other.join().expect("it was answered");
        writer.join().expect("no panic").expect_err("W2 STICKY: the shard has failed");
        assert_eq!(fs.calls(Call::Sync), 1, "W2 STICKY: never synced again");
    });
}
