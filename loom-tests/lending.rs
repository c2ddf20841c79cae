//! Models of inline commits: the shard's thread and callers in turn drive the real writer,
//! over the simulated disk.

use loom::thread;

use super::check;
use super::rig::{
    FIRST, ROOMY, Rig, SYNCED, Shape, after_power_loss, answer, append_lending, assert_survived,
    finish, wait_and_lose_power,
};
use crate::disk::sim::{Call, Fault, FaultKind, SimDisk};
use crate::lane::{Lane, Patience};
use crate::progress::Answer;

/// `Durability::Os`.
const UNSYNCED: Shape = Shape { queue: 2, sync: false, segment_bytes: ROOMY };
const EIO: i32 = 5;

/// The power loss of another caller may end the shard, so an append may be refused.
fn lend_and_lose_power(lane: &Lane, disk: &SimDisk, key: u64) {
    if let Ok(ticket) = append_lending(lane, key) {
        wait_and_lose_power(lane, disk, key, ticket);
    }
}

/// C2 DURABLE, Q4 WAKE, Q5 TURN: two callers commit inline, beside the shard's thread.
/// Each is answered, and its record is on the disk then.
#[test]
fn two_callers_lend_a_hand() {
    check("two_callers_lend_a_hand", 2, || {
        let (disk, lane, writer) = Rig::new(SYNCED).with_first(1).start();
        let (other, its_disk) = (lane.clone(), disk.clone());
        let other = thread::spawn(move || lend_and_lose_power(&other, &its_disk, 2));
        lane.lend_a_hand(FIRST, Patience::Little);
        wait_and_lose_power(&lane, &disk, 1, FIRST);
        other.join().expect("it was answered");
        finish(&lane, writer);
    });
}

/// Q4 WAKE, Q5 TURN: commits end without a sync. Two callers try for the commit lock
/// repeatedly, and commit for each other.
#[test]
fn two_callers_ask_for_the_turn() {
    check("two_callers_ask_for_the_turn", 2, || {
        let (_disk, lane, writer) = Rig::new(UNSYNCED).with_first(1).start();
        let other = lane.clone();
        let other = thread::spawn(move || {
            let ticket = append_lending(&other, 2).expect("it is open, and there is room for both");
            let answer = answer(&other, ticket);
            assert!(matches!(answer, Answer::Acknowledged), "C3 ANSWER: {answer:?}");
        });
        lane.lend_a_hand(FIRST, Patience::Little);
        assert!(matches!(answer(&lane, FIRST), Answer::Acknowledged), "C3 ANSWER");
        other.join().expect("it was answered");
        finish(&lane, writer);
    });
}

/// Q4 WAKE, Q5 TURN, C2 DURABLE: a sync is requested while a caller has the commit lock. If
/// the caller leaves it, the shard's thread does it.
#[test]
fn a_barrier_races_a_caller_who_lends_a_hand() {
    check("a_barrier_races_a_caller_who_lends_a_hand", 2, || {
        let (disk, lane, writer) = Rig::new(UNSYNCED).with_first(1).start();
        let other = lane.clone();
        let other = thread::spawn(move || {
            let ticket = append_lending(&other, 2).expect("it is open, and there is room for both");
            let answer = answer(&other, ticket);
            assert!(matches!(answer, Answer::Acknowledged), "C3 ANSWER: {answer:?}");
        });
        let below = lane.mailbox.request_sync();
        lane.progress.wait_synced(below).expect("no fault is planned");
        other.join().expect("it was answered");
        assert_survived(&after_power_loss(&disk), 1, FIRST);
        finish(&lane, writer);
    });
}

/// Q3 CLOSE, C3 ANSWER, W1 PREFIX: the log is closed during an inline commit. The caller is
/// refused, or acknowledged and on the disk once the writer has ended.
#[test]
fn close_races_a_caller_who_lends_a_hand() {
    check("close_races_a_caller_who_lends_a_hand", 2, || {
        let (disk, lane, writer) = Rig::new(SYNCED).start();
        let lending = lane.clone();
        let lending = thread::spawn(move || {
            let ticket = append_lending(&lending, 1).ok()?;
            let answer = answer(&lending, ticket);
            assert!(matches!(answer, Answer::Acknowledged), "Q3 CLOSE: {answer:?}");
            Some(ticket)
        });
        lane.mailbox.close();
        writer.join().expect("no panic").expect("it ended in order");
        let acknowledged = lending.join().expect("it returned");
        let records = after_power_loss(&disk);
        assert_eq!(records.len(), acknowledged.iter().count(), "W1 PREFIX: {records:?}");
        acknowledged.iter().for_each(|ticket| assert_survived(&records, 1, *ticket));
    });
}

/// C3 ANSWER, W2 STICKY: the second commit fails or panics. A caller makes it, unless the
/// shard's thread comes first. No thread waits forever, the caller does not unwind, and the
/// shard's thread ends and reports the cause.
#[test]
fn a_failure_under_a_caller_who_lends_a_hand_answers_everybody() {
    for kind in [FaultKind::Panic, FaultKind::Error(EIO)] {
        check("a_failure_under_a_caller_who_lends_a_hand_answers_everybody", 3, move || {
            let rig = Rig::new(SYNCED).with_first(1);
            rig.disk.fail(Fault::new(Call::Sync, 2, kind.clone()));
            let (disk, lane, writer) = rig.start();
            assert!(matches!(answer(&lane, FIRST), Answer::Acknowledged), "C1 ONCE");
            let ticket = append_lending(&lane, 2).expect("it is open");
            let told = answer(&lane, ticket);
            assert!(matches!(told, Answer::Indeterminate(_)), "C2 DURABLE: {told:?}");
            assert!(writer.join().expect("the panic was caught").is_err(), "W2 STICKY");
            assert_eq!(disk.calls(Call::Sync), 2, "W2 STICKY: never synced again");
        });
    }
}
