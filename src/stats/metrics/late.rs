//! Handles that follow a recorder which is installed after the log was opened.
//!
//! A handle belongs to the recorder that was current when it was registered. Before any is
//! installed, that is the facade's own, which drops everything. This file does not know which
//! numbers the handles carry.

use std::fmt;
use std::sync::OnceLock;

/// Handles that are registered at most twice: at open, and once a recorder is installed.
pub(super) struct Late<H> {
    register: Box<dyn Fn() -> H + Send + Sync>,
    first: H,
    /// The recorder of `first`, if that may be the facade's own.
    waiting: Option<usize>,
    /// Set once, when `waiting` is no longer the current recorder.
    later: OnceLock<H>,
}

impl<H> Late<H> {
    pub(super) fn new(register: impl Fn() -> H + Send + Sync + 'static) -> Self {
        let waiting = current().waiting();
        Self { first: register(), register: Box::new(register), waiting, later: OnceLock::new() }
    }

    /// The handles of the recorder that is installed. While none is, this compares two
    /// addresses, and afterwards it reads one atomic.
    pub(super) fn get(&self) -> &H {
        let Some(waiting) = self.waiting else { return &self.first };
        match self.later.get() {
            Some(later) => later,
            None if current().address == waiting => &self.first,
            None => self.later.get_or_init(|| (self.register)()),
        }
    }
}

impl<H> fmt::Debug for Late<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late")
            .field("is_bound", &self.later.get().is_some())
            .finish_non_exhaustive()
    }
}

/// A recorder of the facade.
struct Current {
    address: usize,
    bytes: usize,
}

impl Current {
    /// The address, if this may be the facade's own recorder, which has no state.
    fn waiting(&self) -> Option<usize> {
        (self.bytes == 0).then_some(self.address)
    }
}

/// The recorder of the calling thread.
fn current() -> Current {
    metrics::with_recorder(|recorder| Current {
        address: std::ptr::from_ref(recorder).cast::<()>().addr(),
        bytes: size_of_val(recorder),
    })
}
