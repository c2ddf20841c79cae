//! Segment files: their bytes, reading them, writing them.

pub(crate) mod aligned_buf;
pub(crate) mod catalogue;
pub(crate) mod frame;
pub(crate) mod frame_reader;
pub(crate) mod frame_scan;
pub(crate) mod header;
pub(crate) mod writer;
