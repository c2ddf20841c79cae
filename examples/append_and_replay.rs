//! Appends records in three ways, closes the log, and replays it.
//! To run it: `cargo run --example append_and_replay`

#![expect(clippy::print_stdout, reason = "an example prints what it does")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Mutex;

use shardwal::{Config, ReplayOptions, ShardedWal};

/// Series keys. Records of one key stay in one shard, in append order.
const CPU: u64 = 7;
const DISK: u64 = 8;

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let dir = scratch.path().join("log");

    let log = ShardedWal::open(Config::new(&dir).shards(4))?;
    // `append` returns once the record is queued. The first wait covers all records before it in
    // the shard, so keep a window of completions instead of waiting for each record.
    let completions: Vec<_> = (0..100).map(|at| log.append(CPU, format!("cpu {at}"))).collect();
    for completion in completions {
        // Returns after the fdatasync of the record's commit.
        completion.wait()?;
    }
    // Wait for a single record. If the shard is idle, this thread commits the record itself.
    let position = log.append_wait(DISK, "disk 0")?;
    println!("durable at {position}");
    // Never block. A refused record comes back with the reason.
    match log.try_append(DISK, "disk 1") {
        Ok(completion) => println!("durable at {}", completion.wait()?),
        Err(refused) => println!("not appended: {}: {:?}", refused.cause, refused.payload),
    }
    log.close()?;

    // After a crash, nothing else is needed: an open recovers the log.
    let log = ShardedWal::open(Config::new(&dir).shards(4))?;
    println!("found {} records", log.recovery().records());
    // Shards are replayed in parallel, so the callback is shared by threads.
    let found: Mutex<BTreeMap<u64, Vec<String>>> = Mutex::default();
    let report = log.replay(ReplayOptions::default(), |record| {
        let text = String::from_utf8_lossy(record.payload()).into_owned();
        let mut found = found.lock().expect("no callback panics");
        found.entry(record.key()).or_default().push(text);
        Ok::<_, Infallible>(())
    })?;
    log.close()?;

    let found = found.into_inner()?;
    assert_eq!(report.records, 102);
    assert_eq!(found[&DISK], ["disk 0", "disk 1"]);
    assert!(found[&CPU].iter().enumerate().all(|(at, text)| *text == format!("cpu {at}")));
    println!("replayed {} records of {} keys, in order", report.records, found.len());
    Ok(())
}
