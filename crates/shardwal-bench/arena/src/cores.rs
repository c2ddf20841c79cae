//! Measures the distance between the machine's first two cores.
//!
//! The host places the cores of a virtual machine. Here a cache line takes about 65 ns to another
//! core and back, or about 330 ns, for seconds at a time. Communication between threads slows down
//! accordingly. Figures of the two states must not be compared.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// From here on the cores count as far. The value is between the two observed states.
pub const FAR_NANOS: f64 = 150.0;
/// Rounds of a measurement, which takes a millisecond or two. The first ones are not counted.
const ROUNDS: u64 = 4000;
const UNCOUNTED: u64 = 500;

/// Nanoseconds that a cache line takes from one core to another and back. `None` if there is one
/// core, or affinity cannot be set.
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

/// Spins until the word is `number`, then writes the next number.
fn pass_on(word: &AtomicU64, number: u64) {
    while word.load(Ordering::Acquire) != number {
        std::hint::spin_loop();
    }
    word.store(number + 1, Ordering::Release);
}

/// Pins the calling thread to a core. Returns whether that succeeded.
fn keep_to(core: usize) -> bool {
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one).is_ok()
}
