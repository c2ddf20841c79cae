//! Latencies that tasks measure. Each worker thread keeps its own list, so that tasks share
//! nothing. A worker hands its list over when it stops.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

thread_local!(static NANOS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) });

/// Whether latencies are noted now.
static COUNTS: AtomicBool = AtomicBool::new(true);

/// Starts or ends noting latencies.
pub fn count(counts: bool) {
    COUNTS.store(counts, Ordering::Relaxed);
}

/// Notes the time since `began`.
pub fn note(began: Instant) {
    if !COUNTS.load(Ordering::Relaxed) {
        return;
    }
    let nanos = u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX);
    NANOS.with_borrow_mut(|all| all.push(nanos));
}

/// The lists of the workers that stopped.
#[derive(Clone, Default)]
pub struct Latencies(Arc<Mutex<Vec<u32>>>);

impl Latencies {
    /// Takes the list of the calling thread.
    pub fn collect(&self) {
        let mut nanos = NANOS.take();
        self.0.lock().expect("no worker failed").append(&mut nanos);
    }

    /// P50, P99 and P99.9 in microseconds. `None` if nothing was noted.
    pub fn micros(self) -> Option<[f64; 3]> {
        let mut nanos = std::mem::take(&mut *self.0.lock().expect("no worker failed"));
        nanos.sort_unstable();
        let at = |share: f64| f64::from(nanos[(nanos.len() as f64 * share) as usize]) / 1e3;
        (!nanos.is_empty()).then(|| [0.5, 0.99, 0.999].map(at))
    }
}
