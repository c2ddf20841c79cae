//! The cost of waking a thread, alone: the CPU time of the waking thread, and how long the other
//! takes to run. This file does not know the log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// Number of threads that sleep and are woken one after the other.
const SLEEPERS: usize = 64;
/// Time for all of them to park again.
const LIES_DOWN: Duration = Duration::from_micros(500);

/// The cost of waking, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct WakeUp {
    /// CPU time of the waking thread, with [`SLEEPERS`] threads in turn.
    pub cpu: f64,
    /// From waking a thread until it has woken the next. Two threads wake each other.
    pub hop: f64,
}

impl WakeUp {
    /// Measures each for `elapsed`.
    pub fn measure(elapsed: Duration) -> Self {
        Self { cpu: wake_many(elapsed), hop: to_and_fro(elapsed) }
    }
}

/// Threads that sleep until a number rises, again and again. All orderings are `SeqCst`, because
/// only system calls are measured.
struct Sleepers {
    number: AtomicU64,
    up: AtomicU64,
    over: AtomicBool,
}

impl Sleepers {
    const fn new() -> Self {
        Self { number: AtomicU64::new(0), up: AtomicU64::new(0), over: AtomicBool::new(false) }
    }

    /// Sleeps while the number is `seen`. Returns false if the measurement is over.
    fn sleep(&self, seen: u64) -> bool {
        while self.number.load(Ordering::SeqCst) == seen {
            if self.over.load(Ordering::SeqCst) {
                return false;
            }
            std::thread::park();
        }
        true
    }

    fn end(&self, threads: &[Thread]) {
        self.over.store(true, Ordering::SeqCst);
        threads.iter().for_each(Thread::unpark);
    }
}

fn wake_many(elapsed: Duration) -> f64 {
    let sleepers = Sleepers::new();
    std::thread::scope(|scope| {
        let sleep = || {
            let mut seen = 0;
            while sleepers.sleep(seen) {
                seen += 1;
                sleepers.up.fetch_add(1, Ordering::SeqCst);
            }
        };
        let threads: Vec<_> = (0..SLEEPERS).map(|_| scope.spawn(sleep).thread().clone()).collect();
        let (began, mut cpu, mut woken) = (Instant::now(), Duration::ZERO, 0);
        while began.elapsed() < elapsed {
            std::thread::sleep(LIES_DOWN);
            let before = thread_time();
            sleepers.number.fetch_add(1, Ordering::SeqCst);
            threads.iter().for_each(Thread::unpark);
            cpu += thread_time() - before;
            woken += threads.len();
            while sleepers.up.load(Ordering::SeqCst) < woken as u64 {
                std::thread::sleep(LIES_DOWN);
            }
        }
        sleepers.end(&threads);
        cpu.as_secs_f64() * 1e6 / woken as f64
    })
}

fn to_and_fro(elapsed: Duration) -> f64 {
    let [to, fro] = [Sleepers::new(), Sleepers::new()];
    let this = std::thread::current();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let mut seen = 0;
            while to.sleep(seen) {
                seen += 1;
                fro.number.store(seen, Ordering::SeqCst);
                this.unpark();
            }
        });
        let other = other.thread().clone();
        let (began, mut times) = (Instant::now(), 0);
        while began.elapsed() < elapsed {
            to.number.store(times + 1, Ordering::SeqCst);
            other.unpark();
            assert!(fro.sleep(times), "nobody ends it");
            times += 1;
        }
        let hop = began.elapsed().as_secs_f64() * 1e6 / (2 * times) as f64;
        to.end(&[other]);
        hop
    })
}

/// User and system time of this thread.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("a thread has used no less than no time")
}
