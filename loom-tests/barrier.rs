//! Models of a flush: a requested sync races appends, in a mode that does not sync
//! each commit.

use std::task::{Context, Waker};

use loom::thread;

use super::rig::{
    CRAMPED, FIRST, Rig, Shape, UNSYNCED, after_power_loss, answer, append, assert_survived, finish,
};
use super::{TaskThread, check};
use crate::commit::committer::Lane;
use crate::commit::progress::Answer;
use crate::fs::sim::{Call, Fault, FaultKind};

const EIO: i32 = 5;

fn poll_synced(lane: &Lane, below: u64) -> bool {
    let task = TaskThread::new();
    let waker = Waker::from(task.clone());
    let (mut context, mut enrolled) = (Context::from_waker(&waker), None);
    task.run(|| lane.progress.poll_synced(below, &mut context, &mut enrolled)).is_ok()
}

/// C2 DURABLE: what this thread appended before the flush is on the disk after it. A
/// concurrent append is answered, durable or not.
#[test]
fn a_barrier_races_append() {
    check("a_barrier_races_append", 2, || {
        let (disk, lane, writer) = Rig::new(UNSYNCED).with_first(1).start();
        let other = lane.clone();
        let other = thread::spawn(move || {
            let ticket = append(&other, 2).expect("it is open");
            assert!(matches!(answer(&other, ticket), Answer::Acknowledged), "C3 ANSWER");
        });
        let below = lane.mailbox.request_sync();
        lane.progress.wait_synced(below).expect("no fault is planned");
        other.join().expect("it was answered");
        assert_survived(&after_power_loss(&disk), 1, FIRST);
        finish(&lane, writer);
    });
}

/// C2 DURABLE, W1 PREFIX: each commit has a segment of its own, and the sync reaches
/// them all. Here a task waits for the flush.
#[test]
fn a_barrier_reaches_back_over_segments() {
    check("a_barrier_reaches_back_over_segments", 2, || {
        let (disk, lane, writer) =
            Rig::new(Shape { segment_bytes: CRAMPED, ..UNSYNCED }).with_first(1).start();
        let other = lane.clone();
        let other = thread::spawn(move || append(&other, 2).expect("it is open"));
        let below = lane.mailbox.request_sync();
        assert!(poll_synced(&lane, below), "no fault is planned");
        assert_survived(&after_power_loss(&disk), 1, FIRST);
        other.join().expect("it returned");
        finish(&lane, writer);
    });
}

/// C3 ANSWER, C1 ONCE: the sync fails for two flushes, one after an append and one that
/// may come before or after it. The caller of the failed flush gets the error, and the
/// append is answered.
#[test]
fn a_barrier_whose_sync_fails_is_told_so() {
    check("a_barrier_whose_sync_fails_is_told_so", 2, || {
        let (disk, lane, writer) = Rig::new(UNSYNCED).start();
        disk.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
        let other = lane.clone();
        let other = thread::spawn(move || {
            let below = other.mailbox.request_sync();
            let synced = other.progress.wait_synced(below);
            assert_eq!(synced.is_ok(), below == 0, "C2 DURABLE: nothing was ever synced");
        });
        let ticket = append(&lane, 1).expect("only its own sync can fail the shard");
        let below = lane.mailbox.request_sync();
        lane.progress.wait_synced(below).expect_err("the one sync failed");
        let answer = lane.progress.answer(ticket);
        assert!(matches!(answer, Some(Answer::Acknowledged)), "C1 ONCE: {answer:?}");
        other.join().expect("it was answered");
        writer.join().expect("no panic").expect_err("W2 STICKY: the shard has failed");
        assert_eq!(disk.calls(Call::Sync), 1, "W2 STICKY: never synced again");
    });
}
