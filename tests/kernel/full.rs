//! A file system that is really full. The kernel reports it, and the log continues, in
//! this process, as soon as there is room. No record is lost, and none appears
//! twice.

use std::fs;
use std::path::Path;

use shardwal::{Cause, Config, ShardedWal};

use crate::logged_device::EXT4;
use crate::mounts::{Mount, Rights, inside, scratch};
use crate::strace::finish;
use crate::support::ledger::Ledger;
use crate::support::{open, replayed};
use crate::{child, transcript::Transcript, workload::LARGE};

const KEYS: u64 = 8;

/// How a file system is filled.
#[derive(Clone, Copy, Debug)]
struct Filling {
    segment_bytes: u64,
    /// Bytes of each payload.
    length: usize,
    /// Two directories of ballast with four files each.
    ballast_kib: usize,
}

/// Counts over the fillings.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) resumed: u64,
}

fn config(dir: &Path, filling: Filling) -> Config {
    Config::new(dir.join("log")).shards(2).segment_bytes(filling.segment_bytes)
}

/// Uses up bytes and names: either may run out first.
fn load(ballast: &Path, kib: usize) {
    fs::create_dir(ballast).expect("the disk is still empty");
    for file in 0..4 {
        let bytes = vec![1; kib << 8];
        fs::write(ballast.join(file.to_string()), bytes).expect("the disk is still empty");
    }
}

/// Appends to all keys until each shard has refused for lack of room, with a certain
/// answer.
pub(crate) fn fill(log: &ShardedWal, ledger: &mut Ledger, length: usize, outcomes: &mut Outcomes) {
    let mut full = [false; 2];
    for key in (0..KEYS).cycle() {
        match ledger.append(log, key, length) {
            Ok(()) => outcomes.acknowledged += 1,
            Err(error) => {
                assert!(error.is_not_written(), "{error}");
                assert!(matches!(error.cause(), Cause::DiskFull(_)), "{error}");
                outcomes.refused += 1;
                full[log.shard_of(key)] = true;
                if full == [true; 2] {
                    return;
                }
            }
        }
    }
}

/// After room was made, the next append to each shard succeeds.
pub(crate) fn resume(
    log: &ShardedWal,
    ledger: &mut Ledger,
    length: usize,
    outcomes: &mut Outcomes,
) {
    for key in 0..KEYS {
        let appended = ledger.append(log, key, length);
        appended.unwrap_or_else(|error| panic!("there is room again: {error}"));
        outcomes.acknowledged += 1;
    }
    outcomes.resumed += 1;
}

/// Fills the disk, makes room, fills it, truncates, fills it, and reopens.
fn life_on(dir: &Path, filling: Filling, outcomes: &mut Outcomes) {
    let length = filling.length;
    let ballast = ["one", "two"].map(|name| dir.join(name));
    ballast.iter().for_each(|ballast| load(ballast, filling.ballast_kib));
    let mut ledger = Ledger::default();
    let log = open(config(dir, filling));
    fill(&log, &mut ledger, length, outcomes);
    ledger.check(&replayed(&log));
    fs::remove_dir_all(&ballast[0]).expect("it can be removed");
    resume(&log, &mut ledger, length, outcomes);
    fill(&log, &mut ledger, length, outcomes);
    // Truncation needs no space, and frees some.
    let (found, checkpoint) = (replayed(&log), log.durable_checkpoint());
    let report = log.truncate_before(&checkpoint).expect("it truncates on a full disk");
    assert!(report.segments > 0, "{report:?}");
    ledger.truncated(&found.below(&checkpoint));
    resume(&log, &mut ledger, length, outcomes);
    ledger.check(&replayed(&log));
    fill(&log, &mut ledger, length, outcomes);
    log.close().expect("close needs no new space");
    drop(log);
    // An open creates one segment per shard.
    fs::remove_dir_all(&ballast[1]).expect("it can be removed");
    let log = open(config(dir, filling));
    ledger.check(&replayed(&log));
    resume(&log, &mut ledger, length, outcomes);
    drop(log);
    ledger.check(&replayed(&open(config(dir, filling))));
}

fn print_figures(what: &str, file_systems: usize, outcomes: &Outcomes) {
    let Outcomes { acknowledged, refused, resumed } = outcomes;
    println!("FIGURE full {what}: {file_systems} disks");
    println!("FIGURE full {what}, refused: {refused} appends");
    println!("FIGURE full {what}, resumed in the same process: {resumed} times");
    println!("FIGURE full {what}, acknowledged, none lost or doubled: {acknowledged} records");
    assert!(
        outcomes.resumed >= 3 * file_systems as u64 && outcomes.refused >= 6 * file_systems as u64,
        "{outcomes:?}"
    );
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn on_a_full_tmpfs_appends_are_refused_until_there_is_room() {
    const FILLING: Filling = Filling { segment_bytes: 4096, length: 900, ballast_kib: 32 };
    let name = "full::on_a_full_tmpfs_appends_are_refused_until_there_is_room";
    if !inside(name, Rights::Tmpfs) {
        return;
    }
    let mut outcomes = Outcomes::default();
    let sizes = (192..=1024).step_by(64);
    for kib in sizes.clone() {
        let scratch = scratch();
        let mount = Mount::tmpfs(scratch.path(), kib, 4096);
        life_on(mount.dir(), FILLING, &mut outcomes);
    }
    print_figures("tmpfs of 192 KiB to 1 MiB", sizes.count(), &outcomes);
    // Enough bytes, but no more names.
    let (mut outcomes, inodes) = (Outcomes::default(), 40..56);
    for inodes in inodes.clone() {
        let scratch = scratch();
        let mount = Mount::tmpfs(scratch.path(), 4096, inodes);
        life_on(mount.dir(), FILLING, &mut outcomes);
    }
    print_figures("tmpfs of 40 to 55 files", inodes.count(), &outcomes);
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn on_a_full_ext4_appends_are_refused_until_there_is_room() {
    const FILLING: Filling = Filling { segment_bytes: 64 << 10, length: 8000, ballast_kib: 512 };
    let name = "full::on_a_full_ext4_appends_are_refused_until_there_is_room";
    if !inside(name, Rights::Root) {
        return;
    }
    let mut outcomes = Outcomes::default();
    let sizes = [4, 6, 8];
    for mib in sizes {
        let scratch = scratch();
        let Some(mount) = Mount::of_image(scratch.path(), EXT4.make, mib, "rw") else {
            return println!("SKIPPED: {name}: no loop device");
        };
        life_on(mount.dir(), FILLING, &mut outcomes);
    }
    print_figures("ext4 of 4 to 8 MiB on a loop device", sizes.len(), &outcomes);
}

/// A limit on the size of files cuts a write short, and the next write reports the
/// reason. That counts as a full disk too.
#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn a_file_size_limit_of_any_value_counts_as_a_full_disk() {
    /// The smallest limit that allows the creation of a log.
    const LEAST: usize = 8192;
    const LIMITS: usize = 64;
    let (mut refused, mut acknowledged) = (0, 0);
    for nth in 0..LIMITS {
        let bytes = LEAST + nth * 199;
        let scratch = scratch();
        let dir = scratch.path().join("log");
        let limit = format!("trap '' XFSZ; exec prlimit --fsize={bytes} \"$@\"");
        let output = finish(child::command(&dir, &["sh", "-c", &limit, "sh"]), LARGE);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("panicked"), "{bytes}: {output:?}");
        let mut transcript = Transcript::default();
        transcript.hear_all(&String::from_utf8_lossy(&output.stdout));
        assert!(transcript.ended, "{bytes}: {output:?}");
        assert_eq!(transcript.indeterminate, 0, "{bytes}: a lack of room is certain");
        transcript.check_log(&dir);
        refused += transcript.not_written;
        acknowledged += transcript.acknowledged;
    }
    println!("FIGURE file size limits: {LIMITS} limits");
    println!("FIGURE file size limits, refused: {refused} records");
    assert!(refused >= 20 && acknowledged >= 100, "{refused} {acknowledged}");
}
