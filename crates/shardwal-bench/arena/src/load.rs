//! One run: a peer in an empty directory, threads that append for a fixed time, and a replay that
//! must find exactly the acknowledged records.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::{Duration, Instant};

use crate::peer::{Durability, Found, Kind, Peer, Record};

/// Bytes of a payload.
pub const PAYLOAD_BYTES: usize = 256;
/// Records of one run, over all threads: 1.5 GiB. The run ends early here, so that it does not fill
/// the disk.
const RECORDS_MAX: u64 = 6 << 20;
/// Bits of a key for the count. The thread's number is above them.
const COUNT_BITS: u32 = 40;

/// How the threads append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// One record at a time. The thread waits for each.
    Waiting,
    /// This number of unanswered records at a time.
    InFlight(usize),
    /// Batches of this number of records. The thread waits for each.
    Batches(usize),
    /// No thread waits. The clock stops when the log is closed.
    Forgetting,
}

/// The load on a peer.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Number of threads that append.
    pub threads: usize,
    /// How they append.
    pub manner: Manner,
    /// When an append is answered.
    pub durability: Durability,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Records acknowledged per second.
    pub per_second: f64,
    /// P50 and P99 of an append or a batch, in microseconds. `None` if no thread waits.
    pub latency_micros: Option<[f64; 2]>,
    /// The share of the machine's CPU time during the run that neither this process nor the idle
    /// task used: other programs, and kernel threads.
    pub others: f64,
}

/// The key of record number `count` of a thread.
fn key(thread: usize, count: u64) -> u64 {
    ((thread as u64) << COUNT_BITS) | count
}

/// The record's number in its thread, from its key.
pub fn count_of(key: u64) -> u64 {
    key & ((1 << COUNT_BITS) - 1)
}

/// Random bytes. Payloads are slices of them.
pub fn pool() -> &'static [u8] {
    static POOL: OnceLock<Vec<u8>> = OnceLock::new();
    POOL.get_or_init(|| {
        let mut state = 0x853c_49e6_748f_ea9b_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state.to_le_bytes()[6]
        };
        (0..256 * 64 + PAYLOAD_BYTES).map(|_| next()).collect()
    })
}

/// The payload that belongs to a key.
fn payload(key: u64) -> &'static [u8] {
    let at = usize::from(key.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[7]) * 64;
    &pool()[at..at + PAYLOAD_BYTES]
}

/// Record number `count` of a thread.
pub fn record(thread: usize, count: u64) -> Record {
    let key = key(thread, count);
    Record { key, payload: payload(key) }
}

/// The appends of one thread.
struct Appended {
    records: u64,
    nanos: Vec<u32>,
}

/// Loads the peer for `elapsed`, closes it, and verifies a replay.
pub fn run(kind: &Kind, shards: usize, load: &Load, dir: &Path, elapsed: Duration) -> Outcome {
    let peer = (kind.open)(dir, shards, load.durability);
    wait_for_writeback(dir);
    let stop = AtomicBool::new(false);
    // The clock starts when all threads are ready, and before any appends.
    let [ready, start] = [(); 2].map(|()| Barrier::new(load.threads + 1));
    let (began, appended) = std::thread::scope(|scope| {
        let spawn = |thread| {
            let (peer, stop, ready, start) = (&*peer, &stop, &ready, &start);
            scope.spawn(move || {
                pool();
                ready.wait();
                start.wait();
                append(peer, thread, load, stop)
            })
        };
        let threads: Vec<_> = (0..load.threads).map(spawn).collect();
        ready.wait();
        let began = (Instant::now(), CpuTime::now());
        start.wait();
        std::thread::sleep(elapsed);
        stop.store(true, Ordering::Relaxed);
        let join = |thread: std::thread::ScopedJoinHandle<'_, Appended>| {
            thread.join().expect("no append failed")
        };
        (began, threads.into_iter().map(join).collect::<Vec<_>>())
    });
    let (began, cpu) = began;
    let counts: Vec<_> = appended.iter().map(|thread| thread.records).collect();
    peer.written(counts.iter().sum());
    let (elapsed, others) = (began.elapsed(), cpu.others());
    peer.close();
    verify(kind, shards, dir, &counts);
    Outcome {
        per_second: counts.iter().sum::<u64>() as f64 / elapsed.as_secs_f64(),
        latency_micros: percentiles(appended),
        others,
    }
}

/// CPU ticks: busy and total of the machine, and of this process.
pub struct CpuTime {
    busy: u64,
    all: u64,
    own: u64,
}

impl CpuTime {
    /// Reads the counters of the kernel.
    pub fn now() -> Self {
        let numbers = |path: &str, skip: usize| -> Vec<u64> {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().next().unwrap_or_default();
            // The program's name, in brackets, may contain a space.
            let line = line.rsplit(')').next().unwrap_or_default();
            line.split_whitespace().skip(skip).map(|word| word.parse().unwrap_or(0)).collect()
        };
        // user nice system idle iowait irq softirq steal; in fields 11 and 12, utime and stime.
        let (machine, own) = (numbers("/proc/stat", 1), numbers("/proc/self/stat", 11));
        let sum = |of: &[u64]| of.iter().take(8).sum::<u64>();
        let idle = sum(machine.get(3..5).unwrap_or_default());
        let own = own.iter().take(2).sum();
        Self { busy: sum(&machine) - idle, all: sum(&machine), own }
    }

    /// The share of other programs since `self`.
    pub fn others(&self) -> f64 {
        let now = Self::now();
        let busy = (now.busy - self.busy).saturating_sub(now.own - self.own);
        busy as f64 / (now.all - self.all).max(1) as f64
    }
}

/// Syncs the file system, so that writes of the last run and of the opening do not count.
pub fn wait_for_writeback(dir: &Path) {
    let dir = std::fs::File::open(dir).expect("the scratch directory is there");
    rustix::fs::syncfs(dir).expect("the scratch disk syncs");
}

fn append(peer: &dyn Peer, thread: usize, load: &Load, stop: &AtomicBool) -> Appended {
    let share = RECORDS_MAX / load.threads as u64;
    let mut done = Appended { records: 0, nanos: Vec::new() };
    let going = |records| records < share && !stop.load(Ordering::Relaxed);
    match load.manner {
        Manner::InFlight(depth) => peer.pipeline(thread, depth, &mut || {
            going(done.records).then(|| {
                done.records += 1;
                record(thread, done.records - 1)
            })
        }),
        Manner::Forgetting => {
            while going(done.records) {
                peer.forget(thread, record(thread, done.records));
                done.records += 1;
            }
        }
        Manner::Waiting => {
            while going(done.records) {
                timed(&mut done, 1, |count| peer.append(thread, record(thread, count)));
            }
        }
        Manner::Batches(size) => {
            let mut batch = Vec::with_capacity(size);
            while going(done.records) {
                batch.clear();
                batch.extend((0..size as u64).map(|n| record(thread, done.records + n)));
                timed(&mut done, size as u64, |_| peer.append_batch(thread, &batch));
            }
        }
    }
    done
}

fn timed(done: &mut Appended, records: u64, append: impl FnOnce(u64)) {
    let began = Instant::now();
    append(done.records);
    done.nanos.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
    done.records += records;
}

fn percentiles(appended: Vec<Appended>) -> Option<[f64; 2]> {
    let mut nanos: Vec<_> = appended.into_iter().flat_map(|thread| thread.nanos).collect();
    nanos.sort_unstable();
    let at = |share: f64| f64::from(nanos[(nanos.len() as f64 * share) as usize]) / 1e3;
    (!nanos.is_empty()).then(|| [at(0.5), at(0.99)])
}

/// Writes a log of `records` records for a replay, and closes it.
pub fn fill(kind: &Kind, shards: usize, dir: &Path, records: u64) {
    let durability = if kind.os { Durability::Buffered } else { Durability::Sync };
    let peer = (kind.open)(dir, shards, durability);
    let mut count = 0;
    while count < records {
        let batch: Vec<_> =
            (count..records.min(count + 1000)).map(|count| record(0, count)).collect();
        count += batch.len() as u64;
        peer.append_batch(0, &batch);
    }
    peer.close();
    wait_for_writeback(dir);
}

/// When a replay drops its files from the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cold {
    /// Never.
    No,
    /// Before the log is opened.
    BeforeOpening,
    /// After the log is opened.
    OnceOpen,
}

/// The files of a log that are not empty, sorted by name.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut dirs) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("the folder can be listed") {
            let path = entry.expect("the folder can be listed").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.metadata().is_ok_and(|file| file.len() > 0) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Writes the log's files to the disk, and drops them from the page cache.
pub fn drop_cache(dir: &Path) {
    wait_for_writeback(dir);
    for path in files(dir) {
        let file = std::fs::File::open(path).expect("the file is there");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
            .expect("the file is a file");
    }
}

/// Reads the log's files into the page cache.
pub fn warm(dir: &Path) {
    for path in files(dir) {
        let mut file = std::fs::File::open(path).expect("the file is there");
        std::io::copy(&mut file, &mut std::io::sink()).expect("the file can be read");
    }
}

/// Replays a log of `records` records and reads each key. Returns records per second, counted from
/// the end of the opening, and from its beginning.
pub fn replay(kind: &Kind, shards: usize, dir: &Path, records: u64, cold: Cold) -> [f64; 2] {
    if cold == Cold::BeforeOpening {
        drop_cache(dir);
    }
    let began = Instant::now();
    let opened = OnceLock::new();
    // Replay threads count on separate cache lines.
    let found = Arc::new([const { Lane(AtomicU64::new(0)) }; 8]);
    let lanes = Arc::clone(&found);
    let look: Found = Arc::new(move |key, payload| {
        std::hint::black_box(payload);
        lanes[lane()].0.fetch_add(u64::from(count_of(key) < records), Ordering::Relaxed);
    });
    (kind.replay)(dir, shards, look, &|| {
        opened.get_or_init(|| {
            if cold == Cold::OnceOpen {
                drop_cache(dir);
            }
            Instant::now()
        });
    });
    let ended = Instant::now();
    let found: u64 = found.iter().map(|lane| lane.0.load(Ordering::Relaxed)).sum();
    assert_eq!(found, records, "a replay yields every record once");
    let opened = *opened.get().expect("every peer says when it is open");
    [opened, began].map(|began| records as f64 / (ended - began).as_secs_f64())
}

#[repr(align(128))]
struct Lane(AtomicU64);

/// The counter of this thread.
fn lane() -> usize {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local!(static LANE: usize = NEXT.fetch_add(1, Ordering::Relaxed) as usize % 8);
    LANE.with(|lane| *lane)
}

/// Checks that the acknowledged records are exactly those found, each once and with its own bytes.
pub fn verify(kind: &Kind, shards: usize, dir: &Path, acknowledged: &[u64]) {
    let words = |records: &u64| (0..records / 64 + 1).map(|_| AtomicU64::new(0)).collect();
    let seen: Arc<Vec<Vec<AtomicU64>>> = Arc::new(acknowledged.iter().map(words).collect());
    let counts = acknowledged.to_vec();
    let wrong = Arc::new(AtomicU64::new(0));
    let found: Found = {
        let (seen, wrong) = (Arc::clone(&seen), Arc::clone(&wrong));
        Arc::new(move |key, bytes| {
            let (thread, count) = ((key >> COUNT_BITS) as usize, count_of(key));
            let known = counts.get(thread).is_some_and(|acknowledged| count < *acknowledged);
            let good = known && bytes == payload(key) && {
                let bit = 1 << (count % 64);
                seen[thread][(count / 64) as usize].fetch_or(bit, Ordering::Relaxed) & bit == 0
            };
            wrong.fetch_add(u64::from(!good), Ordering::Relaxed);
        })
    };
    (kind.replay)(dir, shards, found, &|| {});
    let bits =
        seen.iter().flatten().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones()));
    let (found, wrong) = (bits.sum::<u64>(), wrong.load(Ordering::Relaxed));
    let acknowledged: u64 = acknowledged.iter().sum();
    assert!(
        found == acknowledged && wrong == 0,
        "acknowledged {acknowledged}, found {found}; {wrong} twice, unknown or with other bytes"
    );
}
