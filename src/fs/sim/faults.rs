//! The planned faults: what fails, and at which call.
//!
//! This file knows calls and paths. The code of each call decides what a fault does.

use std::io::{self, ErrorKind};
use std::path::Path;

/// A call of [`FileSystem`](crate::fs::FileSystem) or [`FileHandle`](crate::fs::FileHandle).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`FileSystem::open`](crate::fs::FileSystem::open).
    Open,
    /// [`FileSystem::create_dir`](crate::fs::FileSystem::create_dir).
    CreateDir,
    /// [`FileSystem::list`](crate::fs::FileSystem::list).
    List,
    /// [`FileSystem::sync_dir`](crate::fs::FileSystem::sync_dir).
    SyncDir,
    /// [`FileSystem::rename`](crate::fs::FileSystem::rename).
    Rename,
    /// [`FileSystem::unlink`](crate::fs::FileSystem::unlink).
    Unlink,
    /// [`FileSystem::remove_dir`](crate::fs::FileSystem::remove_dir).
    RemoveDir,
    /// [`FileSystem::lock`](crate::fs::FileSystem::lock).
    Lock,
    /// [`FileHandle::read_at`](crate::fs::FileHandle::read_at).
    Read,
    /// [`FileHandle::write_at`](crate::fs::FileHandle::write_at).
    Write,
    /// [`FileHandle::sync_data`](crate::fs::FileHandle::sync_data).
    Sync,
    /// [`FileHandle::set_len`](crate::fs::FileHandle::set_len).
    SetLen,
    /// [`FileHandle::len`](crate::fs::FileHandle::len).
    Len,
    /// Any of these calls.
    Any,
}

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The call fails with this error number of Linux: see [`linux_error`]. It has no
    /// other effect, but a failed sync also loses the unsynced sectors.
    Error(i32),
    /// A read or write moves about half of the bytes. Other calls do not match this
    /// fault.
    Short,
    /// The machine loses power before the call takes effect.
    PowerCut,
    /// The machine loses power when half of a write's bytes are in the cache. At any
    /// other call this equals [`FaultKind::PowerCut`].
    TornPowerCut,
    /// The call panics, and has no other effect.
    Panic,
    /// The operating system first writes everything unsynced to the disk, names too.
    /// Then the call takes effect.
    WriteBack,
}

/// One planned fault, for [`SimFileSystem::fail`](super::SimFileSystem::fail).
#[derive(Clone, Debug)]
pub struct Fault {
    /// The call that fails.
    pub call: Call,
    /// Matches only if the path contains this text, with `/` between its names on every
    /// system. A file has the path that it was opened with, and a rename has both of
    /// its paths.
    pub path_contains: Option<String>,
    /// Which matching call fails, counted from now; 1 is the next.
    pub nth: u64,
    /// Whether all later matching calls fail too.
    pub sticky: bool,
    /// What the fault does.
    pub kind: FaultKind,
}

impl Fault {
    /// A fault at the `nth` such call, once, for any path.
    #[must_use]
    pub fn new(call: Call, nth: u64, kind: FaultKind) -> Self {
        Self { call, path_contains: None, nth, sticky: false, kind }
    }

    fn matches(&self, call: Call, paths: &[&Path]) -> bool {
        let can_be_short = matches!(call, Call::Read | Call::Write);
        (self.call == call || self.call == Call::Any)
            && (self.kind != FaultKind::Short || can_be_short)
            && self.path_contains.as_ref().is_none_or(|text| {
                paths.iter().any(|path| with_slashes(&path.to_string_lossy()).contains(text))
            })
    }
}

/// A path as text, with `/` between its names.
fn with_slashes(path: &str) -> String {
    if cfg!(windows) { path.replace('\\', "/") } else { path.to_owned() }
}

/// The error that has this number on Linux. It means the same on every system: it has no
/// number if there is an [`ErrorKind`] for it, and the system's own number if the log
/// distinguishes the error by its number.
#[must_use]
pub fn linux_error(errno: i32) -> io::Error {
    const ERROR_TOO_MANY_OPEN_FILES: i32 = 4;
    const ERROR_IO_DEVICE: i32 = 1117;
    let kind = match errno {
        1 | 13 => ErrorKind::PermissionDenied,
        2 => ErrorKind::NotFound,
        4 => ErrorKind::Interrupted,
        12 => ErrorKind::OutOfMemory,
        17 => ErrorKind::AlreadyExists,
        22 => ErrorKind::InvalidInput,
        27 => ErrorKind::FileTooLarge,
        28 => ErrorKind::StorageFull,
        30 => ErrorKind::ReadOnlyFilesystem,
        122 => ErrorKind::QuotaExceeded,
        5 if cfg!(windows) => return io::Error::from_raw_os_error(ERROR_IO_DEVICE),
        23 | 24 if cfg!(windows) => {
            return io::Error::from_raw_os_error(ERROR_TOO_MANY_OPEN_FILES);
        }
        _ => return io::Error::from_raw_os_error(errno),
    };
    kind.into()
}

/// The planned faults, and the number of calls and of faults so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Vec<Fault>,
    fired: u64,
    calls: [u64; Call::Any as usize],
}

impl Faults {
    pub(super) fn plan(&mut self, fault: Fault) {
        self.planned.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    /// Counts a call, and returns the fault that it meets. If two faults are due at one
    /// call, the one planned first fires. The other fires at the next such call.
    pub(super) fn meet(&mut self, call: Call, paths: &[&Path]) -> Option<FaultKind> {
        self.calls[call as usize] += 1;
        let mut met = None;
        self.planned.retain_mut(|fault| {
            if !fault.matches(call, paths) {
                return true;
            }
            if fault.nth > 1 {
                fault.nth -= 1;
                return true;
            }
            if met.is_some() {
                return true;
            }
            met = Some(fault.kind);
            fault.sticky
        });
        self.fired += u64::from(met.is_some());
        met
    }

    pub(super) fn fired(&self) -> u64 {
        self.fired
    }

    pub(super) fn calls(&self, call: Call) -> u64 {
        match call {
            Call::Any => self.calls.iter().sum(),
            call => self.calls[call as usize],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::means_unreadable;

    #[test]
    fn an_error_of_linux_means_the_same_on_every_system() {
        // The numbers of these errors differ between systems.
        for errno in [1, 2, 4, 12, 13, 17, 22, 27, 28, 30, 122] {
            assert_eq!(linux_error(errno).raw_os_error(), None, "{errno}");
        }
        assert_eq!(linux_error(28).kind(), ErrorKind::StorageFull);
        assert!(means_unreadable(&linux_error(5)));
        for errno in (0..=122).filter(|_| cfg!(target_os = "linux")) {
            let kind = io::Error::from_raw_os_error(errno).kind();
            assert_eq!(linux_error(errno).kind(), kind, "{errno}");
        }
    }

    #[test]
    fn a_fault_names_paths_with_slashes() {
        let path: std::path::PathBuf = ["wal", "shard-0000", "x.wal"].iter().collect();
        let fault = Fault {
            path_contains: Some("wal/shard-0000/x".into()),
            ..Fault::new(Call::Open, 1, FaultKind::Panic)
        };
        assert!(fault.matches(Call::Open, &[&path]));
    }
}
