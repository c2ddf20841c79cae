//! One thing done to each of many, on as many threads as there are cores.
//!
//! What each thing does in parallel itself shares the cores with the others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::sync::cores;

/// The results in the items' order, or the first error in that order. A panic
/// is passed on.
pub(crate) fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    run: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    on_threads(cores(), items, run)
}

/// How many threads each of so many items may have that are done in parallel.
pub(crate) fn threads_each(items: usize) -> usize {
    (cores() / items.max(1)).max(1)
}

/// As [`in_parallel`], on at most so many threads.
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
            // ORDERING: Relaxed; each thread gets another index, and the
            // results are published by the join.
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, run(item)));
        }
    };
    let mut done: Vec<_> = thread::scope(|scope| {
        // This thread works as well, so a thread that cannot be had is not
        // missed but for its speed.
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
