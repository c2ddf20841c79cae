//! Opening a log: for writing, and for reading only.
//!
//! An open locks the directory, runs the recovery and starts the threads. A
//! [`log_reader`] takes no lock, writes nothing and starts no thread. The layer puts the
//! others together. It does not know bytes of the format, and it is not involved in an
//! append.

mod hold_list;
pub(crate) mod log_reader;
#[expect(clippy::module_inception, reason = "the directory is the layer, the file its main type")]
pub(crate) mod open;
