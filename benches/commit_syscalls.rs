//! The cost of a durable commit, by system call: `write` and `fdatasync`, `pwritev2(RWF_DSYNC)`, a
//! descriptor with `O_DSYNC`, and `O_DIRECT` with either. The commits overwrite zero-filled blocks
//! of files of 16 MiB, repeatedly, with one thread per file. The first and the best of these also
//! run on growing files, and on files allocated without zeros. Those are passed through once at a
//! time. No part of the log runs.
//!
//! `cargo bench --bench commit_syscalls -- DIR [SECONDS] [ROUNDS]`; medians of the rounds, in
//! which all ways take turns.

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};
use rustix::io::{ReadWriteFlags, pwritev2};
use rustix::time::{ClockId, clock_gettime};

const FILE_BYTES: usize = 16 << 20;
/// The strictest alignment that `O_DIRECT` demands of offsets, lengths and memory.
const BLOCK_BYTES: usize = 4096;
const COMMIT_BYTES: [usize; 5] = [300, 4 << 10, 32 << 10, 140 << 10, 512 << 10];
const FILES: [usize; 3] = [1, 4, 16];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `pwrite`, then `fdatasync`.
    Fdatasync,
    /// `pwritev2` with `RWF_DSYNC`.
    RwfDsync,
    /// `pwrite` to a descriptor with `O_DSYNC`.
    ODsync,
    /// `pwritev2` with `RWF_DSYNC` to a descriptor with `O_DIRECT`.
    Direct,
    /// `pwrite` to a descriptor with `O_DIRECT`, then `fdatasync`.
    DirectFdatasync,
    /// Like `Direct`, but halves of 64 KiB or more are written in parallel.
    DirectHalves,
}

/// The state of the file where a commit is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TestFile {
    /// Blocks that were written before.
    Zeros,
    /// Blocks that were allocated but not written: `fallocate`.
    Allocated,
    /// No blocks: the file grows.
    Growing,
}

impl TestFile {
    fn lay(self, file: &File) -> io::Result<()> {
        if self == Self::Zeros {
            return Ok(());
        }
        file.set_len(0)?;
        if self == Self::Allocated {
            fallocate(file, FallocateFlags::empty(), 0, FILE_BYTES as u64)?;
        }
        file.sync_all()
    }
}

const WAYS: [(Way, TestFile); 10] = [
    (Way::Fdatasync, TestFile::Zeros),
    (Way::RwfDsync, TestFile::Zeros),
    (Way::ODsync, TestFile::Zeros),
    (Way::Direct, TestFile::Zeros),
    (Way::DirectFdatasync, TestFile::Zeros),
    (Way::DirectHalves, TestFile::Zeros),
    (Way::Fdatasync, TestFile::Allocated),
    (Way::DirectFdatasync, TestFile::Allocated),
    (Way::Fdatasync, TestFile::Growing),
    (Way::DirectFdatasync, TestFile::Growing),
];

impl Way {
    fn open(self, path: &Path) -> io::Result<File> {
        let flags = match self {
            Self::Fdatasync | Self::RwfDsync => OFlags::empty(),
            Self::ODsync => OFlags::DSYNC,
            Self::Direct | Self::DirectFdatasync | Self::DirectHalves => OFlags::DIRECT,
        };
        let flags = i32::try_from(flags.bits()).expect("a flag of open");
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
    }

    fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::DirectFdatasync | Self::DirectHalves)
    }
}

/// An aligned buffer for a commit and the block that the commit begins in.
struct Aligned {
    bytes: Vec<u8>,
    from: usize,
}

impl Aligned {
    fn new(max_commit_bytes: usize) -> Self {
        let bytes = vec![b'x'; max_commit_bytes + 4 * BLOCK_BYTES];
        let from = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes, from }
    }

    fn slice(&self, length: usize) -> &[u8] {
        &self.bytes[self.from..self.from + length]
    }
}

fn commit(file: &File, way: Way, buffer: &Aligned, at: usize, length: usize) -> io::Result<()> {
    let (mut from, mut to) = (at, at + length);
    if way.is_direct() {
        from = from / BLOCK_BYTES * BLOCK_BYTES;
        to = to.next_multiple_of(BLOCK_BYTES);
    }
    let bytes = buffer.slice(to - from);
    let dsync = |bytes: &[u8], from: usize| {
        let written =
            pwritev2(file, &[io::IoSlice::new(bytes)], from as u64, ReadWriteFlags::DSYNC);
        assert_eq!(written.expect("a sound disk"), bytes.len());
    };
    match way {
        Way::Fdatasync | Way::DirectFdatasync => {
            file.write_all_at(bytes, from as u64)?;
            file.sync_data()?;
        }
        Way::ODsync => file.write_all_at(bytes, from as u64)?,
        Way::DirectHalves if bytes.len() >= 128 << 10 => {
            let half = (bytes.len() / 2).next_multiple_of(BLOCK_BYTES);
            std::thread::scope(|scope| {
                scope.spawn(|| dsync(&bytes[half..], from + half));
                dsync(&bytes[..half], from);
            });
        }
        Way::RwfDsync | Way::Direct | Way::DirectHalves => dsync(bytes, from),
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    commits: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    cpu: f64,
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn run(
    dir: &Path,
    (way, test_file): (Way, TestFile),
    length: usize,
    files: usize,
    seconds: f64,
) -> Figures {
    let barrier = Barrier::new(files);
    let (cpu, began) = (cpu_time(), Instant::now());
    let mut nanos: Vec<u64> = std::thread::scope(|scope| {
        let one = |number: usize| {
            let file = way.open(&dir.join(number.to_string())).expect("a file that was made");
            test_file.lay(&file).expect("room for the file");
            let buffer = Aligned::new(length);
            let (mut at, mut nanos) = (0, Vec::new());
            barrier.wait();
            let began = Instant::now();
            while began.elapsed().as_secs_f64() < seconds {
                let this = Instant::now();
                commit(&file, way, &buffer, at, length).expect("a sound disk");
                nanos.push(u64::try_from(this.elapsed().as_nanos()).unwrap_or(u64::MAX));
                at += length;
                if at + length + BLOCK_BYTES > FILE_BYTES {
                    test_file.lay(&file).expect("room for the file");
                    at = 0;
                }
            }
            nanos
        };
        let threads: Vec<_> = (0..files).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let elapsed = began.elapsed().as_secs_f64();
    let cpu = (cpu_time() - cpu).as_secs_f64();
    nanos.sort_unstable();
    let quantile = |per_mille: usize| {
        let at = nanos.len() * per_mille / 1000;
        nanos[at.min(nanos.len() - 1)] as f64 / 1000.0
    };
    Figures {
        commits: nanos.len() as f64 / elapsed,
        p50: quantile(500),
        p99: quantile(990),
        p999: quantile(999),
        cpu: cpu * 1e6 / nanos.len() as f64,
    }
}

fn make_files(dir: &Path, files: usize) -> io::Result<()> {
    for number in 0..files {
        let file = File::create(dir.join(number.to_string()))?;
        file.write_all_at(&vec![0; FILE_BYTES], 0)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    File::open(dir)?.sync_all()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let [dir, rest @ ..] = arguments.as_slice() else {
        println!("usage: commit_syscalls DIR [SECONDS] [ROUNDS]");
        return;
    };
    let seconds = rest.first().map_or(0.2, |text| text.parse().expect("a number of seconds"));
    let rounds = rest.get(1).map_or(3, |text| text.parse().expect("a number of rounds"));
    let dir = Path::new(dir).join("commit_syscalls");
    std::fs::create_dir_all(&dir).expect("a directory to write to");
    println!("bytes files way | commits/s (least .. most) MiB/s | us: P50 P99 P99.9 | cpu us");
    for length in COMMIT_BYTES {
        for files in FILES {
            let mut all = WAYS.map(|_| Vec::new());
            for _ in 0..rounds {
                make_files(&dir, files).expect("room for the files");
                for (way, all) in WAYS.iter().zip(&mut all) {
                    all.push(run(&dir, *way, length, files, seconds));
                }
            }
            for (way, mut all) in WAYS.iter().zip(all) {
                all.sort_by(|a, b| a.commits.total_cmp(&b.commits));
                let (least, most) = (all[0].commits, all[all.len() - 1].commits);
                let Figures { commits, p50, p99, p999, cpu } = all[all.len() / 2];
                let way = format!("{:?} {:?}", way.0, way.1);
                let mib = commits * length as f64 / (1 << 20) as f64;
                println!(
                    "{length:>6} {files:>2} {way:<25} | {commits:>7.0} ({least:>6.0} .. {most:>6.0}) \
                     {mib:>7.1} | {p50:>7.0} {p99:>7.0} {p999:>7.0} | {cpu:>6.1}"
                );
            }
        }
    }
    std::fs::remove_dir_all(&dir).expect("what was made is removed");
}
