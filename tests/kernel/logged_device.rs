//! A file system on a device that logs each write and flush. Produces the images that a
//! power cut may leave: all writes before the last flush, and any subset of the later
//! sectors.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::mounts::{LIMIT, insist, run, text};
use crate::strace::is_there;
use crate::support::Random;

const SECTOR: usize = 512;
const PAGE: usize = 4096;
const ENTRY_BYTES: usize = 13;

type Page = [u8; PAGE];

/// A file system, and the smallest device for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileSystem {
    pub(crate) name: &'static str,
    pub(crate) make: &'static [&'static str],
    pub(crate) mib: u64,
}

pub(crate) const EXT4: FileSystem =
    FileSystem { name: "ext4", make: &["mkfs.ext4", "-q", "-F", "-m", "0"], mib: 64 };
pub(crate) const XFS: FileSystem =
    FileSystem { name: "XFS", make: &["mkfs.xfs", "-q", "-f"], mib: 300 };
pub(crate) const BTRFS: FileSystem =
    FileSystem { name: "btrfs", make: &["mkfs.btrfs", "-q", "-f"], mib: 128 };

impl FileSystem {
    /// Whether its mkfs is installed.
    pub(crate) fn is_there(self) -> bool {
        Command::new(self.make[0]).arg("-V").output().is_ok()
    }

    pub(crate) fn mkfs(self, device: &Path) {
        run(&[self.make, &[text(device)]].concat());
    }
}

/// The device, mounted at `dir`.
#[derive(Debug)]
pub(crate) struct LoggedDevice {
    scratch: PathBuf,
    nbdfuse: Child,
    is_mounted: bool,
}

impl LoggedDevice {
    /// The missing tools.
    pub(crate) fn missing() -> Vec<&'static str> {
        let is_missing = |tool: &&str| !is_there(tool);
        let tools = ["nbdkit", "nbdfuse", "fusermount3", "losetup"];
        let mut missing: Vec<_> = tools.into_iter().filter(is_missing).collect();
        let plugin = Command::new("nbdkit").args(["python", "--dump-plugin"]).output();
        if !plugin.is_ok_and(|output| output.status.success()) {
            missing.push("nbdkit-plugin-python");
        }
        missing.extend((!Path::new("/dev/fuse").exists()).then_some("/dev/fuse"));
        missing
    }

    pub(crate) fn new(scratch: &Path, system: FileSystem) -> Self {
        let file = scratch.join("device");
        fs::write(&file, b"").expect("the scratch directory is ours");
        let plugin = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernel/logged_device.py");
        let log = format!("log={}", text(&scratch.join("log")));
        let nbdfuse = Command::new("nbdfuse")
            .arg(&file)
            .args(["--command", "nbdkit", "-s", "--exit-with-parent", "python"])
            .args([text(&plugin), &log, &format!("mib={}", system.mib)])
            .stderr(Stdio::null())
            .spawn()
            .expect("nbdfuse starts");
        let mut device = Self { scratch: scratch.to_path_buf(), nbdfuse, is_mounted: false };
        let began = Instant::now();
        while fs::metadata(&file).expect("it is there").len() == 0 {
            assert!(began.elapsed() < LIMIT, "nbdfuse shows no device");
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
        system.mkfs(&file);
        fs::create_dir_all(device.dir()).expect("the scratch directory is ours");
        run(&["mount", "-o", "loop", text(&file), text(&device.dir())]);
        device.is_mounted = true;
        device
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.scratch.join("live")
    }

    /// Bytes in the log so far; everything durable now is in them.
    pub(crate) fn log_bytes(&self) -> u64 {
        fs::metadata(self.scratch.join("log")).expect("nbdkit has made it").len()
    }

    /// Takes the device down, and returns its log.
    pub(crate) fn finish(self) -> Vec<u8> {
        let log = self.scratch.join("log");
        drop(self);
        fs::read(log).expect("nbdkit has made it")
    }
}

impl Drop for LoggedDevice {
    fn drop(&mut self) {
        if self.is_mounted {
            insist(&["umount", text(&self.dir())]);
        }
        insist(&["fusermount3", "-u", text(&self.scratch.join("device"))]);
        self.nbdfuse.wait().ok();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Write,
    /// Durable at once (forced unit access).
    Through,
    Flush,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kind: Kind,
    offset: u64,
    /// The offset of its bytes in the log.
    at: usize,
    bytes: usize,
}

/// Walks a device's log from cut to cut.
pub(crate) struct Images<'a> {
    log: &'a [u8],
    entries: Vec<Entry>,
    device_bytes: u64,
    /// The nonzero pages after all writes before the entry `flushed`.
    base: BTreeMap<u64, Page>,
    flushed: usize,
}

impl<'a> Images<'a> {
    pub(crate) fn new(log: &'a [u8], system: FileSystem) -> Self {
        let (mut entries, mut at) = (Vec::new(), 0);
        while let Some(header) = log.get(at..at + ENTRY_BYTES) {
            let long = |from: usize| header[from..from + 8].try_into().expect("eight bytes");
            let int = header[9..13].try_into().expect("four bytes");
            let bytes = u32::from_le_bytes(int) as usize;
            let kind = match header[0] {
                b'W' => Kind::Write,
                b'U' => Kind::Through,
                b'F' => Kind::Flush,
                other => panic!("unknown entry kind {other}"),
            };
            at += ENTRY_BYTES;
            entries.push(Entry { kind, offset: u64::from_le_bytes(long(1)), at, bytes });
            at += bytes;
        }
        let device_bytes = system.mib << 20;
        Self { log, entries, device_bytes, base: BTreeMap::new(), flushed: 0 }
    }

    /// The entries that end between two lengths of the log.
    pub(crate) fn between(&self, from: u64, to: u64) -> std::ops::Range<usize> {
        let count = |length| self.entries.partition_point(|entry| self.end(entry) <= length);
        count(from)..count(to)
    }

    fn end(&self, entry: &Entry) -> u64 {
        (entry.at + entry.bytes) as u64
    }

    /// Writes an image to `file` that a power cut after the first `cut` entries may
    /// leave. Returns the length of the log at the cut. Cuts may only rise.
    pub(crate) fn write(&mut self, file: &Path, cut: usize, random: &mut Random) -> u64 {
        let is_flush = |entry: &Entry| entry.kind == Kind::Flush;
        let behind = self.entries[self.flushed..cut].iter().rposition(is_flush);
        if let Some(flush) = behind {
            let end = self.flushed + flush + 1;
            for entry in &self.entries[self.flushed..end] {
                let bytes = &self.log[entry.at..entry.at + entry.bytes];
                put(&mut self.base, &BTreeMap::new(), entry.offset, bytes);
            }
            self.flushed = end;
        }
        let mut changed = BTreeMap::new();
        let (odds, kept) = [(2, true), (8, true), (8, false), (1, true), (1, false)]
            [usize::try_from(random.below(5)).expect("a small number")];
        for entry in &self.entries[self.flushed..cut] {
            let bytes = &self.log[entry.at..entry.at + entry.bytes];
            for (nth, sector) in bytes.chunks(SECTOR).enumerate() {
                if entry.kind == Kind::Through || (random.below(odds) == 0) == kept {
                    let offset = entry.offset + (nth * SECTOR) as u64;
                    put(&mut changed, &self.base, offset, sector);
                }
            }
        }
        self.write_pages(file, &changed);
        self.entries[..cut].last().map_or(0, |entry| self.end(entry))
    }

    fn write_pages(&self, file: &Path, changed: &BTreeMap<u64, Page>) {
        let image = File::create(file).expect("the scratch directory is ours");
        image.set_len(self.device_bytes).expect("there is room");
        for pages in [&self.base, changed] {
            for (number, page) in pages {
                let offset = number * PAGE as u64;
                image.write_all_at(page, offset).expect("there is room");
            }
        }
    }
}

/// Puts bytes into pages. A missing page is first copied from `below`.
fn put(pages: &mut BTreeMap<u64, Page>, below: &BTreeMap<u64, Page>, offset: u64, bytes: &[u8]) {
    let (mut offset, mut bytes) = (offset, bytes);
    while !bytes.is_empty() {
        let number = offset / PAGE as u64;
        let at = usize::try_from(offset % PAGE as u64).expect("a page is small");
        let (now, later) = bytes.split_at(bytes.len().min(PAGE - at));
        let blank = || below.get(&number).copied().unwrap_or([0; PAGE]);
        let page = pages.entry(number).or_insert_with(blank);
        page[at..at + now.len()].copy_from_slice(now);
        offset += now.len() as u64;
        bytes = later;
    }
}
