//! The backlog of a queue: the pushes that wait for room, in order of arrival.
//!
//! A push that finds no room leaves its value here. The queue's receiver admits the pushes in
//! order as room becomes free ([`crate::queue::admission`]). So the producer need not run for
//! its value to get into the ring, and a producer that is stopped holds up no other.
//!
//! Producers add to a lock-free stack. The receiver moves what has arrived to the end of the
//! line. This file does not know tickets, the ring, nor who may add.
//!
//! Invariants:
//!
//! - B1 FIFO: pushes are admitted in the order of their arrival, each once
//! - B2 ANSWER: each push is admitted by the receiver, refused because the queue is closed, or
//!   withdrawn by its producer. One of the three wins, and only the winner touches the value

use std::collections::VecDeque;
use std::ptr;

use crate::util::sync::{Arc, AtomicPtr, AtomicU64, Mutex, Ordering, UnsafeCell};
use crate::wait::sleeper::Sleeper;

/// Withdrawn pushes that stay in a line before they are removed. In a longer line, half of it.
const WITHDRAWN_MAX: u64 = if cfg!(loom) { 1 } else { 64 };

/// The phases of a push.
const WAITING: u64 = 0;
/// Its producer has withdrawn.
const WITHDRAWN: u64 = 1;
/// The queue was closed first. The value stays for the producer.
const REFUSED: u64 = 2;
/// The receiver gives it room.
const ADMITTING: u64 = 3;
/// It has room. The first ticket is above `STATE_BITS`.
const ADMITTED: u64 = 4;
const PHASE: u64 = 7;
/// The producer replaces the sleeper, which then stays with it whatever is decided meanwhile.
const REPLACING: u64 = 8;
const STATE_BITS: u32 = 4;

/// A push that waits for room.
#[derive(Debug)]
pub(crate) struct PendingPush<T> {
    /// B2 ANSWER: the phase, and above it the first ticket.
    state: AtomicU64,
    /// The push that arrived before. Written before the push, read after the stack is taken.
    older: AtomicPtr<PendingPush<T>>,
    pub(super) tickets: u32,
    pub(super) bytes: u32,
    pub(super) waits_for: WaitsFor,
    /// `None` for a reservation, and once the winner of B2 ANSWER has taken it.
    value: UnsafeCell<Option<T>>,
    /// Woken as `waits_for` says, and if the push is refused. `None` once it is taken.
    sleeper: UnsafeCell<Option<Sleeper>>,
}

// SAFETY: B2 ANSWER: the state gives the value and the sleeper to one thread at a time.
unsafe impl<T: Send> Send for PendingPush<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for PendingPush<T> {}

/// What the producer of a push waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// For room: it is woken once the push is admitted.
    Room,
    /// For the answer to what it pushes. The thread that admits the push passes its sleeper on.
    Answer,
    /// For a reservation, which has no value: it is woken once there is one.
    Reservation,
}

/// What became of a push so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It waits.
    Waiting,
    /// It has tickets from this one on. A reservation has room and no ticket.
    Admitted(u64),
    /// The queue is closed.
    Refused,
}

/// What a push that was withdrawn leaves to its producer.
#[derive(Debug)]
pub(crate) struct Withdrawn<T> {
    /// `None` for a reservation.
    pub(crate) value: Option<T>,
}

/// What became of a sleeper that was to replace an earlier one.
#[derive(Debug)]
pub(super) enum Replaced {
    /// It has replaced this one.
    Earlier(Option<Sleeper>),
    /// The push no longer waits.
    TooLate(Sleeper),
}

impl<T> PendingPush<T> {
    /// A push of `value`, or a reservation if it is `None`.
    pub(super) fn new(
        (tickets, bytes): (u32, u32),
        value: Option<T>,
        waits_for: WaitsFor,
        sleeper: Sleeper,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU64::new(WAITING),
            older: AtomicPtr::new(ptr::null_mut()),
            tickets,
            bytes,
            waits_for,
            value: UnsafeCell::new(value),
            sleeper: UnsafeCell::new(Some(sleeper)),
        })
    }

    /// What became of it. For its producer.
    pub(crate) fn admission(&self) -> Admission {
        // ORDERING: Acquire pairs with the Release in `finish_admission` and in `decide`: the
        // producer sees its tickets claimed, or has the value.
        let state = self.state.load(Ordering::Acquire);
        match state & PHASE {
            ADMITTED => Admission::Admitted(state >> STATE_BITS),
            REFUSED => Admission::Refused,
            _ => Admission::Waiting,
        }
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        // ORDERING: Relaxed; only the producer sets it, and says so after that.
        self.state.load(Ordering::Relaxed) & PHASE == WITHDRAWN
    }

    /// B2 ANSWER: moves the push from `WAITING` to `phase`, and takes the sleeper, unless the
    /// producer is replacing it. `None` if the push no longer waits.
    fn decide(&self, phase: u64) -> Option<Option<Sleeper>> {
        // ORDERING: Relaxed; the exchange below checks what was read.
        let mut found = self.state.load(Ordering::Relaxed);
        loop {
            if found & PHASE != WAITING {
                return None;
            }
            // ORDERING: Acquire pairs with the Release in `replace_sleeper`, Release with the
            // Acquire in `admission`.
            match self.state.compare_exchange(
                found,
                found | phase,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) if found & REPLACING != 0 => return Some(None),
                // SAFETY: B2 ANSWER: this thread has decided, and the producer is elsewhere.
                Ok(_) => return Some(self.sleeper.with_mut(|it| unsafe { (*it).take() })),
                Err(now) => found = now,
            }
        }
    }

    /// Replaces the sleeper, if the push still waits. Only its producer calls it.
    pub(super) fn replace_sleeper(&self, new: Sleeper) -> Replaced {
        // ORDERING: Relaxed; the producer left the sleeper last.
        let entered = self.state.compare_exchange(
            WAITING,
            WAITING | REPLACING,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if entered.is_err() {
            return Replaced::TooLate(new);
        }
        let earlier = self.sleeper.with_mut(|it| {
            // SAFETY: B2 ANSWER: while `REPLACING` is set, no other thread takes the sleeper.
            unsafe { (*it).replace(new) }
        });
        // ORDERING: Release pairs with the Acquire in `decide`.
        let left = self.state.compare_exchange(
            WAITING | REPLACING,
            WAITING,
            Ordering::Release,
            Ordering::Relaxed,
        );
        if left.is_ok() {
            return Replaced::Earlier(earlier);
        }
        // SAFETY: B2 ANSWER: the thread that has decided left the sleeper to this one.
        let new = self.sleeper.with_mut(|it| unsafe { (*it).take() });
        if let Some(earlier) = earlier {
            earlier.discard();
        }
        Replaced::TooLate(new.expect("this thread has just stored it"))
    }

    /// Withdraws the push. Returns what it leaves, or `None` if it no longer waits. Only its
    /// producer calls it, and then requests an admission, for the push behind it.
    pub(super) fn withdraw(&self) -> Option<(Withdrawn<T>, Option<Sleeper>)> {
        let sleeper = self.decide(WITHDRAWN)?;
        Some((Withdrawn { value: self.take_value() }, sleeper))
    }

    /// Refuses the push. Returns the sleeper to wake. The value stays, because its drop may be a
    /// caller's code.
    pub(super) fn refuse(&self) -> Option<Sleeper> {
        self.decide(REFUSED).flatten()
    }

    /// Takes the value of a push that was refused. For its producer.
    pub(crate) fn take_refused(&self) -> Option<T> {
        assert_eq!(self.admission(), Admission::Refused, "the value is the producer's then");
        self.take_value()
    }

    /// Grants a reservation, and returns the sleeper to wake. `None` if it no longer waits.
    pub(super) fn grant(&self) -> Option<Option<Sleeper>> {
        self.decide(ADMITTED)
    }

    /// Begins to admit the push: returns its value and sleeper. `None` if it no longer waits.
    pub(super) fn begin_admission(&self) -> Option<(T, Option<Sleeper>)> {
        let sleeper = self.decide(ADMITTING)?;
        Some((self.take_value().expect("a push that waits has its value"), sleeper))
    }

    /// Reports to the producer that it has room. For the thread that began to admit it.
    pub(super) fn finish_admission(&self, first: u64) {
        // ORDERING: Release pairs with the Acquire in `admission`.
        self.state.store(first << STATE_BITS | ADMITTED, Ordering::Release);
    }

    /// For the winner of B2 ANSWER.
    fn take_value(&self) -> Option<T> {
        self.value.with_mut(|value| {
            // SAFETY: B2 ANSWER: this thread has decided, or has the value back by a refusal.
            unsafe { (*value).take() }
        })
    }
}

/// The pushes that wait for room.
#[derive(Debug)]
pub(super) struct Backlog<T> {
    /// The newest arrival. Producers push (Release), the holder of the line takes all (Acquire).
    newest: AtomicPtr<PendingPush<T>>,
    /// B1 FIFO: the earlier arrivals. The receiver and the thread that closes the queue try
    /// this lock, and no thread waits for it.
    pub(super) line: Mutex<Line<T>>,
    /// How many were withdrawn since such pushes were last removed from the line.
    withdrawn: AtomicU64,
}

/// Pushes that wait for room, oldest first.
pub(super) type Line<T> = VecDeque<Arc<PendingPush<T>>>;

impl<T> Backlog<T> {
    pub(super) fn new() -> Self {
        let newest = AtomicPtr::new(ptr::null_mut());
        Self { newest, line: Mutex::new(Line::new()), withdrawn: AtomicU64::new(0) }
    }

    /// Adds a push. The caller must then close the gate, and request an admission.
    pub(super) fn push(&self, pending: Arc<PendingPush<T>>) {
        let pending = Arc::into_raw(pending).cast_mut();
        // ORDERING: Relaxed; the exchange below checks what was read.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: it came from `Arc::into_raw`, and the stack owns that reference only once
            // the exchange below has published it.
            let older = unsafe { &(*pending).older };
            // ORDERING: Relaxed; published by the exchange.
            older.store(newest, Ordering::Relaxed);
            // ORDERING: Release pairs with the Acquire in `collect`.
            match self.newest.compare_exchange_weak(
                newest,
                pending,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => newest = now,
            }
        }
    }

    /// Counts a push that was withdrawn. Returns whether the receiver seems to be stopped, because
    /// it has removed none for long: then its producer does.
    pub(super) fn note_withdrawn(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        self.withdrawn.fetch_add(1, Ordering::Relaxed) >= 2 * WITHDRAWN_MAX
    }

    /// Moves what has arrived behind the line, oldest first, and removes from the line what was
    /// withdrawn, if that is much of it. For the thread that holds the line.
    pub(super) fn collect(&self, line: &mut Line<T>) {
        // ORDERING: Acquire pairs with the Release in `push`.
        let mut next = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        let earlier = line.len();
        while !next.is_null() {
            // SAFETY: it came from `Arc::into_raw`, and this thread took it off the stack.
            let pending = unsafe { Arc::from_raw(next) };
            // ORDERING: Relaxed; the Acquire above covers it.
            next = pending.older.load(Ordering::Relaxed);
            line.push_back(pending);
        }
        line.make_contiguous()[earlier..].reverse();
        // ORDERING: Relaxed; a hint.
        let withdrawn = self.withdrawn.load(Ordering::Relaxed);
        if withdrawn >= WITHDRAWN_MAX.max(line.len() as u64 / 2) {
            self.withdrawn.store(0, Ordering::Relaxed);
            line.retain(|pending| !pending.is_withdrawn());
        }
    }
}

impl<T> Drop for Backlog<T> {
    /// Drops what arrived after the last [`Backlog::collect`].
    fn drop(&mut self) {
        self.collect(&mut Line::new());
    }
}
