//! Runs a closure on each item of a slice, on one thread per core.
//!
//! If the closure itself uses threads, [`threads_each`] divides the cores between the
//! items.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::util::sync::cores;

/// Runs `run` on each item, on one thread per core. Returns the results in the items'
/// order, or the first error in that order. Blocks until all are done.
///
/// # Panics
/// If `run` panics.
pub(crate) fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    run: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    on_threads(cores(), items, run)
}

/// Number of threads for each of `items` items that run in parallel.
pub(crate) fn threads_each(items: usize) -> usize {
    (cores() / items.max(1)).max(1)
}

/// Runs `run` on each item, on at most `threads` threads; else like [`in_parallel`].
pub(crate) fn on_threads<T: Sync, R: Send, E: Send>(
    threads: usize,
    items: &[T],
    run: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let threads = threads.min(items.len());
    let next = AtomicUsize::new(0);
    let work = || -> Vec<(usize, Result<R, E>)> {
        let mut done = Vec::new();
        loop {
            // ORDERING: Relaxed; each thread gets another index, and the join publishes
            // the results.
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, run(item)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        // This thread works too, so a thread that cannot be started only costs time.
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let workers: Vec<_> = (1..threads).filter_map(spawn).collect();
        let mut done = work();
        for worker in workers {
            done.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
