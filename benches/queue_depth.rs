//! Queue depth by number of shards: 64 threads that do not wait. Only a full queue slows them, and
//! commits are as large as the queue permits. `Sync`, the real disk.

mod support;

use criterion::{SamplingMode, Throughput};
use shardwal::Config;
use support::{Load, Until, criterion, drive, open, scratch};

const QUEUE_RECORDS: [usize; 4] = [16, 128, 1024, 16_384];
const SHARDS: [usize; 3] = [1, 4, 16];
const LOAD: Load =
    Load { threads: 64, in_flight: 0, until: Until::Records(1 << 12), allocate: false };

fn main() {
    let mut criterion = criterion();
    for shards in SHARDS {
        let mut group = criterion.benchmark_group(format!("queue depth, {shards} shards"));
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(LOAD.records()));
        for queue_capacity in QUEUE_RECORDS {
            group.bench_function(format!("{queue_capacity} records"), |bencher| {
                bencher.iter_custom(|iterations| {
                    let dir = scratch();
                    let config = Config::new(dir.path().join("log"));
                    let log = open(config.shards(shards).queue_capacity(queue_capacity));
                    drive(&log, &LOAD.times(iterations)).elapsed
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
