//! A commit that finds no room, where even cutting the file takes room: on a
//! copy-on-write file system, or in a file that shares its blocks with a copy.

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{ENOSPC, Random, config, open, replayed, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimDisk};
use shardwal::{Cause, Config, Durability, ShardedWal};

const EDQUOT: i32 = 122;

/// The reason why a cut fails.
#[derive(Clone, Copy, Debug)]
enum Disk {
    /// The file system copies on write.
    CopyOnWrite,
    /// The file shares its blocks with a copy, or a quota is at its limit.
    SharedBlocks(i32),
}

const DISKS: [Disk; 3] =
    [Disk::CopyOnWrite, Disk::SharedBlocks(ENOSPC), Disk::SharedBlocks(EDQUOT)];
const MODES: [Durability; 2] = [Durability::Sync, Durability::Os];

impl Disk {
    fn make(self) -> SimDisk {
        let disk = SimDisk::new();
        disk.set_copy_on_write(matches!(self, Self::CopyOnWrite));
        disk.set_copies_need_room(matches!(self, Self::CopyOnWrite));
        disk
    }

    /// Leaves `pages` free, and no room for a cut.
    fn fill_up(self, disk: &SimDisk, pages: u64) {
        let used = disk
            .files()
            .into_iter()
            .map(|path| disk.read_file(path).map_or(0, |bytes| bytes.len()));
        let used: usize = used.map(|length| length.div_ceil(4096)).sum();
        disk.set_capacity(Some((used as u64 + pages) * 4096));
        if let Self::SharedBlocks(errno) = self {
            let fault = Fault::new(Call::SetLen, 1, FaultKind::Error(errno));
            disk.fail(Fault { sticky: true, ..fault });
        }
    }

    fn make_room(disk: &SimDisk) {
        disk.set_capacity(None);
        disk.clear_faults();
    }
}

fn config_of(disk: &SimDisk, mode: Durability) -> Config {
    config(disk).segment_bytes(256 << 10).durability(mode)
}

fn ledger_of(mode: Durability) -> Ledger {
    if mode == Durability::Sync { Ledger::default() } else { Ledger::unsynced() }
}

/// Appends until nothing fits. Each refusal must be `NotWritten` for lack of room.
fn fill(log: &ShardedWal, ledger: &mut Ledger, length: usize) {
    let mut refused = 0;
    while refused < 3 {
        if let Err(error) = ledger.append(log, 1, length) {
            assert!(error.is_not_written(), "{error}");
            assert!(matches!(error.cause(), Cause::DiskFull(_)), "{error}");
            refused += 1;
        }
    }
}

#[test]
fn a_commit_without_room_to_cut_is_not_written_and_appends_succeed_once_there_is_room() {
    let mut random = Random::new(seed());
    for (kind, mode) in DISKS.iter().flat_map(|kind| MODES.map(|mode| (*kind, mode))) {
        for pages in [0, 1, 2, 5, 16] {
            let (disk, mut ledger) = (kind.make(), ledger_of(mode));
            let log = open(config_of(&disk, mode).spare_segments(0));
            // Far enough that commits use direct I/O where they can.
            for _ in 0..[2, 20][usize::from(pages == 16)] {
                ledger.append(&log, 1, 15_000).unwrap();
            }
            for lap in 0..3 {
                kind.fill_up(&disk, pages);
                fill(&log, &mut ledger, 9000 + lap * 30_000);
                ledger.clone().check(&replayed(&log));
                let after = disk.copy().crash(&mut || random.coin());
                Disk::make_room(&after);
                let mut lost = ledger.clone();
                lost.lose_power();
                lost.check(&replayed(&open(config_of(&after, mode))));
                Disk::make_room(&disk);
                ledger.append(&log, 1, 1500).expect("there is room again");
                ledger.clone().check(&replayed(&log));
            }
            log.close().unwrap();
            drop(log);
            ledger.check(&replayed(&open(config_of(&disk, mode))));
        }
    }
}

/// A frame of the refused commit begins where the first frame of the next commit ends.
/// Its checksum is valid for its position and its segment.
#[test]
fn frames_of_a_refused_commit_never_follow_the_next_commit() {
    const LENGTH: usize = 50_000;
    let mut random = Random::new(seed());
    for kind in DISKS {
        let (disk, gate, mut ledger) = (kind.make(), Gate::default(), Ledger::unsynced());
        let gated = config_of(&disk, Durability::Os).disk(gate.before(&disk));
        let log = open(gated.spare_segments(0));
        ledger.append(&log, 1, 100).unwrap();
        gate.shut();
        let flushed = log.flush();
        gate.wait_for_writer();
        // Three frames of one commit; the third finds no room.
        let payloads = [(); 3].map(|()| ledger.next(1, LENGTH));
        let appended = payloads.map(|payload| log.append(1, payload));
        kind.fill_up(&disk, 20);
        gate.open();
        flushed.wait().unwrap();
        for (index, completion) in (1..).zip(appended) {
            assert!(ledger.wait(1, index, completion).unwrap_err().is_not_written());
        }
        Disk::make_room(&disk);
        ledger.append(&log, 1, LENGTH).expect("there is room again");
        for draw in 0..200 {
            let after = disk.copy().crash(&mut || draw == 0 || random.below(8) > 0);
            let log = open(config_of(&after, Durability::Os));
            let mut lost = ledger.clone();
            lost.lose_power();
            lost.check(&replayed(&log));
        }
        ledger.check(&replayed(&log));
    }
}
