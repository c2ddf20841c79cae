//! A file system of a few MiB in memory, for a server's log. It needs root.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::process::succeeds;

const SIZE: &str = "size=96m";

/// The file that fills it.
const BALLAST: &str = "ballast";

/// It is unmounted when the value is dropped.
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at a new folder. `None` if that is not permitted.
    pub(super) fn mount(at: &Path) -> Result<Option<Self>> {
        fs::create_dir_all(at)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "shardwal-senders"]).arg(at);
        Ok(succeeds(&mut mount).then(|| Self(at.to_path_buf())))
    }

    /// Writes until nothing is free.
    pub(super) fn fill(&self) -> Result {
        let mut ballast = File::create(self.0.join(BALLAST))?;
        for size in [1 << 20, 1 << 12] {
            let zeros = vec![0; size];
            loop {
                match ballast.write(&zeros) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Frees what [`SmallDisk::fill`] took.
    pub(super) fn free(&self) -> Result {
        Ok(fs::remove_file(self.0.join(BALLAST))?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if !succeeds(Command::new("umount").arg(&self.0)) {
            // A process may still use it. It goes when that ends.
            succeeds(Command::new("umount").arg("-l").arg(&self.0));
        }
    }
}
