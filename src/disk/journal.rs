//! Whether a sync that succeeded is one that ext4's journal has made true.
//!
//! A commit of ext4's journal holds the metadata of many files. Where it fails,
//! the sync that waited for it fails. **A sync that comes after it does not**:
//! the kernel finds no transaction to wait for and says 0 (seen on 6.18), and
//! what the file needed to be read back, its size and its blocks, is gone. That
//! the journal is dead shows at the next change of metadata: the kernel notices
//! when the change is made, and refuses the one after it.
//!
//! So where a sync needed the journal, the file's times are set twice behind it.
//! That holds whoever made the commit: another shard, another process, or the
//! kernel's timer. XFS and btrfs look themselves.

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

    /// What of a file is known to need no journal.
    #[derive(Debug)]
    pub(in super::super) struct Journal {
        /// Bytes below are written over in place: their blocks are durably the file's.
        solid_end: u64,
        /// Whether what was written since the last sync needs more than its blocks.
        /// True of a file that was just opened: another process may have written it.
        is_needed: bool,
        /// `None` until it was asked for.
        kind: Option<Kind>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Kind {
        /// A sync says itself whether the journal failed.
        Honest,
        /// It may not, unless it needs no journal.
        Silent,
        /// The same, and all data may go through the journal.
        SilentAboutAll,
    }

    impl Journal {
        pub(in super::super) fn new() -> Self {
            Self { solid_end: 0, is_needed: true, kind: None }
        }

        /// Notes that up to `end` was written.
        pub(in super::super) fn wrote(&mut self, end: u64) {
            self.is_needed |= end > self.solid_end;
        }

        /// Notes that the file got another length.
        pub(in super::super) fn cut(&mut self, len: u64) {
            self.solid_end = self.solid_end.min(len);
            self.is_needed = true;
        }

        /// To be called when a sync of the file has succeeded: proves that it has.
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
            // Up to the first hole, or the end of the file.
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
            // With `data=journal` there are no writes past the cache.
            match direct_alignment(file) {
                Direct::Aligned(_) => Self::Silent,
                Direct::None | Direct::Unknown => Self::SilentAboutAll,
            }
        }
    }

    /// Whether the file system is ext4, or one that may lie on it, or does not say.
    fn is_silent(file: &File) -> bool {
        const EXT4: i64 = 0xef53;
        const OVERLAY: i64 = 0x794c_7630;
        #[allow(clippy::useless_conversion, reason = "it is 32 bits on some machines")]
        fstatfs(file).map_or(true, |fs| [EXT4, OVERLAY].contains(&i64::from(fs.f_type)))
    }

    /// Proves that the sync of a directory that succeeded has.
    pub(in super::super) fn prove_names(dir: &File) -> io::Result<()> {
        if is_silent(dir) { prove(dir) } else { Ok(()) }
    }

    /// The first change lets the kernel notice that the journal has failed, the
    /// second is refused then.
    fn prove(file: &File) -> io::Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let now = Timestamps { last_access: now, last_modification: now };
        for _ in 0..2 {
            match futimens(file, &now) {
                // Somebody else's directory, or a file system without times.
                Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS | Errno::OPNOTSUPP) => {}
                Err(error) => {
                    let what = format!("the sync succeeded, but the journal has failed: {error}");
                    return Err(io::Error::new(io::Error::from(error).kind(), what));
                }
            }
        }
        Ok(())
    }

    /// What the system says of writes past the cache.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in super::super) enum Direct {
        /// There are none: it takes them, and buffers them (ext4 with `data=journal`).
        None,
        /// Of this alignment in file and memory.
        Aligned(usize),
        /// It does not say; Linux before 6.1, and some file systems.
        Unknown,
    }

    /// Asks the system for the alignment of writes past the cache.
    pub(in super::super) fn direct_alignment(file: &File) -> Direct {
        let asked = StatxFlags::DIOALIGN;
        match statx(file, "", AtFlags::EMPTY_PATH, asked) {
            Ok(told) if told.stx_mask & asked.bits() != 0 => alignment_of(&told),
            _ => Direct::Unknown,
        }
    }

    fn alignment_of(told: &Statx) -> Direct {
        let (memory, offset) = (told.stx_dio_mem_align, told.stx_dio_offset_align);
        match usize::try_from(memory.max(offset)) {
            Ok(alignment) if memory > 0 && offset > 0 => {
                Direct::Aligned(alignment.next_power_of_two())
            }
            _ => Direct::None,
        }
    }
}

/// No such behaviour is known of other systems.
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
