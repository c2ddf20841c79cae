//! Truncated records never come back, all others stay, wherever a crash interrupts it.
//! Truncation needs no space.
//!
//! Holds R3 FRESH (ARCHITECTURE.md).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use std::path::PathBuf;

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{EIO, Random, config, open, path_has, replayed, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Checkpoint, Durability, ShardedWal};

fn segments(fs: &SimFileSystem, shard_dir: &str) -> Vec<PathBuf> {
    let mut files = fs.files();
    files.retain(|path| path_has(path, shard_dir) && path.extension().is_some_and(|e| e == "wal"));
    files
}

/// A log of one shard with `records` records of 1,000 bytes, four per segment.
fn log_of(fs: &SimFileSystem, ledger: &mut Ledger, records: usize) -> ShardedWal {
    let log = open(config(fs));
    (0..records).for_each(|_| ledger.append(&log, 1, 1000).expect("a sound disk"));
    log
}

#[test]
fn truncated_records_are_never_replayed() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 10);
    let checkpoint = log.durable_checkpoint();
    (0..3).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
    ledger.truncated(&replayed(&log).below(&checkpoint));
    log.truncate_before(&checkpoint).unwrap();
    assert_eq!(replayed(&log).of(1), [10, 11, 12]);
    // An older checkpoint does not undo a later truncation.
    log.truncate_before(&Checkpoint::new(1, [4]).of_log(log.id())).unwrap();
    let after = fs.crash(&mut || false);
    drop(log);
    for _ in 0..3 {
        let log = open(config(&after));
        ledger.check(&replayed(&log));
        assert_eq!(replayed(&log).of(1), [10, 11, 12]);
        let of_what_is_left =
            log.replay_from(&checkpoint, shardwal::ReplayOptions::default(), |record| {
                assert!(record.position().sequence >= 10);
                Ok::<_, std::convert::Infallible>(())
            });
        assert_eq!(of_what_is_left.unwrap().records, 3);
    }
}

#[test]
fn sequences_continue_above_a_truncated_log() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 10);
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    drop(log);
    for expected in 10..13 {
        let log = open(config(&fs));
        assert_eq!(log.append(1, "x").wait().unwrap().sequence, expected);
    }
}

#[test]
fn only_whole_segments_are_deleted_and_the_live_one_stays() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 30);
    let before = segments(&fs, "");
    let found = replayed(&log);
    // A position within a segment: this segment stays, and all later ones.
    let middle = found.records.len() as u64 / 2;
    let report = log.truncate_before(&Checkpoint::new(1, [middle]).of_log(log.id())).unwrap();
    let kept = segments(&fs, "");
    let deleted = before.len() - before.iter().filter(|path| kept.contains(path)).count();
    assert_eq!(report.segments, deleted as u64);
    assert!(deleted > 0 && report.bytes > 0, "{report:?}");
    assert!(before[deleted..].iter().all(|path| kept.contains(path)), "oldest first");
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    let live = segments(&fs, "");
    assert!((1..=2).contains(&live.len()), "the live one and perhaps the next: {live:?}");
    assert_eq!(log.truncate_before(&log.durable_checkpoint()).unwrap().segments, 0);
    ledger.append(&log, 1, 10).unwrap();
    assert_eq!(replayed(&log).of(1), [30]);
}

#[test]
fn a_truncation_needs_no_space() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 10);
    let checkpoint = log.durable_checkpoint();
    fs.set_capacity(Some(0));
    while ledger.append(&log, 1, 3000).is_ok() {}
    ledger.truncated(&replayed(&log).below(&checkpoint));
    log.truncate_before(&checkpoint).unwrap();
    ledger.check(&replayed(&log));
    log.close().unwrap();
    fs.set_capacity(None);
    ledger.check(&replayed(&open(config(&fs))));
}

#[test]
fn a_truncation_makes_the_room_that_the_next_append_needs() {
    let fs = SimFileSystem::new();
    let mut ledger = Ledger::default();
    let log = log_of(&fs, &mut ledger, 30);
    let used: u64 = fs.files().iter().map(|f| fs.read_file(f).map_or(0, |b| b.len() as u64)).sum();
    fs.set_capacity(Some(used.next_multiple_of(4096)));
    while ledger.append(&log, 1, 3000).is_ok() {}
    ledger.truncated(&replayed(&log));
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    ledger.append(&log, 1, 3000).unwrap();
    ledger.check(&replayed(&log));
}

#[test]
fn a_power_loss_at_any_call_of_a_truncation_is_all_or_nothing_per_shard() {
    let mut random = Random::new(seed());
    let shards = |fs: &SimFileSystem| config(fs).shards(2);
    let (before, mut ledger) = (SimFileSystem::new(), Ledger::default());
    let log = open(shards(&before));
    // If the next truncation is interrupted, the mark before it must still hold.
    (0..12).for_each(|key| ledger.append(&log, key % 4, 1000).unwrap());
    ledger.truncated(&replayed(&log));
    let is_truncated = log.durable_checkpoint().sequences().to_vec();
    log.truncate_before(&log.durable_checkpoint()).unwrap();
    (0..24).for_each(|key| ledger.append(&log, key % 4, 1000).unwrap());
    let checkpoint = log.durable_checkpoint();
    ledger.maybe_truncated(&replayed(&log));
    log.close().unwrap();
    for n in 1.. {
        let (fs, mut ledger) = (before.kill(), ledger.clone());
        let log = open(shards(&fs));
        ledger.append(&log, 0, 1000).unwrap();
        fs.fail(Fault::new(Call::Any, n, FaultKind::TornPowerCut));
        let done = log.truncate_before(&checkpoint).is_ok();
        let afters: Vec<_> = (0..6)
            .map(|attempt| fs.crash(&mut || attempt == 0 || (attempt > 1 && random.flip())))
            .collect();
        drop(log);
        for after in afters.into_iter().chain([fs.kill()]) {
            let log = open(shards(&after));
            let found = replayed(&log);
            let left = found.below(&checkpoint);
            for shard in 0..2 {
                let of_shard =
                    left.records.iter().filter(|(p, ..)| p.shard == shard).count() as u64;
                let all = checkpoint.sequences()[shard as usize] - is_truncated[shard as usize];
                assert!(of_shard == 0 || (!done && of_shard == all), "{of_shard} of {all}");
            }
            ledger.clone().check(&found);
        }
        if done {
            return;
        }
    }
}

mod of_large_segments {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use crate::support::delegate::delegate;
    use shardwal::fs::{FileHandle, FileSystem, OpenMode};
    use std::io;
    use std::path::Path;

    const RECORD_BYTES: usize = 3 << 20;
    const SEGMENT_BYTES: u64 = 9 << 20;

    fn fill(log: &ShardedWal, ledger: &mut Ledger, records: usize) {
        (0..records).for_each(|_| ledger.append(log, 1, RECORD_BYTES).unwrap());
    }

    fn large(config: shardwal::Config) -> shardwal::Config {
        config.segment_bytes(SEGMENT_BYTES).recycled_segments_max(0)
    }

    fn half_deleted(fs: &SimFileSystem) -> Vec<(PathBuf, usize)> {
        let files = fs.files().into_iter().filter(|it| it.extension().is_some_and(|e| e == "tmp"));
        files.map(|path| (path.clone(), fs.read_file(&path).map_or(0, |it| it.len()))).collect()
    }

    /// A segment is cut in pieces. Wherever that ends, the log opens, keeps the records above
    /// the mark, and deletes what is left of the file.
    #[test]
    fn a_power_loss_or_an_error_at_any_call_leaves_a_log_that_opens() {
        let (before, mut ledger) = (SimFileSystem::new(), Ledger::default());
        let log = open(large(config(&before)));
        fill(&log, &mut ledger, 12);
        let checkpoint = log.durable_checkpoint();
        ledger.maybe_truncated(&replayed(&log));
        fill(&log, &mut ledger, 1);
        log.close().unwrap();
        let mut lengths = Vec::new();
        for (n, kind) in
            (1..).flat_map(|n| [(n, FaultKind::TornPowerCut), (n, FaultKind::Error(EIO))])
        {
            let fs = before.kill();
            let log = open(large(config(&fs)));
            fs.fail(Fault::new(Call::Any, n, kind));
            let done = log.truncate_before(&checkpoint).is_ok();
            lengths.extend(half_deleted(&fs).into_iter().map(|(_, length)| length));
            let after = if kind == FaultKind::Error(EIO) {
                fs.kill()
            } else {
                fs.crash(&mut || n % 2 == 0)
            };
            drop(log);
            let log = open(large(config(&after)));
            ledger.clone().check(&replayed(&log));
            assert_eq!(half_deleted(&after), [], "call {n}");
            let is_past_the_end = done && kind == FaultKind::TornPowerCut;
            if is_past_the_end {
                break;
            }
        }
        let is_cut = |length: &usize| *length > 0 && (*length as u64) < SEGMENT_BYTES;
        assert!(lengths.iter().any(is_cut), "a file was cut in between: {lengths:?}");
    }

    /// While a file is about to be cut, links all segments, as a backup does.
    #[derive(Debug)]
    struct LinksInBetween {
        below: SimFileSystem,
        armed: Arc<AtomicBool>,
        linked: Arc<Mutex<Vec<(PathBuf, usize)>>>,
    }

    #[derive(Debug)]
    struct LinkingFile {
        below: Box<dyn FileHandle>,
        fs: SimFileSystem,
        armed: Arc<AtomicBool>,
        linked: Arc<Mutex<Vec<(PathBuf, usize)>>>,
    }

    impl LinkingFile {
        fn link_all(&self) {
            for path in segments(&self.fs, "") {
                let name = path.file_name().unwrap().to_str().unwrap();
                let copy = Path::new("/").join(format!("linked-{name}"));
                if self.fs.read_file(&copy).is_none() {
                    self.fs.link(&path, &copy);
                    let length = self.fs.read_file(&copy).map_or(0, |bytes| bytes.len());
                    self.linked.lock().unwrap().push((copy, length));
                }
            }
        }
    }

    impl FileHandle for LinkingFile {
        fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
            self.below.read_at(bytes, offset)
        }

        fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
            self.below.write_at(bytes, offset)
        }

        fn sync_data(&mut self) -> io::Result<()> {
            self.below.sync_data()
        }

        fn is_hard_linked(&self) -> io::Result<bool> {
            let before = self.below.is_hard_linked();
            if self.armed.load(Ordering::Relaxed) {
                self.link_all();
            }
            before
        }

        fn set_len(&mut self, len: u64) -> io::Result<()> {
            self.below.set_len(len)
        }

        fn len(&self) -> io::Result<u64> {
            self.below.len()
        }

        fn drop_cache(&self) {
            self.below.drop_cache();
        }
    }

    impl FileSystem for LinksInBetween {
        fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn FileHandle>> {
            let below = self.below.open(path, mode)?;
            let (fs, armed, linked) = (self.below.clone(), self.armed.clone(), self.linked.clone());
            Ok(Box::new(LinkingFile { below, fs, armed, linked }))
        }

        delegate!(self => self.below);

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            self.below.rename(from, to)
        }

        fn copy_on_write(&self, path: &Path) -> bool {
            self.below.copy_on_write(path)
        }
    }

    #[test]
    fn a_link_that_a_backup_makes_meanwhile_is_not_cut() {
        let fs = SimFileSystem::new();
        let (armed, linked) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let hooked = LinksInBetween { below: fs.clone(), armed: armed.clone(), linked };
        let linked = hooked.linked.clone();
        let mut ledger = Ledger::default();
        let log = open(large(config(&fs)).file_system(Arc::new(hooked)));
        fill(&log, &mut ledger, 12);
        log.flush().wait().unwrap();
        armed.store(true, Ordering::Relaxed);
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        armed.store(false, Ordering::Relaxed);
        log.close().unwrap();
        assert!(report.segments >= 2, "{report:?}");
        let linked = linked.lock().unwrap();
        assert!(!linked.is_empty(), "the active segment, at least");
        for (copy, length) in linked.iter() {
            let found = fs.read_file(copy).unwrap().len();
            assert!(found >= *length, "{} was cut to {found} of {length}", copy.display());
        }
    }

    /// A link that was there before keeps the whole file.
    #[test]
    fn a_linked_segment_is_deleted_and_not_cut() {
        let (fs, mut ledger) = (SimFileSystem::new(), Ledger::default());
        let log = open(large(config(&fs)));
        fill(&log, &mut ledger, 12);
        log.close().unwrap();
        let link = |path: &PathBuf| {
            let copy = Path::new("/copies").join(path.file_name().unwrap());
            fs.link(path, &copy);
            (fs.read_file(&copy).unwrap(), copy)
        };
        let linked: Vec<_> = segments(&fs, "").iter().map(link).collect();
        let is_large = |(bytes, _): &&(Vec<u8>, PathBuf)| bytes.len() as u64 > SEGMENT_BYTES;
        assert!(linked.iter().filter(is_large).count() >= 2, "they would be cut");
        let log = open(large(config(&fs)));
        let report = log.truncate_before(&log.durable_checkpoint()).unwrap();
        assert!(report.segments + 1 >= linked.len() as u64, "{report:?}");
        for (bytes, copy) in &linked {
            let found = fs.read_file(copy).unwrap();
            assert!(found == *bytes, "{} has {} bytes", copy.display(), found.len());
        }
        assert_eq!(half_deleted(&fs), []);
        log.close().unwrap();
    }
}

mod after_the_process_was_killed {
    use super::*;

    /// The cache shows the mark of the killed process. Open deletes segments because of
    /// it, so it must make the mark durable first.
    #[test]
    fn a_truncation_mark_that_open_acts_on_survives_the_next_power_loss() {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        let mut ledger = Ledger::default();
        (0..20).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
        let checkpoint = log.durable_checkpoint();
        ledger.maybe_truncated(&replayed(&log));
        let at_the_marks_sync = Fault {
            path_contains: Some("shard-0000".into()),
            ..Fault::new(Call::SyncDir, 1, FaultKind::PowerCut)
        };
        fs.fail(at_the_marks_sync);
        log.truncate_before(&checkpoint).unwrap_err();
        let fs = fs.kill();
        drop(log);

        let log = open(config(&fs));
        ledger.check(&replayed(&log));
        (0..20).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
        let fs = fs.crash(&mut || false);
        drop(log);
        let log = open(config(&fs));
        ledger.check(&replayed(&log));
    }
}

mod before_the_live_segment_was_synced {
    use super::*;

    /// Recovery begins at a segment's header. The last durable header must not be
    /// deleted while its successor's is only in the cache.
    #[test]
    fn a_power_loss_leaves_a_log_that_opens() {
        let fs = SimFileSystem::new();
        let config = |fs: &SimFileSystem| config(fs).durability(Durability::Buffered);
        let log = open(config(&fs));
        let mut ledger = Ledger::unsynced();
        (0..20).for_each(|_| ledger.append(&log, 1, 1000).unwrap());
        ledger.truncated(&replayed(&log));
        let before = segments(&fs, "").len();
        // All acknowledged records. The log's own checkpoint reaches only as far as its
        // last sync.
        let checkpoint =
            Checkpoint::new(log.durable_checkpoint().generation(), [20]).of_log(log.id());
        log.truncate_before(&checkpoint).unwrap();
        assert!(segments(&fs, "").len() <= 2, "of {before}: the live one, and the next");
        let mut random = Random::new(seed());
        for _ in 0..20 {
            let after = fs.crash(&mut || random.flip());
            ledger.clone().check(&replayed(&open(config(&after))));
        }
        let after = fs.crash(&mut || false);
        ledger.check(&replayed(&open(config(&after))));
    }

    /// The writer syncs the live segment while the sealer still has older ones. The
    /// truncation must learn of that sync: else it keeps a segment that it could delete.
    #[test]
    fn a_truncation_deletes_all_older_segments_although_the_sealer_was_late() {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = open(config(&fs).durability(Durability::Buffered).file_system(gate.before(&fs)));
        gate.shut();
        let mut ledger = Ledger::unsynced();
        while log.stats().total.rolls < 3 {
            ledger.append(&log, 1, 1000).unwrap();
        }
        gate.wait_for(1);
        let all = Checkpoint::new(log.durable_checkpoint().generation(), [ledger.len(1)]);
        let all = all.of_log(log.id());
        let truncated = std::thread::scope(|scope| {
            let truncation = scope.spawn(|| log.truncate_before(&all));
            // The sealer at a full segment, and the writer at the live one.
            gate.wait_for(2);
            gate.open();
            truncation.join().unwrap().unwrap()
        });
        assert_eq!(truncated.segments, log.stats().total.rolls, "all but the live one");
    }

    #[test]
    fn a_shard_that_fails_to_sync_keeps_the_segment_that_recovery_needs() {
        let fs = SimFileSystem::new();
        // Without zeros ahead, the first sync of the next segment is that of its first
        // commit.
        fs.set_copy_on_write(true);
        let log = open(config(&fs));
        let mut ledger = Ledger::default();
        // So large that the next commit waits for the next segment.
        ledger.append(&log, 1, 9000).unwrap();
        let fault = Fault::new(Call::Sync, 1, FaultKind::Error(EIO));
        fs.fail(Fault { path_contains: Some("0000000002.wal".into()), ..fault });
        ledger.append(&log, 1, 1000).unwrap_err();
        ledger.truncated(&replayed(&log));
        log.truncate_before(&log.durable_checkpoint()).unwrap();
        drop(log);
        ledger.check(&replayed(&open(config(&fs))));
    }
}

mod of_an_older_generation {
    use super::*;

    /// A closed log of one shard, opened again with two.
    fn resharded(ledger: &mut Ledger, records: usize) -> (SimFileSystem, ShardedWal, Checkpoint) {
        let fs = SimFileSystem::new();
        let log = open(config(&fs));
        (0..records).for_each(|_| ledger.append(&log, 1, 1000).expect("a sound disk"));
        let end = log.durable_checkpoint();
        log.close().expect("a sound disk");
        let log = open(config(&fs).shards(2));
        (fs, log, end)
    }

    /// The prepared segment must not outlive the segments with records, nor be found
    /// instead of them.
    #[test]
    fn every_segment_is_deleted_and_the_log_opens_without_them() {
        for own_checkpoint in [true, false] {
            let mut ledger = Ledger::default();
            let (fs, log, end) = resharded(&mut ledger, 3);
            let checkpoint = if own_checkpoint { end } else { log.durable_checkpoint() };
            ledger.truncated(&replayed(&log));
            log.truncate_before(&checkpoint).unwrap();
            assert_eq!(segments(&fs, "generation-00001"), Vec::<PathBuf>::new());
            ledger.append(&log, 1, 10).unwrap();
            log.close().unwrap();
            let log = open(config(&fs).shards(2));
            ledger.check(&replayed(&log));
            log.truncate_before(&checkpoint).unwrap();
        }
    }

    #[test]
    fn a_power_loss_between_the_mark_and_the_deletions_leaves_a_log_that_opens() {
        let mut ledger = Ledger::default();
        let (fs, log, _) = resharded(&mut ledger, 20);
        ledger.truncated(&replayed(&log));
        let while_deleting = Fault {
            path_contains: Some("generation-00001/shard-0000".into()),
            // Two marks are made durable first: the end of the older shard, and its
            // truncation.
            ..Fault::new(Call::SyncDir, 3, FaultKind::PowerCut)
        };
        fs.fail(while_deleting);
        log.truncate_before(&log.durable_checkpoint()).unwrap_err();
        drop(log);
        let mut random = Random::new(seed());
        for _ in 0..60 {
            let after = fs.crash(&mut || random.flip());
            let log = open(config(&after).shards(2));
            ledger.clone().check(&replayed(&log));
            assert_eq!(segments(&after, "generation-00001"), Vec::<PathBuf>::new());
        }
    }
}
