//! Runs callers' code whose panics must be contained: a waker, the values that a task
//! owns, a state machine, a file system.

use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the closure. Returns `None` if it panics.
pub(crate) fn catch_panic<R>(run: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(run)).map_err(end).ok()
}

/// Drops a panic's payload. That is the caller's value too, and may panic in its turn. Such
/// a second payload is leaked.
fn end(panic: Box<dyn Any + Send>) {
    let ended = catch_unwind(AssertUnwindSafe(move || drop(panic)));
    ended.unwrap_or_else(std::mem::forget);
}

/// A value of a caller's type. A panic of its `Drop` is contained, even during the unwinding
/// of an earlier panic.
pub(crate) struct CallerCode<T>(Option<T>);

impl<T> CallerCode<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for CallerCode<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until this is dropped")
    }
}

impl<T> DerefMut for CallerCode<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is there until this is dropped")
    }
}

impl<T> Drop for CallerCode<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        catch_panic(move || drop(value));
    }
}
