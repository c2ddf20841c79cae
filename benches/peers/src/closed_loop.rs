//! shardwal in a closed loop: threads that each keep some appends under way and
//! wait for the oldest; what they saw, what it cost the process, and how often
//! its threads went to sleep. Counted from outside: by the kernel, per thread.

use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardwal::{Completion, Config, ShardStats, ShardedWal};

/// Bytes of a payload, which is shared and not copied.
pub const PAYLOAD_BYTES: usize = 256;
static PAYLOAD: [u8; PAYLOAD_BYTES] = [0x5a; PAYLOAD_BYTES];

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Records acknowledged, a second.
    pub per_second: f64,
    /// From an append to when its thread saw the answer; sorted, not empty.
    pub nanos: Vec<u32>,
    /// User and system time of the process, a record, in microseconds.
    pub cpu_micros: f64,
    /// Of that, the writers' threads, in microseconds a record.
    pub writer_micros: f64,
    /// How often a caller went to sleep, a record.
    pub caller_sleeps: f64,
    /// How often a writer did, a record; waits for the disk are sleeps too.
    pub writer_sleeps: f64,
    /// What the log counted.
    pub stats: ShardStats,
}

impl Outcome {
    /// The quantile of the latencies, in microseconds.
    pub fn micros(&self, quantile: f64) -> f64 {
        f64::from(self.nanos[(self.nanos.len() as f64 * quantile) as usize]) / 1e3
    }
}

/// How often a log is truncated that [`run`] is told to truncate.
const TRUNCATED_EACH: Duration = Duration::from_millis(20);

/// Opens a new log, loads it for so long from so many threads, and closes it. It
/// may be truncated meanwhile, so that what was written goes.
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
                log.truncate_before(&log.checkpoint()).expect("a sound disk");
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

/// How often a thread went to sleep by itself, by its folder in `/proc`.
fn sleeps(folder: &str) -> u64 {
    let status = std::fs::read_to_string(format!("{folder}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// All writers' threads of this process, by their names.
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

/// One thread's appends; what each of them took.
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

/// User and system time of this process, to the microsecond.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process has used no less than no time")
}
