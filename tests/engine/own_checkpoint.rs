//! The log accepts its own checkpoint, taken and used beside appends. A sync is known a
//! moment before the records it acknowledges, and that must not make the checkpoint
//! look foreign.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shardwal::fs::sim::SimFileSystem;
use shardwal::{Config, ShardedWal};

#[test]
fn truncate_accepts_a_checkpoint_taken_beside_appends() {
    let fs = SimFileSystem::with_dir("/log");
    let config = Config::new("/log").file_system(Arc::new(fs)).shards(2).segment_bytes(64 << 10);
    let log = ShardedWal::open(config).expect("the log opens");
    let done = AtomicBool::new(false);
    let truncations = std::thread::scope(|scope| {
        scope.spawn(|| {
            for key in 0..1_500_u64 {
                log.append(key, "a record").wait().expect("the disk does not fail");
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut truncations = 0_u64;
        while !done.load(Ordering::Relaxed) {
            let truncated = log.truncate_before(&log.durable_checkpoint());
            truncated.unwrap_or_else(|error| panic!("after {truncations}: {error}"));
            truncations += 1;
        }
        truncations
    });
    assert!(truncations > 0, "the appends were over before the first truncation");
    log.close().expect("the log closes");
}
