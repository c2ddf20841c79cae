//! Finds file systems that make nothing durable, from their mount type and options.

use std::fmt;
use std::path::PathBuf;

/// A file system on which a sync may succeed although nothing is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct DurabilityWarning {
    /// Its mount point.
    pub mount_point: PathBuf,
    /// Its type, such as `ext4`.
    pub file_system: String,
    /// Why nothing is durable.
    pub reason: NotDurable,
}

/// Why nothing on a file system is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum NotDurable {
    /// The file system is in memory. A restart of the machine loses it.
    InMemory,
    /// The file system is mounted with an option that makes a sync flush nothing. A
    /// power loss, or a crash of the system, may lose acknowledged records.
    NoFlush {
        /// The option, such as `nobarrier`.
        option: String,
    },
}

impl fmt::Display for DurabilityWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mount_point, file_system, reason } = self;
        write!(f, "nothing on {} ({file_system}) is durable: ", mount_point.display())?;
        match reason {
            NotDurable::InMemory => f.write_str("it is in memory"),
            NotDurable::NoFlush { option } => {
                write!(f, "it is mounted with `{option}`, so a sync flushes nothing")
            }
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::warnings;

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io;
    use std::path::Path;

    use rustix::fd::AsFd;
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

    use super::{DurabilityWarning, NotDurable, PathBuf};

    /// A line of `/proc/self/mountinfo`.
    #[derive(Debug)]
    struct Mount<'line> {
        id: u64,
        mount_point: &'line str,
        file_system: &'line str,
        /// The options of the mount, then those of the file system.
        options: Vec<&'line str>,
    }

    /// The warnings about the file system of `path`, which is resolved from `dir`. None
    /// if the system does not say which mount that is.
    pub(in super::super) fn warnings(
        dir: impl AsFd,
        path: &Path,
    ) -> io::Result<Vec<DurabilityWarning>> {
        let (own, upper) = inspect_mount(dir, path)?;
        // An overlay writes to its upper directory. That may be mounted where this
        // process does not see it.
        let upper = upper.and_then(|upper| inspect_mount(CWD, &upper).ok()?.0);
        Ok(own.into_iter().chain(upper).collect())
    }

    /// The warning about the mount of `path`, and the upper directory if it is an
    /// overlay.
    fn inspect_mount(
        dir: impl AsFd,
        path: &Path,
    ) -> io::Result<(Option<DurabilityWarning>, Option<PathBuf>)> {
        let requested = StatxFlags::MNT_ID;
        let reported = statx(dir, path, AtFlags::empty(), requested)?;
        if reported.stx_mask & requested.bits() == 0 {
            return Ok((None, None));
        }
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let mut mounts = table.lines().filter_map(parse);
        let Some(mount) = mounts.find(|mount| mount.id == reported.stx_mnt_id) else {
            return Ok((None, None));
        };
        Ok((mount.warning(), mount.option("upperdir=").map(unescaped)))
    }

    fn parse(line: &str) -> Option<Mount<'_>> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut words = mount.split(' ');
        let id = words.next()?.parse().ok()?;
        let (mount_point, of_mount) = (words.nth(3)?, words.next()?);
        let mut words = file_system.split(' ');
        let (file_system, of_file_system) = (words.next()?, words.nth(1)?);
        let options = of_mount.split(',').chain(of_file_system.split(',')).collect();
        Some(Mount { id, mount_point, file_system, options })
    }

    impl<'line> Mount<'line> {
        fn option(&self, name: &str) -> Option<&'line str> {
            self.options.iter().find_map(|option| option.strip_prefix(name))
        }

        fn warning(&self) -> Option<DurabilityWarning> {
            const NO_FLUSH: [&str; 4] = ["nobarrier", "barrier=0", "volatile", "fsync=volatile"];
            let no_flush = || self.options.iter().find(|option| NO_FLUSH.contains(option));
            let reason = match self.file_system {
                "tmpfs" | "ramfs" | "devtmpfs" | "rootfs" => NotDurable::InMemory,
                _ => NotDurable::NoFlush { option: (*no_flush()?).to_owned() },
            };
            Some(DurabilityWarning {
                mount_point: unescaped(self.mount_point),
                file_system: self.file_system.to_owned(),
                reason,
            })
        }
    }

    /// Decodes a path: the kernel writes blanks and backslashes as three octal digits.
    fn unescaped(text: &str) -> PathBuf {
        let mut pieces = text.split('\\');
        let mut path = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let code = piece.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
            match code {
                Some(code) => path.extend([char::from(code)].into_iter().chain(piece[3..].chars())),
                None => path.extend(['\\'].into_iter().chain(piece.chars())),
            }
        }
        path.into()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn warning(line: &str) -> Option<(PathBuf, String, NotDurable)> {
            let warning = parse(line).expect("a mount").warning()?;
            Some((warning.mount_point, warning.file_system, warning.reason))
        }

        fn no_flush(option: &str) -> NotDurable {
            NotDurable::NoFlush { option: option.into() }
        }

        #[test]
        fn mounts_that_flush_nothing_are_recognized() {
            let sound = [
                "24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw,errors=continue",
                "25 1 0:31 /sub /data rw - btrfs /dev/sdb rw,ssd,discard=async,subvol=/sub",
                "26 1 0:40 / /over rw - overlay overlay rw,lowerdir=/volatile,upperdir=/b,workdir=/c",
            ];
            for line in sound {
                assert_eq!(warning(line), None, "{line}");
            }
            let tmpfs = "30 24 0:22 / /run rw,nosuid shared:5 - tmpfs tmpfs rw,size=64k";
            assert_eq!(warning(tmpfs), Some(("/run".into(), "tmpfs".into(), NotDurable::InMemory)));
            let ext4 = r"31 24 7:0 / /a\040b\134c rw - ext4 /dev/loop0 rw,nobarrier";
            let expected = (r"/a b\c".into(), "ext4".into(), no_flush("nobarrier"));
            assert_eq!(warning(ext4), Some(expected));
            let over =
                "32 24 0:41 / /o rw - overlay o rw,lowerdir=/a,upperdir=/b,workdir=/c,volatile";
            let expected = ("/o".into(), "overlay".into(), no_flush("volatile"));
            assert_eq!(warning(over), Some(expected));
            assert_eq!(parse(over).unwrap().option("upperdir="), Some("/b"));
        }
    }
}
