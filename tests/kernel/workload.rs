//! The commands of the traced child, and the files that they touch.

use std::path::{Path, PathBuf};

/// Appends, queued appends, a batch, rolls, flushes, truncations, closes, and opens
/// with another number of shards. A record of 9000 bytes takes its segment past twice
/// its size, so that the writer waits for the next one. So rolls come at fixed records
/// in each run. Truncated segments are recycled.
pub(crate) const SCRIPT: &str = "\
open 2 4096
append 100 1:0
append 100 2:0
batch 350 1:1 2:1 3:0 4:0
append 2500 1:2
append 9000 1:3
append 9000 2:2
append 10 2:3
queue 50 1:4 2:4 3:1 4:1
flush
truncate
append 9000 1:5
append 9000 2:5
append 2500 1:6
append 2500 2:6
append 9000 1:7
append 100 1:8
append 100 1:9
close
open 3 4096
append 100 1:10
batch 350 1:11 2:7 3:2 4:2
append 100 2:8
close
";

/// Records and batches larger than the rest of a segment.
pub(crate) const LARGE: &str = "\
open 2 4096
append 3000 1:0
append 3000 1:1
append 9000 1:2
append 100 1:3
batch 2000 1:4 2:0 3:0 4:0
append 7000 2:1
append 12000 4:1
append 100 1:5
queue 3000 1:6 1:7 2:2 2:3
close
open 3 4096
append 9000 1:8
batch 5000 1:9 2:4 3:1 4:2
append 100 2:5
close
";

/// The selected files of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Files {
    All,
    /// Files of shard 0 alone, and so of one writer alone.
    FirstShard,
}

impl Files {
    /// `strace` gets each file by name. So calls on other files are left alone, such as
    /// the loader's libraries.
    pub(crate) fn options(self, dir: &Path) -> Vec<String> {
        let paths = match self {
            Self::All => all(dir),
            Self::FirstShard => (1..=3).flat_map(|number| shard(dir, number, 0)).collect(),
        };
        let option = |path: PathBuf| ["-P".to_owned(), path.to_string_lossy().into_owned()];
        paths.into_iter().flat_map(option).collect()
    }
}

fn all(dir: &Path) -> Vec<PathBuf> {
    let mut paths = vec![dir.to_path_buf()];
    paths.extend(["LOCK", "MANIFEST", "MANIFEST.tmp"].map(|name| dir.join(name)));
    for (number, shards) in [(1, 2), (2, 3), (3, 3)] {
        paths.push(dir.join(format!("generation-{number:05}")));
        paths.extend((0..shards).flat_map(|index| shard(dir, number, index)));
    }
    paths
}

fn shard(dir: &Path, generation: u32, shard: u32) -> Vec<PathBuf> {
    let dir = dir.join(format!("generation-{generation:05}/shard-{shard:04}"));
    let mut paths = vec![dir.clone(), dir.join("purge")];
    for number in 1..=8 {
        paths.push(dir.join(format!("{number:010}.wal")));
        paths.push(dir.join(format!("{number:010}.wal.tmp")));
        paths.push(dir.join(format!("{number:010}.spare")));
    }
    paths
}
