//! Detects a sync that succeeded although ext4's journal has failed.
//!
//! A commit of ext4's journal holds the metadata of many files. If it fails, the sync
//! that waited for it fails. **A later sync does not**: the kernel finds no transaction
//! to wait for and returns 0 (seen on 6.18). The size and the blocks that a reader
//! needs are lost. The failure shows at the next change of metadata: the kernel notices
//! it during that change, and refuses the one after it.
//!
//! So after a sync that needed the journal, this file sets the file's times twice. That
//! works regardless of who made the journal's commit: another shard, another process or
//! the kernel's timer. XFS and btrfs detect the failure themselves.

#[cfg(not(target_os = "linux"))]
pub(super) use elsewhere::*;
#[cfg(target_os = "linux")]
pub(super) use linux::*;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io;

    use rustix::fs::{
        AtFlags, SeekFrom, Statx, StatxFlags, Timespec, Timestamps, UTIME_NOW, fstatfs, futimens,
        seek, statx,
    };
    use rustix::io::Errno;

    /// Tracks which writes to a file need no journal.
    #[derive(Debug)]
    pub(in super::super) struct Journal {
        /// Bytes below this offset are overwritten in place: their blocks durably
        /// belong to the file.
        solid_end: u64,
        /// Whether the writes since the last sync change more than blocks in place.
        /// True for a newly opened file: another process may have written it.
        is_needed: bool,
        /// `None` until the first sync that needs it.
        kind: Option<Kind>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Kind {
        /// A sync reports a failed journal.
        Honest,
        /// A sync that needs the journal may not report its failure.
        Silent,
        /// A sync may not report it, and all data may go through the journal.
        SilentAboutAll,
    }

    impl Journal {
        pub(in super::super) fn new() -> Self {
            Self { solid_end: 0, is_needed: true, kind: None }
        }

        /// Records a write up to `end`.
        pub(in super::super) fn wrote(&mut self, end: u64) {
            self.is_needed |= end > self.solid_end;
        }

        /// Records a new length of the file.
        pub(in super::super) fn cut(&mut self, len: u64) {
            self.solid_end = self.solid_end.min(len);
            self.is_needed = true;
        }

        /// Proves that a sync of the file reached the disk. Call it after a sync that
        /// returned `Ok`.
        ///
        /// # Errors
        /// The journal has failed.
        pub(in super::super) fn prove(&mut self, file: &File) -> io::Result<()> {
            if !self.is_needed {
                return Ok(());
            }
            let kind = *self.kind.get_or_insert_with(|| Kind::of(file));
            if kind != Kind::Honest {
                prove(file)?;
            }
            if kind == Kind::SilentAboutAll {
                return Ok(());
            }
            // In place up to the first hole, or the end of the file.
            if let Ok(hole) = seek(file, SeekFrom::Hole(self.solid_end)) {
                self.solid_end = hole;
            }
            self.is_needed = false;
            Ok(())
        }
    }

    impl Kind {
        fn of(file: &File) -> Self {
            if !is_silent(file) {
                return Self::Honest;
            }
            // With `data=journal` ext4 has no direct I/O.
            match direct_alignment(file) {
                Direct::Aligned(_) => Self::Silent,
                Direct::None | Direct::Unknown => Self::SilentAboutAll,
            }
        }
    }

    /// Whether the file system is ext4, may be stacked on ext4, or is unknown.
    fn is_silent(file: &File) -> bool {
        const EXT4: i64 = 0xef53;
        const OVERLAY: i64 = 0x794c_7630;
        #[allow(clippy::useless_conversion, reason = "it is 32 bits on some machines")]
        fstatfs(file).map_or(true, |fs| [EXT4, OVERLAY].contains(&i64::from(fs.f_type)))
    }

    /// Proves that a sync of a directory reached the disk. Call it after a sync that
    /// returned `Ok`.
    pub(in super::super) fn prove_names(dir: &File) -> io::Result<()> {
        if is_silent(dir) { prove(dir) } else { Ok(()) }
    }

    /// Changes the file's times twice. During the first change the kernel notices a
    /// failed journal. It then refuses the second.
    fn prove(file: &File) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        for _ in 0..2 {
            match futimens(file, &now) {
                // A directory of another user, or a file system without times.
                Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                Err(error) => {
                    let what = format!(
                        "the sync succeeded, but the file system's journal failed: {error}"
                    );
                    return Err(io::Error::new(io::Error::from(error).kind(), what));
                }
            }
        }
        Ok(())
    }

    /// The system's answer about direct I/O.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) enum Direct {
        /// Direct writes are accepted, but buffered (ext4 with `data=journal`).
        None,
        /// Direct I/O with this alignment in file and memory.
        Aligned(usize),
        /// Unknown: Linux before 6.1, and some file systems.
        Unknown,
    }

    /// Asks the system for the alignment of direct I/O.
    pub(in super::super) fn direct_alignment(file: &File) -> Direct {
        let requested = StatxFlags::DIOALIGN;
        match statx(file, "", AtFlags::EMPTY_PATH, requested) {
            Ok(reported) if reported.stx_mask & requested.bits() != 0 => alignment_of(&reported),
            _ => Direct::Unknown,
        }
    }

    fn alignment_of(reported: &Statx) -> Direct {
        let (memory, offset) = (reported.stx_dio_mem_align, reported.stx_dio_offset_align);
        match usize::try_from(memory.max(offset)) {
            Ok(alignment) if memory > 0 && offset > 0 => {
                Direct::Aligned(alignment.next_power_of_two())
            }
            _ => Direct::None,
        }
    }
}

/// No other system is known to hide a failed journal.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::fs::File;
    use std::io;

    #[derive(Debug)]
    pub(in super::super) struct Journal;

    impl Journal {
        pub(in super::super) fn new() -> Self {
            Self
        }

        pub(in super::super) fn wrote(&mut self, _end: u64) {}

        pub(in super::super) fn cut(&mut self, _len: u64) {}

        pub(in super::super) fn prove(&mut self, _file: &File) -> io::Result<()> {
            Ok(())
        }
    }

    pub(in super::super) fn prove_names(_dir: &File) -> io::Result<()> {
        Ok(())
    }
}
