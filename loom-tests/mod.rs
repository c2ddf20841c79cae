//! The models: races that loom runs in every order, weak memory included.
//!
//! `cargo xtask models` runs them all and prints the number of executions of each.
//! `cargo xtask models NAME` runs those whose name contains NAME. They are compiled as
//! unit tests of the crate, so they drive the queue, the waiters, the progress and **the
//! writer loop as shipped**. The writer runs over the
//! simulated disk. Capacities are 1 or 2, so that slots are reused after a push or two.
//!
//! Each model names the invariants (`Q2 ORDER`, ..) whose violation it detects.
//! `mutants/` holds the violations that were tried, and names the model that detects each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Wake;
use std::time::{Duration, Instant};

use crate::queue::queue::Queue;
use crate::queue::receiver::{Received, Receiver};
use crate::queue::requests::Work;
use crate::util::sync::{Arc, Parker, now};

mod backlog;
mod commit_lock;
mod completion;
mod fail_request;
mod flush;
mod follow;
mod inline_commit;
mod queue;
mod queue_close;
mod rig;
mod ring_memory;
mod sealing;
mod state_machine;
mod wait_list;
mod waiter_table;
mod writer;
mod writer_failure;

/// Loom's limit on the steps of one execution. A model that exceeds it spins.
const STEPS_MAX: usize = 20_000;

/// A model that takes longer fails, because it has not checked every order. All models
/// together take less than five minutes on two cores. `LOOM_MAX_DURATION`, in seconds,
/// overrides it.
const DURATION_MAX: Duration = Duration::from_secs(200);

/// Runs `model` in every order with at most `preemptions` forced switches.
/// `LOOM_MAX_PREEMPTIONS` overrides it.
#[expect(clippy::print_stdout, reason = "how much was explored is the model's result")]
fn check(name: &str, preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let mut builder = loom::model::Builder::new();
    builder.max_branches = STEPS_MAX;
    let preemptions = *builder.preemption_bound.get_or_insert(preemptions);
    let limit = *builder.max_duration.get_or_insert(DURATION_MAX);
    let counted = executions.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let executions = executions.load(Ordering::Relaxed);
    let seconds = began.elapsed().as_secs_f64();
    println!("{name}: {executions} executions at preemption bound {preemptions} in {seconds:.1} s");
    assert!(began.elapsed() < limit, "{name} was cut short: it has not checked every order");
}

/// Waits for work as the owner of the receiver, and begins it.
fn wait<T>(queue: &Queue<T>, receiver: &mut Receiver<T>) -> Work {
    let take = |work: Option<Work>| work.inspect(|work| receiver.accept(*work));
    queue.wait_for_work(take).expect("there was no deadline")
}

/// Admits the pushes that wait for room, if there is some, and wakes them.
fn admit(receiver: &mut Receiver<u64>) {
    receiver.accept(Work::Admit);
    drop(receiver.admit(|_, sleeper| Some(sleeper)));
}

/// Receives values, admits pushes that wait for room, and wakes them.
fn drain(receiver: &mut Receiver<u64>, take: impl FnMut(Received<'_, u64>) -> bool) {
    drop(receiver.drain(|_, sleeper| Some(sleeper), take));
}

/// The waker of a task that runs on a thread of its own.
struct TaskThread {
    parker: Parker,
    woken: AtomicU64,
}

impl TaskThread {
    fn new() -> Arc<Self> {
        Arc::new(Self { parker: Parker::for_this_thread(), woken: AtomicU64::new(0) })
    }

    /// Polls until there is a result, and parks in between. A lost wake-up is a deadlock, which
    /// loom reports.
    fn run<R>(&self, mut poll: impl FnMut() -> Option<R>) -> R {
        loop {
            if let Some(result) = poll() {
                return result;
            }
            self.parker.park(None);
        }
    }
}

/// A waker that waits until another task is woken.
struct Waits(Arc<TaskThread>);

impl Waits {
    fn on(other: Arc<TaskThread>) -> Arc<Self> {
        Arc::new(Self(other))
    }
}

impl Wake for Waits {
    fn wake(self: Arc<Self>) {
        self.0.parker.park(None);
    }
}

/// A deadline that has not passed when a wait begins, and has once it is registered.
fn deadline_once_registered() -> Instant {
    now() + Duration::from_nanos(2)
}

impl Wake for TaskThread {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Not loom's atomic: it only counts.
        self.woken.fetch_add(1, Ordering::Relaxed);
        self.parker.unpark();
    }
}
