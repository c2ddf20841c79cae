//! Whether two commits of one file in flight pay: while one is synced, the next is encoded and
//! written. Commits are acknowledged in order. The commits overwrite a zero-filled file, through
//! the page cache or as whole blocks with `O_DIRECT`, as the log's writer does. No part of the log
//! runs.
//!
//! `cargo bench --bench commits_in_flight -- DIR [direct|cached] [SECONDS] [ROUNDS]`; medians of
//! the rounds, in which all ways take turns.
//!
//! With a fixed commit size there is always a next commit. That is the upper bound of what overlap
//! can bring. Callers each have a window of unacknowledged bytes, so two commits in flight share
//! the bytes that one would have.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

mod zeroed_file;

use zeroed_file::{Aligned, Tail, make_file};

const KIB: usize = 1 << 10;
const COMMIT_BYTES_MAX: usize = 1024 * KIB;
const RECORD_BYTES: usize = 280;

/// Where commits come from.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// There is always a next commit, of this number of bytes.
    Fixed(usize),
    /// Threads that append. A commit takes all that is queued.
    Callers {
        threads: usize,
        /// Bytes that one thread has in flight.
        window: usize,
        /// Bytes that one thread appends together.
        batch: usize,
    },
}

const LOADS: [Load; 10] = [
    Load::Fixed(KIB),
    Load::Fixed(26 * KIB),
    Load::Fixed(64 * KIB),
    Load::Fixed(128 * KIB),
    Load::Fixed(256 * KIB),
    Load::Fixed(COMMIT_BYTES_MAX),
    Load::Callers { threads: 2, window: 256 * RECORD_BYTES, batch: RECORD_BYTES * 8 },
    Load::Callers { threads: 2, window: 2048 * RECORD_BYTES, batch: RECORD_BYTES * 8 },
    Load::Callers { threads: 8, window: 100 * RECORD_BYTES, batch: 100 * RECORD_BYTES },
    Load::Callers { threads: 64, window: RECORD_BYTES, batch: RECORD_BYTES },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One thread encodes, writes and syncs.
    Serial,
    /// Two threads take turns to encode and write. Each syncs its own commit.
    TwoThreads,
    /// One thread encodes and writes, the other syncs.
    SyncThread,
}

const WAYS: [Way; 3] = [Way::Serial, Way::TwoThreads, Way::SyncThread];

/// What the threads of a run share. Commits are numbered from 0.
struct Shared<'a> {
    load: Load,
    until: Instant,
    tail: Mutex<Tail<'a>>,
    counts: Mutex<Counts>,
    /// For the threads that commit: anything changed.
    changed: Condvar,
    /// For callers: a commit was acknowledged.
    answered: Condvar,
}

#[derive(Default)]
struct Counts {
    /// Bytes that were appended, those that a commit has taken, and those acknowledged.
    queued: usize,
    taken: usize,
    answered: usize,
    /// Number of commits that were written, and of those acknowledged.
    written: usize,
    acknowledged: usize,
    /// When each commit began to be encoded, and the bytes up to its end.
    commits: Vec<(Instant, usize)>,
    /// The time of each commit until it was acknowledged.
    nanos: Vec<u64>,
    /// Whether the run is over.
    ended: bool,
}

impl Shared<'_> {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, condition: impl FnMut(&mut Counts) -> bool) -> MutexGuard<'_, Counts> {
        let counts = self.counts();
        self.changed.wait_while(counts, condition).unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next commit: its number of bytes, or `None` if the run is over.
    fn take(&self) -> Option<usize> {
        if Instant::now() >= self.until {
            return None;
        }
        let bytes = match self.load {
            Load::Fixed(bytes) => bytes,
            Load::Callers { .. } => {
                let counts = self.wait_while(|it| it.queued == it.taken && !it.ended);
                if counts.ended {
                    return None;
                }
                (counts.queued - counts.taken).min(COMMIT_BYTES_MAX)
            }
        };
        let mut counts = self.counts();
        counts.taken += bytes;
        let end = counts.taken;
        counts.commits.push((Instant::now(), end));
        Some(bytes)
    }

    /// Encodes and writes the next commit. Returns its number, or `None` if the run is over.
    fn write(&self, records: &[u8], buffer: &mut Aligned) -> Option<usize> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.take()?;
        tail.encode_and_write(&records[..bytes], buffer).expect("a sound disk");
        let mut counts = self.counts();
        counts.written += 1;
        Some(counts.written - 1)
    }

    fn acknowledge(&self, mut counts: MutexGuard<'_, Counts>) {
        let (began, end) = counts.commits[counts.acknowledged];
        counts.nanos.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        counts.answered = end;
        counts.acknowledged += 1;
        drop(counts);
        self.answered.notify_all();
    }

    fn end(&self) {
        self.counts().ended = true;
        self.changed.notify_all();
        self.answered.notify_all();
    }

    /// [`Way::Serial`].
    fn serial(&self, file: &File, records: &[u8]) {
        let mut buffer = Aligned::new(records.len());
        while self.write(records, &mut buffer).is_some() {
            file.sync_data().expect("a sound disk");
            self.acknowledge(self.counts());
        }
        self.end();
    }

    /// One thread of [`Way::TwoThreads`].
    fn own_sync(&self, file: &File, records: &[u8]) {
        let mut buffer = Aligned::new(records.len());
        while let Some(number) = self.write(records, &mut buffer) {
            file.sync_data().expect("a sound disk");
            self.acknowledge(self.wait_while(|counts| counts.acknowledged < number));
            self.changed.notify_all();
        }
        self.end();
    }

    /// The writing thread of [`Way::SyncThread`].
    fn writer(&self, records: &[u8]) {
        let mut buffer = Aligned::new(records.len());
        loop {
            // At most two in flight: one that is synced, one that is written.
            drop(self.wait_while(|counts| counts.written - counts.acknowledged >= 2));
            if self.write(records, &mut buffer).is_none() {
                break;
            }
            self.changed.notify_all();
        }
        self.end();
    }

    /// The syncing thread of [`Way::SyncThread`].
    fn syncer(&self, file: &File) {
        loop {
            let counts = self.wait_while(|it| it.written == it.acknowledged && !it.ended);
            if counts.written == counts.acknowledged {
                return;
            }
            drop(counts);
            file.sync_data().expect("a sound disk");
            self.acknowledge(self.counts());
            self.changed.notify_all();
        }
    }

    /// Appends, and waits while its window is full.
    fn caller(&self, window: usize, batch: usize) {
        let (payload, mut copy) = (vec![b'y'; batch], vec![0; batch]);
        let mut ends = VecDeque::new();
        loop {
            copy.copy_from_slice(&payload);
            std::hint::black_box(crc32fast::hash(&copy));
            let mut counts = self.counts();
            if counts.ended {
                return;
            }
            let was_empty = counts.queued == counts.taken;
            counts.queued += batch;
            ends.push_back(counts.queued);
            if was_empty {
                self.changed.notify_all();
            }
            if ends.len() * batch + batch > window {
                let oldest = ends.pop_front().unwrap_or(0);
                drop(
                    self.answered
                        .wait_while(counts, |it| it.answered < oldest && !it.ended)
                        .unwrap_or_else(PoisonError::into_inner),
                );
            }
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    bytes_per_second: f64,
    bytes_per_commit: f64,
    /// Microseconds from the start of the encoding to the acknowledgement.
    p50: f64,
    p99: f64,
}

fn run(file: &File, direct: bool, way: Way, load: Load, seconds: f64) -> Figures {
    let records = vec![b'x'; COMMIT_BYTES_MAX];
    let began = Instant::now();
    let shared = Shared {
        load,
        until: began + Duration::from_secs_f64(seconds),
        tail: Mutex::new(Tail::new(file, direct)),
        counts: Mutex::default(),
        changed: Condvar::new(),
        answered: Condvar::new(),
    };
    std::thread::scope(|scope| {
        if let Load::Callers { threads, window, batch } = load {
            let shared = &shared;
            (0..threads).for_each(|_| drop(scope.spawn(move || shared.caller(window, batch))));
        }
        match way {
            Way::Serial => shared.serial(file, &records),
            Way::TwoThreads => {
                scope.spawn(|| shared.own_sync(file, &records));
                shared.own_sync(file, &records);
            }
            Way::SyncThread => {
                scope.spawn(|| shared.syncer(file));
                shared.writer(&records);
            }
        }
    });
    let elapsed = began.elapsed().as_secs_f64();
    let counts = &mut *shared.counts();
    let nanos = &mut counts.nanos;
    nanos.sort_unstable();
    let quantile = |percent: usize| {
        let at = nanos.len() * percent / 100;
        nanos[at.min(nanos.len() - 1)] as f64 / 1000.0
    };
    Figures {
        bytes_per_second: counts.answered as f64 / elapsed,
        bytes_per_commit: counts.answered as f64 / nanos.len() as f64,
        p50: quantile(50),
        p99: quantile(99),
    }
}

/// Median, least and most.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

/// The results of all rounds, per load and way.
type Table = [[Vec<Figures>; WAYS.len()]; LOADS.len()];

fn print(table: &Table) {
    println!("way | MiB/s, ratio (least .. most) | us per commit: P50 P99, ratios | bytes");
    for (load, ways) in LOADS.iter().zip(table) {
        println!("{load:?}");
        for (way, all) in WAYS.iter().zip(ways) {
            let ratios = |of: fn(&Figures) -> f64| {
                spread(all.iter().zip(&ways[0]).map(|(it, serial)| of(it) / of(serial)).collect())
            };
            let median = |of: fn(&Figures) -> f64| spread(all.iter().map(of).collect()).0;
            let (ratio, least, most) = ratios(|it| it.bytes_per_second);
            println!(
                "    {:<10} | {:>6.1} {ratio:.2} ({least:.2} .. {most:.2}) | \
                 {:>6.0} {:>6.0} {:.2} {:.2} | {:>7.0}",
                format!("{way:?}"),
                median(|it| it.bytes_per_second) / (1 << 20) as f64,
                median(|it| it.p50),
                median(|it| it.p99),
                ratios(|it| it.p50).0,
                ratios(|it| it.p99).0,
                median(|it| it.bytes_per_commit),
            );
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [dir, rest @ ..] = arguments.as_slice() else {
        println!("usage: commits_in_flight DIR [direct|cached] [SECONDS] [ROUNDS]");
        return;
    };
    let direct = rest.first().is_none_or(|kind| kind == "direct");
    let seconds = rest.get(1).map_or(0.06, |text| text.parse().expect("a number of seconds"));
    let rounds = rest.get(2).map_or(15, |text| text.parse().expect("a number of rounds"));
    let path = Path::new(dir).join("commits_in_flight");
    let file = make_file(&path, direct).expect("room for the file");
    let mut table = Table::default();
    for _ in 0..rounds {
        for (load, ways) in LOADS.iter().zip(&mut table) {
            for (way, all) in WAYS.iter().zip(ways) {
                all.push(run(&file, direct, *way, *load, seconds));
            }
        }
    }
    print(&table);
    drop(file);
    std::fs::remove_file(path).expect("what was made is removed");
}
