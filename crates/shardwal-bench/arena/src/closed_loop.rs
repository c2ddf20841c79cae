//! shardwal in a closed loop: each thread keeps some appends in flight and waits for the oldest.
//! Reports latencies, the CPU time of the process, and how often its threads sleep. Sleeps are
//! counted from outside, by the kernel, per thread.

use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardwal::{Completion, Config, ShardStats, ShardedWal};

/// Bytes of a payload. It is shared, not copied.
pub const PAYLOAD_BYTES: usize = 256;
static PAYLOAD: [u8; PAYLOAD_BYTES] = [0x5a; PAYLOAD_BYTES];

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Records acknowledged per second.
    pub per_second: f64,
    /// Latencies from an append until its thread sees the answer, in nanoseconds. Sorted, never
    /// empty.
    pub nanos: Vec<u32>,
    /// User and system time of the process per record, in microseconds.
    pub cpu_micros: f64,
    /// The share of the writer threads, in microseconds per record.
    pub writer_micros: f64,
    /// Sleeps of callers per record.
    pub caller_sleeps: f64,
    /// Sleeps of writer threads per record. Waits for the disk count.
    pub writer_sleeps: f64,
    /// The statistics of the log.
    pub stats: ShardStats,
}

impl Outcome {
    /// A quantile of the latencies, in microseconds.
    pub fn micros(&self, quantile: f64) -> f64 {
        f64::from(self.nanos[(self.nanos.len() as f64 * quantile) as usize]) / 1e3
    }
}

/// Interval between truncations, for a run that truncates.
const TRUNCATED_EACH: Duration = Duration::from_millis(20);

/// Opens a new log, loads it with `threads` threads for `elapsed`, and closes it. If `truncated` is
/// set, the log is truncated during the run.
pub fn run(
    config: Config,
    threads: usize,
    under_way: usize,
    elapsed: Duration,
    truncated: bool,
) -> Outcome {
    let log = ShardedWal::open(config).expect("the log opens");
    let (stop, [ready, start]) =
        (AtomicBool::new(false), [(); 2].map(|()| Barrier::new(threads + 1)));
    let (began, mut nanos, slept) = std::thread::scope(|scope| {
        let spawn = |thread: usize| {
            let (log, stop, ready, start) = (&log, &stop, &ready, &start);
            scope.spawn(move || {
                ready.wait();
                let slept = sleeps("/proc/thread-self");
                start.wait();
                let nanos = append(log, thread as u64, under_way, stop);
                (nanos, sleeps("/proc/thread-self") - slept)
            })
        };
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        ready.wait();
        let began = (Instant::now(), cpu_time(), Writers::now());
        start.wait();
        if truncated {
            while began.0.elapsed() + TRUNCATED_EACH < elapsed {
                std::thread::sleep(TRUNCATED_EACH);
                log.truncate_before(&log.durable_checkpoint()).expect("a sound disk");
            }
        }
        std::thread::sleep(elapsed.saturating_sub(began.0.elapsed()));
        stop.store(true, Ordering::Relaxed);
        let (mut nanos, mut slept) = (Vec::new(), 0);
        for thread in threads {
            let (one, sleeps) = thread.join().expect("no append failed");
            nanos.extend(one);
            slept += sleeps;
        }
        (began, nanos, slept)
    });
    let (began, cpu, writers) = began;
    let (elapsed, cpu, ended) = (began.elapsed(), cpu_time() - cpu, Writers::now());
    let stats = log.stats().total;
    log.close().expect("the log closes");
    nanos.sort_unstable();
    let records = nanos.len() as f64;
    Outcome {
        per_second: records / elapsed.as_secs_f64(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / records,
        writer_micros: (ended.nanos - writers.nanos) as f64 / 1e3 / records,
        caller_sleeps: slept as f64 / records,
        writer_sleeps: (ended.sleeps - writers.sleeps) as f64 / records,
        nanos,
        stats,
    }
}

/// Number of voluntary context switches of a thread, from its directory in `/proc`.
fn sleeps(folder: &str) -> u64 {
    let status = std::fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// All writer threads of this process, found by name.
struct Writers {
    nanos: u64,
    sleeps: u64,
}

impl Writers {
    fn now() -> Self {
        let mut all = Self { nanos: 0, sleeps: 0 };
        let tasks = std::fs::read_dir("/proc/self/task").expect("Linux names its threads");
        for task in tasks.flatten() {
            let folder = task.path().display().to_string();
            let read =
                |file| std::fs::read_to_string(format!("{folder}/{file}")).unwrap_or_default();
            let name = read("comm");
            let number = name.trim().strip_prefix("shardwal-").map(str::parse::<u32>);
            if number.is_some_and(|number| number.is_ok()) {
                let ran = read("schedstat");
                let ran = ran.split_whitespace().next().and_then(|nanos| nanos.parse::<u64>().ok());
                all.nanos += ran.unwrap_or(0);
                all.sleeps += sleeps(&folder);
            }
        }
        all
    }
}

/// Appends from one thread. Returns the latencies in nanoseconds.
fn append(log: &ShardedWal, thread: u64, depth: usize, stop: &AtomicBool) -> Vec<u32> {
    let (mut under_way, mut nanos) = (VecDeque::with_capacity(depth), Vec::new());
    let mut key = thread.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut seen = |began: Instant| {
        nanos.push(u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX));
    };
    while !stop.load(Ordering::Relaxed) {
        let full = |count: usize| count == depth;
        while let Some((began, completion)) = under_way.pop_front() {
            let completion: Completion<'_> = completion;
            if !full(under_way.len() + 1) && !completion.is_done() {
                under_way.push_front((began, completion));
                break;
            }
            completion.wait().expect("the record is written");
            seen(began);
        }
        key = key.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        under_way.push_back((Instant::now(), log.append(key, Bytes::from_static(&PAYLOAD))));
    }
    for (began, completion) in under_way {
        completion.wait().expect("the record is written");
        seen(began);
    }
    nanos
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process has used no less than no time")
}
