//! The figures: contenders, loads and targets.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardwal::{Config, Durability, ReplayOptions, ShardedWal};

use crate::baseline::{GroupCommit, ManyMutexes, OneMutex};
use crate::support::null_disk::NullDisk;
use crate::support::{Load, Outcome, RECORD_BYTES, Source, Subject, Until, drive, open, scratch};
use crate::{Contender, Figure, Target};

const THREADS: usize = 64;
const SHARDS: [usize; 5] = [1, 2, 4, 8, 16];
/// Bytes that fio and the loop in place of it overwrite.
const OVERWRITTEN_BYTES: u64 = 16 << 20;
const BLOCK: usize = 4096;
/// Payload bytes to replay.
const REPLAYED_BYTES: u64 = 1 << 30;

/// All figures. Each contender runs for `run`.
pub(crate) fn figures(run: Duration) -> Vec<Figure> {
    vec![
        waiting(run),
        sixteen_in_flight(run),
        not_waiting(run),
        one_thread(run),
        cpu(run),
        wake_ups(run),
        replay(),
        space(),
    ]
}

fn contender(name: impl Into<String>, measure: impl Fn() -> Option<f64> + 'static) -> Contender {
    Contender { name: name.into(), ours: false, measure: Box::new(measure), samples: Vec::new() }
}

fn ours(name: impl Into<String>, measure: impl Fn() -> f64 + 'static) -> Contender {
    Contender { ours: true, ..contender(name, move || Some(measure())) }
}

fn load(run: Duration, threads: usize, in_flight: usize) -> Load {
    Load { threads, in_flight, until: Until::Elapsed(run), allocate: false }
}

/// Runs a baseline under load, in a directory of its own.
fn baseline<S: Subject>(load: Load, make: impl Fn(&Path) -> S + 'static) -> Option<f64> {
    let dir = scratch();
    Some(drive(&make(dir.path()), &load).per_second())
}

fn shardwal(load: &Load, adapt: impl Fn(Config) -> Config) -> Outcome {
    let dir = scratch();
    let log = open(adapt(Config::new(dir.path().join("log"))));
    drive(&log, load)
}

fn each_shard_count(load: Load, durability: Durability) -> Vec<Contender> {
    let contender = |shards: usize| {
        ours(format!("shardwal, {shards} shards"), move || {
            shardwal(&load, |config| config.shards(shards).durability(durability)).per_second()
        })
    };
    SHARDS.into_iter().map(contender).collect()
}

fn waiting(run: Duration) -> Figure {
    let load = load(run, THREADS, 1);
    let mut contenders = each_shard_count(load, Durability::Sync);
    contenders.push(contender("one mutex, fdatasync under it", move || {
        baseline(load, |dir| OneMutex::new(&dir.join("log"), true))
    }));
    contenders.push(contender("sixteen mutexes", move || {
        baseline(load, |dir| ManyMutexes::new(dir, 16, true))
    }));
    contenders.push(contender("group commit", move || {
        baseline(load, |dir| GroupCommit::new(&dir.join("log")))
    }));
    Figure {
        letter: 'a',
        title: "Sync, 64 threads, each waits for its own record",
        unit: "records/s",
        contenders,
        targets: vec![
            Target::Times("one mutex, fdatasync under it", 15.0),
            Target::Times("sixteen mutexes", 3.0),
        ],
    }
}

fn sixteen_in_flight(run: Duration) -> Figure {
    let load = load(run, THREADS, 16);
    let mut contenders = each_shard_count(load, Durability::Sync);
    contenders.push(contender("group commit", move || {
        baseline(load, |dir| GroupCommit::new(&dir.join("log")))
    }));
    Figure {
        letter: 'b',
        title: "Sync, sixteen in flight from each of 64 threads",
        unit: "records/s",
        contenders,
        targets: vec![Target::Times("group commit", 1.2)],
    }
}

fn not_waiting(run: Duration) -> Figure {
    let load = load(run, THREADS, 0);
    let mut contenders = each_shard_count(load, Durability::Buffered);
    contenders.push(contender("one mutex, one write per record", move || {
        baseline(load, |dir| OneMutex::new(&dir.join("log"), false))
    }));
    contenders.push(contender("sixteen mutexes, one write per record", move || {
        baseline(load, |dir| ManyMutexes::new(dir, 16, false))
    }));
    Figure {
        letter: 'c',
        title: "Os, 64 threads, none waits",
        unit: "records/s",
        contenders,
        targets: vec![Target::Times("one mutex, one write per record", 4.0)],
    }
}

fn one_thread(run: Duration) -> Figure {
    let load = load(run, 1, 1);
    let alone =
        ours("shardwal, 1 shard", move || shardwal(&load, |config| config.shards(1)).per_second());
    Figure {
        letter: 'd',
        title: "Sync, one thread waits, against 4 KiB overwrite + fdatasync",
        unit: "records/s",
        contenders: vec![
            alone,
            contender("fio", move || fio(run)),
            contender("a loop in this process", move || overwrite_loop(run)),
            contender("one mutex, growing its file", move || {
                baseline(load, |dir| OneMutex::new(&dir.join("log"), true))
            }),
        ],
        targets: vec![Target::Times("fio", 0.85), Target::Times("a loop in this process", 0.85)],
    }
}

fn zero_filled(path: &Path) -> File {
    let file = File::create_new(path).expect("a new file in the scratch directory");
    let zeros = vec![0; usize::try_from(OVERWRITTEN_BYTES).expect("it fits into memory")];
    file.write_all_at(&zeros, 0).expect("the scratch disk takes a write");
    file.sync_all().expect("the scratch disk syncs");
    file
}

/// Returns `None` if fio is not installed.
fn fio(run: Duration) -> Option<f64> {
    let dir = scratch();
    let path = dir.path().join("overwritten");
    drop(zero_filled(&path));
    let output = Command::new("fio")
        .args(["--name=overwrite", "--rw=write", "--bs=4k", "--fdatasync=1", "--ioengine=psync"])
        .args(["--overwrite=1", "--time_based", "--output-format=json"])
        .arg(format!("--filename={}", path.display()))
        .arg(format!("--size={OVERWRITTEN_BYTES}"))
        .arg(format!("--runtime={}ms", run.as_millis()))
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stdout);
    // "write" : { ... "iops" : 4711.2, ...
    let written = &report[report.find("\"write\" : {")?..];
    let iops = &written[written.find("\"iops\" : ")? + 9..];
    iops[..iops.find(',')?].trim().parse().ok()
}

fn overwrite_loop(run: Duration) -> Option<f64> {
    let dir = scratch();
    let file = zero_filled(&dir.path().join("overwritten"));
    let block = [0x5a; BLOCK];
    let (began, mut done) = (Instant::now(), 0_u64);
    while began.elapsed() < run {
        let at = done * BLOCK as u64 % OVERWRITTEN_BYTES;
        file.write_all_at(&block, at).expect("the scratch disk takes a write");
        file.sync_data().expect("the scratch disk syncs");
        done += 1;
    }
    Some(done as f64 / began.elapsed().as_secs_f64())
}

/// CPU time of the whole process per record, on a disk that discards.
fn cpu(run: Duration) -> Figure {
    let contender = |(threads, shards, allocate): (usize, usize, bool)| {
        let payload = if allocate { ", payloads allocated" } else { "" };
        let name = format!("shardwal, {threads} threads, {shards} shards{payload}");
        ours(name, move || {
            let load = Load { allocate, ..load(run, threads, 256) };
            let adapt = |config: Config| {
                config
                    .shards(shards)
                    .durability(Durability::Buffered)
                    .file_system(Arc::new(NullDisk::default()))
            };
            shardwal(&load, adapt).cpu_micros_each()
        })
    };
    let cases = [
        (2, 1, false),
        (2, 4, false),
        (THREADS, 1, false),
        (THREADS, 4, false),
        (2, 1, true),
        (THREADS, 4, true),
    ];
    Figure {
        letter: 'e',
        title: "CPU per record, 256 in flight from each thread, no disk",
        unit: "us",
        contenders: cases.into_iter().map(contender).collect(),
        targets: vec![Target::AtMost(0.25)],
    }
}

/// The cost of waking: each record has a waiter, and no real disk disturbs.
fn wake_ups(run: Duration) -> Figure {
    let contender = |(micros, shards, in_flight): (u64, usize, usize)| {
        let name =
            format!("shardwal, syncs of {micros} us, {shards} shards, {in_flight} in flight");
        ours(name, move || {
            let fs = NullDisk { sync_latency: Duration::from_micros(micros) };
            let fs = Arc::new(fs);
            let adapt = |config: Config| config.shards(shards).file_system(fs.clone());
            shardwal(&load(run, THREADS, in_flight), adapt).cpu_micros_each()
        })
    };
    let cases = [(0, 1, 1), (150, 1, 1), (150, 4, 1), (150, 1, 16)];
    Figure {
        letter: 'w',
        title: "CPU per record, 64 waiting threads, a disk of known speed",
        unit: "us",
        contenders: cases.into_iter().map(contender).collect(),
        targets: Vec::new(),
    }
}

fn replay() -> Figure {
    Figure {
        letter: 'f',
        title: "Replay of 1 GiB, warm, two threads",
        unit: "million records/s",
        contenders: vec![ours("shardwal, 4 shards", || replay_once() / 1e6)],
        targets: vec![Target::AtLeast(12.0)],
    }
}

fn replay_once() -> f64 {
    let dir = scratch();
    let config = Config::new(dir.path().join("log")).durability(Durability::Buffered);
    let log = open(config);
    let records = REPLAYED_BYTES / RECORD_BYTES as u64;
    let mut source = Source::new(1, false);
    for _ in 0..records {
        let (key, payload) = source.next_record();
        drop(log.append(key, payload));
    }
    log.flush().wait().expect("the scratch disk syncs");
    // The first replay warms the cache.
    let rates = [replayed_per_second(&log, records), replayed_per_second(&log, records)];
    rates[1]
}

fn replayed_per_second(log: &ShardedWal, records: u64) -> f64 {
    let (began, bytes) = (Instant::now(), AtomicU64::new(0));
    let report = log
        .replay(ReplayOptions::default().threads(2), |record| {
            // Read each record, without a shared counter for each.
            if record.key() == 0 {
                bytes.fetch_add(record.payload().len() as u64, Ordering::Relaxed);
            }
            Ok::<_, std::io::Error>(())
        })
        .expect("the log can be read");
    assert_eq!(report.records, records, "a replay yields every record");
    records as f64 / began.elapsed().as_secs_f64()
}

/// Bytes on the disk beside keys and payloads.
fn space() -> Figure {
    Figure {
        letter: 'g',
        title: "Space per record beside key and payload, batches of 100",
        unit: "bytes",
        contenders: vec![
            ours("shardwal", || overhead(100)),
            contender("shardwal, batches of 1", || Some(overhead(1))),
        ],
        // 4 bytes per record, and a frame of 24 bytes for 100 records.
        targets: vec![Target::AtMost(4.24)],
    }
}

/// Bytes of the log per record beside key and payload, in batches of `batch` records.
fn overhead(batch: u64) -> f64 {
    const BATCHES: u64 = 200;
    let dir = scratch();
    let config = || Config::new(dir.path().join("log")).shards(1);
    let log = open(config());
    for _ in 0..BATCHES {
        let records = (0..batch).map(|key| (key, Bytes::from_static(&[7; RECORD_BYTES])));
        log.append_batch(records).wait().expect("the scratch disk takes a batch");
    }
    log.close().expect("the log closes");
    drop(log);
    let recovery = open(config()).recovery().clone();
    let bytes: u64 = recovery.shards.iter().map(|shard| shard.bytes).sum();
    let records = (BATCHES * batch) as f64;
    bytes as f64 / records - (8 + RECORD_BYTES) as f64
}
