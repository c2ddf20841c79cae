//! The models: races that loom plays in every order, weak memory included.
//!
//! `cargo loom` runs them all, `cargo loom -- --nocapture` says how many
//! executions each had. They are compiled as unit tests of the crate, so they
//! drive the mailbox, the waiters, the progress and **the writer loop as
//! shipped**, the latter over the simulated disk. Capacities are 1 or 2, so
//! that slots are used again after a push or two.
//!
//! Each model names the invariants (`Q2 ORDER`, ..) that it would see broken;
//! docs/mutations.md lists what was broken and which model saw it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Wake;
use std::time::{Duration, Instant};

use crate::mailbox::{Mailbox, Receiver, Work};
use crate::sync::{Arc, Parker, now};

mod barrier;
mod completion;
mod lending;
mod mailbox;
mod mailbox_end;
mod rig;
mod state_machine;
mod token;
mod waiters;
mod writer;
mod writer_failure;

/// Loom's limit on one execution's steps; a model that passes it spins.
const STEPS_MAX: usize = 20_000;

/// A model that is not through by then fails, for it would claim what it has
/// not checked. All of them together end within five minutes on two cores.
/// `LOOM_MAX_DURATION`, in seconds, overrides.
const DURATION_MAX: Duration = Duration::from_secs(200);

/// Plays `model` in every order of at most `preemptions` forced switches;
/// `LOOM_MAX_PREEMPTIONS` overrides.
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

/// Waits for work as who has the receiver, and begins it.
fn wait<T>(mailbox: &Mailbox<T>, receiver: &mut Receiver<T>) -> Work {
    let begin = |work: Option<Work>| work.inspect(|work| receiver.begin(*work));
    mailbox.wait_for_work(begin).expect("there was no deadline")
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

    /// Polls until there is a result, and sleeps in between until woken: a
    /// wake-up that gets lost is a deadlock.
    fn run<R>(&self, mut poll: impl FnMut() -> Option<R>) -> R {
        loop {
            if let Some(result) = poll() {
                return result;
            }
            self.parker.park(None);
        }
    }
}

/// The waker of a task that waits, as it is woken, until another one is.
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

/// A deadline that has not passed as a wait begins, and has once it is enrolled.
fn next_but_one_look() -> Instant {
    now() + Duration::from_nanos(2)
}

impl Wake for TaskThread {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Loom sees no access to it, and needs none: it only counts.
        self.woken.fetch_add(1, Ordering::Relaxed);
        self.parker.unpark();
    }
}
