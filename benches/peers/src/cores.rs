//! How far the machine's first two cores are from each other just now.
//!
//! A virtual machine's cores are where its host puts them: here a cache line goes
//! to another core and back in some 65 ns or in some 330, for seconds at a time,
//! and what threads hand to each other costs so much more. A figure of the one
//! time says nothing beside a figure of the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// From here on the cores are far: between what is seen of one socket's
/// neighbours and of anybody else.
pub const FAR_NANOS: f64 = 150.0;
/// Of one look, which takes a millisecond or two; the first that many are not counted.
const ROUNDS: u64 = 4000;
const UNCOUNTED: u64 = 500;

/// Nanoseconds that a cache line takes from one core to another and back; none
/// where there is one core, or nobody may choose.
pub fn line_nanos() -> Option<f64> {
    let all = sched_getaffinity(None).ok()?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core));
    let (first, second) = (cores.next()?, cores.next()?);
    let word = &AtomicU64::new(0);
    std::thread::scope(|scope| {
        let answers = scope.spawn(move || {
            let kept = keep_to(second);
            (0..ROUNDS).for_each(|round| pass_on(word, 2 * round + 1));
            kept
        });
        let asks = scope.spawn(move || {
            let kept = keep_to(first);
            (0..UNCOUNTED).for_each(|round| pass_on(word, 2 * round));
            let began = Instant::now();
            (UNCOUNTED..ROUNDS).for_each(|round| pass_on(word, 2 * round));
            kept.then(|| began.elapsed())
        });
        let kept = answers.join().expect("it does not panic");
        let elapsed = asks.join().expect("it does not panic").filter(|_| kept)?;
        Some(elapsed.as_nanos() as f64 / (ROUNDS - UNCOUNTED) as f64)
    })
}

/// Waits for the number, and writes the next one.
fn pass_on(word: &AtomicU64, number: u64) {
    while word.load(Ordering::Acquire) != number {
        std::hint::spin_loop();
    }
    word.store(number + 1, Ordering::Release);
}

/// Whether the calling thread stays on that core from now on.
fn keep_to(core: usize) -> bool {
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one).is_ok()
}
