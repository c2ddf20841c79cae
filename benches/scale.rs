//! What a large log costs its callers: an awaited append during a truncation and during rolls, and
//! an open beside a plain read of the same bytes.
//!
//! `cargo bench --bench scale -- truncation|rolls|open DIR [ROUNDS] [THREADS] [SEGMENTS]`. The two
//! sides of a comparison take turns, and each row is one turn.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shardwal::fs::{FileHandle, FileSystem, OpenMode, OsFileSystem};
use shardwal::{Config, ShardedWal};

#[path = "../tests/support/delegate.rs"]
mod delegate;
use delegate::delegate;

const RECORD_BYTES: usize = 256;
const SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes per record while a log is filled.
const FILLER_BYTES: usize = 256 << 10;
/// Seconds of appends without a truncation.
const QUIET: Duration = Duration::from_secs(2);
/// Time for the disk to finish what a fill has left behind.
const QUIESCE: Duration = Duration::from_millis(1500);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let text = |index: usize| arguments.get(index).map_or("", String::as_str);
    let number = |index, otherwise| text(index).parse().unwrap_or(otherwise);
    let dir = PathBuf::from(text(1));
    match text(0) {
        "truncation" => truncation(&dir, number(2, 5), number(3, 1), number(4, 64) as u64),
        "rolls" => rolls(&dir, number(2, 5), number(3, 1)),
        "open" => open(&dir, number(2, 5), number(4, 64) as u64),
        _ => println!("scale truncation|rolls|open DIR [ROUNDS] [THREADS] [SEGMENTS]"),
    }
}

/// Latencies of awaited appends in microseconds, sorted.
struct Latencies(Vec<u32>);

impl Latencies {
    /// Milliseconds at `permille`.
    fn at(&self, permille: usize) -> f64 {
        let index = self.0.len().saturating_sub(1) * permille / 1000;
        self.0.get(index).map_or(f64::NAN, |micros| f64::from(*micros) / 1e3)
    }

    fn show(&self, what: &str) {
        let [p50, p99, p999, most] = [500, 990, 999, 1000].map(|permille| self.at(permille));
        let count = self.0.len();
        println!(
            "  {what:<24} {count:>8} appends  P50 {p50:>7.3}  P99 {p99:>7.3}  P99.9 {p999:>7.3}  \
             max {most:>7.2} ms"
        );
    }
}

/// Threads that append and wait for each record, and the phase that they count for.
struct Appenders {
    phase: AtomicUsize,
    stop: AtomicBool,
    phases: Vec<Mutex<Vec<u32>>>,
}

impl Appenders {
    /// Runs `scenario` beside the threads. It says which phase begins.
    fn run(
        log: &ShardedWal,
        threads: usize,
        bytes: usize,
        phases: usize,
        scenario: impl FnOnce(&dyn Fn(usize)),
    ) -> Vec<Latencies> {
        let empty = || Mutex::new(Vec::new());
        let appenders = Self {
            phase: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            phases: (0..phases).map(|_| empty()).collect(),
        };
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let appenders = &appenders;
                scope.spawn(move || appenders.append(log, thread as u64, bytes));
            }
            scenario(&|phase| appenders.phase.store(phase, Ordering::Relaxed));
            appenders.stop.store(true, Ordering::Relaxed);
        });
        let sorted = |latencies: Mutex<Vec<u32>>| {
            let mut latencies = latencies.into_inner().expect("no thread panicked");
            latencies.sort_unstable();
            Latencies(latencies)
        };
        appenders.phases.into_iter().map(sorted).collect()
    }

    fn append(&self, log: &ShardedWal, thread: u64, bytes: usize) {
        let payload = vec![7_u8; bytes];
        let mut latencies = vec![Vec::new(); self.phases.len()];
        while !self.stop.load(Ordering::Relaxed) {
            let phase = self.phase.load(Ordering::Relaxed);
            let began = Instant::now();
            log.append_wait(thread, &payload[..]).expect("nothing goes wrong in a benchmark");
            let micros = u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX);
            latencies[phase].push(micros);
        }
        for (all, own) in self.phases.iter().zip(latencies) {
            all.lock().expect("no thread panicked").extend(own);
        }
    }
}

fn truncation(dir: &Path, rounds: usize, threads: usize, segments: u64) {
    println!("{threads} threads; {segments} segments of 64 MiB are truncated");
    for round in 0..rounds * 2 {
        let is_gradual = round % 2 == 1;
        let log = scratch(dir);
        let mut config = Config::new(&log).shards(1).segment_bytes(SEGMENT_BYTES);
        if !is_gradual {
            config = config.file_system(Arc::new(AtOnce));
        }
        let wal = ShardedWal::open(config).expect("the log opens");
        fill(&wal, segments * SEGMENT_BYTES);
        std::thread::sleep(QUIESCE);
        let (mut took, mut deleted) = (Duration::ZERO, 0);
        let phases = Appenders::run(&wal, threads, RECORD_BYTES, 4, |begin| {
            std::thread::sleep(QUIESCE);
            begin(1);
            std::thread::sleep(QUIET);
            begin(2);
            let began = Instant::now();
            let report = wal.truncate_before(&wal.durable_checkpoint());
            (took, deleted) = (began.elapsed(), report.expect("it truncates").segments);
            begin(3);
        });
        wal.close().expect("it closes");
        drop(wal);
        std::fs::remove_dir_all(&log).expect("it is there");
        let way = if is_gradual { "in pieces" } else { "at once" };
        println!("{way}: {deleted} segments in {:.2} s", took.as_secs_f64());
        compare(&phases[1], "without", &phases[2], "during the truncation");
    }
}

fn compare(without: &Latencies, name: &str, with: &Latencies, other: &str) {
    without.show(name);
    with.show(other);
    let ratio = |permille| with.at(permille) / without.at(permille);
    println!("  ratio: P50 {:.2}, P99 {:.2}, P99.9 {:.2}", ratio(500), ratio(990), ratio(999));
}

fn rolls(dir: &Path, rounds: usize, threads: usize) {
    const SMALL: u64 = 256 << 10;
    const ROLLS: u64 = 1000;
    const BYTES: usize = 2 << 10;
    println!("{threads} threads; segments of 64 MiB, then of 256 KiB until {ROLLS} rolls");
    for _ in 0..rounds {
        let mut sides = Vec::new();
        for segment_bytes in [SEGMENT_BYTES, SMALL] {
            let log = scratch(dir);
            let config = Config::new(&log).shards(1).segment_bytes(segment_bytes);
            let wal = ShardedWal::open(config).expect("the log opens");
            std::thread::sleep(QUIESCE);
            let mut phases = Appenders::run(&wal, threads, BYTES, 2, |begin| {
                std::thread::sleep(Duration::from_millis(300));
                begin(1);
                let begun = Instant::now();
                let done = || match segment_bytes {
                    SMALL => wal.stats().total.rolls >= ROLLS,
                    _ => begun.elapsed() >= QUIET * 2,
                };
                while !done() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
            wal.close().expect("it closes");
            drop(wal);
            std::fs::remove_dir_all(&log).expect("it is there");
            sides.extend(phases.pop());
        }
        compare(&sides[0], "without", &sides[1], "during the rolls");
    }
}

fn open(dir: &Path, rounds: usize, segments: u64) {
    let log = scratch(dir);
    let config = Config::new(&log).shards(1).segment_bytes(SEGMENT_BYTES);
    let wal = ShardedWal::open(config.clone()).expect("the log opens");
    fill(&wal, segments * SEGMENT_BYTES);
    wal.close().expect("it closes");
    drop(wal);
    println!("one shard of {segments} segments of 64 MiB");
    for _ in 0..rounds {
        let drop_cache = || segment_files(&log).iter().for_each(|path| forget(path));
        drop_cache();
        let cold = plain_read(&log);
        let warm = plain_read(&log);
        let before = cached_bytes();
        let began = Instant::now();
        let wal = ShardedWal::open(config.clone()).expect("the log opens");
        let warm_open = began.elapsed().as_secs_f64();
        let left = cached_bytes().saturating_sub(before) >> 20;
        wal.close().expect("it closes");
        drop(wal);
        drop_cache();
        let before = cached_bytes();
        let began = Instant::now();
        let wal = ShardedWal::open(config.clone()).expect("the log opens");
        let cold_open = began.elapsed().as_secs_f64();
        let left_cold = cached_bytes().saturating_sub(before) >> 20;
        wal.close().expect("it closes");
        println!(
            "  plain read: cold {cold:.2} s, warm {warm:.2} s; open: cold {cold_open:.2} s \
             ({left_cold} MiB more in the cache), warm {warm_open:.2} s ({left} MiB more); \
             ratio: cold {:.2}, warm {:.2}",
            cold_open / cold,
            warm_open / warm
        );
    }
    std::fs::remove_dir_all(&log).expect("it is there");
}

/// Reads all segment files and their checksums, on one thread per core. Returns the seconds.
fn plain_read(log: &Path) -> f64 {
    let began = Instant::now();
    let (files, next) = (segment_files(log), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut buffer = vec![0; 1 << 20];
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (file, mut at) = (File::open(path).expect("it opens"), 0);
                    let mut hasher = crc32fast::Hasher::new();
                    loop {
                        let read = file.read_at(&mut buffer, at).expect("it reads");
                        if read == 0 {
                            break;
                        }
                        hasher.update(&buffer[..read]);
                        at += read as u64;
                    }
                    std::hint::black_box(hasher.finalize());
                }
            });
        }
    });
    began.elapsed().as_secs_f64()
}

fn segment_files(log: &Path) -> Vec<PathBuf> {
    let shard = log.join("generation-00001/shard-0000");
    let entries = std::fs::read_dir(shard).expect("it is there").flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "wal"));
    files.sort();
    files
}

fn forget(path: &Path) {
    OsFileSystem.open(path, OpenMode::Read).expect("it opens").drop_cache();
}

/// Bytes of file pages that the system caches.
fn cached_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Cached:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or(0) << 10
}

fn fill(wal: &ShardedWal, bytes: u64) {
    let payload = vec![7_u8; FILLER_BYTES];
    for _ in 0..bytes / FILLER_BYTES as u64 {
        drop(wal.append(1, &payload[..]));
    }
    wal.flush().wait().expect("nothing goes wrong in a benchmark");
}

fn scratch(dir: &Path) -> PathBuf {
    let log = dir.join(format!("shardwal-scale-{}", std::process::id()));
    if log.exists() {
        std::fs::remove_dir_all(&log).expect("it can be removed");
    }
    log
}

/// The operating system's files, where truncation cannot rename a file to delete it in pieces.
#[derive(Debug)]
struct AtOnce;

impl FileSystem for AtOnce {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
        OsFileSystem.open(path, mode)
    }

    delegate!(self => OsFileSystem);

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFileSystem.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match to.extension() {
            Some(extension) if extension == "tmp" => Err(io::ErrorKind::Unsupported.into()),
            _ => OsFileSystem.rename_new(from, to),
        }
    }

    fn copy_on_write(&self, path: &Path) -> bool {
        OsFileSystem.copy_on_write(path)
    }
}
