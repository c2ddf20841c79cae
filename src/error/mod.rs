//! Errors: one enum per operation.
//!
//! Each error says what is certain, where it happened and what to do. An error
//! of the operating system is kept as its `source`. This folder does not know how
//! the errors arise.

use std::io;

mod append;
mod cause;
mod follow;
mod hold;
mod open;
mod operation;

pub use crate::position::Position;
pub use append::{AppendError, BatchError, FailedShard, TryAppendError};
pub use cause::Cause;
pub use follow::FollowError;
pub use hold::HoldError;
pub(crate) use open::RESTORE;
pub use open::{Corruption, OpenError};
pub use operation::{CloseError, ReplayError, SnapshotError, TruncateError};

/// Whether an error of a *write* means that there is no room. Then the writer can
/// undo the write and go on. After a *sync* such an error is fatal.
pub(crate) fn means_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}

/// Whether an error of a call is temporary: no descriptor or memory was free, or
/// a signal interrupted the call. The caller may retry later. After a *sync* such
/// an error is fatal.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    /// Of Windows.
    const ERROR_TOO_MANY_OPEN_FILES: i32 = 4;
    let numbers: &[i32] = if cfg!(unix) { &[ENFILE, EMFILE] } else { &[ERROR_TOO_MANY_OPEN_FILES] };
    matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted)
        || error.raw_os_error().is_some_and(|number| numbers.contains(&number))
}
