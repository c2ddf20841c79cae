//! One run: a log in an empty directory, tasks that append for a fixed time, and a replay that
//! must find exactly the acknowledged records.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use super::latencies::{self, Latencies};
use super::log::{TaskLog, record};
use crate::load::{CpuTime, wait_for_writeback};
use crate::peer::Found;

/// Worker threads of the runtime.
const WORKERS: usize = 2;
/// Records of one run, over all tasks: 1.5 GiB. The run ends early here.
const RECORDS_MAX: usize = 6 << 20;
/// Bytes that a log fills with zeros ahead of time, per second of the run: 3.2 M records.
const ZEROED_PER_SECOND: f64 = (832 << 20) as f64;
/// A task measures one of this number of records, because reading the clock is not free.
const MEASURED_EACH: u32 = 8;

/// How tasks append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// One record at a time. The task awaits each.
    Awaiting,
    /// This number of records without awaiting each. The task awaits the last.
    Runs(u32),
}

/// The load on a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Number of tasks.
    pub tasks: usize,
    /// How they append.
    pub manner: Manner,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Records acknowledged per second.
    pub per_second: f64,
    /// P50, P99 and P99.9 of what a task awaits, in microseconds.
    pub micros: Option<[f64; 3]>,
    /// User and system time of the process per record, in microseconds.
    pub cpu_micros: f64,
    /// The share of the machine's CPU time that other programs used.
    pub others: f64,
}

/// What the tasks share.
struct Shared<L> {
    log: L,
    start: Notify,
    ready: AtomicUsize,
    stop: AtomicBool,
}

impl<L: TaskLog> Shared<L> {
    async fn started(&self) {
        let mut start = std::pin::pin!(self.start.notified());
        start.as_mut().enable();
        self.ready.fetch_add(1, Ordering::Release);
        start.await;
    }

    /// Whether a task of `count` records goes on.
    fn goes_on(&self, count: u32, share: usize) -> bool {
        (count as usize) < share && !self.stop.load(Ordering::Relaxed)
    }
}

/// Appends until the end, and awaits each record. Returns the number of records.
async fn append<L: TaskLog>(shared: Arc<Shared<L>>, task: usize, share: usize) -> u32 {
    shared.started().await;
    let mut count = 0;
    while shared.goes_on(count, share) {
        let measured = (task as u32).wrapping_add(count).is_multiple_of(MEASURED_EACH);
        let began = measured.then(Instant::now);
        shared.log.append(record(task, count)).await;
        began.into_iter().for_each(latencies::note);
        count += 1;
    }
    count
}

/// Appends until the end, `run` records at a time. Returns the number of records.
async fn append_runs<L: TaskLog>(
    shared: Arc<Shared<L>>,
    task: usize,
    share: usize,
    run: u32,
) -> u32 {
    shared.started().await;
    let mut count = 0;
    while shared.goes_on(count, share) {
        let began = Instant::now();
        shared.log.append_run((count..count + run).map(|count| record(task, count))).await;
        latencies::note(began);
        count += run;
    }
    count
}

/// A runtime of two workers, which hand their latencies over when it ends.
pub fn runtime(latencies: &Latencies) -> Runtime {
    let latencies = latencies.clone();
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_time()
        .on_thread_stop(move || latencies.collect())
        .build()
        .expect("a runtime starts")
}

/// Bytes to fill with zeros for a run.
pub fn zeroed_bytes(lasts: Duration) -> u64 {
    ((ZEROED_PER_SECOND * lasts.as_secs_f64()) as u64).next_multiple_of(64 << 20)
}

/// User and system time of this process, as `getrusage` has it.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process has used no less than no time")
}

/// Loads the log for `lasts`, closes it, and verifies a replay.
pub fn run<L: TaskLog>(dir: &Path, shards: Option<usize>, load: Load, lasts: Duration) -> Outcome {
    let log = L::open(dir, shards, zeroed_bytes(lasts));
    wait_for_writeback(dir);
    let shared = Arc::new(Shared {
        log,
        start: Notify::new(),
        ready: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let latencies = Latencies::default();
    let runtime = runtime(&latencies);
    let share = RECORDS_MAX / load.tasks;
    let spawn = |task| {
        let shared = Arc::clone(&shared);
        match load.manner {
            Manner::Awaiting => runtime.spawn(append(shared, task, share)),
            Manner::Runs(run) => runtime.spawn(append_runs(shared, task, share, run)),
        }
    };
    let tasks: Vec<_> = (0..load.tasks).map(spawn).collect();
    while shared.ready.load(Ordering::Acquire) < load.tasks {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (began, cpu, machine) = (Instant::now(), cpu_time(), CpuTime::now());
    shared.start.notify_waiters();
    std::thread::sleep(lasts);
    shared.stop.store(true, Ordering::Relaxed);
    let counts: Vec<u32> = runtime.block_on(async {
        let mut counts = Vec::with_capacity(tasks.len());
        for task in tasks {
            counts.push(task.await.expect("no append failed"));
        }
        counts
    });
    let (elapsed, cpu, others) = (began.elapsed(), cpu_time() - cpu, machine.others());
    drop(runtime);
    let shared = Arc::into_inner(shared).expect("the tasks have ended");
    shared.log.close();
    verify::<L>(dir, &counts);
    let records = counts.iter().map(|count| f64::from(*count)).sum::<f64>();
    Outcome {
        per_second: records / elapsed.as_secs_f64(),
        micros: latencies.micros(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / records,
        others,
    }
}

/// Checks that the log has as many records per key as were acknowledged, in their order and with
/// their own bytes, and no others.
pub fn verify<L: TaskLog>(dir: &Path, acknowledged: &[u32]) {
    let seen: Arc<Vec<_>> = Arc::new(acknowledged.iter().map(|_| AtomicU32::new(0)).collect());
    let wrong = Arc::new(AtomicU64::new(0));
    let found: Found = {
        let (seen, wrong) = (Arc::clone(&seen), Arc::clone(&wrong));
        Arc::new(move |key, payload| {
            let good = seen.get(key as usize).is_some_and(|seen| {
                let count = seen.fetch_add(1, Ordering::Relaxed);
                payload == record(key as usize, count).payload
            });
            wrong.fetch_add(u64::from(!good), Ordering::Relaxed);
        })
    };
    let records = acknowledged.iter().map(|count| u64::from(*count)).sum();
    L::replay(dir, records, &found);
    let keys = seen.iter().zip(acknowledged);
    let missed = keys.filter(|(seen, count)| seen.load(Ordering::Relaxed) != **count).count();
    let wrong = wrong.load(Ordering::Relaxed);
    assert!(
        missed == 0 && wrong == 0,
        "of {records} acknowledged, {missed} keys have another number of records, and {wrong} \
         records are unknown, out of order or with other bytes"
    );
}
