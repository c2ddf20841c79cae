//! Code that callers bring, run where its panic must go no further: a waker, what
//! a task owns, a state machine, a disk.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs it; `None` if it has panicked.
pub(crate) fn contain<R>(run: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(run)).map_err(end).ok()
}

/// Drops what somebody has panicked with. That is foreign too, and its end may
/// panic in its turn; what comes of that is left lying.
fn end(panic: Box<dyn Any + Send>) {
    let ended = catch_unwind(AssertUnwindSafe(move || drop(panic)));
    ended.unwrap_or_else(std::mem::forget);
}
