//! Detects the use of a log in a process forked from the one that opened it.
//!
//! A forked child has a copy of the log's memory and the parent's open files, but none
//! of its threads. If the child used them, it would overwrite the parent's writes.
//! `fork(2)` runs a handler in the child that changes one number, so the check is one
//! load. A child made by the bare system call runs no handler, and is not detected.

use std::fs;
use std::process;
use std::sync::Once;

use crate::util::sync::{Ordering, UnmodelledAtomicUsize};

/// Number of forks from the ancestor that first opened a log to this process. The
/// child's handler writes it, any thread reads it (Relaxed).
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
        // ORDERING: Relaxed on this and the next; only the child's handler stores,
        // before the child has a second thread.
        Self { forks: FORKS.load(Ordering::Relaxed), pid: process::id() }
    }

    /// Whether the calling process is a forked child of the one that opened the log.
    pub(crate) fn is_other_process(&self) -> bool {
        self.forks != FORKS.load(Ordering::Relaxed)
    }

    /// The process that opened the log.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

/// The host name of the machine, if the system says it.
pub(crate) fn host_name() -> Option<String> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.split_whitespace().next()?.to_owned())
}

/// The number of the process id namespace of the calling process. Two processes with one
/// id are two only if this differs, or the host does.
pub(crate) fn pid_namespace() -> Option<u64> {
    // It reads `pid:[4026531836]`.
    let link = fs::read_link("/proc/self/ns/pid").ok()?;
    link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// The handler. The forking thread runs it in the child.
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
    // SAFETY: this is the function and signature of POSIX. The handler is a function of
    // this program and touches one atomic number. If there is no memory for the entry,
    // forks are not detected.
    unsafe { pthread_atfork(None, None, Some(count_a_fork)) };
}

#[cfg(not(unix))]
fn watch_forks() {}
