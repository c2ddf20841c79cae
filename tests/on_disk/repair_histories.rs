//! Random histories of a log, then random corruption and a repair that may be
//! interrupted. The model is the content of an intact copy of the disk.
//!
//! `SHARDWAL_HISTORIES=n` runs more. Holds R4 REPAIR (ARCHITECTURE.md).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints its seed"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::raw::{self, HEADER_BYTES, Row, files, long};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{
    AppendError, Checkpoint, Config, Durability, OnCorruption, RecoveryReport, Repair,
    RepairReport, ShardRecovery, ShardedWal,
};

const HOUR: Duration = Duration::from_secs(3600);
const ENOSPC: i32 = 28;

/// A reproducible source of choices (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap() % below
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Changes to a file, for messages.
type Did = Vec<(PathBuf, &'static str, usize, usize)>;

struct History {
    random: Random,
    durability: Durability,
    fs: SimFileSystem,
    remembered: Option<Checkpoint>,
    /// Records that were acknowledged as durable, or read after a crash, by position. A
    /// position never belongs to another record, even after a loss.
    recorded: BTreeMap<(u32, u32, u64), Vec<u8>>,
    /// Every record that the log held at the end of a life, durable or not. Without a sync,
    /// a later record may have its position.
    held: BTreeSet<((u32, u32, u64), Vec<u8>)>,
    /// Records of `recorded` that were lost at the end of a shard, together with their proof.
    /// Their bytes may be intact behind the corruption, so a later repair may find them.
    lost_ends: BTreeMap<(u32, u32, u64), Vec<u8>>,
    records: u64,
    log: Vec<String>,
    /// Counts of this history: repairs, and records reported as lost.
    repairs: u64,
    lost: u64,
    cut_short: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let fs = SimFileSystem::with_dir("/log");
        fs.set_copy_on_write(random.one_in(2));
        let modes = [Durability::Sync, Durability::Buffered, Durability::Interval(HOUR)];
        let durability = modes[random.below(3)];
        let (recorded, log) = (BTreeMap::new(), Vec::new());
        let (repairs, lost, cut_short, records) = (0, 0, 0, 0);
        let remembered = None;
        Self {
            random,
            durability,
            fs,
            remembered,
            recorded,
            held: BTreeSet::new(),
            lost_ends: BTreeMap::new(),
            records,
            log,
            repairs,
            lost,
            cut_short,
        }
    }

    fn config(&self, shards: usize) -> Config {
        let fs = Arc::new(self.fs.clone());
        let config = Config::new("/log").file_system(fs).shards(shards).segment_bytes(4096);
        config.durability(self.durability)
    }

    fn run(&mut self) {
        let mut shards = 1 + self.random.below(2);
        for _ in 0..2 + self.random.below(5) {
            if self.random.one_in(4) {
                shards = 1 + self.random.below(3);
            }
            if self.random.one_in(3) {
                self.open_in_vain(shards);
                self.maybe_corrupt();
            }
            self.live(shards);
            self.maybe_corrupt();
        }
    }

    /// An open that a power cut interrupts at any call.
    fn open_in_vain(&mut self, shards: usize) {
        let nth = 1 + self.random.below(120) as u64;
        self.fs.fail(Fault::new(Call::Any, nth, FaultKind::PowerCut));
        let opened = ShardedWal::open(self.config(shards));
        self.log.push(format!("open in vain, call {nth}, {shards} shards: {}", opened.is_err()));
        self.crash();
        drop(opened);
    }

    fn crash(&mut self) {
        let odds = 1 + self.random.below(4);
        let random = &mut self.random;
        self.fs = self.fs.crash(&mut || random.one_in(odds));
        self.log.push(format!("crash, one in {odds} survives"));
    }

    fn live(&mut self, shards: usize) {
        let log = ShardedWal::open(self.config(shards));
        let log = log.unwrap_or_else(|error| panic!("{error}\n{:#?}", self.log));
        self.log.push(format!("life of {shards} shards, {:?}", self.durability));
        self.now_holds();
        for _ in 0..self.random.below(50) {
            self.step(&log);
        }
        self.fs.set_capacity(None);
        let held = self.read("alive").0.into_iter();
        self.held.extend(held.map(|row| ((row.0, row.1, row.2), row.4)));
        match self.random.below(4) {
            0 => {
                log.close().unwrap();
                self.now_holds();
                self.log.push("close".into());
            }
            1 => self.fs = self.fs.kill(),
            _ => self.crash(),
        }
    }

    fn step(&mut self, log: &ShardedWal) {
        let length = [10, 100, 700, 1500][self.random.below(4)];
        match self.random.below(24) {
            0 => {
                if log.flush().wait().is_ok() {
                    self.now_holds();
                }
            }
            1 => self.remembered = Some(log.durable_checkpoint()),
            2 => {
                let at = self.remembered.take().unwrap_or_else(|| log.durable_checkpoint());
                let done = log.truncate_before(&at);
                self.log.push(format!("truncate {at:?}: {:?}", done.is_ok()));
            }
            3 => {
                let room = self.random.below(3);
                self.fs.set_capacity([None, Some(0), Some(1 << 14)][room]);
            }
            4..8 => {
                let count = 1 + self.random.below(5);
                let batch: Vec<_> = (0..count).map(|_| self.record(length)).collect();
                log.append_batch(batch).wait().ok();
            }
            _ => {
                let (key, payload) = self.record(length);
                match log.append(key, payload.clone()).wait() {
                    Ok(at) if self.durability == Durability::Sync => {
                        self.acknowledge((at.generation, at.shard, at.sequence), &payload);
                    }
                    Ok(_) | Err(AppendError::NotWritten { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    fn record(&mut self, length: usize) -> (u64, Vec<u8>) {
        self.records += 1;
        let mut payload = self.records.to_le_bytes().to_vec();
        payload.resize(8 + self.random.below(length), 7);
        (self.random.below(6) as u64 * (u64::MAX / 6), payload)
    }

    fn acknowledge(&mut self, position: (u32, u32, u64), payload: &[u8]) {
        let before = self.recorded.insert(position, payload.to_vec());
        let log = &self.log;
        assert!(before.is_none_or(|it| it == payload), "{position:?} given twice\n{log:#?}");
    }

    /// Every record read now was acknowledged as durable, or counts as durable from now
    /// on.
    fn now_holds(&mut self) {
        for row in self.read("it holds").0 {
            self.acknowledge((row.0, row.1, row.2), &row.4);
        }
    }

    fn read(&self, what: &str) -> (Vec<Row>, RecoveryReport) {
        let read = raw::read(&self.fs);
        read.unwrap_or_else(|error| panic!("{what}: {error}\n{:#?}", self.log))
    }

    fn maybe_corrupt(&mut self) {
        if !self.fs.files().contains(&"/log/MANIFEST".into()) || self.random.one_in(3) {
            return;
        }
        let (rows, whole) = self.read("intact");
        assert_eq!(whole.corruption().count(), 0, "{:#?}", self.log);
        // Everything is durable, because a power loss should show the effects of the
        // repair alone.
        let before = files(&self.fs);
        self.fs = raw::disk_of(&before);
        // A repair may lose a record whose older copy is still in a superseded segment.
        for row in &rows {
            self.acknowledge((row.0, row.1, row.2), &row.4);
        }
        let did = self.corrupt(&whole);
        if did.is_empty() {
            return;
        }
        self.log.push(format!("corruption: {did:?}"));
        let mut limits = limits(&before, &whole, &did);
        if self.durability != Durability::Sync {
            // The newest segment may have held the only mark of a whole life.
            limits.values_mut().for_each(|limit| *limit = 0);
        }
        let report = self.repair();
        self.check(&rows, &whole, &report, &limits);
    }

    /// Corrupts a few segments of one shard.
    fn corrupt(&mut self, whole: &RecoveryReport) -> Did {
        let is_segment = |path: &PathBuf| {
            path.extension().is_some_and(|it| it == "wal")
                && whole.shards.iter().any(|it| path.parent() == shard_path(it).as_deref())
        };
        let all: Vec<_> = self.fs.files().into_iter().filter(is_segment).collect();
        if all.is_empty() {
            return Vec::new();
        }
        let shard = all[self.random.below(all.len())].parent().unwrap().to_path_buf();
        let own: Vec<_> = all.iter().filter(|path| path.starts_with(&shard)).collect();
        let mut did = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let path = own[self.random.below(own.len())];
            let Some(mut bytes) = self.fs.read_file(path) else { continue };
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            if used == 0 {
                continue;
            }
            let at = self.random.below(used);
            let to = (at + 1 + self.random.below(1200)).min(bytes.len());
            let kind = self.random.below(8);
            match kind {
                0 | 1 => bytes[at] ^= 1 << self.random.below(8),
                2 => bytes[at % HEADER_BYTES] ^= 1 << self.random.below(8),
                3 => bytes[at..to].fill(0),
                4 => bytes.truncate(at),
                5 => bytes[at..to].reverse(),
                6 => {
                    let other = self.fs.read_file(&all[self.random.below(all.len())]);
                    bytes = other.unwrap_or_default();
                }
                _ => {}
            }
            let names = ["bit", "bit", "header", "zeros", "cut", "reversed", "foreign", "gone"];
            did.push((path.clone(), names[kind], at, to));
            if kind == 7 {
                self.fs.remove_file(path);
            } else {
                self.fs.write_file(path, &bytes);
            }
        }
        did
    }

    /// Repairs, perhaps after interrupted attempts. Returns the plan from before the
    /// first attempt.
    fn repair(&mut self) -> RepairReport {
        let repair = |fs: &SimFileSystem| Repair::new("/log").file_system(Arc::new(fs.clone()));
        let before = files(&self.fs);
        let plan = repair(&self.fs).plan();
        let plan = plan.unwrap_or_else(|error| panic!("{error}\n{:#?}", self.log));
        assert_eq!(files(&self.fs), before, "a plan changes nothing");
        let (_, found) = self.read("corrupted");
        let corruption: Vec<_> = found.corruption().map(ToString::to_string).collect();
        let (log, fs) = (&self.log, self.fs.files());
        assert_eq!(corruption.is_empty(), plan.files.is_empty(), "{corruption:?} {log:#?} {fs:#?}");
        self.check_untouched(&found, &plan);
        self.log.push(format!("plan: {plan}"));
        if plan.files.is_empty() {
            return plan;
        }
        self.repairs += 1;
        self.lost += plan.lost_sequences();
        for _ in 0..self.random.below(3) {
            let kinds = [FaultKind::PowerCut, FaultKind::TornPowerCut, FaultKind::Error(ENOSPC)];
            let kind = kinds[self.random.below(3)];
            let nth = 1 + self.random.below(150) as u64;
            self.fs.fail(Fault::new(Call::Any, nth, kind));
            let done = repair(&self.fs).run("/log/quarantine").is_ok();
            self.cut_short += u64::from(!done);
            self.log.push(format!("repair with {kind:?} at call {nth}: {done}"));
            self.crash();
        }
        if self.random.one_in(2) {
            let shards = 1 + self.random.below(2);
            let opened =
                ShardedWal::open(self.config(shards).on_corruption(OnCorruption::Quarantine));
            let opened = opened.unwrap_or_else(|error| panic!("{error}\n{:#?}", self.log));
            drop(opened);
            self.fs = self.fs.kill();
        } else {
            let done = repair(&self.fs).run("/log/quarantine");
            done.unwrap_or_else(|error| panic!("{error}\n{:#?}", self.log));
        }
        plan
    }

    /// Intact files are not in the plan.
    fn check_untouched(&self, found: &RecoveryReport, plan: &RepairReport) {
        for file in &plan.files {
            let is_of = |it: &ShardRecovery| shard_path(it).as_deref() == file.parent();
            assert!(found.shards.iter().any(|it| is_of(it) && it.corruption.is_some()), "{file:?}");
        }
    }

    /// Every earlier record is there, except for reported losses and the unconfirmed
    /// end.
    fn check(
        &mut self,
        rows: &[Row],
        whole: &RecoveryReport,
        report: &RepairReport,
        limits: &BTreeMap<(u32, u32), u64>,
    ) {
        let (now, found) = self.read("repaired");
        let log = &self.log;
        assert_eq!(found.corruption().count(), 0, "{log:#?}");
        assert!(now.is_sorted_by_key(|row| (row.0, row.1, row.2)), "{log:#?}");
        // A torn tail may be intact behind the tear. It may come back if the proof of
        // the cut is gone. Its sequences were not reused.
        let is_beyond = |row: &Row| {
            let mut own = rows.iter().filter(|it| (it.0, it.1) == (row.0, row.1));
            own.all(|it| it.2 < row.2)
        };
        // A record that an earlier repair lost may still be in a superseded segment.
        // A lost end of a shard may be intact behind the corruption that hid it, in a segment that
        // the next open superseded and did not delete before it was killed. Its position is free.
        // So may a record of a torn tail, although its position was given again: if all files
        // that confirm the later record are corrupted (FORMAT.md, "Limits").
        let is_given = |row: &Row| {
            let position = (row.0, row.1, row.2);
            let is_unconfirmed = limits.get(&(row.0, row.1)).is_some_and(|limit| row.2 >= *limit);
            let of_lost_end = || self.lost_ends.get(&position);
            self.recorded.get(&position).or_else(of_lost_end) == Some(&row.4)
                || is_unconfirmed && self.held.contains(&(position, row.4.clone()))
        };
        let is_invented = |row: &&Row| !rows.contains(row) && !is_beyond(row) && !is_given(row);
        let invented: Vec<_> = now.iter().filter(is_invented).collect();
        assert!(invented.is_empty(), "invented: {:?}\n{log:#?}", positions(&invented));
        let is_lost = |row: &Row| {
            report.lost.iter().any(|lost| {
                (lost.generation, lost.shard) == (row.0, row.1)
                    && (lost.first_sequence..lost.next_sequence).contains(&row.2)
            })
        };
        let is_tail = |row: &Row| {
            let of = |it: &&ShardRecovery| (it.generation, it.shard) == (row.0, row.1);
            let durable = whole.shards.iter().find(of).unwrap().durable_below;
            let from = limits.get(&(row.0, row.1)).map_or(durable, |limit| durable.min(*limit));
            let later = now.iter().any(|it| (it.0, it.1) == (row.0, row.1) && it.2 > row.2);
            row.2 >= from && !later
        };
        for row in rows.iter().filter(|row| now.binary_search(row).is_err()) {
            let at =
                || (positions(&[row]), positions(&now.iter().rev().take(3).collect::<Vec<_>>()));
            assert!(
                is_lost(row) || is_tail(row),
                "{:?} is gone; {limits:?}, {whole}\n{log:#?}",
                at()
            );
        }
        self.forget_lost_ends(whole, &found, limits);
        // What the log holds now is durable, older copies included.
        self.recorded.extend(now.into_iter().map(|row| ((row.0, row.1, row.2), row.4)));
    }

    /// The end of a shard may be lost together with its proof. Its sequences are free again.
    fn forget_lost_ends(
        &mut self,
        whole: &RecoveryReport,
        found: &RecoveryReport,
        limits: &BTreeMap<(u32, u32), u64>,
    ) {
        let log = &self.log;
        for shard in &found.shards {
            let shard_id = (shard.generation, shard.shard);
            // By name, because an open in between may have retired or begun a
            // generation.
            let mut was = whole.shards.iter();
            let Some(was) = was.find(|was| (was.generation, was.shard) == shard_id) else {
                continue;
            };
            let limit = limits.get(&shard_id).copied().unwrap_or(u64::MAX);
            let next = shard.next_sequence;
            assert!(next >= was.durable_below.min(limit), "{shard_id:?} ends at {next}\n{log:#?}");
            let ends = (shard_id.0, shard_id.1, next)..=(shard_id.0, shard_id.1, u64::MAX);
            let lost: Vec<_> = self.recorded.range(ends).map(|(position, _)| *position).collect();
            for position in lost {
                self.lost_ends.extend(self.recorded.remove_entry(&position));
            }
        }
    }
}

fn shard_path(shard: &ShardRecovery) -> Option<PathBuf> {
    let segment = PathBuf::from(raw::segment_path(shard.generation, shard.shard, 1));
    segment.parent().map(PathBuf::from)
}

fn positions(rows: &[&Row]) -> Vec<(u32, u32, u64)> {
    rows.iter().map(|row| (row.0, row.1, row.2)).collect()
}

/// For the corrupted shard: the sequence from which only corrupted files confirmed any
/// record (FORMAT.md, "Limits").
fn limits(
    before: &[(PathBuf, Vec<u8>)],
    whole: &RecoveryReport,
    did: &Did,
) -> BTreeMap<(u32, u32), u64> {
    let mut limits = BTreeMap::new();
    let shard = did[0].0.parent().unwrap();
    let mut end = None;
    let own = before.iter().filter(|(path, _)| path.parent() == Some(shard));
    for (path, bytes) in
        own.filter(|(path, _)| path.extension().is_some_and(|it| it == "wal")).rev()
    {
        // Files without a valid header are no part of the log and confirm nothing.
        let has_header = bytes.len() >= HEADER_BYTES
            && raw::crc(0, &bytes[..HEADER_BYTES - 4]) == raw::int(bytes, HEADER_BYTES - 4);
        if !has_header {
            continue;
        }
        if !did.iter().any(|(file, ..)| file == path) {
            break;
        }
        let first = long(bytes, 48).min(long(bytes, 72));
        end = Some(end.map_or(first, |end: u64| end.min(first)));
    }
    let is_it = |it: &&ShardRecovery| shard_path(it).as_deref() == Some(shard);
    if let (Some(end), Some(it)) = (end, whole.shards.iter().find(is_it)) {
        limits.insert((it.generation, it.shard), end);
    }
    limits
}

#[test]
fn every_repaired_history_keeps_all_but_the_reported_losses() {
    let histories = std::env::var("SHARDWAL_HISTORIES").ok().and_then(|it| it.parse().ok());
    let histories: u64 = histories.unwrap_or(300);
    let seed = raw::seed_of_this_run();
    let (mut repairs, mut lost, mut cut_short) = (0, 0, 0);
    for history in 0..histories {
        println!("history {history}");
        let mut history = History::new(seed.wrapping_add(history));
        history.run();
        repairs += history.repairs;
        lost += history.lost;
        cut_short += history.cut_short;
    }
    println!("{repairs} repairs, {cut_short} cut short, {lost} sequences lost");
    assert!(repairs > histories / 2 && cut_short > 0 && lost > repairs);
}
