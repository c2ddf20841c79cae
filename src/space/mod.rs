//! Room on the file system: its free bytes, and segment files kept for later use.
//!
//! [`free_space`] compares the free bytes with the limits of the configuration.
//! [`recycle`] keeps the files of truncated segments. The layer does not know
//! which callers it admits, nor what is in a segment.

pub(crate) mod free_space;
pub(crate) mod recycle;
