//! Measures the disk alone: overwrites of 4 KiB with a sync, in one file and in
//! several in parallel, and large writes. It knows no log.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Numbers of files that are synced in parallel.
pub(crate) const CONCURRENT: [usize; 3] = [1, 4, 16];
const BLOCK_BYTES: usize = 4 << 10;
const LARGE_BYTES: usize = 1 << 20;
/// The size of each file. The files are filled with zeros first, so that no sync
/// has to commit a file's growth.
const SMALL_FILE_BYTES: usize = 1 << 20;
const LARGE_FILE_BYTES: usize = 32 << 20;

/// Figures of `files` files that are overwritten and synced in parallel, 4 KiB at a
/// time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct SyncFigures {
    pub(crate) files: usize,
    /// Syncs per second, of all files together.
    pub(crate) per_s: f64,
    /// Median time of a write and its sync, in microseconds.
    pub(crate) p50_us: f64,
}

/// The figures of a disk.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Device {
    /// In the order of [`CONCURRENT`].
    pub(crate) syncs: [SyncFigures; CONCURRENT.len()],
    /// MiB per second of one file, with a sync per MiB.
    pub(crate) mib_per_s: f64,
}

impl Device {
    /// Measures for `elapsed`, with files in `scratch_dir`. Deletes them afterwards.
    pub(crate) fn measure(scratch_dir: &Path, elapsed: Duration) -> io::Result<Self> {
        let share = elapsed.div_f64((CONCURRENT.len() + 1) as f64);
        let scratch_dir = scratch_dir.join("device");
        fs::create_dir(&scratch_dir)?;
        let mut syncs = [SyncFigures { files: 0, per_s: 0.0, p50_us: 0.0 }; CONCURRENT.len()];
        for (figures, files) in syncs.iter_mut().zip(CONCURRENT) {
            *figures = sync_at_once(&scratch_dir, files, share)?;
        }
        let large =
            overwrite(zeros(&scratch_dir.join("large"), LARGE_FILE_BYTES)?, LARGE_BYTES, share)?;
        fs::remove_dir_all(&scratch_dir)?;
        let mib = (large.nanos.len() * LARGE_BYTES) as f64 / f64::from(1 << 20);
        Ok(Self { syncs, mib_per_s: mib / large.seconds })
    }

    /// The median time of a write and its sync in one file, in seconds.
    pub(crate) fn sync_seconds(&self) -> f64 {
        self.syncs[0].p50_us / 1e6
    }

    pub(crate) fn bytes_per_s(&self) -> f64 {
        self.mib_per_s * f64::from(1 << 20)
    }
}

fn sync_at_once(scratch_dir: &Path, files: usize, elapsed: Duration) -> io::Result<SyncFigures> {
    let name = |number: usize| -> PathBuf { scratch_dir.join(format!("{files}-{number}")) };
    let opened: io::Result<Vec<_>> =
        (0..files).map(|number| zeros(&name(number), SMALL_FILE_BYTES)).collect();
    let overwritten: io::Result<Vec<_>> = std::thread::scope(|scope| {
        let spawn = |file| scope.spawn(move || overwrite(file, BLOCK_BYTES, elapsed));
        let threads: Vec<_> = opened?.into_iter().map(spawn).collect();
        let panicked = |_| Err(io::Error::other("a thread that syncs panicked"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let overwritten = overwritten?;
    let per_s = overwritten.iter().map(|one| one.nanos.len() as f64 / one.seconds).sum();
    let mut nanos: Vec<_> = overwritten.into_iter().flat_map(|one| one.nanos).collect();
    nanos.sort_unstable();
    Ok(SyncFigures { files, per_s, p50_us: nanos[nanos.len() / 2] as f64 / 1e3 })
}

/// Creates a file of `bytes` zeros and syncs it.
fn zeros(path: &Path, bytes: usize) -> io::Result<File> {
    let mut file = File::create_new(path)?;
    file.write_all(&vec![0; bytes])?;
    file.sync_all()?;
    Ok(file)
}

struct Overwritten {
    seconds: f64,
    /// The time of each write with its sync. At least one.
    nanos: Vec<u64>,
}

/// Overwrites the file from its beginning, again and again, for `elapsed`.
fn overwrite(mut file: File, block: usize, elapsed: Duration) -> io::Result<Overwritten> {
    let (bytes, len) = (vec![0x5a; block], file.metadata()?.len());
    let (began, mut nanos, mut at) = (Instant::now(), Vec::new(), 0);
    while nanos.is_empty() || began.elapsed() < elapsed {
        let before = Instant::now();
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        at = (at + block as u64) % len;
        nanos.push(u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(Overwritten { seconds: began.elapsed().as_secs_f64(), nanos })
}
