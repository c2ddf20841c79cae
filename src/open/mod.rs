//! Opening a log: for writing, and for reading only.

pub(crate) mod log_reader;
#[expect(clippy::module_inception, reason = "the folder is the layer, the file its main type")]
pub(crate) mod open;
