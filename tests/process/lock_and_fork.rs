//! A starting process briefly has a copy of each open file. A closed log must open
//! again all the same.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use shardwal::{Config, ShardedWal};

#[test]
fn a_closed_log_opens_again_while_processes_are_started() {
    let dir = tempfile::tempdir().expect("a scratch directory");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let starter = || {
            while !done.load(Ordering::Relaxed) {
                // Whether the process starts does not matter.
                drop(Command::new("true").status());
            }
        };
        scope.spawn(starter);
        scope.spawn(starter);
        let lives = std::panic::catch_unwind(|| {
            for life in 0..60 {
                let log = ShardedWal::open(Config::new(dir.path()).shards(1));
                let log = log.unwrap_or_else(|error| panic!("life {life}: {error}"));
                log.close().expect("the log closes");
            }
        });
        done.store(true, Ordering::Relaxed);
        lives.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
