//! The storage holds everything that it acknowledged, after any failure.
//!
//! Holds S1 FRESH, S2 APPLY and S3 COMPLETE (ARCHITECTURE.md).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{ENOSPC, Random, fault_at, seed};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Cause, Config, Durability, ShardedWal};
use shardwal_bench::SingleMutexLog;
use shardwal_timeseries::{
    Labels, Matcher, Sample, SeriesLog, Storage, StorageError, StorageOptions, TimeSeries,
    WriteError,
};

const ALL: std::ops::RangeInclusive<i64> = i64::MIN..=i64::MAX;
const SNAPSHOT: &str = "/db/snapshot";

fn options(fs: &SimFileSystem, shards: usize) -> StorageOptions {
    let fs = Arc::new(fs.clone());
    StorageOptions::new(Config::new("/db").file_system(fs).shards(shards).segment_bytes(4096))
}

fn open(fs: &SimFileSystem, shards: usize) -> Storage {
    Storage::open(options(fs, shards)).expect("the storage opens")
}

fn labels(metric: &str, host: u64) -> Labels {
    Labels::new([("__name__", metric), ("host", &format!("h{host}"))]).expect("they are valid")
}

fn series(metric: &str, host: u64, samples: &[(i64, f64)]) -> TimeSeries {
    let samples = samples.iter().map(|(time, value)| Sample::new(*time, *value)).collect();
    TimeSeries::new(labels(metric, host), samples)
}

/// Acknowledged samples, and samples that may exist: their write failed or was never answered.
#[derive(Default)]
struct Acknowledged {
    sure: BTreeMap<Labels, BTreeMap<i64, u64>>,
    perhaps: BTreeMap<(Labels, i64), Vec<u64>>,
}

impl Acknowledged {
    fn write<L: SeriesLog>(&mut self, storage: &Storage<L>, written: &TimeSeries) {
        let answer = storage.write(written);
        for sample in &written.samples {
            let (time, bits) = (sample.timestamp_ms, sample.value.to_bits());
            if answer.is_ok() {
                self.sure.entry(written.labels.clone()).or_default().insert(time, bits);
            } else {
                let place = (written.labels.clone(), time);
                self.perhaps.entry(place).or_default().push(bits);
            }
        }
    }

    fn check<L: SeriesLog>(&self, storage: &Storage<L>, what: &str) {
        let found: BTreeMap<_, BTreeMap<_, _>> = storage
            .query(&[], ALL)
            .into_iter()
            .map(|series| {
                let samples = series.samples.iter();
                (series.labels, samples.map(|s| (s.timestamp_ms, s.value.to_bits())).collect())
            })
            .collect();
        for (labels, samples) in &self.sure {
            let found = found.get(labels).unwrap_or_else(|| panic!("{what}: {labels} is gone"));
            for (time, bits) in samples {
                let is = found.get(time);
                let others = self.perhaps.get(&(labels.clone(), *time));
                let may_be = is == Some(bits)
                    || is.is_some_and(|is| others.is_some_and(|others| others.contains(is)));
                assert!(may_be, "{what}: {labels} at {time} is {is:?} and not {bits}");
            }
        }
        for (labels, samples) in &found {
            for (time, bits) in samples {
                let sure = self.sure.get(labels).and_then(|samples| samples.get(time));
                let perhaps = self.perhaps.get(&(labels.clone(), *time));
                let known = sure == Some(bits) || perhaps.is_some_and(|all| all.contains(bits));
                assert!(known, "{what}: {labels} at {time} is {bits}, which was never written");
            }
        }
    }
}

/// Samples in order, out of order, repeated, and with unusual bits.
fn workload<L: SeriesLog>(storage: &Storage<L>, acknowledged: &mut Acknowledged, from: i64) {
    for step in 0..4_i64 {
        for host in 0..3 {
            let time = from + 15_000 * step;
            let value = [1.5, f64::NAN, -0.0, f64::from_bits(0x7ff0_0000_0000_0002)];
            let value = value[usize::try_from(step).expect("a few steps")];
            let samples = [(time, value), (time - 7, 2.0 * step as f64), (time - 7, step as f64)];
            acknowledged.write(storage, &series("up", host, &samples));
        }
        acknowledged.write(storage, &series("cpu", 1, &[(from + step, 0.01 * step as f64)]));
    }
}

#[test]
fn a_query_finds_what_was_written_by_matchers_and_time() {
    let fs = SimFileSystem::new();
    let storage = open(&fs, 3);
    let written: Vec<_> =
        (0..20).map(|host| series("up", host, &[(3, 3.0), (1, 1.0), (2, 2.0)])).collect();
    storage.write_batch(&written).unwrap();
    storage.write(&series("down", 7, &[(2, 9.0)])).unwrap();

    let all = storage.query(&[], ALL);
    assert_eq!(all.len(), 21);
    assert!(all.iter().is_sorted_by(|one, other| one.labels < other.labels));
    let host = Matcher::equal("host", "h7");
    let found = storage.query(std::slice::from_ref(&host), 2..=2);
    assert_eq!(found, [series("down", 7, &[(2, 9.0)]), series("up", 7, &[(2, 2.0)])]);
    let not_up = Matcher::not_equal("__name__", "up");
    assert_eq!(storage.query(&[host.clone(), not_up], ALL), [series("down", 7, &[(2, 9.0)])]);
    let several = Matcher::matches("host", "h(7|8)").unwrap();
    assert_eq!(storage.series(&[several]).len(), 3);
    assert_eq!(storage.query(&[host], 4..=i64::MAX), []);
}

/// Of two samples with equal timestamps, the later one in the log wins, before and after a replay.
#[test]
fn a_sample_written_twice_has_its_later_value() {
    let fs = SimFileSystem::new();
    let storage = open(&fs, 2);
    for value in [1.0, 3.0, 2.0] {
        storage.write(&series("up", 0, &[(5, value)])).unwrap();
    }
    assert_eq!(storage.query(&[], ALL), [series("up", 0, &[(5, 2.0)])]);
    assert_eq!(storage.samples(), 1);
    storage.close().unwrap();
    drop(storage);
    assert_eq!(open(&fs, 2).query(&[], ALL), [series("up", 0, &[(5, 2.0)])]);
}

/// S1 FRESH: each life begins segments of its own and rolls many. No batch relies on one that is
/// gone.
#[test]
fn all_is_kept_through_4_16_and_3_shards_with_snapshots_in_between() {
    let (fs, mut acknowledged) = (SimFileSystem::new(), Acknowledged::default());
    for (life, shards) in (0..).zip([4, 16, 16, 3, 1, 4]) {
        let storage = open(&fs, shards);
        acknowledged.check(&storage, &format!("life {life} opens"));
        (0..5).for_each(|n| workload(&storage, &mut acknowledged, 1_000_000 * life + 70_000 * n));
        if life % 2 == 1 {
            let report = storage.snapshot().unwrap();
            assert_eq!(report.samples, storage.samples(), "S3 COMPLETE");
            workload(&storage, &mut acknowledged, 1_000_000 * life + 900_000);
        }
        acknowledged.check(&storage, &format!("life {life} ends"));
        storage.close().unwrap();
    }
    acknowledged.check(&open(&fs, 2), "the last life");
}

fn log_bytes(fs: &SimFileSystem) -> usize {
    log_files(fs).iter().map(|(_, length)| length).sum()
}

/// The files of the log and their lengths.
fn log_files(fs: &SimFileSystem) -> Vec<(std::path::PathBuf, usize)> {
    let files = fs.files().into_iter().filter(|path| path.starts_with("/db/log"));
    files.filter_map(|path| Some((path.clone(), fs.read_file(path)?.len()))).collect()
}

#[test]
fn a_snapshot_gives_the_logs_room_back() {
    let (fs, mut acknowledged) = (SimFileSystem::new(), Acknowledged::default());
    let storage = open(&fs, 1);
    (0..200).for_each(|n| workload(&storage, &mut acknowledged, 100_000 * n));
    let before = log_bytes(&fs);
    let report = storage.snapshot().unwrap();
    assert_eq!(report.bytes, fs.read_file(SNAPSHOT).expect("it is there").len() as u64);
    assert_eq!((report.series, report.samples), (4, storage.samples()));
    assert!(log_bytes(&fs) * 2 < before, "{} of {before} bytes are left", log_bytes(&fs));
    storage.close().unwrap();
    drop(storage);
    acknowledged.check(&open(&fs, 1), "after the snapshot");
}

/// Writes once the log accepts it. A segment that is being prepared during the last check of the
/// free space may cause one more refusal, until the next check.
fn write_once_there_is_room(storage: &Storage, samples: &TimeSeries) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match storage.write(samples) {
            Ok(()) => return,
            Err(WriteError::Refused(Cause::BelowFreeSpaceMin { .. }))
                if Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("there is room again: {error}"),
        }
    }
}

/// Regression: truncation kept the active segment, which may hold the whole log. A server below its
/// minimum of free space then refused writes forever.
#[test]
fn a_snapshot_below_the_free_space_min_gives_the_segment_in_hand_back() {
    let fs = SimFileSystem::new();
    fs.set_capacity(Some(2 << 20));
    let config = Config::new("/db").file_system(Arc::new(fs.clone())).shards(2);
    let config =
        config.segment_bytes(1 << 20).free_space_low_bytes(3 << 19).free_space_min_bytes(3 << 19);
    let options = || StorageOptions::new(config.clone());
    let storage = Storage::open(options()).unwrap();
    for round in 0..3 {
        let refused = (0..200_000_u64).find_map(|n| {
            let noise = f64::from_bits(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
            storage.write(&series("up", n % 7, &[(0, noise)])).err()
        });
        let refused = refused.expect("room is low at last");
        let is_low = matches!(refused, WriteError::Refused(Cause::BelowFreeSpaceMin { .. }));
        assert!(is_low, "{refused}");
        storage.snapshot().unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(log_bytes(&fs) < 20_000, "{:?}", log_files(&fs));
        write_once_there_is_room(&storage, &series("after", 0, &[(round, 1.0)]));
    }
    drop(storage);
    let storage = Storage::open(options()).unwrap();
    assert_eq!(storage.series(&[]).len(), 8);
    let after = storage.query(&[Matcher::equal("__name__", "after")], ALL);
    assert_eq!(after, [series("after", 0, &[(0, 1.0), (1, 1.0), (2, 1.0)])]);
}

#[test]
fn samples_since_the_snapshot_are_counted_across_restarts() {
    let fs = SimFileSystem::new();
    let write = |storage: &Storage, times: std::ops::Range<i64>| {
        let samples: Vec<_> = times.map(|time| (time, 1.0)).collect();
        storage.write(&series("up", samples.len() as u64, &samples)).unwrap();
    };
    let storage = open(&fs, 2);
    write(&storage, 0..10);
    write(&storage, 0..10);
    assert_eq!((storage.samples(), storage.samples_since_snapshot()), (10, 20));
    drop(storage);
    let storage = open(&fs, 2);
    assert_eq!(storage.samples_since_snapshot(), 20, "the log holds them");
    storage.snapshot().unwrap();
    assert_eq!(storage.samples_since_snapshot(), 0);
    write(&storage, 0..3);
    assert_eq!(storage.samples_since_snapshot(), 3);
    drop(storage);
    assert_eq!(open(&fs, 3).samples_since_snapshot(), 3, "the snapshot covers the others");
}

/// Opens, writes, takes a snapshot, writes, and takes another one. The storage may fail at any
/// call.
fn life<L: SeriesLog>(
    fs: &SimFileSystem,
    acknowledged: &mut Acknowledged,
) -> Result<(), StorageError> {
    let storage = Storage::<L>::open_in(options(fs, 2))?;
    workload(&storage, acknowledged, 0);
    storage.snapshot()?;
    workload(&storage, acknowledged, 200_000);
    storage.snapshot()?;
    workload(&storage, acknowledged, 400_000);
    storage.close().ok();
    Ok(())
}

/// S3 COMPLETE, S2 APPLY: the power fails at each call in turn, with and without luck for unsynced
/// bytes. The storage opens, is complete, and continues.
fn loses_nothing_at_any_call<L: SeriesLog>() {
    let mut random = Random::new(seed());
    for n in 1.. {
        let (fs, mut acknowledged) = (SimFileSystem::new(), Acknowledged::default());
        fs.fail(Fault::new(Call::Any, n, FaultKind::PowerCut));
        life::<L>(&fs, &mut acknowledged).ok();
        let fired = fs.fired() > 0;
        let ends = [fs.kill(), fs.crash(&mut || false), fs.crash(&mut || random.flip())];
        for (end, fs) in ends.into_iter().enumerate() {
            let what = format!("call {n}, end {end}");
            let storage = Storage::<L>::open_in(options(&fs, 2));
            let storage = storage.unwrap_or_else(|error| panic!("{what}: {error}"));
            acknowledged.check(&storage, &what);
            storage.write(&series("after", 0, &[(1, 1.0)])).expect("it goes on");
            storage.snapshot().unwrap_or_else(|error| panic!("{what}: {error}"));
            drop(storage);
            let storage = Storage::<L>::open_in(options(&fs, 2)).expect("it opens again");
            assert_eq!(storage.query(&[Matcher::equal("__name__", "after")], ALL).len(), 1);
        }
        if !fired {
            break;
        }
    }
}

#[test]
fn a_power_loss_at_any_call_loses_nothing_on_the_sharded_log() {
    loses_nothing_at_any_call::<ShardedWal>();
}

#[test]
fn a_power_loss_at_any_call_loses_nothing_on_the_log_behind_one_mutex() {
    loses_nothing_at_any_call::<SingleMutexLog>();
}

/// S1 FRESH: the commit that defined the series failed for want of space. Later commits must not
/// rely on it.
#[test]
fn a_refused_commit_leaves_no_sample_and_no_gap_in_what_follows() {
    let fs = SimFileSystem::new();
    let storage = open(&fs, 1);
    let mut acknowledged = Acknowledged::default();
    workload(&storage, &mut acknowledged, 0);
    fs.fail(fault_at("/db/log", Call::Write, FaultKind::Error(ENOSPC)));
    let refused = storage.write(&series("new", 0, &[(1, 1.0)])).unwrap_err();
    assert!(matches!(refused, WriteError::Append(_)), "{refused:?}");
    assert_eq!(storage.query(&[Matcher::equal("__name__", "new")], ALL), [], "S2 APPLY");
    acknowledged.write(&storage, &series("new", 0, &[(2, 2.0)]));
    // Nor does the next commit apply them, whose samples are applied by now.
    assert_eq!(storage.query(&[Matcher::equal("__name__", "new")], 1..=1), [], "S2 APPLY");
    workload(&storage, &mut acknowledged, 100_000);
    drop(storage);
    let storage = open(&fs, 1);
    acknowledged.check(&storage, "reopened");
    assert_eq!(storage.query(&[Matcher::equal("__name__", "new")], 1..=1), [], "S2 APPLY");
}

/// S3 COMPLETE: a snapshot must not cover positions that a power loss removes from the log and
/// later samples then use. The power fails at each call of the snapshot. Its final truncation syncs
/// the log too, but only after the rename.
#[test]
fn a_power_loss_after_os_mode_loses_nothing_that_comes_after_it() {
    let options = |fs: &SimFileSystem| {
        let config = Config::new("/db").file_system(Arc::new(fs.clone())).segment_bytes(4096);
        StorageOptions::new(config.shards(1).durability(Durability::Buffered))
    };
    for n in 1.. {
        let fs = SimFileSystem::new();
        let storage = Storage::open(options(&fs)).unwrap();
        (0..20).for_each(|time| storage.write(&series("up", 0, &[(time, 1.0)])).unwrap());
        fs.fail(Fault::new(Call::Any, n, FaultKind::PowerCut));
        let taken = storage.snapshot().is_ok();
        let fired = fs.fired() > 0;
        let fs = fs.crash(&mut || false);
        drop(storage);

        let storage = Storage::open(options(&fs));
        let storage = storage.unwrap_or_else(|error| panic!("call {n}: {error}"));
        assert!(taken || fired, "a sound disk");
        assert!(!taken || storage.samples() == 20, "what a snapshot holds was flushed");
        storage.write(&series("after", 0, &[(1, 1.0)])).unwrap();
        storage.close().unwrap();
        drop(storage);
        let storage = Storage::open(options(&fs)).unwrap();
        let after = storage.query(&[Matcher::equal("__name__", "after")], ALL);
        assert_eq!(after.len(), 1, "call {n}");
        if !fired {
            break;
        }
    }
}

#[test]
fn a_snapshot_that_is_not_as_it_was_written_is_refused_with_its_place() {
    let (fs, mut acknowledged) = (SimFileSystem::new(), Acknowledged::default());
    let storage = open(&fs, 2);
    workload(&storage, &mut acknowledged, 0);
    storage.snapshot().unwrap();
    storage.close().unwrap();
    drop(storage);
    let whole = fs.read_file(SNAPSHOT).expect("it is there");
    let refuses = |bytes: &[u8], what: &str| {
        let fs = fs.crash(&mut || true);
        fs.write_file(SNAPSHOT, bytes);
        match Storage::open(options(&fs, 2)) {
            Err(StorageError::CorruptedSnapshot { path, .. }) => {
                assert_eq!(path, Path::new(SNAPSHOT), "{what}");
            }
            Err(other) => panic!("{what}: {other}"),
            Ok(_) => panic!("{what}: it opened"),
        }
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        refuses(&bytes, &format!("byte {at} flipped"));
        refuses(&whole[..at], &format!("cut to {at} bytes"));
    }
    refuses(&[whole.as_slice(), &[0]].concat(), "a byte too many");
}

#[test]
fn a_log_truncated_beyond_its_snapshot_is_refused() {
    let (fs, mut acknowledged) = (SimFileSystem::new(), Acknowledged::default());
    let storage = open(&fs, 2);
    workload(&storage, &mut acknowledged, 0);
    storage.snapshot().unwrap();
    let old = fs.read_file(SNAPSHOT).expect("it is there");
    workload(&storage, &mut acknowledged, 100_000);
    storage.snapshot().unwrap();
    storage.close().unwrap();
    drop(storage);
    let refuses = |fs: &SimFileSystem| match Storage::open(options(fs, 2)) {
        Err(StorageError::SnapshotTooOld { .. }) => {}
        other => panic!("{:?}", other.map(drop)),
    };
    let without = fs.crash(&mut || true);
    without.remove_file(SNAPSHOT);
    refuses(&without);
    let too_old = fs.crash(&mut || true);
    too_old.write_file(SNAPSHOT, &old);
    refuses(&too_old);
}

#[test]
fn the_limits_on_series_and_samples_refuse_and_say_which() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs, 1).series_max(2).samples_max(3)).unwrap();
    storage.write(&series("up", 0, &[(1, 1.0)])).unwrap();
    storage.write(&series("up", 1, &[(1, 1.0)])).unwrap();
    let refused = storage.write(&series("up", 2, &[(1, 1.0)])).unwrap_err();
    assert!(matches!(refused, WriteError::TooManySeries { max: 2 }), "{refused}");
    storage.write(&series("up", 1, &[(2, 1.0)])).unwrap();
    let refused = storage.write(&series("up", 0, &[(2, 1.0)])).unwrap_err();
    assert!(matches!(refused, WriteError::MemoryFull { max: 3 }), "{refused}");
    drop(storage);
    let storage = Storage::open(options(&fs, 1).series_max(1)).unwrap();
    assert_eq!(storage.series(&[]).len(), 2, "what was acknowledged is there");
}

/// Regression: a limit of a million series allowed 64 GB of labels.
#[test]
fn a_series_with_long_labels_counts_as_several() {
    let fs = SimFileSystem::new();
    let long = |name: &str, kib: usize| {
        let mut one = series(name, 0, &[(1, 1.0)]);
        let long = "x".repeat(kib << 10);
        one.labels = Labels::new([("__name__", name), ("long", &long)]).unwrap();
        one
    };
    let options = || options(&fs, 1).series_max(10);
    let storage = Storage::open(options()).unwrap();
    storage.write(&long("a", 5)).unwrap();
    let refused = storage.write(&long("b", 4)).unwrap_err();
    assert!(matches!(refused, WriteError::TooManySeries { max: 10 }), "six and five: {refused}");
    assert!(storage.series_handle(&long("b", 4).labels).is_err());
    storage.write(&long("c", 1)).unwrap();
    // Of the first two, one fits each: two places are left.
    let both = [series("up", 0, &[(1, 1.0)]), long("d", 1), series("up", 1, &[(1, 1.0)])];
    let prepared = storage.prepare_write(&[], &[], &both).unwrap();
    assert_eq!(prepared.left_out(), [1, 2]);
    drop(prepared);
    storage.write(&series("up", 0, &[(1, 1.0)])).unwrap();
    storage.write(&series("up", 1, &[(1, 1.0)])).unwrap();
    assert!(storage.write(&series("up", 2, &[(1, 1.0)])).is_err());
    drop(storage);
    let storage = Storage::open(options()).unwrap();
    assert_eq!(storage.series(&[]).len(), 4);
    assert!(storage.write(&series("up", 2, &[(1, 1.0)])).is_err(), "a replay counts too");
}

#[test]
fn a_closed_storage_refuses_writes_and_answers_queries() {
    let fs = SimFileSystem::new();
    let storage = open(&fs, 2);
    let written = series("up", 0, &[(1, 1.0)]);
    storage.write(&written).unwrap();
    storage.close().unwrap();
    let refused = storage.write(&written).unwrap_err();
    assert!(matches!(refused, WriteError::Refused(Cause::Closed)), "{refused:?}");
    assert!(matches!(storage.snapshot(), Err(StorageError::ShardFailed)));
    assert_eq!(storage.query(&[], ALL), [written]);
}

/// The shape of the recorded stream: many threads, each with its own series, write at once while
/// snapshots are taken.
#[test]
fn writers_and_snapshots_do_not_disturb_each_other() {
    let fs = SimFileSystem::new();
    let storage = open(&fs, 4);
    std::thread::scope(|scope| {
        for host in 0..8 {
            let storage = &storage;
            scope.spawn(move || {
                for time in 0..200 {
                    storage.write(&series("up", host, &[(time, time as f64)])).unwrap();
                }
            });
        }
        (0..5).for_each(|_| assert!(storage.snapshot().is_ok()));
    });
    assert_eq!(storage.samples(), 1600);
    drop(storage);
    let storage = open(&fs, 4);
    for found in storage.query(&[], ALL) {
        assert_eq!(found.samples.len(), 200, "{}", found.labels);
    }
}

/// A batch needs the batches before it in its segment. Batches that need no lost batch are kept,
/// and the others are counted.
#[test]
fn a_repaired_log_keeps_the_samples_that_do_not_build_on_the_lost_ones() {
    let fs = SimFileSystem::with_dir("/db");
    for life in 0..2 {
        let storage = open(&fs, 1);
        for time in life * 10..life * 10 + 10 {
            storage.write(&series("up", 0, &[(time, 0.5)])).unwrap();
        }
        storage.close().unwrap();
    }
    let segment = "/db/log/generation-00001/shard-0000/0000000001.wal";
    let mut bytes = fs.read_file(segment).unwrap();
    // The fourth frame of records. All frames are of about equal length.
    bytes[88 + 24 + 4 * 50] ^= 1;
    fs.write_file(segment, &bytes);
    assert!(matches!(Storage::open(options(&fs, 1)), Err(StorageError::Log(_))));

    let config = Config::new("/db").file_system(Arc::new(fs.clone())).shards(1);
    let options = StorageOptions::new(config.on_corruption(shardwal::OnCorruption::Quarantine));
    let storage = Storage::open(options).unwrap();
    let lost = storage.log().recovery().repair.clone().unwrap().lost_sequences();
    let found = storage.query(&[], i64::MIN..=i64::MAX);
    let times: Vec<_> = found[0].samples.iter().map(|sample| sample.timestamp_ms).collect();
    let kept = times.iter().filter(|time| **time < 10).count() as u64;
    assert_eq!(lost, 1);
    assert!((1..9).contains(&kept), "{times:?}");
    assert!((0..10).zip(&times).take(usize::try_from(kept).unwrap()).all(|(a, b)| a == *b));
    assert!((10..20).all(|time| times.contains(&time)), "the next segment is whole: {times:?}");
    assert_eq!(kept + lost + storage.lost_batches(), 10);
    storage.close().unwrap();
}
