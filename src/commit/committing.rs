//! Marks threads that commit, and therefore must not wait for a commit.
//!
//! A commit runs callers' code: wakers, the `Drop` of a payload, a state machine. Such
//! code must not wait inside a log. Its own shard would wait for itself. Another shard,
//! or another log, may at the same time wait for this one. So each call that would
//! block checks [`Committing::is_here`] first, and fails instead. Calls that need not
//! block do not check.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::util::sync::per_thread;

// The number of `Committing` values on the calling thread.
per_thread! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// While this value lives, the calling thread counts as one that commits.
#[must_use = "the thread commits while this is alive"]
pub(crate) struct Committing(PhantomData<*const ()>);

impl Committing {
    pub(crate) fn enter() -> Self {
        DEPTH.with(|depth| depth.set(depth.get() + 1));
        Self(PhantomData)
    }

    /// Whether the calling thread commits for a shard of any log.
    pub(crate) fn is_here() -> bool {
        DEPTH.with(|depth| depth.get() > 0)
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        #[cfg(loom)]
        if crate::util::sync::is_unwinding() {
            return;
        }
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}
