//! The number of file descriptors of a log, against the bound that `Config::shards`
//! states.

#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use shardwal::{Config, Durability, ShardedWal};

const SHARDS: usize = 16;
/// The bound in the documentation of `Config::shards`.
const DESCRIPTORS_MAX: usize = 64 + 5 * SHARDS + 8;

/// The number of this process's descriptors for files below the directory.
fn held_below(dir: &Path) -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
    let paths = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    paths.filter(|path| path.starts_with(dir)).count()
}

#[test]
fn a_log_holds_no_more_descriptors_than_documented_in_any_mode() {
    for mode in [Durability::Buffered, Durability::Sync] {
        let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("it is ours");
        let dir = scratch.path().canonicalize().expect("it is there").join("log");
        let config = Config::new(&dir).shards(SHARDS).segment_bytes(64 << 10).durability(mode);
        let log = ShardedWal::open(config).expect("it opens");
        let mut most = 0;
        while log.stats().total.rolls < 40 * SHARDS as u64 {
            let completions: Vec<_> =
                (0..512_u64).map(|key| log.append(key.wrapping_mul(7919), vec![5; 4000])).collect();
            for completion in completions {
                completion.wait().expect("it is written");
            }
            most = most.max(held_below(&dir));
        }
        assert!(most <= DESCRIPTORS_MAX, "{mode}: {most} descriptors");
        log.close().expect("it closes");
        assert!(held_below(&dir) <= SHARDS + 4, "{mode}: a closed log keeps none of a segment");
    }
}
