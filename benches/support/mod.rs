//! Shared by the benchmarks: a log under load, and its measurement.
//!
//! This file knows logs as a [`Subject`], so that one loop drives shardwal and the designs that it
//! replaces. It does not know what is compared.

#![allow(dead_code, reason = "each benchmark is a crate of its own and uses a part")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use shardwal::{Completion, Config, ShardedWal};
use tempfile::TempDir;

pub(crate) mod null_disk;

/// Bytes of a record's payload, in all benchmarks.
pub(crate) const RECORD_BYTES: usize = 256;
/// Maximum bytes of a run. It ends early here, so that it does not fill the disk.
pub(crate) const RUN_BYTES_MAX: u64 = 3 << 30;

/// A log that accepts records and reports when they are safe.
pub(crate) trait Subject: Sync {
    /// What an append returns, to wait for.
    type Ticket<'a>
    where
        Self: 'a;

    /// Appends a record.
    fn append(&self, key: u64, payload: Bytes) -> Self::Ticket<'_>;

    /// Blocks until the record is safe in the subject's mode.
    fn wait<'a>(&'a self, ticket: Self::Ticket<'a>);

    /// Appends a record. Blocks until it is safe.
    fn append_wait(&self, key: u64, payload: Bytes) {
        self.wait(self.append(key, payload));
    }

    /// Blocks until everything appended is written.
    fn wait_idle(&self);
}

impl Subject for ShardedWal {
    type Ticket<'a> = Completion<'a>;

    fn append(&self, key: u64, payload: Bytes) -> Completion<'_> {
        ShardedWal::append(self, key, payload)
    }

    fn wait<'a>(&'a self, ticket: Completion<'a>) {
        let position = ticket.wait().expect("nothing goes wrong in a benchmark");
        std::hint::black_box(position);
    }

    fn append_wait(&self, key: u64, payload: Bytes) {
        let position = ShardedWal::append_wait(self, key, payload);
        std::hint::black_box(position.expect("nothing goes wrong in a benchmark"));
    }

    fn wait_idle(&self) {
        self.close().expect("nothing goes wrong in a benchmark");
    }
}

/// A load on a subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Number of threads that append.
    pub(crate) threads: usize,
    /// Maximum records in flight per thread. 0: the thread does not wait.
    pub(crate) in_flight: usize,
    /// When the load ends.
    pub(crate) until: Until,
    /// Whether each payload is allocated, as a caller that encodes it would.
    pub(crate) allocate: bool,
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After this time, or after [`RUN_BYTES_MAX`].
    Elapsed(Duration),
    /// After this number of records, over all threads.
    Records(u64),
}

impl Load {
    /// This load with a multiple of its records.
    pub(crate) fn times(&self, times: u64) -> Self {
        Self { until: Until::Records(self.records() * times), ..*self }
    }

    /// Number of records of the load. 0 if it ends by time.
    pub(crate) fn records(&self) -> u64 {
        match self.until {
            Until::Records(records) => records,
            Until::Elapsed(_) => 0,
        }
    }
}

/// The result of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Records appended and answered.
    pub(crate) records: u64,
    /// From the first append until all were answered.
    pub(crate) elapsed: Duration,
    /// User and system time of the whole process during the load.
    pub(crate) cpu: Duration,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.records as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn cpu_micros_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.records as f64
    }
}

/// Applies the load to the subject, from threads of its own. Blocks until it is answered.
pub(crate) fn drive<S: Subject>(subject: &S, load: &Load) -> Outcome {
    let (stop, records) = (AtomicBool::new(false), AtomicU64::new(0));
    let (ready, start) = (Barrier::new(load.threads + 1), Barrier::new(load.threads + 1));
    let (cpu, began) = std::thread::scope(|scope| {
        for thread in 0..load.threads {
            let (stop, records, ready, start) = (&stop, &records, &ready, &start);
            scope.spawn(move || {
                let mut source = Source::new(thread as u64, load.allocate);
                ready.wait();
                start.wait();
                let appended = appender(subject, load, thread, stop, &mut source);
                records.fetch_add(appended, Ordering::Relaxed);
            });
        }
        ready.wait();
        let began = (cpu_time(), Instant::now());
        start.wait();
        if let Until::Elapsed(elapsed) = load.until {
            std::thread::sleep(elapsed);
            stop.store(true, Ordering::Relaxed);
        }
        began
    });
    subject.wait_idle();
    let records = records.into_inner();
    Outcome { records, elapsed: began.elapsed(), cpu: cpu_time() - cpu }
}

/// Appends from one thread. Returns the number of records.
fn appender<S: Subject>(
    subject: &S,
    load: &Load,
    thread: usize,
    stop: &AtomicBool,
    source: &mut Source,
) -> u64 {
    let threads = load.threads as u64;
    let share = match load.until {
        Until::Records(records) => records / threads + u64::from(records % threads > thread as u64),
        Until::Elapsed(_) => RUN_BYTES_MAX / RECORD_BYTES as u64 / threads,
    };
    let mut under_way = VecDeque::with_capacity(load.in_flight);
    let mut appended = 0;
    while appended < share && !stop.load(Ordering::Relaxed) {
        if load.in_flight > 0 && under_way.len() == load.in_flight {
            under_way.pop_front().into_iter().for_each(|ticket| subject.wait(ticket));
        }
        let (key, payload) = source.next_record();
        appended += 1;
        if load.in_flight == 1 {
            subject.append_wait(key, payload);
            continue;
        }
        let ticket = subject.append(key, payload);
        if load.in_flight > 0 {
            under_way.push_back(ticket);
        }
    }
    under_way.into_iter().for_each(|ticket| subject.wait(ticket));
    appended
}

/// Random keys and payloads, identical in each run.
#[derive(Debug)]
pub(crate) struct Source {
    state: u64,
    pool: &'static [u8],
    allocate: bool,
}

impl Source {
    pub(crate) fn new(seed: u64, allocate: bool) -> Self {
        let state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self { state, pool: payload_pool(), allocate }
    }

    fn next(&mut self) -> u64 {
        // xorshift64*: choosing a key must cost little.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A random key and a payload, which is a slice of a pool or a copy of one.
    pub(crate) fn next_record(&mut self) -> (u64, Bytes) {
        let key = self.next();
        let at = usize::from(self.next().to_le_bytes()[7]) * 64;
        let payload = &self.pool[at..at + RECORD_BYTES];
        let payload = if self.allocate {
            Bytes::copy_from_slice(payload)
        } else {
            Bytes::from_static(payload)
        };
        (key, payload)
    }
}

/// Random bytes, which neither compression nor deduplication can reduce.
fn payload_pool() -> &'static [u8] {
    static POOL: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    POOL.get_or_init(|| {
        let mut state = 0x853c_49e6_748f_ea9b_u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            state.to_le_bytes()[6]
        };
        (0..256 * 64 + RECORD_BYTES).map(|_| next()).collect()
    })
}

/// A temporary directory on the disk of the target directory, because `/tmp` may be in memory.
pub(crate) fn scratch() -> TempDir {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    tempfile::Builder::new()
        .prefix("shardwal-bench-")
        .tempdir_in(target)
        .expect("the target directory is writable")
}

/// Opens a log. Panics if that fails.
pub(crate) fn open(config: Config) -> ShardedWal {
    ShardedWal::open(config).expect("the log opens")
}

/// User and system time of this process, over all its threads, including ended ones. Zero on
/// systems other than Linux.
pub(crate) fn cpu_time() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::try_from(time).unwrap_or_default()
    }
    #[cfg(not(target_os = "linux"))]
    Duration::ZERO
}

/// Criterion with the options of the command line, for runs of about a second. It takes ten
/// samples, because each sample is a load on a new log. In the short profile it skips statistics
/// and plots, which would take most of the time.
pub(crate) fn criterion() -> criterion::Criterion {
    let criterion = criterion::Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5));
    let criterion = if is_quick() {
        let short = criterion.measurement_time(Duration::from_millis(200));
        short.nresamples(1_001).without_plots()
    } else {
        criterion
    };
    criterion.configure_from_args()
}

/// Whether the short profile is requested: `cargo bench -- --quick`.
pub(crate) fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}
