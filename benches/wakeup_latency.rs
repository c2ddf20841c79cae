//! The cost of waking the threads that a commit has answered, by method: each by its own word, all
//! by one word, by bits of a word, or in chains. Each of `THREADS` threads takes a number and
//! sleeps until it is answered. One more thread answers all numbers taken, at the end of a commit:
//! one write over zeros, and `fdatasync`. No part of the log runs.
//!
//! `cargo bench --bench wakeup_latency -- DIR [SECONDS] [ROUNDS] [THREADS]`; medians of the rounds,
//! in which all ways take turns.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use rustix::fs::fdatasync;
use rustix::thread::futex;
use rustix::time::{ClockId, clock_gettime};

const FILE_BYTES: usize = 16 << 20;
const BLOCK_BYTES: usize = 4096;
/// Bytes of a record in the log.
const RECORD_BYTES: usize = 280;
/// Number of threads that the committing thread wakes, if woken threads wake others.
const CHAINS: u32 = 2;
/// The most that the kernel wakes at once.
const EVERYBODY: u32 = i32::MAX as u32;
/// Number of times that the committing thread yields to the threads it has just answered.
const GATHER_YIELDS_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `unpark` for each.
    Each,
    /// All sleep on one word, and all are woken.
    Broadcast,
    /// Like `Broadcast`, with eight numbers per bit. Threads that were not answered sleep on.
    Bits,
    /// Each woken thread unparks the next.
    Chains,
    /// All sleep on one word. Each woken thread wakes one more.
    ChainsOnOneWord,
}

const WAYS: [Way; 5] = [Way::Each, Way::Broadcast, Way::Bits, Way::Chains, Way::ChainsOnOneWord];

/// A thread that parks.
struct Waiter {
    thread: Thread,
    /// One more than the number that it waits for. 0 while it is awake.
    target: AtomicU64,
}

/// The shared state of a run. All orderings are `SeqCst`, because only system calls are compared.
struct Race {
    way: Way,
    taken: CachePadded<AtomicU32>,
    answered: CachePadded<AtomicU32>,
    over: AtomicBool,
    waiters: Vec<CachePadded<Waiter>>,
}

impl Race {
    fn is_answered(&self, number: u32) -> bool {
        self.answered.load(Ordering::SeqCst) > number || self.over.load(Ordering::SeqCst)
    }

    fn bit(number: u32) -> u32 {
        1 << (number / 8 % 32)
    }

    /// Sleeps until `number` is answered, then wakes the threads that it should.
    fn wait(&self, waiter: usize, number: u32) {
        if let Way::Each | Way::Chains = self.way {
            let target = &self.waiters[waiter].target;
            target.store(u64::from(number) + 1, Ordering::SeqCst);
            while !self.is_answered(number) {
                std::thread::park();
            }
            if target.swap(0, Ordering::SeqCst) == 0 && self.way == Way::Chains {
                self.unpark(waiter, 1, self.answered.load(Ordering::SeqCst));
            }
            return;
        }
        let bits = if self.way == Way::Bits { Self::bit(number) } else { u32::MAX };
        let bits = NonZero::new(bits).expect("one bit is set");
        while !self.is_answered(number) {
            let seen = self.answered.load(Ordering::SeqCst);
            if seen <= number {
                let flags = futex::Flags::PRIVATE;
                // The loop checks why the wait ended.
                futex::wait_bitset(&self.answered, flags, seen, None, bits).unwrap_or_default();
            }
        }
        if self.way == Way::ChainsOnOneWord {
            self.wake_on_the_word(1, u32::MAX);
        }
    }

    /// Unparks up to `many` threads that wait for a number below `end`.
    fn unpark(&self, from: usize, mut many: u32, end: u32) {
        for at in 0..self.waiters.len() {
            let waiter = &self.waiters[(from + at) % self.waiters.len()];
            let target = waiter.target.load(Ordering::SeqCst);
            let takes = |it: &AtomicU64| {
                it.compare_exchange(target, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            };
            if many > 0 && target != 0 && target <= u64::from(end) && takes(&waiter.target) {
                waiter.thread.unpark();
                many -= 1;
            }
        }
    }

    fn wake_on_the_word(&self, many: u32, bits: u32) {
        let bits = NonZero::new(bits).expect("a bit is set");
        futex::wake_bitset(&self.answered, futex::Flags::PRIVATE, many, bits)
            .expect("the word is there");
    }

    fn answer(&self, from: u32, end: u32) {
        self.answered.store(end, Ordering::SeqCst);
        match self.way {
            Way::Each => self.unpark(0, u32::MAX, end),
            Way::Chains => {
                // Threads that the previous commit answered have had its duration to be woken.
                self.unpark(0, u32::MAX, from);
                self.unpark(0, CHAINS, end);
            }
            Way::Broadcast => self.wake_on_the_word(EVERYBODY, u32::MAX),
            Way::Bits => {
                let bits = (from..end).fold(0, |bits, number| bits | Self::bit(number));
                self.wake_on_the_word(EVERYBODY, bits);
            }
            Way::ChainsOnOneWord => self.wake_on_the_word(CHAINS, u32::MAX),
        }
    }

    /// Commits until the time is over. Returns the number of commits.
    fn commit(&self, file: &File, duration: Duration) -> io::Result<u64> {
        let block = vec![1; 1 << 20];
        let (began, mut commits, mut last) = (Instant::now(), 0, 0);
        while began.elapsed() < duration {
            let from = self.answered.load(Ordering::SeqCst);
            let mut turns = 0;
            while turns < GATHER_YIELDS_MAX && self.taken.load(Ordering::SeqCst) - from < last {
                std::thread::yield_now();
                turns += 1;
            }
            let end = self.taken.load(Ordering::SeqCst);
            if end == from {
                // A thread that sleeps past its answer belongs to no chain.
                self.answer(from, end);
                std::thread::yield_now();
                continue;
            }
            last = end - from;
            let bytes = (last as usize * RECORD_BYTES).next_multiple_of(BLOCK_BYTES);
            let at = commits * (64 << 10) % (FILE_BYTES as u64 - (1 << 20));
            file.write_all_at(&block[..bytes.min(block.len())], at)?;
            fdatasync(file)?;
            self.answer(from, end);
            commits += 1;
        }
        Ok(commits)
    }
}

/// Microseconds of CPU time that this process has used.
fn cpu_us() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

struct Figures {
    answers_per_second: f64,
    answers_per_commit: f64,
    cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Figures {
    fn new(sorted: &[Duration], commits: u64, elapsed: Duration, cpu_us: f64) -> Self {
        let answers = sorted.len() as f64;
        let micros = |part: usize| sorted[sorted.len() * part / 100].as_secs_f64() * 1e6;
        Self {
            answers_per_second: answers / elapsed.as_secs_f64(),
            answers_per_commit: answers / commits as f64,
            cpu_us: cpu_us / answers,
            p50_us: micros(50),
            p99_us: micros(99),
        }
    }
}

fn run(way: Way, threads: usize, file: &File, duration: Duration) -> io::Result<Figures> {
    let (started, cpu) = (Instant::now(), cpu_us());
    let (sender, queue) = std::sync::mpsc::channel();
    let race = std::sync::OnceLock::<Race>::new();
    let (mut latencies, commits) = std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..threads)
            .map(|waiter| {
                let (race, sender) = (&race, sender.clone());
                scope.spawn(move || {
                    sender.send((waiter, std::thread::current())).expect("it is received");
                    let (race, mut latencies) = (race.wait(), Vec::new());
                    while !race.over.load(Ordering::SeqCst) {
                        let began = Instant::now();
                        race.wait(waiter, race.taken.fetch_add(1, Ordering::SeqCst));
                        latencies.push(began.elapsed());
                    }
                    latencies
                })
            })
            .collect();
        let mut waiters: Vec<_> = queue.iter().take(threads).collect();
        waiters.sort_by_key(|(waiter, _)| *waiter);
        let waiter = |(_, thread)| CachePadded::new(Waiter { thread, target: AtomicU64::new(0) });
        let race = race.get_or_init(|| Race {
            way,
            taken: CachePadded::new(AtomicU32::new(0)),
            answered: CachePadded::new(AtomicU32::new(0)),
            over: AtomicBool::new(false),
            waiters: waiters.into_iter().map(waiter).collect(),
        });
        let commits = race.commit(file, duration);
        race.over.store(true, Ordering::SeqCst);
        while !waiting.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            race.answered.fetch_add(1, Ordering::SeqCst);
            race.wake_on_the_word(EVERYBODY, u32::MAX);
            race.waiters.iter().for_each(|waiter| waiter.thread.unpark());
            std::thread::yield_now();
        }
        let latencies = waiting.into_iter().flat_map(|it| it.join().expect("it ended"));
        (latencies.collect::<Vec<_>>(), commits)
    });
    latencies.sort_unstable();
    Ok(Figures::new(&latencies, commits?, started.elapsed(), cpu_us() - cpu))
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let dir = arguments.next().unwrap_or_else(|| "target".into());
    let seconds = arguments.next().map_or(1.0, |it| it.parse().expect("seconds"));
    let mut count =
        |default: usize| arguments.next().map_or(default, |it| it.parse().expect("a count"));
    let (rounds, threads) = (count(5), count(64));
    let duration = Duration::from_secs_f64(seconds);
    let path = Path::new(&dir).join("waking.data");
    let file = File::create(&path)?;
    file.write_all_at(&vec![0; FILE_BYTES], 0)?;
    file.sync_all()?;
    let mut figures: Vec<Vec<Figures>> = WAYS.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (way, figures) in WAYS.iter().zip(&mut figures) {
            figures.push(run(*way, threads, &file, duration)?);
        }
    }
    std::fs::remove_file(&path)?;
    println!("| {threads} threads | answers/s | range | per commit | CPU us | P50 us | P99 us |");
    println!("|---|---|---|---|---|---|---|");
    for (way, figures) in WAYS.iter().zip(&figures) {
        let sorted = |of: fn(&Figures) -> f64| {
            let mut values: Vec<_> = figures.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let median = |of| sorted(of)[rounds / 2];
        let rates = sorted(|it| it.answers_per_second);
        println!(
            "| {way:?} | {:.0} | {:.0} .. {:.0} | {:.1} | {:.2} | {:.0} | {:.0} |",
            rates[rounds / 2],
            rates[0],
            rates[rounds - 1],
            median(|it| it.answers_per_commit),
            median(|it| it.cpu_us),
            median(|it| it.p50_us),
            median(|it| it.p99_us),
        );
    }
    Ok(())
}
