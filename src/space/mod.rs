//! Room on the file system: its free bytes, and segment files kept for later use.

pub(crate) mod free_space;
pub(crate) mod recycle;
