//! The free space of the log's file system. Below the low limit the log reports it;
//! below the minimum it refuses appends, and accepts them again once there is room.
//! Truncation and close need no room.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use crate::support::gate::Gate;
use crate::support::ledger::Ledger;
use crate::support::{DIR, EIO, config, open, replayed};
use bytes::Bytes;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::fs::{FileSystem, OsFileSystem};
use shardwal::{AppendError, Cause, Config, FreeSpaceState, OpenError, ShardedWal};
use shardwal_timeseries::{Labels, Sample, Storage, StorageOptions, TimeSeries, WriteError};

const KIB: u64 = 1024;
const CAPACITY: u64 = 400 * KIB;
const SOFT: u64 = 192 * KIB;
const HARD: u64 = 96 * KIB;

fn marked(fs: &SimFileSystem) -> Config {
    config(fs).free_space_low_bytes(SOFT).free_space_min_bytes(HARD)
}

fn limited() -> SimFileSystem {
    let fs = SimFileSystem::new();
    fs.set_capacity(Some(CAPACITY));
    fs
}

fn free(fs: &SimFileSystem) -> u64 {
    fs.free_bytes(DIR.as_ref()).expect("it has power").expect("it says")
}

/// Leaves `bytes` free of the disk's capacity.
fn leave(fs: &SimFileSystem, capacity: u64, bytes: u64) {
    fs.set_capacity(Some(capacity - free(fs) + bytes));
}

/// Waits for an effect of the housekeeping thread.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what} never came");
        yield_now();
    }
}

fn wait_for(log: &ShardedWal, state: FreeSpaceState) {
    wait_until(&state.to_string(), || log.stats().free_space.state == state);
}

/// Appends until one is refused.
fn fill(log: &ShardedWal, ledger: &mut Ledger) -> AppendError {
    loop {
        if let Err(error) = ledger.append(log, 7, 3000) {
            return error;
        }
    }
}

#[track_caller]
fn assert_below_free_space_min(cause: &Cause) {
    match cause {
        Cause::BelowFreeSpaceMin { free_bytes, free_space_min_bytes, required_bytes } => {
            assert_eq!(*free_space_min_bytes, HARD);
            assert!(*free_bytes < HARD && *required_bytes > HARD, "{cause}");
            for number in [free_bytes, free_space_min_bytes, required_bytes] {
                assert!(cause.to_string().contains(&number.to_string()), "{cause}");
            }
        }
        other => panic!("{other}"),
    }
}

/// The log's gauges: free bytes, low, refusing.
fn gauges(of: &Snapshotter) -> [f64; 3] {
    let found = of.snapshot().into_vec();
    ["shardwal_free_space_bytes", "shardwal_free_space_low", "shardwal_free_space_refusing"].map(
        |name| {
            let gauge = found.iter().find(|(key, ..)| key.key().name() == name);
            match gauge.expect("it is registered") {
                (.., DebugValue::Gauge(value)) => value.into_inner(),
                other => panic!("{other:?}"),
            }
        },
    )
}

#[test]
fn a_full_disk_is_reported_then_refuses_appends_and_recovers_without_loss_or_duplicates() {
    fill_up_and_go_on(marked);
    // A truncation that recycles no files does not check the free space for them.
    fill_up_and_go_on(|fs| marked(fs).recycled_segments_max(0));
}

fn fill_up_and_go_on(marked: impl Fn(&SimFileSystem) -> Config) {
    let fs = limited();
    let recorder = DebuggingRecorder::new();
    let metrics = recorder.snapshotter();
    let log = metrics::with_local_recorder(&recorder, || open(marked(&fs)));
    let mut ledger = Ledger::default();
    assert_eq!(log.stats().free_space.state, FreeSpaceState::Ok);
    assert_eq!(gauges(&metrics)[1..], [0.0, 0.0]);

    while log.stats().free_space.state == FreeSpaceState::Ok {
        ledger.append(&log, 7, 3000).expect("there is room");
    }
    assert_eq!(
        log.stats().free_space.state,
        FreeSpaceState::Low,
        "the signal comes before the refusal"
    );
    wait_until("the metrics' signal", || gauges(&metrics)[1..] == [1.0, 0.0]);

    let error = fill(&log, &mut ledger);
    assert!(matches!(error, AppendError::NotWritten { position: None, .. }), "{error}");
    assert_below_free_space_min(error.cause());
    assert_eq!(log.stats().free_space.state, FreeSpaceState::Refusing);
    wait_until("the metrics' signal", || gauges(&metrics)[1..] == [1.0, 1.0]);
    assert!(free(&fs) > HARD / 2, "the minimum free space is kept");
    ledger.check(&replayed(&log));

    // Another program uses the rest. Truncation needs no room.
    leave(&fs, CAPACITY, 0);
    wait_until("the look", || log.stats().free_space.free_bytes == Some(0));
    assert_eq!(gauges(&metrics)[0], 0.0);
    let checkpoint = log.durable_checkpoint();
    ledger.truncated(&replayed(&log).below(&checkpoint));
    assert!(log.truncate_before(&checkpoint).unwrap().segments > 10);
    ledger.append(&log, 7, 3000).expect("truncation checks the free space again");

    // Another program frees some room.
    fs.set_capacity(Some(0));
    wait_for(&log, FreeSpaceState::Refusing);
    ledger.append(&log, 7, 10).unwrap_err();
    fs.set_capacity(None);
    wait_for(&log, FreeSpaceState::Ok);
    ledger.append(&log, 7, 3000).expect("there is room again");
    wait_until("the metrics' signal", || gauges(&metrics)[1..] == [0.0, 0.0]);
    log.close().unwrap();
    drop(log);
    ledger.check(&replayed(&open(marked(&fs))));
}

#[test]
fn every_append_call_is_refused_and_returns_the_payload() {
    let fs = limited();
    let log = open(marked(&fs));
    fs.set_capacity(Some(0));
    wait_for(&log, FreeSpaceState::Refusing);
    let payload = || Bytes::from_static(b"7:0:");
    let refusals = [
        log.try_append(7, payload()).map(drop),
        log.append_timeout(7, payload(), Duration::from_secs(60)).map(drop),
    ];
    for refused in refusals {
        let refused = refused.unwrap_err();
        assert_below_free_space_min(&refused.cause);
        assert_eq!(refused.payload, payload());
    }
    assert_below_free_space_min(log.append(7, payload()).wait().unwrap_err().cause());
    let error = futures_executor::block_on(log.append_async(7, payload())).unwrap_err();
    assert_below_free_space_min(error.cause());
    fs.set_capacity(None);
    wait_for(&log, FreeSpaceState::Ok);
    assert!(replayed(&log).records.is_empty());
}

/// The error of each append call.
fn refusals(log: &ShardedWal) -> Vec<Cause> {
    let payload = || Bytes::from_static(b"7:0:");
    let refused = [
        log.try_append(7, payload()).map(drop),
        log.append_timeout(7, payload(), Duration::from_secs(60)).map(drop),
    ];
    let mut causes = refused.map(|refused| refused.expect_err("it is refused").cause).to_vec();
    let mut add = |error: AppendError| causes.push(error.cause().clone());
    add(log.append(7, payload()).wait().expect_err("it is refused"));
    add(log.append_wait(7, payload()).expect_err("it is refused"));
    add(futures_executor::block_on(log.append_async(7, payload())).expect_err("it is refused"));
    let batch = || [(7, payload())];
    for error in [log.append_batch(batch()).wait(), log.append_batch_wait(batch())] {
        error.expect_err("it is refused").failed.into_iter().for_each(|part| add(part.error));
    }
    causes
}

/// More room would not help these logs.
#[test]
fn a_closed_or_failed_log_reports_that_even_below_the_limit() {
    for fails in [false, true] {
        let fs = limited();
        // The shard that works keeps the free space check running.
        let log = open(marked(&fs).shards(2));
        fs.set_capacity(Some(0));
        wait_for(&log, FreeSpaceState::Refusing);
        assert!(
            refusals(&log).iter().all(|cause| matches!(cause, Cause::BelowFreeSpaceMin { .. }))
        );
        fs.set_capacity(None);
        wait_for(&log, FreeSpaceState::Ok);
        if fails {
            fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
            log.append(7, "x").wait().unwrap_err();
        }
        fs.set_capacity(Some(0));
        wait_for(&log, FreeSpaceState::Refusing);
        if !fails {
            log.close().unwrap();
        }
        let causes = refusals(&log);
        assert_eq!(causes.len(), 7);
        for cause in causes {
            match cause {
                Cause::Poisoned(_) => assert!(fails),
                Cause::Closed => assert!(!fails),
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_batch_is_refused_before_any_part_is_queued() {
    let fs = limited();
    let log = open(marked(&fs).shards(4));
    let keys: Vec<_> = (0..64).map(|key: u64| key << 58).collect();
    let mut ledger = Ledger::default();
    assert!(ledger.append_batch(&log, &keys, 10));
    fs.set_capacity(Some(0));
    wait_for(&log, FreeSpaceState::Refusing);
    let (records, parts) = ledger.begin_batch(&log, &keys, 10);
    let error = log.append_batch(records).wait().unwrap_err();
    assert_eq!(error.failed.len(), 4, "each shard's part");
    for part in &error.failed {
        assert!(matches!(part.error, AppendError::NotWritten { position: None, .. }));
        assert_below_free_space_min(part.error.cause());
    }
    ledger.batch_answered(&parts, Some(&error));
    fs.set_capacity(None);
    wait_for(&log, FreeSpaceState::Ok);
    assert!(ledger.append_batch(&log, &keys, 10));
    drop(log);
    ledger.check(&replayed(&open(marked(&fs).shards(4))));
}

/// With and without a limit, with and without zeros ahead, and for each small
/// number of free pages.
#[test]
fn a_log_closes_on_a_full_disk_and_loses_nothing() {
    for pages in 0..6 {
        for copy_on_write in [false, true] {
            for hard in [0, HARD] {
                let fs = limited();
                fs.set_copy_on_write(copy_on_write);
                let log = open(config(&fs).free_space_min_bytes(hard));
                let mut ledger = Ledger::default();
                (0..pages + 1).for_each(|_| ledger.append(&log, 7, 1500).unwrap());
                // A segment may be under way; its room is not counted in advance.
                leave(&fs, CAPACITY, pages * 4096);
                let queued: Vec<_> =
                    (0..8).map(|_| (ledger.len(7), log.append(7, ledger.next(7, 1500)))).collect();
                log.close().expect("close needs no room");
                for (index, completion) in queued {
                    if let Err(error) = ledger.wait(7, index, completion) {
                        assert!(error.is_not_written(), "{error}");
                    }
                }
                drop(log);
                fs.set_capacity(None);
                ledger.check(&replayed(&open(config(&fs))));
            }
        }
    }
}

/// For every position in a page at which the last record may end.
#[test]
fn a_seal_without_room_does_not_fail_the_close() {
    let mut unsealed = 0;
    for length in (3800..4096).step_by(8) {
        let fs = limited();
        let log = open(config(&fs));
        let mut ledger = Ledger::default();
        ledger.append(&log, 7, length).unwrap();
        leave(&fs, CAPACITY, 0);
        log.close().expect("close needs no room");
        drop(log);
        fs.set_capacity(None);
        let log = open(config(&fs));
        let shard = &log.recovery().shards[0];
        unsealed += u64::from(shard.durable_below < shard.next_sequence);
        ledger.check(&replayed(&log));
    }
    assert!(unsealed > 0, "every seal found room");
}

/// The zeros of a segment would have used a mebibyte of the minimum free space, and
/// appends would have been refused.
#[test]
fn zeros_ahead_stay_above_the_minimum_free_space() {
    const MIB: u64 = KIB * KIB;
    let fs = SimFileSystem::new();
    fs.set_capacity(Some(25 * MIB / 8));
    let log = open(config(&fs).segment_bytes(MIB).free_space_min_bytes(2 * MIB));
    let mut ledger = Ledger::default();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|it| it == "wal");
    while log.stats().total.rolls == 0 {
        ledger.append(&log, 7, 32 << 10).expect("there is room");
        // After a window the log requests the next segment. When it is ready depends on
        // the housekeeping thread.
        if ledger.len(7) > 8 {
            let segments = || fs.files().iter().filter(|path| is_segment(path)).count();
            wait_until("the next segment", || segments() > 1);
        }
    }
    ledger.append(&log, 7, 32 << 10).expect("there is room");
    assert!(free(&fs) >= 2 * MIB, "{} are free", free(&fs));
    // With enough room, zeros are written ahead.
    fs.set_capacity(None);
    wait_until("the look", || log.stats().free_space.free_bytes > Some(64 * MIB));
    while log.stats().total.rolls == 1 {
        ledger.append(&log, 7, 32 << 10).expect("there is room");
    }
    let last = fs.files().into_iter().rfind(is_segment);
    let last = fs.read_file(last.expect("there are segments")).expect("it is there");
    assert_eq!(last.len() as u64, MIB, "all of its zeros");
}

#[test]
fn a_snapshot_frees_room_for_a_storage_that_refuses_writes() {
    let fs = limited();
    let storage = Storage::open(StorageOptions::new(marked(&fs))).unwrap();
    let labels = Labels::new([("__name__", "up")]).unwrap();
    let noise =
        |time: i64| f64::from_bits(time.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
    let write = |times: std::ops::Range<i64>| {
        let samples = times.map(|time| Sample::new(time, noise(time))).collect();
        storage.write(&TimeSeries::new(labels.clone(), samples))
    };
    // Repeats these times: the log grows, and the stored samples do not.
    let error = loop {
        if let Err(error) = write(0..300) {
            break error;
        }
    };
    match &error {
        WriteError::Refused(cause) => assert_below_free_space_min(cause),
        other => panic!("{other}"),
    }
    storage.snapshot().expect("the minimum free space leaves room for a snapshot");
    write(300..600).expect("the snapshot has truncated the log");
    storage.close().unwrap();
    drop(storage);
    let storage = Storage::open(StorageOptions::new(marked(&fs))).unwrap();
    assert_eq!(storage.samples(), 600);
}

#[test]
fn impossible_free_space_limits_are_refused_at_open() {
    let fs = limited();
    let refused = |config: Config, name: &str| match ShardedWal::open(config) {
        Err(OpenError::InvalidConfig { setting, .. }) => assert_eq!(setting, name),
        other => panic!("{other:?}"),
    };
    refused(
        config(&fs).free_space_low_bytes(HARD - 1).free_space_min_bytes(HARD),
        "free_space_low_bytes",
    );
    refused(config(&fs).free_space_min_bytes(u64::MAX), "free_space_min_bytes");
    // A file system that does not report its free bytes.
    let silent = Gate::default().before(&fs);
    refused(
        config(&fs).file_system(silent.clone()).free_space_min_bytes(1),
        "free_space_min_bytes",
    );
    refused(
        config(&fs).file_system(silent.clone()).free_space_low_bytes(1),
        "free_space_low_bytes",
    );
    for (soft, hard) in [(HARD, HARD), (0, HARD), (SOFT, 0)] {
        drop(open(config(&fs).free_space_low_bytes(soft).free_space_min_bytes(hard)));
    }
    let log = open(config(&fs).file_system(silent));
    assert_eq!(log.stats().free_space.free_bytes, None);
    assert_eq!(log.stats().free_space.state, FreeSpaceState::Ok);
}

#[test]
fn a_log_opened_below_the_limit_refuses_its_first_append() {
    let fs = limited();
    drop(open(config(&fs)));
    leave(&fs, CAPACITY, 8 * 4096);
    let log = open(marked(&fs));
    assert_below_free_space_min(log.append(7, "x").wait().unwrap_err().cause());
    log.flush().wait().unwrap();
    log.close().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_operating_system_reports_the_free_bytes() {
    let scratch = tempfile::tempdir().unwrap();
    let config = || Config::new(scratch.path()).file_system(Arc::new(OsFileSystem)).shards(1);
    let log = ShardedWal::open(config()).unwrap();
    assert!(log.stats().free_space.free_bytes > Some(0), "{:?}", log.stats().free_space);
    log.append(1, "x").wait().unwrap();
    drop(log);
    let log = ShardedWal::open(config().free_space_min_bytes(1 << 60)).unwrap();
    let error = log.append(1, "x").wait().unwrap_err();
    assert!(matches!(error.cause(), Cause::BelowFreeSpaceMin { .. }), "{error}");
    let df = rustix::fs::statvfs(scratch.path()).unwrap();
    let (free, found) = (df.f_bavail * df.f_frsize, log.stats().free_space.free_bytes.unwrap());
    // Other programs write at the same time.
    assert!(found.abs_diff(free) < 1 << 30, "{found} and {free}");
}
