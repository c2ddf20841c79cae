//! Segment files: their bytes, reading them, writing them.
//!
//! [`header`] and [`frame`] are the bytes. [`frame_reader`] and [`frame_scan`] read them,
//! and a [`writer`] appends to a segment and rolls to the next. The layer does not know
//! directories of a log, queues or answers. It reports what it reads and does not decide
//! what it means.

pub(crate) mod aligned_buf;
pub(crate) mod catalogue;
pub(crate) mod frame;
pub(crate) mod frame_reader;
pub(crate) mod frame_scan;
pub(crate) mod header;
pub(crate) mod writer;
