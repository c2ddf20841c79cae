//! A second opinion of an image of a log: `tests/format_reader.py`, which was
//! written from FORMAT.md alone, must find in it what the library finds.
//!
//! One Python process judges many images. All integers are little-endian:
//!
//! - an image: its length (u32), then entries to that length. An entry: the
//!   length of its path (u16), 1 for a file or 0 for a directory (u8), the length of
//!   the file (u32), the path below the log's directory, the file's bytes.
//! - an answer: its length (u32), then `N` (no log), `R` and a reason (refused), or
//!   `L` and the records. A record: generation (u32), shard (u32), sequence (u64),
//!   key (u64), the length of its payload (u32), the payload.

#![allow(dead_code, reason = "each program that includes it uses a part")]

mod corruption;

use std::convert::Infallible;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use shardwal::fs::sim::SimFileSystem;
use shardwal::fs::{FileSystem, OsFileSystem};
use shardwal::{LogReader, OpenError, ReplayOptions};

/// `(generation, shard, sequence, key, payload)`.
pub(crate) type Row = (u32, u32, u64, u64, Vec<u8>);

/// The result of a reader for an image.
#[derive(Clone, Debug)]
pub(crate) enum Opinion {
    /// A log with these records.
    Log(Vec<Row>),
    /// The log is corrupted, or of a later version, for this reason.
    Refused(String),
    /// There is no log.
    NoLog,
}

impl Opinion {
    /// Compares two results. The reasons may differ.
    fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Log(own), Self::Log(others)) => own == others,
            (Self::Refused(_), Self::Refused(_)) | (Self::NoLog, Self::NoLog) => true,
            _ => false,
        }
    }

    /// The result of the library, which only reads.
    pub(crate) fn of_the_library(fs: Arc<dyn FileSystem>, dir: &Path) -> Self {
        let reader = match LogReader::open_in(fs, dir) {
            Ok(reader) => reader,
            Err(OpenError::NotALog { .. }) => return Self::NoLog,
            Err(error) => return Self::Refused(error.to_string()),
        };
        if let Some(corruption) = reader.report().corruption().next() {
            return Self::Refused(corruption.to_string());
        }
        let rows = Mutex::new(Vec::new());
        let replayed = reader.replay(ReplayOptions::default().threads(1), |record| {
            let at = record.position();
            let payload = record.payload().to_vec();
            let row = (at.generation, at.shard, at.sequence, record.key(), payload);
            rows.lock().expect("one thread").push(row);
            Ok::<_, Infallible>(())
        });
        match replayed {
            Ok(_) => Self::Log(rows.into_inner().expect("one thread")),
            Err(error) => Self::Refused(error.to_string()),
        }
    }

    fn parse(answer: &[u8]) -> Self {
        let (kind, mut rest) = answer.split_first().expect("an answer has a kind");
        match kind {
            b'N' => return Self::NoLog,
            b'R' => return Self::Refused(String::from_utf8_lossy(rest).into_owned()),
            b'L' => {}
            other => panic!("an answer of kind {other}"),
        }
        let mut rows = Vec::new();
        while !rest.is_empty() {
            let generation = u32::from_le_bytes(take(&mut rest));
            let shard = u32::from_le_bytes(take(&mut rest));
            let sequence = u64::from_le_bytes(take(&mut rest));
            let key = u64::from_le_bytes(take(&mut rest));
            let length = u32::from_le_bytes(take(&mut rest)) as usize;
            let (payload, behind) = rest.split_at(length);
            rows.push((generation, shard, sequence, key, payload.to_vec()));
            rest = behind;
        }
        Self::Log(rows)
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let (first, rest) = bytes.split_first_chunk().expect("an answer is whole");
    *bytes = rest;
    *first
}

/// The files and directories of a log, as paths below its directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    dirs: Vec<String>,
}

impl Image {
    /// Collects the image of a directory. `read` returns the bytes of a file, and
    /// `None` for a directory.
    fn walk(
        fs: &dyn FileSystem,
        dir: &Path,
        below: &str,
        read: &dyn Fn(&Path) -> Option<Vec<u8>>,
    ) -> Self {
        let mut image = Self::default();
        // A missing directory has no names.
        for name in fs.list(dir).unwrap_or_default() {
            let (path, below) = (dir.join(&name), format!("{below}{name}"));
            if let Some(bytes) = read(&path) {
                image.files.push((below, bytes));
                continue;
            }
            let inner = Self::walk(fs, &path, &format!("{below}/"), read);
            image.files.extend(inner.files);
            image.dirs.extend(inner.dirs);
            image.dirs.push(below);
        }
        image
    }

    /// The image of a log on a simulated file system.
    pub(crate) fn of_sim(fs: &SimFileSystem, dir: &str) -> Self {
        Self::walk(fs, Path::new(dir), "", &|path| fs.read_file(path))
    }

    /// The image of a log in a directory of the operating system.
    pub(crate) fn of_dir(dir: &Path) -> Self {
        let read = |path: &Path| {
            let file = !path.is_dir();
            file.then(|| fs::read(path).expect("a file of the log can be read"))
        };
        Self::walk(&OsFileSystem, dir, "", &read)
    }

    /// A simulated file system with this image.
    pub(crate) fn to_sim(&self, dir: &str) -> SimFileSystem {
        let fs = SimFileSystem::with_dir(dir);
        for dir_path in self.dirs.iter().rev() {
            fs.create_dir(&Path::new(dir).join(dir_path)).expect("a directory comes after its own");
        }
        self.files.iter().for_each(|(path, bytes)| fs.write_file(Path::new(dir).join(path), bytes));
        fs
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        let mut enter = |path: &str, is_file: bool, content: &[u8]| {
            let path_bytes = u16::try_from(path.len()).expect("a short path");
            let length = u32::try_from(content.len()).expect("a small file");
            bytes.extend(path_bytes.to_le_bytes());
            bytes.push(u8::from(is_file));
            bytes.extend(length.to_le_bytes());
            bytes.extend(path.as_bytes());
            bytes.extend(content);
        };
        self.files.iter().for_each(|(path, content)| enter(path, true, content));
        self.dirs.iter().for_each(|path| enter(path, false, &[]));
        let length = u32::try_from(bytes.len() - 4).expect("a small image");
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }
}

/// The Python reader, and the number of its results.
#[derive(Debug)]
pub(crate) struct SecondOpinion {
    python: Mutex<Python>,
    /// Images on whose records both agreed.
    read: AtomicU64,
    /// Images that both refused, or in which both found no log.
    refused: AtomicU64,
}

#[derive(Debug)]
struct Python {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl SecondOpinion {
    /// Starts the Python reader; `None` without Python.
    pub(crate) fn start() -> Option<Self> {
        let judge = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/second_opinion/judge.py");
        let mut command = Command::new("python3");
        command.arg(judge).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let input = child.stdin.take();
        let output = child.stdout.take().expect("it is piped");
        let python = Mutex::new(Python { child, input, output });
        Some(Self { python, read: AtomicU64::new(0), refused: AtomicU64::new(0) })
    }

    /// Reads an image with the Python reader and compares with the library.
    ///
    /// # Panics
    ///
    /// If they disagree. The image is kept in the directory that the message names.
    pub(crate) fn compare(&self, image: &Image, library: &Opinion) {
        if let Some(difference) = self.difference(image, library) {
            panic!("the readers disagree about {}: {difference}", keep(image).display());
        }
        let counter = if matches!(library, Opinion::Log(_)) { &self.read } else { &self.refused };
        counter.fetch_add(1, Relaxed);
    }

    /// How the two results for an image differ.
    pub(crate) fn difference(&self, image: &Image, library: &Opinion) -> Option<String> {
        let python = self.ask(image).expect("the Python reader answers");
        let difference =
            || format!("\n  the library: {}\n  Python: {}", summary(library), summary(&python));
        (!library.agrees(&python)).then(difference)
    }

    fn ask(&self, image: &Image) -> io::Result<Opinion> {
        let mut python = self.python.lock().unwrap_or_else(PoisonError::into_inner);
        let input = python.input.as_mut().expect("it is open until the end");
        input.write_all(&image.encode())?;
        input.flush()?;
        let mut length = [0; 4];
        python.output.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        python.output.read_exact(&mut answer)?;
        Ok(Opinion::parse(&answer))
    }

    pub(crate) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}

impl Drop for Python {
    /// The process ends when its input does.
    fn drop(&mut self) {
        self.input = None;
        self.child.wait().ok();
    }
}

/// Writes the image to a directory, for the analysis of a disagreement.
fn keep(image: &Image) -> PathBuf {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room");
    let dir = scratch.keep();
    for dir_path in &image.dirs {
        fs::create_dir_all(dir.join(dir_path)).expect("there is room");
    }
    for (path, bytes) in &image.files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("it is below")).expect("there is room");
        fs::write(path, bytes).expect("there is room");
    }
    dir
}

/// A result without payloads.
fn summary(opinion: &Opinion) -> String {
    match opinion {
        Opinion::NoLog => "no log".into(),
        Opinion::Refused(why) => format!("refused: {why}"),
        Opinion::Log(rows) => {
            let row = |(generation, shard, sequence, key, payload): &Row| {
                let bytes = payload.len();
                format!("{generation}/{shard}/{sequence} key {key}, {bytes} bytes")
            };
            let rows: Vec<_> = rows.iter().map(row).collect();
            format!("{} records: {}", rows.len(), rows.join("; "))
        }
    }
}
