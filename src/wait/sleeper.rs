//! A thread or a task that sleeps, in the hands of the thread that wakes it.
//!
//! This file does not know what a sleeper waits for, nor where it was registered.

use std::ptr;
use std::task::Waker;

use crate::util::catch_panic::catch_panic;
use crate::util::sync::Arc;
use crate::wait::wake_chain::ParkState;

/// A thread or a task to be woken.
#[derive(Debug)]
pub(crate) enum Sleeper {
    Thread(Arc<ParkState>),
    Task(Waker),
}

impl Sleeper {
    /// A task by a clone of its waker, and the address of the clone. That of the original may be
    /// used again, and only the clone is kept.
    pub(crate) fn of_task(waker: &Waker) -> (Self, TaskAddress) {
        let waker = waker.clone();
        let address = task_address(&waker);
        (Self::Task(waker), address)
    }

    /// Wakes it.
    pub(crate) fn wake(self) {
        match self {
            Self::Thread(thread) => drop(thread.unpark(None)),
            Self::Task(waker) => wake_task(waker),
        }
    }

    /// Drops it without a wake-up. A panic of a task's drop is contained.
    pub(crate) fn discard(self) {
        catch_panic(move || drop(self));
    }
}

/// Sleepers that were taken out of their registrations: threads first, then tasks.
#[derive(Debug, Default)]
pub(crate) struct Sleepers {
    pub(crate) threads: Vec<Arc<ParkState>>,
    pub(crate) tasks: Tasks,
}

impl Sleepers {
    pub(crate) fn push(&mut self, sleeper: Sleeper) {
        match sleeper {
            Sleeper::Thread(thread) => self.threads.push(thread),
            Sleeper::Task(waker) => self.tasks.push(waker),
        }
    }

    /// Wakes every thread and returns the tasks, which are woken as they are dropped.
    pub(crate) fn wake_threads(self) -> Tasks {
        for thread in self.threads {
            thread.unpark(None);
        }
        self.tasks
    }
}

/// Tasks that were taken out of their registrations. Dropping it calls their wakers, oldest
/// first. Drop it once no thread waits for the caller's own work, because a waker may block.
#[must_use = "dropping it wakes them"]
#[derive(Debug, Default)]
pub(crate) struct Tasks(Vec<Waker>);

impl Tasks {
    pub(crate) fn push(&mut self, waker: Waker) {
        self.0.push(waker);
    }

    /// Adds others behind these.
    pub(crate) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.drain(..).for_each(wake_task);
    }
}

/// Identifies the task of a waker, as [`Waker::will_wake`] compares wakers. It is reliable while
/// that waker exists.
pub(crate) type TaskAddress = (usize, usize);

/// The address of no task.
pub(crate) const NO_TASK: TaskAddress = (0, 0);

pub(crate) fn task_address(waker: &Waker) -> TaskAddress {
    (waker.data().addr(), ptr::from_ref(waker.vtable()).addr())
}

/// Calls a task's waker. A panic of the waker, or of its drop, is contained: it must harm
/// neither the writer nor the next sleepers.
pub(crate) fn wake_task(waker: Waker) {
    // Each separately, and by reference: if `wake` panicked, unwinding would drop the waker,
    // and a second panic would abort the process.
    catch_panic(|| waker.wake_by_ref());
    catch_panic(move || drop(waker));
}
