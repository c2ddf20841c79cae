//! The memory of tasks that wait, beside the memory of the tasks themselves.
//!
//! With the log open, the tasks first park on a `Notify`, whose node is in the task. Then they
//! append in a closed loop, so that almost all wait at any time. The heap is sampled. The
//! difference is what the log has allocated for them: nodes, buffers, and the records in them. A
//! task is equally large in both states. What a design keeps in the future of an append is in the
//! task, so it is reported apart.

use std::path::Path;
use std::time::{Duration, Instant};

use super::heap;
use super::log::{TaskLog, record};
use super::run::Figures;
use super::session::{Manner, Session};

/// Heap bytes per waiting task that the log has allocated, records included.
pub const HEAP: &str = "heap_bytes";
/// The part of it that is given back when the tasks are answered.
pub const RELEASED: &str = "released_bytes";
/// `HEAP` and `FUTURE`: what a design costs wherever it keeps its nodes.
pub const TOTAL: &str = "total_bytes";
/// Bytes of the future of an append.
pub const FUTURE: &str = "future_bytes";

/// Measures `tasks` tasks for `lasts`.
pub fn run<L: TaskLog>(
    mut session: Session<L>,
    tasks: usize,
    lasts: Duration,
) -> (Vec<u32>, Figures) {
    let future = size_of_val(&session.shared().log.append(record(0, 0)));
    heap::count(true);
    let opened = heap::bytes();
    session.spawn(tasks, Manner::Unmeasured);
    let parked = heap::bytes();
    session.start();
    let during = sampled(lasts);
    let counts = session.stop();
    // The result of `stop`.
    let answered = heap::bytes() - (counts.capacity() * size_of::<u32>()) as i64;
    heap::count(false);
    session.close();
    let own = parked - opened;
    let per_task = |bytes: i64| bytes as f64 / tasks as f64;
    let figures = vec![
        (TOTAL, per_task(during - parked) + future as f64),
        (HEAP, per_task(during - parked)),
        (RELEASED, per_task(during - answered - own)),
        (FUTURE, future as f64),
    ];
    (counts, figures)
}

/// Heap bytes of an idle shard.
pub const SHARD: &str = "shard_bytes";
const SHARDS: usize = 64;

/// Measures the heap of a log with many shards against one with one.
pub fn idle<L: TaskLog>(dir: &Path) -> Figures {
    let opened = |shards: usize| {
        let dir = dir.join(shards.to_string());
        std::fs::create_dir(&dir).expect("the scratch disk takes a directory");
        heap::count(true);
        let before = heap::bytes();
        let log = L::open(&dir, Some(shards), 0);
        let bytes = heap::bytes() - before;
        heap::count(false);
        log.close();
        bytes
    };
    vec![(SHARD, (opened(SHARDS + 1) - opened(1)) as f64 / SHARDS as f64)]
}

/// The median of the heap's size over the second half of a run.
fn sampled(lasts: Duration) -> i64 {
    std::thread::sleep(lasts / 2);
    let (began, mut samples) = (Instant::now(), Vec::with_capacity(4096));
    while began.elapsed() < lasts / 2 && samples.len() < samples.capacity() {
        samples.push(heap::bytes());
        std::thread::sleep(Duration::from_millis(1));
    }
    samples.sort_unstable();
    samples[samples.len() / 2]
}
