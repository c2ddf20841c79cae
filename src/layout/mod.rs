//! The files and directories of a log, and what their names mean.
//!
//! The [`manifest`] names the generations, and [`router`] maps a key to a shard of the
//! last one. [`shard_dir`] finds a shard's files and its [`truncation_mark`].
//! [`dir_lock`] keeps a second process out. The layer does not know frames or records,
//! and does not decide whether a log is corrupted.

pub(crate) mod dir_lock;
pub(crate) mod generation;
pub(crate) mod hold_file;
pub(crate) mod key_of;
pub(crate) mod manifest;
pub(crate) mod orphans;
pub(crate) mod router;
pub(crate) mod shard_dir;
mod text_file;
pub(crate) mod truncation_mark;
