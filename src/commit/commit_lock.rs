//! A poisonable try-lock around a value. No thread blocks on it.
//!
//! One thread at a time holds the lock and uses the value. A thread that finds it
//! held goes away, or tries again for a while. The thread that releases it **must
//! then check** for work, because a thread that went away left its work to the
//! holder ([`CommitLock::unlock`]). This file does not know what the value is.
//!
//! Invariants:
//!
//! - Q5 TURN: one thread at a time has the value; work queued before a thread found the lock
//!   held is seen by the thread that releases it

use std::fmt;
use std::ops::{Deref, DerefMut};

use crossbeam_utils::CachePadded;

use crate::util::sync::{AtomicU64, Ordering, UnsafeCell, fence, yield_now};

/// Bit of the word: a thread holds the lock.
const LOCKED: u64 = 1;
/// Bit of the word: the value is gone for good. `LOCKED` stays set with it.
const POISONED: u64 = 2;
/// Added to the word by each thread that tries repeatedly.
const SPINNER: u64 = 4;

/// The lock, and the value that it protects.
pub(crate) struct CommitLock<T>(CachePadded<Inner<T>>);

/// Both fields change with each holder, on one cache line.
struct Inner<T> {
    /// Q5 TURN: `LOCKED`, `POISONED` and the number of threads that try repeatedly. A
    /// thread that sets `LOCKED` (Acquire) has the value until it clears it (Release).
    word: AtomicU64,
    /// `None` before [`CommitLock::init`], and after the value is gone. Only the thread that
    /// has set `LOCKED` touches it.
    value: UnsafeCell<Option<T>>,
}

impl<T> fmt::Debug for CommitLock<T> {
    /// Leaves the value out: its holder may be changing it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitLock").field("word", &self.0.word).finish_non_exhaustive()
    }
}

// SAFETY: only the thread that has set `LOCKED` touches the value, one at a time.
unsafe impl<T: Send> Sync for CommitLock<T> {}

/// The lock's guard, with the value. [`CommitGuard::unlock`] releases the lock. If the guard
/// is dropped instead, by return or by panic, it drops the value too, and poisons the
/// lock: no thread takes it again.
pub(crate) struct CommitGuard<'a, T> {
    lock: &'a CommitLock<T>,
    /// `None` once the lock is released.
    value: Option<T>,
}

impl<T> CommitLock<T> {
    /// A lock without its value, which counts as held until [`CommitLock::init`].
    pub(crate) fn new() -> Self {
        let (word, value) = (AtomicU64::new(LOCKED), UnsafeCell::new(None));
        Self(CachePadded::new(Inner { word, value }))
    }

    /// Supplies the value, once. The caller becomes the first holder.
    pub(crate) fn init(&self, value: T) -> CommitGuard<'_, T> {
        CommitGuard { lock: self, value: Some(value) }
    }

    /// Takes the lock if it is free. Never blocks. Returns `None` if another thread holds the
    /// lock, or if it is poisoned. That holder sees everything that this thread did before,
    /// once it releases the lock.
    pub(crate) fn try_lock(&self) -> Option<CommitGuard<'_, T>> {
        // ORDERING: SeqCst fence, pairs with the one in `unlock`: either this
        // thread finds the lock free, or its holder finds what this thread did.
        fence(Ordering::SeqCst);
        self.try_lock_unfenced()
    }

    /// Takes the lock as [`CommitLock::try_lock`] does. After `None` the holder may not see
    /// what this thread did before, so this thread must not have left it any work.
    pub(crate) fn try_lock_unfenced(&self) -> Option<CommitGuard<'_, T>> {
        // ORDERING: Relaxed; the exchange below checks what was read.
        let mut word = self.0.word.load(Ordering::Relaxed);
        loop {
            if word & LOCKED != 0 {
                return None;
            }
            match self.exchange(word, word | LOCKED) {
                Ok(()) => return Some(self.guard()),
                Err(now) => word = now,
            }
        }
    }

    /// Takes the lock if it is free, and tries up to `times` more, with a yield in between.
    /// Stops early once `done` returns `true`.
    pub(crate) fn try_lock_spinning(
        &self,
        times: u32,
        done: impl Fn() -> bool,
    ) -> Option<CommitGuard<'_, T>> {
        let guard = self.try_lock();
        if times == 0 || guard.is_some() {
            return guard;
        }
        // ORDERING: Relaxed on this and the next; only the word matters, and its
        // changes have one order.
        self.0.word.fetch_add(SPINNER, Ordering::Relaxed);
        for _ in 0..times {
            let word = self.0.word.load(Ordering::Relaxed);
            if word & LOCKED == 0 && self.exchange(word, (word | LOCKED) - SPINNER).is_ok() {
                return Some(self.guard());
            }
            if word & POISONED != 0 || done() {
                break;
            }
            // The holder may need this core to make progress.
            yield_now();
        }
        // ORDERING: Relaxed; if the lock is held, its release comes later in the word's
        // order and counts one thread less. If it is free, the thread that released it
        // has left the check to the threads that were trying.
        if self.0.word.fetch_sub(SPINNER, Ordering::Relaxed) & LOCKED == 0 {
            return self.try_lock();
        }
        None
    }

    /// Whether the value is gone, because a guard was dropped.
    pub(crate) fn is_poisoned(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `CommitGuard`'s drop.
        self.0.word.load(Ordering::Acquire) & POISONED != 0
    }

    /// Whether a thread tries repeatedly now. A hint.
    pub(crate) fn is_contended(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.0.word.load(Ordering::Relaxed) >= SPINNER
    }

    fn exchange(&self, word: u64, with: u64) -> Result<(), u64> {
        // ORDERING: Acquire pairs with the Release in `unlock`: changes to the value
        // are visible to its next holder.
        self.0.word.compare_exchange(word, with, Ordering::Acquire, Ordering::Relaxed).map(drop)
    }

    /// Takes the value out. Only the thread that has just set `LOCKED` calls it.
    fn guard(&self) -> CommitGuard<'_, T> {
        let value = self.0.value.with_mut(|cell| {
            // SAFETY: this thread has set `LOCKED`, and no other thread touches the value
            // until it is cleared.
            unsafe { (*cell).take() }
        });
        CommitGuard { lock: self, value }
    }
}

impl<T> CommitGuard<'_, T> {
    /// Releases the lock. If it returns `true`, the caller must check for work and have it
    /// done, because threads that found the lock held rely on that. It returns `false` if a
    /// thread tries repeatedly: that thread will check.
    #[must_use = "the caller must check for work if this is true"]
    pub(crate) fn unlock(mut self) -> bool {
        let value = self.value.take();
        self.lock.0.value.with_mut(|cell| {
            // SAFETY: this thread has set `LOCKED` and clears it only below.
            unsafe { *cell = value };
        });
        // ORDERING: Release pairs with the Acquire in `exchange`.
        let word = self.lock.0.word.fetch_and(!LOCKED, Ordering::Release);
        // ORDERING: SeqCst fence, pairs with the one in `try_lock`.
        fence(Ordering::SeqCst);
        word < SPINNER
    }
}

impl<T> Deref for CommitGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("the guard has the value until it is released")
    }
}

impl<T> DerefMut for CommitGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("the guard has the value until it is released")
    }
}

impl<T> Drop for CommitGuard<'_, T> {
    /// Poisons the lock after the value is dropped, so that a thread that sees the lock
    /// poisoned also sees the effects of that drop. The caller must wake the threads that
    /// wait for the lock's work.
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            let _ending = PoisonOnDrop(self.lock);
            drop(value);
        }
    }
}

/// Poisons the lock when dropped, even if the value's own drop panics.
struct PoisonOnDrop<'a, T>(&'a CommitLock<T>);

impl<T> Drop for PoisonOnDrop<'_, T> {
    fn drop(&mut self) {
        // ORDERING: Release pairs with the Acquire in `is_poisoned`.
        self.0.0.word.fetch_or(POISONED, Ordering::Release);
    }
}
