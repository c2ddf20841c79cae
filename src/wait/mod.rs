//! Waiting: threads and tasks that sleep until a predicate holds.

pub(crate) mod wait_list;
pub(crate) mod waiter;
pub(crate) mod wake_chain;
