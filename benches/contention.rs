//! The cost of a record without a disk: **CPU time** of the whole process, user and system,
//! reported as if it were elapsed time. Each thread has 256 records in flight. Compares shardwal to
//! a crossbeam channel with a reference-counted slot per record.

mod baseline;
mod support;

use std::sync::Arc;

use baseline::channel::ChannelLog;
use criterion::{SamplingMode, Throughput};
use shardwal::{Config, Durability};
use support::null_disk::NullDisk;
use support::{Load, Until, criterion, drive, open, scratch};

fn main() {
    let mut criterion = criterion();
    for threads in [2, 64] {
        let until = Until::Records(1 << 16);
        let load = Load { threads, in_flight: 256, until, allocate: false };
        let mut group = criterion.benchmark_group(format!("CPU time, {threads} threads, no disk"));
        group.sampling_mode(SamplingMode::Flat);
        group.throughput(Throughput::Elements(load.records()));
        for shards in [1, 4] {
            group.bench_function(format!("shardwal, {shards} shards"), |bencher| {
                bencher.iter_custom(|iterations| {
                    let dir = scratch();
                    let config =
                        Config::new(dir.path().join("log")).durability(Durability::Buffered);
                    let log =
                        open(config.shards(shards).file_system(Arc::new(NullDisk::default())));
                    drive(&log, &load.times(iterations)).cpu
                });
            });
        }
        group.bench_function("crossbeam channel", |bencher| {
            bencher
                .iter_custom(|iterations| drive(&ChannelLog::new(), &load.times(iterations)).cpu);
        });
        group.finish();
    }
    criterion.final_summary();
}
