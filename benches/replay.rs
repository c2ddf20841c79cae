//! Replay of a log in the page cache, with checksums verified, by number of threads: 1 GiB of
//! payloads, 64 MiB with `--quick`.

mod support;

use criterion::{SamplingMode, Throughput};
use shardwal::{Config, Durability, ReplayOptions, ShardedWal};
use support::{RECORD_BYTES, Source, criterion, is_quick, open, scratch};

fn main() {
    let mut criterion = criterion();
    let bytes: u64 = if is_quick() { 64 << 20 } else { 1 << 30 };
    let records = bytes / RECORD_BYTES as u64;
    let dir = scratch();
    let log =
        fill(open(Config::new(dir.path().join("log")).durability(Durability::Buffered)), records);
    let mut group = criterion.benchmark_group(format!("replay of {} MiB", bytes >> 20));
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(records));
    for threads in [1, 2] {
        group.bench_function(format!("{threads} threads"), |bencher| {
            bencher.iter(|| {
                let options = ReplayOptions::default().threads(threads);
                let report = log.replay(options, |record| {
                    std::hint::black_box(record.payload());
                    Ok::<_, std::io::Error>(())
                });
                let found = report.expect("what was just written can be read").records;
                assert_eq!(found, records, "a replay yields every record");
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

fn fill(log: ShardedWal, records: u64) -> ShardedWal {
    let mut source = Source::new(1, false);
    for _ in 0..records {
        let (key, payload) = source.next_record();
        drop(log.append(key, payload));
    }
    log.flush().wait().expect("the scratch disk syncs");
    log
}
