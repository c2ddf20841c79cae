//! Code that callers bring, run where its panic must go no further: a waker, what
//! a task owns, a state machine, a disk.

use std::any::Any;
use std::ops::{Deref, DerefMut};
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

/// A value of a caller's type. A panic of its `Drop` is contained, also where the value is
/// dropped because of an earlier panic.
pub(crate) struct Foreign<T>(Option<T>);

impl<T> Foreign<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Foreign<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until this is dropped")
    }
}

impl<T> DerefMut for Foreign<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is there until this is dropped")
    }
}

impl<T> Drop for Foreign<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        contain(move || drop(value));
    }
}
