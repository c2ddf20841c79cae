//! The part of crossbeam's channels that the crate uses, for loom and shuttle: a queue
//! below a mutex and a condition variable that they can model.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Instant;

pub(crate) use crossbeam_channel::RecvTimeoutError;
use crossbeam_channel::{RecvError, SendError, TryRecvError, TrySendError};

use super::{Arc, Condvar, Mutex, deadline_passes, is_unwinding, wait_until, yield_now};

/// How often a receiver's deadline may pass per channel: an execution must end.
const DEADLINES_MAX: u32 = 4;

struct Channel<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

struct State<T> {
    queue: VecDeque<T>,
    senders: usize,
    receives: bool,
    deadlines: u32,
}

pub(crate) struct Sender<T>(Arc<Channel<T>>);
pub(crate) struct Receiver<T>(Arc<Channel<T>>);

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = State { queue: VecDeque::new(), senders: 1, receives: true, deadlines: 0 };
    let changed = Condvar::new();
    let channel = Arc::new(Channel { state: Mutex::new(state), changed, capacity });
    (Sender(channel.clone()), Receiver(channel))
}

pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

impl<T> Sender<T> {
    pub(crate) fn send(&self, mut value: T) -> Result<(), SendError<T>> {
        loop {
            value = match self.try_send(value) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(value)) => return Err(SendError(value)),
                Err(TrySendError::Full(value)) => value,
            };
            let state = self.0.state.lock();
            if state.receives && state.queue.len() >= self.0.capacity {
                drop(self.0.changed.wait(state));
            }
        }
    }

    pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let mut state = self.0.state.lock();
        if !state.receives {
            return Err(TrySendError::Disconnected(value));
        }
        if state.queue.len() >= self.0.capacity {
            return Err(TrySendError::Full(value));
        }
        state.queue.push_back(value);
        drop(state);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if is_unwinding() {
            return;
        }
        self.0.state.lock().senders -= 1;
        self.0.changed.notify_all();
    }
}

impl<T> Receiver<T> {
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(value) = state.queue.pop_front() {
                drop(state);
                self.0.changed.notify_all();
                return Ok(value);
            }
            if state.senders == 0 {
                return Err(RecvError);
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        let value = self.0.state.lock().queue.pop_front();
        self.0.changed.notify_all();
        value.ok_or(TryRecvError::Empty)
    }

    pub(crate) fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        let mut state = self.0.state.lock();
        if state.queue.is_empty() && state.senders > 0 && state.deadlines < DEADLINES_MAX {
            state.deadlines += 1;
            drop(state);
            // Other threads may send before the time is up.
            yield_now();
            state = self.0.state.lock();
            if state.queue.is_empty() && deadline_passes() {
                drop(state);
                wait_until(deadline);
                return Err(RecvTimeoutError::Timeout);
            }
        }
        drop(state);
        self.recv().map_err(|RecvError| RecvTimeoutError::Disconnected)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.state.lock().queue.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    /// Drops the unreceived values, as crossbeam does: a request answers in its
    /// `drop`.
    fn drop(&mut self) {
        if is_unwinding() {
            return;
        }
        let mut state = self.0.state.lock();
        state.receives = false;
        let unreceived = std::mem::take(&mut state.queue);
        drop(state);
        self.0.changed.notify_all();
        drop(unreceived);
    }
}
