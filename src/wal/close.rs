//! Closes a log for a task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::ShardedWal;
use crate::error::{Cause, CloseError};
use crate::util::catch_panic::catch_panic;
use crate::util::sync::{Arc, Mutex, spawn};
use crate::wait::sleeper::wake_task;

/// The outcome of [`ShardedWal::close_async`]. It needs no runtime.
///
/// Cancel safety: if it is dropped, the log is closed nevertheless.
#[derive(Debug)]
#[must_use = "the log is closed without it, but its error would be lost"]
pub struct Closing(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    result: Option<Result<(), CloseError>>,
    waker: Option<Waker>,
}

impl ShardedWal {
    /// Closes the log as [`ShardedWal::close`] does, on a thread that is started for it. The
    /// call itself does not block, so a task may make it. Await the result before the last
    /// handle is dropped, then the drop does not block either. The started thread holds a
    /// handle until the log is closed.
    ///
    /// If the system cannot start a thread, this call closes the log itself, and blocks.
    ///
    /// # Errors
    /// The future resolves to the result of [`ShardedWal::close`].
    pub fn close_async(self: &Arc<Self>) -> Closing {
        let state = Arc::new(Mutex::new(State::default()));
        let (log, answer) = (self.clone(), state.clone());
        let started = spawn("shardwal-close".into(), move || {
            let result = close(&log);
            // The last handle may be this one. Its drop is over before the answer.
            drop(log);
            resolve(&answer, result);
        });
        if started.is_err() {
            resolve(&state, close(self));
        }
        Closing(state)
    }
}

fn close(log: &ShardedWal) -> Result<(), CloseError> {
    let panicked = Err(CloseError { shard: 0, cause: Cause::WriterPanicked });
    catch_panic(|| log.close()).unwrap_or(panicked)
}

fn resolve(state: &Mutex<State>, result: Result<(), CloseError>) {
    let waker = {
        let mut state = state.lock();
        state.result = Some(result);
        state.waker.take()
    };
    // Without the lock: a waker may poll the future.
    if let Some(waker) = waker {
        wake_task(waker);
    }
}

impl Future for Closing {
    type Output = Result<(), CloseError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Cloned and dropped without the lock: both are code of the task's executor.
        let waker = context.waker().clone();
        let mut state = self.0.lock();
        if let Some(result) = &state.result {
            return Poll::Ready(result.clone());
        }
        let replaced = state.waker.replace(waker);
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}
