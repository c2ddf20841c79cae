//! A truncated log opens after a power loss.
//!
//! A shard must keep a segment whose header says where it continues. A segment's header
//! is written with its first commit and becomes durable with the sync of that commit.
//! The deletion of the previous segment is durable at once. When the deletion came
//! first, a power loss left a shard without any header, and open refused a log that had
//! lost nothing. An earlier generation that was truncated at its very end failed this
//! way without a crash.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use crate::raw::{self, config};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Checkpoint, Durability, ShardedWal};

fn os_config(fs: &SimFileSystem) -> shardwal::Config {
    config(fs, 1).durability(Durability::Buffered).segment_bytes(4096)
}

/// A log of one shard. Its first segment is synced and full, its second is not synced.
/// Also returns the position where the second begins.
fn rolled_and_not_synced(fs: &SimFileSystem) -> (ShardedWal, Checkpoint) {
    let log = ShardedWal::open(os_config(fs)).unwrap();
    let mut end = log.durable_checkpoint();
    while log.stats().total.rolls == 0 {
        log.flush().wait().unwrap();
        end = log.durable_checkpoint();
        log.append(7, vec![7; 1000]).wait().unwrap();
    }
    (log, end)
}

#[test]
fn a_log_opens_after_truncation_and_power_loss_before_any_sync() {
    let fs = SimFileSystem::with_dir("/log");
    let (log, end) = rolled_and_not_synced(&fs);
    let report = log.truncate_before(&end).unwrap();
    assert_eq!(report.segments, 1, "one segment is deleted");
    let after = fs.crash(&mut || false);
    drop(log);

    let log = ShardedWal::open(os_config(&after)).unwrap();
    let position = log.append(7, "next").wait().unwrap();
    assert!(position.sequence >= end.sequences()[0], "no sequence is used twice");
    log.close().unwrap();
}

/// A checkpoint from before the shard count changed.
#[test]
fn a_log_opens_after_truncation_at_the_end_of_an_earlier_generation() {
    let fs = SimFileSystem::with_dir("/log");
    let log = ShardedWal::open(config(&fs, 2)).unwrap();
    for key in 0..10_u64 {
        log.append(key, "old").wait().unwrap();
    }
    let end = log.durable_checkpoint();
    log.close().unwrap();

    let log = ShardedWal::open(config(&fs, 3)).unwrap();
    log.truncate_before(&end).unwrap();
    log.append(1, "new").wait().unwrap();
    log.close().unwrap();
    ShardedWal::open(config(&fs, 3)).unwrap().close().unwrap();
    assert_eq!(raw::read(&fs).unwrap().0.len(), 1);
}

/// A closed shard may leave a segment that was prepared and never used.
#[test]
fn a_log_opens_if_an_earlier_generation_has_only_a_prepared_segment() {
    let fs = SimFileSystem::with_dir("/log");
    let log = ShardedWal::open(config(&fs, 1).segment_bytes(4096)).unwrap();
    let prepared = raw::segment_path(1, 0, 2);
    log.append(1, vec![1; 3000]).wait().unwrap();
    log.append(1, "asks for the next segment").wait().unwrap();
    while fs.read_file(&prepared).is_none() {
        std::thread::yield_now();
    }
    log.close().unwrap();

    let log = ShardedWal::open(config(&fs, 2)).unwrap();
    let report = log.truncate_before(&Checkpoint::new(2, [0, 0]).of_log(log.id())).unwrap();
    assert_eq!(report.segments, 1);
    log.close().unwrap();
    ShardedWal::open(config(&fs, 2)).unwrap().close().unwrap();
}

/// A generation that is marked as truncated is not continued, and is deleted.
#[test]
fn power_loss_before_the_deletion_of_a_generation_only_delays_it() {
    let fs = SimFileSystem::with_dir("/log");
    let log = ShardedWal::open(config(&fs, 1)).unwrap();
    log.append(1, "old").wait().unwrap();
    log.close().unwrap();
    let log = ShardedWal::open(config(&fs, 2)).unwrap();
    fs.fail(Fault::new(Call::Unlink, 1, FaultKind::PowerCut));
    let all = Checkpoint::new(2, [0, 0]).of_log(log.id());
    log.truncate_before(&all).unwrap_err();
    let after = fs.crash(&mut || false);
    drop(log);

    let log = ShardedWal::open(config(&after, 2)).unwrap();
    for number in [1, 2] {
        let path = raw::segment_path(1, 0, number);
        assert!(after.read_file(&path).is_none(), "{path} must be deleted");
    }
    log.close().unwrap();
    assert_eq!(raw::read(&after).unwrap().0, []);
}
