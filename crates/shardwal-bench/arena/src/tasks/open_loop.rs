//! An open loop: records fall due as a Poisson process, and each is appended by a task of its own,
//! as a server spawns a task per request. A latency counts from when the record was due.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::latencies;
use super::log::{TaskLog, record};
use super::run::{Figures, figures};
use super::session::{Clock, Session, Shared};
use crate::peer::Arrivals;
use crate::poisson::Poisson;

/// Number of tasks that waited at once, at most.
pub const OUTSTANDING: &str = "outstanding";
/// Records that fell due per second.
pub const OFFERED: &str = "offered_per_second";

async fn append<L: TaskLog>(shared: Arc<Shared<L>>, number: usize, due: Instant) {
    shared.log.append(record(number, 0)).await;
    latencies::note(due);
}

/// Offers records for `lasts`. Each has a key of its own.
pub fn run<L: TaskLog>(
    session: Session<L>,
    per_second: usize,
    lasts: Duration,
) -> (Vec<u32>, Figures) {
    // Makes a sleep of this thread end on time, not about 50 us later.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).expect("a thread may be exact");
    let shared = session.shared();
    // One is the session's own.
    let outstanding = || Arc::strong_count(shared) - 1;
    let (mut due, mut records, mut most) = (Vec::new(), 0, 0);
    let clock = Clock::start();
    let mut poisson = Poisson::new(0, per_second as f64, lasts);
    while poisson.take(&mut due) {
        for due in due.drain(..) {
            session.runtime().spawn(append(Arc::clone(shared), records, due.at));
            records += 1;
        }
        most = most.max(outstanding());
    }
    while outstanding() > 0 {
        std::thread::sleep(Duration::from_micros(100));
    }
    let mut figures = figures(records as f64, &clock, session);
    figures.push((OFFERED, records as f64 / lasts.as_secs_f64()));
    figures.push((OUTSTANDING, most as f64));
    (vec![1; records], figures)
}
