//! A commit that finds no room, where even cutting the file takes room: on a
//! copy-on-write file system, or in a file that shares its blocks with a copy.

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{ENOSPC, Random, config, open, replayed, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Cause, Config, Durability, ShardedWal};

const EDQUOT: i32 = 122;

/// The reason why a cut fails.
#[derive(Clone, Copy, Debug)]
enum FileSystem {
    /// The file system copies on write.
    CopyOnWrite,
    /// The file shares its blocks with a copy, or a quota is at its limit.
    SharedBlocks(i32),
}

const DISKS: [FileSystem; 3] =
    [FileSystem::CopyOnWrite, FileSystem::SharedBlocks(ENOSPC), FileSystem::SharedBlocks(EDQUOT)];
const MODES: [Durability; 2] = [Durability::Sync, Durability::Buffered];

impl FileSystem {
    fn make(self) -> SimFileSystem {
        let fs = SimFileSystem::new();
        fs.set_copy_on_write(matches!(self, Self::CopyOnWrite));
        fs.set_copies_need_room(matches!(self, Self::CopyOnWrite));
        fs
    }

    /// Leaves `pages` free, and no room for a cut.
    fn fill_up(self, fs: &SimFileSystem, pages: u64) {
        let used =
            fs.files().into_iter().map(|path| fs.read_file(path).map_or(0, |bytes| bytes.len()));
        let used: usize = used.map(|length| length.div_ceil(4096)).sum();
        fs.set_capacity(Some((used as u64 + pages) * 4096));
        if let Self::SharedBlocks(errno) = self {
            let fault = Fault::new(Call::SetLen, 1, FaultKind::Error(errno));
            fs.fail(Fault { sticky: true, ..fault });
        }
    }

    fn make_room(fs: &SimFileSystem) {
        fs.set_capacity(None);
        fs.clear_faults();
    }
}

fn config_of(fs: &SimFileSystem, mode: Durability) -> Config {
    config(fs).segment_bytes(256 << 10).durability(mode)
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
            let (fs, mut ledger) = (kind.make(), ledger_of(mode));
            let log = open(config_of(&fs, mode).recycled_segments_max(0));
            // Far enough that commits use direct I/O where they can.
            for _ in 0..[2, 20][usize::from(pages == 16)] {
                ledger.append(&log, 1, 15_000).unwrap();
            }
            for lap in 0..3 {
                kind.fill_up(&fs, pages);
                fill(&log, &mut ledger, 9000 + lap * 30_000);
                ledger.clone().check(&replayed(&log));
                let after = fs.copy().crash(&mut || random.flip());
                FileSystem::make_room(&after);
                let mut lost = ledger.clone();
                lost.lose_power();
                lost.check(&replayed(&open(config_of(&after, mode))));
                FileSystem::make_room(&fs);
                ledger.append(&log, 1, 1500).expect("there is room again");
                ledger.clone().check(&replayed(&log));
            }
            log.close().unwrap();
            drop(log);
            ledger.check(&replayed(&open(config_of(&fs, mode))));
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
        let (fs, gate, mut ledger) = (kind.make(), Gate::default(), Ledger::unsynced());
        let gated = config_of(&fs, Durability::Buffered).file_system(gate.before(&fs));
        let log = open(gated.recycled_segments_max(0));
        ledger.append(&log, 1, 100).unwrap();
        gate.shut();
        let flushed = log.flush();
        gate.wait_for_writer();
        // Three frames of one commit; the third finds no room.
        let payloads = [(); 3].map(|()| ledger.next(1, LENGTH));
        let appended = payloads.map(|payload| log.append(1, payload));
        kind.fill_up(&fs, 20);
        gate.open();
        flushed.wait().unwrap();
        for (index, completion) in (1..).zip(appended) {
            assert!(ledger.wait(1, index, completion).unwrap_err().is_not_written());
        }
        FileSystem::make_room(&fs);
        ledger.append(&log, 1, LENGTH).expect("there is room again");
        for draw in 0..200 {
            let after = fs.copy().crash(&mut || draw == 0 || random.below(8) > 0);
            let log = open(config_of(&after, Durability::Buffered));
            let mut lost = ledger.clone();
            lost.lose_power();
            lost.check(&replayed(&log));
        }
        ledger.check(&replayed(&log));
    }
}
