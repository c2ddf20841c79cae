//! Appends by durability: 64 threads, random keys, the real disk. Compares shardwal with 1, 4, 8
//! and 16 shards to one mutex around one file, sixteen of them, and a leader/follower group commit.

mod baseline;
mod support;

use std::path::Path;
use std::time::Duration;

use baseline::{GroupCommit, ManyMutexes, OneMutex};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};
use shardwal::{Config, Durability};
use support::{Load, Subject, Until, criterion, drive, open, scratch};

const SHARDS: [usize; 4] = [1, 4, 8, 16];

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn main() {
    let mut criterion = criterion();
    // Each thread waits for its own record. An iteration is about a thousand records.
    let waits = Load { threads: 64, in_flight: 1, until: Until::Records(1 << 10), allocate: false };
    by_durability(&mut criterion, "append/sync", Durability::Sync, &waits);
    let interval = Durability::Interval(Duration::from_millis(10));
    by_durability(&mut criterion, "append/interval 10 ms", interval, &waits);
    let sixteen = Load { in_flight: 16, until: Until::Records(1 << 14), ..waits };
    by_durability(&mut criterion, "append/sync, 16 in flight", Durability::Sync, &sixteen);
    let not_waiting = Load { in_flight: 0, until: Until::Records(1 << 17), ..waits };
    by_durability(&mut criterion, "append/os, not waiting", Durability::Buffered, &not_waiting);
    criterion.final_summary();
}

fn by_durability(criterion: &mut Criterion, name: &str, durability: Durability, load: &Load) {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(load.records()));
    for shards in SHARDS {
        bench(&mut group, &format!("shardwal, {shards} shards"), load, |dir| {
            open(Config::new(dir.join("log")).shards(shards).durability(durability))
        });
    }
    let sync = durability == Durability::Sync;
    // The mutexes have nothing in flight, and no mode between write and sync.
    if load.in_flight < 2 && !matches!(durability, Durability::Interval(_)) {
        bench(&mut group, "one mutex", load, |dir| OneMutex::new(&dir.join("log"), sync));
        bench(&mut group, "16 mutexes", load, |dir| ManyMutexes::new(dir, 16, sync));
    }
    if sync {
        bench(&mut group, "group commit", load, |dir| GroupCommit::new(&dir.join("log")));
    }
    group.finish();
}

/// Runs each sample on a new log. Creating the log is not timed.
fn bench<S: Subject>(group: &mut Group<'_>, name: &str, load: &Load, make: impl Fn(&Path) -> S) {
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let dir = scratch();
            drive(&make(dir.path()), &load.times(iterations)).elapsed
        });
    });
}
