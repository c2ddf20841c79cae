//! Which process opened a log, and whether this is another one, made by `fork(2)`.
//!
//! A forked child has a copy of the log's memory and the parent's open files, but none of
//! its threads. To use them would overwrite what the parent writes. `fork` runs a handler in
//! the child that changes one number, so that the check is one load of it. A child that is
//! made by the bare system call runs no handler and is not noticed.

use std::process;
use std::sync::Once;

use crate::sync::{Ordering, UnmodelledAtomicUsize};

/// The number of forks on the way to this process since its ancestor first opened a log.
static FORKS: UnmodelledAtomicUsize = UnmodelledAtomicUsize::new(0);

/// The process in which a log was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    forks: usize,
    pid: u32,
}

impl Origin {
    /// The calling process.
    pub(crate) fn here() -> Self {
        static WATCH: Once = Once::new();
        WATCH.call_once(watch_forks);
        // ORDERING: Relaxed on this and the next; only the child's handler stores, before
        // the child has a second thread.
        Self { forks: FORKS.load(Ordering::Relaxed), pid: process::id() }
    }

    /// Whether the calling process is a forked child of the one that opened the log.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.forks != FORKS.load(Ordering::Relaxed)
    }

    /// The process that opened the log.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

/// In the child, by the thread that has forked.
#[cfg(unix)]
extern "C" fn count_a_fork() {
    // ORDERING: Relaxed; there is no other thread yet.
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(unix)]
fn watch_forks() {
    use std::ffi::c_int;

    type Handler = Option<extern "C" fn()>;
    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }
    // SAFETY: the function is POSIX's, and so is its signature. The handler is a function of
    // this program and touches one atomic number. If there is no memory for the entry, forks
    // go unnoticed, as without it.
    unsafe { pthread_atfork(None, None, Some(count_a_fork)) };
}

#[cfg(not(unix))]
fn watch_forks() {}
