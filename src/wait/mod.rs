//! Waiting: threads and tasks that sleep until a predicate holds.
//!
//! A [`wait_list`] holds the waiters of one condition. A [`waiter`] is one thread or task. A
//! [`wake_chain`] lets woken threads wake the next ones. The layer does not know what a
//! waiter waits for: the caller supplies the predicate.

pub(crate) mod sleeper;
pub(crate) mod wait_list;
pub(crate) mod waiter;
pub(crate) mod waiter_table;
pub(crate) mod wake_chain;
