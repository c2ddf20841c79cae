//! Models of a follower that waits: the mark rises, or the shard ends, as it falls asleep.

use loom::thread;

use super::check;
use crate::checkpoint::{Checkpoint, LogId};
use crate::error::Cause;
use crate::follow::scripted::ScriptedShard;
use crate::follow::shard_source::boxed;
use crate::follow::{Followed, Follower};
use crate::fs::sim::SimFileSystem;
use crate::util::sync::{Arc, AtomicBool, Ordering};

/// Follows two shards to their end. Returns the number of records.
fn follow(shards: [ScriptedShard; 2], are_durable: &[AtomicBool; 2]) -> usize {
    let shards = shards.map(boxed);
    let follower = Follower::new(LogId([7; 16]), vec![shards.into()], &Checkpoint::start());
    let answers = follower.expect("no file is needed");
    let batches = answers.filter_map(|answer| match answer.expect("nothing fails") {
        Followed::Advanced(batch) => {
            let is_durable = &are_durable[batch.shard() as usize];
            assert!(
                is_durable.load(Ordering::Relaxed),
                "F1 DURABLE: a record was passed before it was durable"
            );
            Some(batch.len())
        }
        _ => None,
    });
    batches.sum()
}

/// Q4 WAKE, F1 DURABLE, F2 WHOLE: each of two shards makes a record durable, then closes.
#[test]
fn a_commit_and_a_close_race_a_follower() {
    check("a_commit_and_a_close_race_a_follower", 2, || {
        let fs = SimFileSystem::new();
        ScriptedShard::write(&fs, &[b"a"]);
        let shards = [ScriptedShard::new(&fs), ScriptedShard::new(&fs)];
        let progress = shards.each_ref().map(|shard| shard.progress.clone());
        let are_durable = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
        let synced = are_durable.clone();
        let writer = thread::spawn(move || {
            for (progress, is_durable) in progress.iter().zip(synced.iter()) {
                is_durable.store(true, Ordering::Relaxed);
                progress.acknowledge(1);
                progress.mark_synced(1);
                progress.fail(1, Cause::Closed);
            }
        });
        assert_eq!(follow(shards, &are_durable), 2);
        writer.join().expect("it does not panic");
    });
}
