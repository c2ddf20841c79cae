//! Cuts the power below real file systems. Mounts and opens the images that ext4, XFS
//! and btrfs leave on a device with a volatile cache. Every record acknowledged before
//! the cut must be there, and the Python reader must agree about each image.
//!
//! `SHARDWAL_POWER_IMAGES=500` sets the number of images per file system.
//! `SHARDWAL_SEED` repeats the random choices; the writes of the kernel differ from run
//! to run.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use shardwal::fs::OsFileSystem;

use crate::child;
use crate::logged_device::{BTRFS, EXT4, FileSystem, Images, LoggedDevice, XFS};
use crate::mounts::{Mount, Rights, inside, run, scratch, text};
use crate::second_opinion::{Image, Opinion, SecondOpinion};
use crate::support::{Random, seed};
use crate::transcript::Transcript;

/// Images per file system by default.
const IMAGES: u64 = 24;
/// Commands of a child between its first open and its end.
const COMMANDS: u64 = 60;
/// One run per mode, each in a directory of its own.
const MODES: [&str; 3] = ["sync", "interval:20ms", "os"];

/// The lines of a child, and the length of the device's log when each was read.
struct Run {
    name: String,
    mode: &'static str,
    from: u64,
    lines: Vec<(String, u64)>,
}

/// Random commands: appends, batches, rolls, flushes, truncations, closes, and opens
/// with other numbers of shards.
fn script(mode: &str, random: &mut Random) -> Vec<String> {
    let mut next = [0_u64; 8];
    let mut shards = 2;
    let mut lines = vec![format!("open {shards} 8192 {mode}")];
    for _ in 0..COMMANDS {
        let records = random.below(6) + 1;
        let mut record = |_| {
            let key = random.below(next.len() as u64);
            let index = &mut next[usize::try_from(key).expect("a small key")];
            *index += 1;
            format!(" {key}:{}", *index - 1)
        };
        let names: String = (0..records).map(&mut record).collect();
        let one = record(0);
        let length = [40, 700, 2500, 9000][usize::try_from(random.below(4)).expect("small")];
        match random.below(16) {
            0..7 => lines.push(format!("append {length}{one}")),
            7..10 => lines.push(format!("queue {length}{names}{one}")),
            10 | 11 => lines.push(format!("batch {length}{names}{one}")),
            12 => lines.push("flush".into()),
            13 => lines.push("truncate".into()),
            14 => {
                shards = 1 + random.below(3);
                lines.extend(["close".into(), format!("open {shards} 8192 {mode}")]);
            }
            _ => lines.extend(["drop".into(), format!("open {shards} 8192 {mode}")]),
        }
    }
    lines.push("close".into());
    lines
}

/// The answers to a command that must come before the next command.
fn answers(line: &str) -> (&'static [&'static str], usize) {
    let words: Vec<_> = line.split(' ').collect();
    match words[0] {
        "append" | "queue" => (&["answer"], words.len() - 2),
        "batch" => (&["batched"], 1),
        "flush" => (&["flushed"], 1),
        "truncate" => (&["truncated", "unread"], 1),
        "close" => (&["closed"], 1),
        "open" => (&["opened", "refused"], 1),
        _ => (&[], 0),
    }
}

/// Runs a child on the device. The child reports an action only after it has happened.
fn record(device: &LoggedDevice, mode: &'static str, random: &mut Random) -> Run {
    let name = format!("log-{}", mode.split(':').next().expect("a word"));
    let from = device.log_bytes();
    let mut command = child::command(&device.dir().join(&name), &[]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut input = child.stdin.take().expect("it is piped");
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut lines = Vec::new();
    for line in script(mode, random) {
        input.write_all(format!("{line}\n").as_bytes()).expect("the child listens");
        let (words, mut left) = answers(&line);
        while left > 0 {
            let mut recorded = String::new();
            let bytes = output.read_line(&mut recorded).expect("the child answers");
            assert!(bytes > 0, "the child has ended at `{line}`");
            let Some(said) = recorded.trim_end().strip_prefix(child::MARK) else { continue };
            left -= usize::from(words.contains(&said.split(' ').next().unwrap_or_default()));
            lines.push((recorded.trim_end().to_owned(), device.log_bytes()));
        }
    }
    drop(input);
    child.wait().expect("it ends");
    Run { name, mode, from, lines }
}

impl Run {
    /// The certain state at a cut: the lines read before the log had this length.
    /// Actions under way are open.
    fn transcript_at(&self, log_bytes: u64) -> Transcript {
        const BEGUN: [&str; 4] = ["append", "batch", "truncate", "opening"];
        let mut transcript = Transcript::default();
        if self.mode != "sync" {
            transcript.acknowledges_unsynced();
        }
        for (line, recorded_at) in &self.lines {
            let word = line.strip_prefix(child::MARK).and_then(|said| said.split(' ').next());
            if *recorded_at > log_bytes && !BEGUN.contains(&word.unwrap_or_default()) {
                break;
            }
            transcript.hear(line);
        }
        transcript.lose_power();
        transcript
    }
}

/// Mounts an image and checks its log against the transcript.
fn check(dir: &Path, run: &Run, transcript: &mut Transcript, second: Option<&SecondOpinion>) {
    let log = dir.join(&run.name);
    if let Some(second) = second {
        let library = Opinion::of_the_library(Arc::new(OsFileSystem), &log);
        second.compare(&Image::of_dir(&log), &library);
    }
    transcript.check_log(&log);
}

fn images_wanted() -> u64 {
    let named = std::env::var("SHARDWAL_POWER_IMAGES").ok().and_then(|images| images.parse().ok());
    named.unwrap_or(IMAGES)
}

/// The test of one file system.
fn the_power_goes(name: &str, system: FileSystem) {
    let mut missing = LoggedDevice::missing();
    missing.extend((!system.is_there()).then_some(system.make[0]));
    if !missing.is_empty() {
        return println!("SKIPPED: {name}: missing {missing:?}");
    }
    if !inside(name, Rights::Root) {
        return;
    }
    let mut random = Random::new(seed());
    let scratch = scratch();
    // Each cut needs a new image, which is cheap in memory.
    let memory = Mount::tmpfs(scratch.path(), 1 << 20, 1024);
    let device = LoggedDevice::new(memory.dir(), system);
    let runs = MODES.map(|mode| record(&device, mode, &mut random));
    let log = device.finish();
    let second = SecondOpinion::start();
    let mut images = Images::new(&log, system);
    let (file, dir) = (memory.dir().join("image"), memory.dir().join("cut"));
    fs::create_dir(&dir).expect("the scratch directory is ours");
    let (began, mut acknowledged, mut cuts) = (Instant::now(), 0, 0);
    for run_of_mode in &runs {
        let to = run_of_mode.lines.last().expect("the child has printed a line").1;
        let range = images.between(run_of_mode.from, to);
        let wanted = images_wanted().div_ceil(MODES.len() as u64);
        let mut pick = |_| range.start + below(&mut random, range.len());
        let mut chosen: Vec<_> = (0..wanted).map(&mut pick).collect();
        chosen.sort_unstable();
        for cut in chosen {
            let log_bytes = images.write(&file, cut, &mut random);
            run(&["mount", "-o", "loop", text(&file), text(&dir)]);
            let mounted = Mounted(&dir);
            let mut transcript = run_of_mode.transcript_at(log_bytes);
            check(&dir, run_of_mode, &mut transcript, second.as_ref());
            drop(mounted);
            acknowledged += transcript.acknowledged;
            cuts += 1;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("FIGURE power cuts below {}: {cuts} images in {seconds:.1} s", system.name);
    println!("FIGURE power cuts below {}: {acknowledged} records to be there", system.name);
    match second {
        Some(second) => {
            let judged = second.read() + second.refused();
            println!("FIGURE power cuts below {}, second opinion: {judged} images", system.name);
            assert_eq!(judged, cuts);
        }
        None => println!("SKIPPED: {name}: the second opinion: there is no python3"),
    }
    assert!(cuts >= images_wanted() && acknowledged > cuts);
}

fn below(random: &mut Random, length: usize) -> usize {
    usize::try_from(random.below(length as u64)).expect("it is below")
}

/// Unmounts an image, also if its check fails.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        crate::mounts::insist(&["umount", text(self.0)]);
    }
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn nothing_acknowledged_is_lost_below_ext4() {
    the_power_goes("power::nothing_acknowledged_is_lost_below_ext4", EXT4);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn nothing_acknowledged_is_lost_below_xfs() {
    the_power_goes("power::nothing_acknowledged_is_lost_below_xfs", XFS);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn nothing_acknowledged_is_lost_below_btrfs() {
    the_power_goes("power::nothing_acknowledged_is_lost_below_btrfs", BTRFS);
}
