//! Which files and directories a log consists of, and what their names mean.

pub(crate) mod dir_lock;
pub(crate) mod generation;
pub(crate) mod manifest;
pub(crate) mod orphans;
pub(crate) mod router;
pub(crate) mod shard_dir;
pub(crate) mod truncation_mark;
