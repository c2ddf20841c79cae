//! Shards on a disk whose every sync takes 1 ms. Throughput must grow with their number N, by at
//! least 0.9 N from 1 to 16. A commit takes at most four records, so that the disk is the bound,
//! not the callers.

mod support;

use std::time::Duration;

use criterion::{SamplingMode, Throughput};
use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use std::sync::Arc;
use support::{Load, Outcome, Until, criterion, drive, open};

const SHARDS: [usize; 5] = [1, 2, 4, 8, 16];
const COMMIT_RECORDS: usize = 4;
/// Minimum growth per shard, as a share of one shard's throughput.
const GROWTH_MIN: f64 = 0.9;
const LOAD: Load =
    Load { threads: 64, in_flight: 16, until: Until::Records(1 << 10), allocate: false };

fn main() {
    let mut criterion = criterion();
    let mut group = criterion.benchmark_group("simulated disk, syncs of 1 ms");
    group.sampling_mode(SamplingMode::Flat);
    for shards in SHARDS {
        // A constant number of records per shard. Otherwise starting and stopping would dominate
        // the run with 16 shards.
        let load = LOAD.times(shards as u64);
        group.throughput(Throughput::Elements(load.records()));
        group.bench_function(format!("{shards} shards"), |bencher| {
            bencher.iter_custom(|iterations| run(shards, &load.times(iterations)).elapsed);
        });
    }
    group.finish();
    criterion.final_summary();
    report_growth();
}

fn run(shards: usize, load: &Load) -> Outcome {
    let fs = SimFileSystem::with_dir("/log");
    fs.set_sync_latency(Duration::from_millis(1));
    let config = Config::new("/log").shards(shards).max_commit_records(COMMIT_RECORDS);
    drive(&open(config.file_system(Arc::new(fs))), load)
}

/// Reports the required ratio, from medians of three runs. Criterion compares a benchmark only with
/// its own past.
#[expect(clippy::print_stdout, reason = "it prints the ratio")]
fn report_growth() {
    let median = |shards: usize| {
        let load = LOAD.times(4 * shards as u64);
        let mut rates = [0; 3].map(|_| run(shards, &load).per_second());
        rates.sort_by(f64::total_cmp);
        rates[1]
    };
    let one = median(1);
    for shards in SHARDS.into_iter().skip(1) {
        let growth = median(shards) / one;
        let of_each = growth / shards as f64;
        println!("{shards:>2} shards: {growth:.2} x one shard, {of_each:.2} N");
        assert!(of_each >= GROWTH_MIN, "throughput must grow by {GROWTH_MIN} N at least");
    }
}
