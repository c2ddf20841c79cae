//! A log in an empty directory, and the tasks that append to it until they are stopped.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::latencies::{self, Latencies};
use super::log::{TaskLog, record};
use crate::load::{CpuTime, wait_for_writeback};

/// Worker threads of the runtime.
const WORKERS: usize = 2;
/// Records of one run, over all tasks: 1.5 GiB. The run ends early here.
const RECORDS_MAX: usize = 6 << 20;
/// Bytes that a log fills with zeros ahead of time, per second of the run: 3.2 M records.
const ZEROED_PER_SECOND: f64 = (832 << 20) as f64;
/// A task measures one of this number of records, because reading the clock is not free.
const MEASURED_EACH: u32 = 8;

/// How tasks append until they are stopped.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// One record at a time. The task awaits each, and measures some.
    Awaiting,
    /// The task measures nothing, so that it allocates nothing.
    Unmeasured,
    /// This number of records at a time. The task awaits the last.
    Runs(u32),
}

/// What the tasks share.
pub struct Shared<L> {
    /// The log.
    pub log: L,
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
async fn append<L: TaskLog>(
    shared: Arc<Shared<L>>,
    task: usize,
    share: usize,
    measures: bool,
) -> u32 {
    shared.started().await;
    let mut count = 0;
    while shared.goes_on(count, share) {
        let its_turn = (task as u32).wrapping_add(count).is_multiple_of(MEASURED_EACH);
        let began = (measures && its_turn).then(Instant::now);
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
fn runtime(latencies: &Latencies) -> Runtime {
    let latencies = latencies.clone();
    Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_time()
        .on_thread_stop(move || latencies.collect())
        .build()
        .expect("a runtime starts")
}

/// Bytes to fill with zeros for a run.
fn zeroed_bytes(lasts: Duration) -> u64 {
    ((ZEROED_PER_SECOND * lasts.as_secs_f64()) as u64).next_multiple_of(64 << 20)
}

/// User and system time of this process, as `getrusage` has it.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("a process has used no less than no time")
}

/// An open log, a runtime, and its tasks.
pub struct Session<L> {
    shared: Arc<Shared<L>>,
    runtime: Runtime,
    latencies: Latencies,
    tasks: Vec<JoinHandle<u32>>,
}

impl<L: TaskLog> Session<L> {
    /// Opens a log for a run of `lasts`. No task runs yet.
    pub fn open(dir: &Path, shards: Option<usize>, lasts: Duration) -> Self {
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
        Self { shared, runtime, latencies, tasks: Vec::new() }
    }

    /// What tasks share.
    pub fn shared(&self) -> &Arc<Shared<L>> {
        &self.shared
    }

    /// The runtime.
    pub fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Spawns tasks, and waits until all are parked.
    pub fn spawn(&mut self, tasks: usize, manner: Manner) {
        let share = RECORDS_MAX / tasks;
        self.tasks.reserve_exact(tasks);
        for task in 0..tasks {
            let shared = Arc::clone(&self.shared);
            self.tasks.push(match manner {
                Manner::Awaiting => self.runtime.spawn(append(shared, task, share, true)),
                Manner::Unmeasured => self.runtime.spawn(append(shared, task, share, false)),
                Manner::Runs(run) => self.runtime.spawn(append_runs(shared, task, share, run)),
            });
        }
        while self.shared.ready.load(Ordering::Acquire) < tasks {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets the tasks run.
    pub fn start(&self) {
        self.shared.start.notify_waiters();
    }

    /// Stops the tasks, and waits for their last records. Returns the number of records per task.
    pub fn stop(&mut self) -> Vec<u32> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let tasks = std::mem::take(&mut self.tasks);
        self.runtime.block_on(async {
            let mut counts = Vec::with_capacity(tasks.len());
            for task in tasks {
                counts.push(task.await.expect("no append failed"));
            }
            counts
        })
    }

    /// Ends the runtime, and closes the log.
    pub fn close(self) -> Latencies {
        drop(self.runtime);
        let shared = Arc::into_inner(self.shared).expect("the tasks have ended");
        shared.log.close();
        self.latencies
    }
}

/// When a measurement began, and what had been used by then.
pub struct Clock {
    began: Instant,
    cpu: Duration,
    machine: CpuTime,
}

/// What a measurement used.
pub struct Used {
    /// How long it took.
    pub elapsed: Duration,
    /// User and system time of the process.
    pub cpu: Duration,
    /// The share of the machine's CPU time that other programs used.
    pub others: f64,
}

impl Clock {
    /// Starts it.
    pub fn start() -> Self {
        Self { machine: CpuTime::now(), cpu: cpu_time(), began: Instant::now() }
    }

    /// Reads it.
    pub fn used(&self) -> Used {
        let elapsed = self.began.elapsed();
        Used { elapsed, cpu: cpu_time() - self.cpu, others: self.machine.others() }
    }
}
