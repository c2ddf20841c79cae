//! A value that many threads may work with, one at a time, and nobody waits for.
//!
//! Who takes the token has the value until it is put back; who finds it taken
//! goes away, or asks for it a little while. It does not know what the value
//! is. **Whoever puts it back looks afterwards** whether something came
//! meanwhile, for those who went away have left it to him ([`Token::put_back`]).
//!
//! | label | invariant |
//! |---|---|
//! | Q5 TURN | one thread at a time has the value; what was queued before somebody found the token taken is seen by who puts it back |

use std::fmt;
use std::ops::{Deref, DerefMut};

use crossbeam_utils::CachePadded;

use crate::sync::{AtomicU64, Ordering, UnsafeCell, fence, yield_now};

/// In the word: somebody has the value.
const TAKEN: u64 = 1;
/// In the word: the value has gone for good. `TAKEN` stays set with it.
const ENDED: u64 = 2;
/// In the word, added by each who asks.
const ASKING: u64 = 4;

/// See the module's words.
pub(crate) struct Token<T>(CachePadded<Turn<T>>);

/// Both change with each turn, on one cache line.
struct Turn<T> {
    /// Q5 TURN: `TAKEN`, `ENDED` and the number of those who ask. Who sets
    /// `TAKEN` has the value (Acquire) until he clears it (Release).
    word: AtomicU64,
    /// `None` before it was brought and once it has gone. Touched by who has
    /// set `TAKEN` alone.
    value: UnsafeCell<Option<T>>,
}

impl<T> fmt::Debug for Token<T> {
    /// Who has the value may be changing it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("word", &self.0.word).finish_non_exhaustive()
    }
}

// SAFETY: the value is touched by whoever has set `TAKEN`, one thread at a time.
unsafe impl<T: Send> Sync for Token<T> {}

/// What came of an attempt to take it.
pub(crate) enum Attempt<'a, T> {
    /// It is the caller's.
    Taken(Taken<'a, T>),
    /// Somebody has it, and will look once he puts it back; or it has ended.
    Busy,
}

/// The value, until it is put back. If it is dropped instead, by return or by
/// panic, the value ends with it, and nobody takes the token again.
pub(crate) struct Taken<'a, T> {
    token: &'a Token<T>,
    /// `None` once it was put back.
    value: Option<T>,
}

impl<T> Token<T> {
    /// A token whose value is still to be brought: until then it is busy.
    pub(crate) fn new() -> Self {
        let (word, value) = (AtomicU64::new(TAKEN), UnsafeCell::new(None));
        Self(CachePadded::new(Turn { word, value }))
    }

    /// Brings the value, once; the caller has the first turn with it.
    pub(crate) fn bring(&self, value: T) -> Taken<'_, T> {
        Taken { token: self, value: Some(value) }
    }

    /// Takes the token if nobody has it. Never blocks. Whoever is told `Busy`
    /// may rely on it that what he did before is seen by the one who has it,
    /// once he puts it back.
    pub(crate) fn try_take(&self) -> Attempt<'_, T> {
        // ORDERING: SeqCst fence, pairs with the one in `put_back`: either this
        // thread finds the token free, or who has it finds what this thread did.
        fence(Ordering::SeqCst);
        self.take_if_free()
    }

    /// The same for who has left nothing to anybody, and relies on nothing.
    pub(crate) fn take_if_free(&self) -> Attempt<'_, T> {
        // ORDERING: Relaxed; the exchange below checks what was read.
        let mut word = self.0.word.load(Ordering::Relaxed);
        loop {
            if word & TAKEN != 0 {
                return Attempt::Busy;
            }
            match self.exchange(word, word | TAKEN) {
                Ok(()) => return Attempt::Taken(self.value()),
                Err(now) => word = now,
            }
        }
    }

    /// The same, and asks so many times, giving its core away in between, until
    /// `done` says that there is no need.
    pub(crate) fn ask(&self, times: u32, done: impl Fn() -> bool) -> Attempt<'_, T> {
        let mut attempt = self.try_take();
        if times == 0 || !matches!(attempt, Attempt::Busy) {
            return attempt;
        }
        // ORDERING: Relaxed on this and the next; the word alone is meant, and its
        // changes have one order.
        self.0.word.fetch_add(ASKING, Ordering::Relaxed);
        for _ in 0..times {
            let word = self.0.word.load(Ordering::Relaxed);
            if word & TAKEN == 0 && self.exchange(word, (word | TAKEN) - ASKING).is_ok() {
                return Attempt::Taken(self.value());
            }
            if word & ENDED != 0 || done() {
                break;
            }
            // Whoever has it may need the core to get on.
            yield_now();
        }
        // ORDERING: Relaxed; where it is taken, putting it back comes later in
        // the word's order and finds one less who asks. Where it is not, whoever
        // put it back has left the look to those who asked.
        if self.0.word.fetch_sub(ASKING, Ordering::Relaxed) & TAKEN == 0 {
            attempt = self.try_take();
        }
        attempt
    }

    /// Whether the value has gone: a turn was dropped.
    pub(crate) fn has_ended(&self) -> bool {
        // ORDERING: Acquire pairs with the Release in `Taken`'s drop.
        self.0.word.load(Ordering::Acquire) & ENDED != 0
    }

    /// Whether somebody asks for it now: a hint.
    pub(crate) fn is_asked_for(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.0.word.load(Ordering::Relaxed) >= ASKING
    }

    fn exchange(&self, word: u64, with: u64) -> Result<(), u64> {
        // ORDERING: Acquire pairs with the Release in `put_back`: what was done
        // with the value is visible to who has it next.
        self.0.word.compare_exchange(word, with, Ordering::Acquire, Ordering::Relaxed).map(drop)
    }

    fn value(&self) -> Taken<'_, T> {
        let value = self.0.value.with_mut(|cell| {
            // SAFETY: this thread has set `TAKEN`, and nobody else looks until
            // it is cleared.
            unsafe { (*cell).take() }
        });
        Taken { token: self, value }
    }
}

impl<T> Taken<'_, T> {
    /// Puts the value back. Returns whether the caller must now look whether
    /// there is something to do, and see to it: those who found the token taken
    /// rely on him, unless somebody asks for it, who will look himself.
    #[must_use = "what came meanwhile waits for somebody to look"]
    pub(crate) fn put_back(mut self) -> bool {
        let value = self.value.take();
        self.token.0.value.with_mut(|cell| {
            // SAFETY: this thread has set `TAKEN` and clears it only below.
            unsafe { *cell = value };
        });
        // ORDERING: Release pairs with the Acquire in `exchange`.
        let word = self.token.0.word.fetch_and(!TAKEN, Ordering::Release);
        // ORDERING: SeqCst fence, pairs with the one in `try_take`.
        fence(Ordering::SeqCst);
        word < ASKING
    }
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect("it is taken until it is put back")
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("it is taken until it is put back")
    }
}

impl<T> Drop for Taken<'_, T> {
    /// The end comes after the value's own: whoever finds the one finds what the
    /// other has left behind. Who waits for it must be woken by the caller.
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            let _ending = Ending(self.token);
            drop(value);
        }
    }
}

/// Ends a token as it is dropped, even where the value's own drop panics.
struct Ending<'a, T>(&'a Token<T>);

impl<T> Drop for Ending<'_, T> {
    fn drop(&mut self) {
        // ORDERING: Release pairs with the Acquire in `has_ended`.
        self.0.0.word.fetch_or(ENDED, Ordering::Release);
    }
}
