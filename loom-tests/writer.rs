//! Models of the real writer loop without faults: an acknowledged record is on the disk,
//! whenever the power is cut.

use std::task::{Context, Waker};

use loom::thread::{self, JoinHandle};

use super::rig::{
    CRAMPED, FIRST, Rig, SYNCED, Shape, UNSYNCED, after_power_loss, answer, append,
    append_for_task, assert_survived, finish, wait_and_lose_power,
};
use super::{TaskThread, check};
use crate::commit::committer::Committer;
use crate::commit::progress::Answer;
use crate::fs::sim::SimFileSystem;
use crate::util::sync::Arc;

/// Starts another caller, on a thread of its own.
fn append_and_lose_power(
    committer: &Arc<Committer>,
    fs: &SimFileSystem,
    key: u64,
) -> JoinHandle<()> {
    let (committer, fs) = (committer.clone(), fs.clone());
    thread::spawn(move || {
        if let Ok(ticket) = append(&committer, key) {
            wait_and_lose_power(&committer, &fs, key, ticket);
        }
    })
}

/// C2 DURABLE: two callers append and wait. The power is cut as soon as one is answered.
#[test]
fn acknowledged_records_survive_a_power_loss() {
    check("acknowledged_records_survive_a_power_loss", 2, || {
        let (fs, committer, writer) = Rig::new(SYNCED).with_first(1).start();
        let other = append_and_lose_power(&committer, &fs, 2);
        wait_and_lose_power(&committer, &fs, 1, FIRST);
        other.join().expect("it was answered");
        finish(&committer, writer);
    });
}

/// C2 DURABLE, W1 PREFIX: each commit has a segment of its own. One segment is durable before
/// any record of the next is acknowledged.
#[test]
fn a_roll_races_append() {
    let shape = Shape { segment_bytes: CRAMPED, ..SYNCED };
    check("a_roll_races_append", 2, move || {
        let (fs, committer, writer) = Rig::new(shape).with_first(1).start();
        let other = append_and_lose_power(&committer, &fs, 2);
        wait_and_lose_power(&committer, &fs, 1, FIRST);
        other.join().expect("it was answered");
        finish(&committer, writer);
    });
}

/// Q3 CLOSE, C3 ANSWER, W1 PREFIX: the log is closed during appends. Each is refused, or is
/// acknowledged and on the disk once the writer has ended. The log holds those and no others.
#[test]
fn close_races_append() {
    check("close_races_append", 2, || {
        let (fs, committer, writer) = Rig::new(Shape { queue: 1, ..SYNCED }).start();
        let appending = committer.clone();
        let appending = thread::spawn(move || {
            let tickets: Vec<_> = [1, 2].map(|key| append(&appending, key)).into();
            for ticket in tickets.iter().flatten() {
                let answer = answer(&appending, *ticket);
                assert!(matches!(answer, Answer::Acknowledged), "Q3 CLOSE: {answer:?}");
            }
            tickets.into_iter().flatten().collect::<Vec<_>>()
        });
        committer.queue.close();
        writer.join().expect("no panic").expect("it ended in order");
        let acknowledged = appending.join().expect("it returned");
        let records = after_power_loss(&fs);
        assert_eq!(records.len(), acknowledged.len(), "W1 PREFIX: {records:?}");
        for (key, ticket) in (1..).zip(acknowledged) {
            assert_survived(&records, key, ticket);
        }
    });
}

/// W1 PREFIX: no thread waits for a record that was appended before the close. It is still
/// written.
#[test]
fn a_record_without_a_waiter_is_written() {
    check("a_record_without_a_waiter_is_written", 2, || {
        let (fs, committer, writer) = Rig::new(SYNCED).with_first(1).start();
        let closing = committer.clone();
        let closing = thread::spawn(move || {
            let ticket = append(&closing, 2).expect("it is open");
            closing.queue.close();
            ticket
        });
        writer.join().expect("no panic").expect("it ended in order");
        let other = closing.join().expect("it returned");
        let records = after_power_loss(&fs);
        assert_survived(&records, 1, FIRST);
        assert_survived(&records, 2, other);
    });
}

/// C2 DURABLE, C3 ANSWER: a batch over two shards. There are two writers, and one caller
/// waits for both parts.
#[test]
fn a_batch_over_two_shards() {
    check("a_batch_over_two_shards", 2, || {
        let shards = [Rig::new(SYNCED).start(), Rig::new(SYNCED).start()];
        let parts = shards.each_ref().map(|(_, committer, _)| append(committer, 1));
        for ((fs, committer, _), part) in shards.iter().zip(parts) {
            let ticket = part.expect("it is open");
            assert!(matches!(answer(committer, ticket), Answer::Acknowledged), "C3 ANSWER");
            assert_survived(&after_power_loss(fs), 1, ticket);
        }
        let [(_, one, ended), (_, other, also)] = shards;
        finish(&one, ended);
        other.queue.close();
        drop(also.join());
    });
}

/// Q4 WAKE: a task appends while the writer is about to sleep. The append wakes the writer, and
/// the answer wakes the task.
#[test]
fn a_task_appends_beside_the_writer() {
    check("a_task_appends_beside_the_writer", 2, || {
        let (_, committer, writer) = Rig::new(UNSYNCED).start();
        let task = TaskThread::new();
        let waker = Waker::from(task.clone());
        let (ticket, mut registration) = append_for_task(&committer, 1, &waker);
        let progress = &committer.progress;
        let mut is_first = true;
        let answer = task.run(|| {
            if std::mem::take(&mut is_first) {
                return progress.check_registered(ticket, &mut registration);
            }
            progress.poll(ticket, &mut Context::from_waker(&waker), &mut registration)
        });
        assert!(matches!(answer, Answer::Acknowledged), "{answer:?}");
        finish(&committer, writer);
    });
}
