//! Admission: a write is checked against the limits before it has any effect, and a refused write
//! leaves nothing behind.

use std::sync::Arc;
use std::thread;

use crate::support::gate::Gate;
use crate::support::{ENOSPC, fault_at};
use shardwal::fs::FileSystem;
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Cause, Config, ShardedWal};
use shardwal_bench::SingleMutexLog;
use shardwal_timeseries::{
    Labels, Matcher, Sample, SeriesHandle, SeriesLog, Storage, StorageOptions, TimeSeries,
    WriteError,
};

fn config(fs: Arc<dyn FileSystem>) -> Config {
    Config::new("/db").file_system(fs).shards(1).segment_bytes(4096)
}

fn options(fs: &SimFileSystem) -> StorageOptions {
    StorageOptions::new(config(Arc::new(fs.clone())))
}

fn labels(host: u64) -> Labels {
    Labels::new([("__name__", "up"), ("host", &host.to_string())]).expect("they are valid")
}

fn series(host: u64, times: std::ops::Range<i64>) -> TimeSeries {
    let samples = times.map(|time| Sample::new(time, 1.0)).collect();
    TimeSeries::new(labels(host), samples)
}

fn by_handle(handle: SeriesHandle, times: std::ops::Range<i64>) -> Vec<(SeriesHandle, Sample)> {
    times.map(|time| (handle, Sample::new(time, 1.0))).collect()
}

fn is_memory_full<T: std::fmt::Debug>(answer: &Result<T, WriteError>) -> bool {
    matches!(answer, Err(WriteError::MemoryFull { .. }))
}

/// Asserts that the storage accepts exactly the samples that `samples_max` leaves.
fn has_exactly_its_room<L: SeriesLog>(storage: &Storage<L>, samples_max: u64, what: &str) {
    let left = i64::try_from(samples_max - storage.samples()).expect("a test is small");
    let beyond = storage.write(&series(9_999, 0..left + 1));
    assert!(is_memory_full(&beyond), "{what}: {left} samples are left: {beyond:?}");
    let fits = storage.write(&series(9_999, 0..left));
    assert!(fits.is_ok(), "{what}: {left} samples are left: {fits:?}");
    assert_eq!(storage.samples(), samples_max, "{what}");
}

/// Regression: one write of many samples exceeded the limit, because the count was still below it.
/// The storage did not open again.
#[test]
fn a_write_beyond_the_limit_is_refused_before_it_has_any_effect() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs).samples_max(1000)).unwrap();
    let handle = storage.series_handle(&labels(0)).unwrap();
    let appended = || storage.log().stats().total.records;
    assert!(is_memory_full(&storage.write_samples(&by_handle(handle, 0..6000)).map(drop)));
    assert!(is_memory_full(&storage.try_write_samples(&by_handle(handle, 0..6000)).map(drop)));
    assert!(is_memory_full(&storage.write(&series(1, 0..1001))));
    assert_eq!((appended(), storage.samples(), storage.series_count()), (0, 0, 1));
    has_exactly_its_room(&storage, 1000, "nothing was taken");
}

/// An operator may lower the limit. Acknowledged samples stay.
#[test]
fn a_storage_that_holds_more_than_its_limit_opens_and_refuses_writes() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs)).unwrap();
    (0..4).for_each(|part| storage.write(&series(0, part * 1000..part * 1000 + 1000)).unwrap());
    drop(storage);
    for with_snapshot in [false, true] {
        if with_snapshot {
            Storage::open(options(&fs)).unwrap().snapshot().unwrap();
        }
        let storage = Storage::open(options(&fs).samples_max(10)).expect("it opens");
        assert_eq!(storage.samples(), 4000);
        assert!(is_memory_full(&storage.write(&series(0, 5000..5001))));
        assert!(storage.snapshot().is_ok());
    }
}

/// Regression: queued samples were not counted, so any number was admitted.
#[test]
fn samples_on_their_way_count() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let options = StorageOptions::new(config(gate.before(&fs))).samples_max(1000);
    let storage = Storage::open(options).unwrap();
    let handle = storage.series_handle(&labels(0)).unwrap();
    gate.shut();
    let write = |at: i64| storage.write_samples(&by_handle(handle, at * 100..at * 100 + 100));
    let writes: Vec<_> = (0..20).map(write).collect();
    let admitted = writes.iter().filter(|write| write.is_ok()).count();
    gate.open();
    assert_eq!(admitted, 10);
    writes.into_iter().flatten().for_each(|write| write.wait().unwrap());
    assert_eq!(storage.samples(), 1000);
    let again = storage.write_samples(&by_handle(handle, 0..1)).map(drop);
    assert!(is_memory_full(&again), "{again:?}");
}

#[test]
fn many_writers_at_once_take_what_there_is_room_for_and_no_more() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs).samples_max(1000).series_max(10)).unwrap();
    let taken: usize = thread::scope(|scope| {
        let writer = |writer: i64| {
            let storage = &storage;
            let write = move |n: i64| {
                let host = u64::try_from(writer * 40 + n).expect("it is small");
                storage.write(&series(host, 0..100)).is_ok()
            };
            scope.spawn(move || (0..40).filter(|n| write(*n)).count())
        };
        let writers: Vec<_> = (0..8).map(writer).collect();
        writers.into_iter().map(|writer| writer.join().expect("no panic")).sum()
    });
    assert_eq!((taken, storage.samples(), storage.series_count()), (10, 1000, 10));
}

/// A refused write returns its room, whatever refuses it and at whatever step.
fn a_refused_write_gives_its_room_back<L: SeriesLog>() {
    const MAX: u64 = 400;
    for step in 0..60 {
        let fs = SimFileSystem::new();
        let storage = Storage::<L>::open_in(options(&fs).samples_max(MAX)).expect("it opens");
        storage.write(&series(0, 0..10)).expect("there is room");
        let files = fs.files().into_iter().filter_map(|path| fs.read_file(path));
        let used: usize = files.map(|bytes| bytes.len()).sum();
        fs.set_capacity(Some(used as u64 + step * 100));
        let mut host = 0;
        let refused = loop {
            host += 1;
            match storage.write(&series(host, 0..3)) {
                Ok(()) if host < 100 => {}
                Ok(()) => break None,
                Err(refused) => break Some(refused),
            }
        };
        let found = storage.series_count() as u64;
        let acknowledged = if refused.is_some() { host } else { host + 1 };
        assert_eq!(found, acknowledged, "step {step}: {refused:?}");
        fs.set_capacity(None);
        has_exactly_its_room(&storage, MAX, &format!("step {step}: {refused:?}"));
    }
}

#[test]
fn a_write_that_found_no_room_on_the_disk_gives_its_room_in_memory_back() {
    a_refused_write_gives_its_room_back::<ShardedWal>();
}

#[test]
fn a_write_that_found_no_room_gives_it_back_behind_one_mutex() {
    a_refused_write_gives_its_room_back::<SingleMutexLog>();
}

/// If the next segment cannot be created, queued samples are refused before they are encoded.
#[test]
fn what_is_refused_for_want_of_a_segment_gives_its_room_back() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs).samples_max(4000)).unwrap();
    let handle = storage.series_handle(&labels(0)).unwrap();
    fs.fail(Fault { sticky: true, ..fault_at(".wal", Call::Open, FaultKind::Error(ENOSPC)) });
    let mut refused = 0;
    for time in 0..300 {
        let write = |series: &TimeSeries| {
            let samples = by_handle(handle, time..time + 1);
            storage.try_write_batch(&samples, std::slice::from_ref(series))
        };
        let written = write(&series(1 + time.cast_unsigned(), 0..3));
        refused += u64::from(written.and_then(|writing| writing.wait()).is_err());
    }
    assert!(refused > 0, "the fault fired");
    assert_eq!(storage.samples(), (300 - refused) * 4);
    assert_eq!(storage.series_count() as u64, 1 + 300 - refused);
    fs.clear_faults();
    has_exactly_its_room(&storage, 4000, "reopened for writes");
}

#[test]
fn what_the_log_refuses_at_once_gives_its_room_back() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let config = config(gate.before(&fs)).queue_capacity(4);
    let storage = Storage::open(StorageOptions::new(config).samples_max(100)).unwrap();
    gate.shut();
    let written = |host| storage.try_write_batch(&[], &[series(host, 0..2)]);
    let queued: Vec<_> = (0..20).map(written).collect();
    let is_full = |refused: &WriteError| matches!(refused, WriteError::Refused(Cause::QueueFull));
    let refused: Vec<_> = queued.iter().filter_map(|written| written.as_ref().err()).collect();
    assert!(refused.iter().any(|refused| is_full(refused)), "{refused:?}");
    gate.open();
    for writing in queued.into_iter().flatten() {
        writing.wait().unwrap();
    }
    assert_eq!(storage.series_count() as u64 * 2, storage.samples());
    has_exactly_its_room(&storage, 100, "the queue has room");
    storage.close().unwrap();
    for host in 0..100 {
        storage.write(&series(1000 + host, 0..1)).expect_err("it is closed, or full");
    }
    assert!(storage.series_count() <= 21);
}

/// A failed shard returns the room of all its pending samples.
#[test]
fn a_failed_shard_gives_the_room_of_its_queue_back() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let config = config(gate.before(&fs)).shards(2);
    let storage = Storage::open(StorageOptions::new(config).samples_max(1000)).unwrap();
    let in_shard = |shard| {
        let host = (0..).find(|host| storage.log().shard_of(labels(*host).id().0) == shard);
        storage.series_handle(&labels(host.expect("there is one"))).unwrap()
    };
    let [failing, sound] = [in_shard(0), in_shard(1)];
    gate.shut();
    let writes: Vec<_> = (0..9)
        .map(|n| storage.write_samples(&by_handle(failing, n * 100..n * 100 + 100)).unwrap())
        .collect();
    gate.wait_for_writer();
    gate.open_with_error(5);
    for writing in writes {
        writing.wait().expect_err("the shard has failed");
    }
    gate.open_with_error(0);
    storage.write_samples(&by_handle(failing, 0..1)).unwrap().wait().expect_err("it has failed");
    // The shard's thread answers first, and returns the room when it ends.
    let taken = (0..10_000).any(|_| {
        thread::sleep(std::time::Duration::from_millis(1));
        storage.try_write_samples(&by_handle(sound, 0..1000)).is_ok()
    });
    assert!(taken, "all of the room is returned");
}

/// Regression: a handle was requested while the commit that defines the series was running. The
/// commit failed for want of space. The handle must not refer to another series.
#[test]
fn a_handle_of_a_series_whose_first_write_is_refused_stays() {
    for discards in [false, true] {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let storage = Storage::open(StorageOptions::new(config(gate.before(&fs)))).unwrap();
        storage.write(&series(0, 0..1)).unwrap();
        if discards {
            fs.fail(fault_at("/db/log", Call::Write, FaultKind::Error(ENOSPC)));
        }
        let answer = storage.write(&series(1, 0..1));
        assert_eq!(answer.is_err(), discards);
        let handle = storage.series_handle(&labels(1)).unwrap();
        storage.write(&series(2, 0..1)).unwrap();
        storage.write_samples(&by_handle(handle, 5..6)).unwrap().wait().unwrap();
        let found = storage.query(&[Matcher::equal("host", "1")], 5..=5);
        assert_eq!(found, [series(1, 5..6)]);
        let again = Storage::open(options(&fs.kill())).unwrap();
        assert_eq!(again.query(&[], 5..=5), [series(1, 5..6)]);
    }
}

/// Regression: a refused series took a place forever.
#[test]
fn refused_series_take_no_places() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs).series_max(3).samples_max(1000)).unwrap();
    storage.write(&series(0, 0..1)).unwrap();
    for host in 0..5000 {
        assert!(is_memory_full(&storage.write(&series(host, 0..1000))));
    }
    let three: Vec<_> = (1..4).map(|host| series(host, 0..1)).collect();
    let refused = storage.write_batch(&three).unwrap_err();
    assert!(matches!(refused, WriteError::TooManySeries { max: 3 }), "{refused}");
    assert_eq!((storage.series_count(), storage.samples()), (1, 1));
    storage.write_batch(&three[..2]).unwrap();
    assert_eq!((storage.series_count(), storage.samples()), (3, 3));
    // Existing series need no place.
    storage.write_batch(&[series(0, 5..6), series(1, 5..6)]).unwrap();
    assert_eq!(storage.find_handle(&labels(4)), None);
    assert!(storage.find_handle(&labels(2)).is_some());
    let left = 1000 - i64::try_from(storage.samples()).expect("a test is small");
    storage.write(&series(2, 100..100 + left)).unwrap();
    assert_eq!(storage.samples(), 1000);
}

/// A new series remains one series if a write names it twice, or if many writers write it at once.
#[test]
fn a_new_series_that_many_write_at_once_is_one() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs)).unwrap();
    thread::scope(|scope| {
        for writer in 0..4 {
            let storage = &storage;
            scope.spawn(move || {
                for host in 0..50 {
                    let twice = [series(host, 0..2), series(host, writer * 10..writer * 10 + 3)];
                    storage.write_batch(&twice).unwrap();
                }
            });
        }
    });
    assert_eq!(storage.series_count(), 50);
    assert_eq!(storage.samples(), 50 * 12);
    drop(storage);
    let storage = Storage::open(options(&fs)).unwrap();
    assert_eq!((storage.series_count(), storage.samples()), (50, 50 * 12));
}

/// Regression: after one series with long labels, all later writes to its shard were cut into parts
/// of a few hundred samples. A read could see some of them without the others.
#[test]
fn long_labels_of_one_series_do_not_cut_the_writes_of_others() {
    let fs = SimFileSystem::new();
    let storage = Storage::open(options(&fs)).unwrap();
    let long = "x".repeat(60_000);
    for host in 0..16_u64 {
        let labels = Labels::new([("long", long.as_str()), ("host", &host.to_string())]);
        let samples = vec![Sample::new(1, 1.0)];
        storage.write(&TimeSeries::new(labels.expect("they are valid"), samples)).unwrap();
    }
    let handle = storage.series_handle(&labels(0)).unwrap();
    let appended = || storage.log().stats().total.records;
    let before = appended();
    storage.write_samples(&by_handle(handle, 0..5000)).unwrap().wait().unwrap();
    assert_eq!(appended() - before, 1);
}
