//! Prepared writes: all shards or none, larger than the queues, and at the series limit.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use crate::support::gate::Gate;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{Cause, Config};
use shardwal_timeseries::{Labels, Sample, Storage, StorageOptions, TimeSeries, WriteError};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

fn series(host: u64, times: std::ops::Range<i64>) -> TimeSeries {
    let labels = Labels::new([("__name__", "up"), ("host", &host.to_string())]);
    let samples = times.map(|time| Sample::new(time, 1.0)).collect();
    TimeSeries::new(labels.expect("they are valid"), samples)
}

/// A host whose series belongs to `shard`.
fn host_in(storage: &Storage, shard: usize) -> u64 {
    let is_there = |host: &u64| storage.log().shard_of(series(*host, 0..0).labels.id().0) == shard;
    (0..).find(is_there).expect("there is one")
}

/// Regression: the parts before the full queue were logged, and the client sent all again.
#[test]
fn a_write_that_one_full_queue_refuses_is_queued_nowhere() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let config = Config::new("/db").file_system(gate.before(&fs)).shards(2).queue_capacity(4);
    let storage = Storage::open(StorageOptions::new(config)).unwrap();
    let [other, full] = [0, 1].map(|shard| host_in(&storage, shard));
    gate.shut();
    let queued: Vec<_> =
        (0..40).map(|n| storage.try_write_batch(&[], &[series(full, n..n + 1)])).collect();
    assert!(queued.iter().any(Result::is_err), "the queue is full");
    let both = [series(other, 0..1), series(full, 100..101)];
    let refused = block_on(storage.prepare_write(&[], &[], &both).unwrap().write());
    assert!(matches!(refused, Err(WriteError::Refused(Cause::QueueFull))), "{refused:?}");
    gate.open();
    queued.into_iter().flatten().for_each(|writing| writing.wait().unwrap());
    assert_eq!(storage.find_handle(&both[0].labels), None, "nothing was queued");
    block_on(storage.prepare_write(&[], &[], &both).unwrap().write()).unwrap();
    assert!(storage.find_handle(&both[0].labels).is_some());
}

#[test]
fn a_write_larger_than_the_queues_is_written_part_by_part() {
    for (capacity, bytes) in [(1, 16 << 20), (4, 4000), (8, 400)] {
        let fs = SimFileSystem::new();
        let config = Config::new("/db").file_system(Arc::new(fs.clone())).shards(2);
        let config = config.queue_capacity(capacity).queue_bytes(bytes);
        let options = || StorageOptions::new(config.clone()).samples_max(7000).series_max(100);
        let storage = Storage::open(options()).unwrap();
        let batch: Vec<_> = (0..100).map(|host| series(host, 0..70)).collect();
        let prepared = storage.prepare_write(&[], &[], &batch).unwrap();
        assert_eq!(prepared.left_out(), []);
        block_on(prepared.write()).unwrap();
        assert_eq!((storage.series_count(), storage.samples()), (100, 7000));
        // All room is taken once, and given back once.
        assert!(storage.prepare_write(&[], &[], &[series(0, 0..1)]).is_err());
        drop(storage);
        let storage = Storage::open(options().samples_max(7001)).unwrap();
        assert_eq!((storage.series_count(), storage.samples()), (100, 7000));
        block_on(storage.prepare_write(&[], &[], &[series(0, 70..71)]).unwrap().write()).unwrap();
    }
}

/// A future that is dropped while it waits for room gives back what is not queued.
#[test]
fn a_write_that_is_dropped_gives_its_room_back() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let config = Config::new("/db").file_system(gate.before(&fs)).shards(1).queue_capacity(1);
    let options = StorageOptions::new(config.queue_bytes(400)).samples_max(1000);
    let storage = Storage::open(options).unwrap();
    gate.shut();
    {
        let mut write =
            pin!(storage.prepare_write(&[], &[], &[series(0, 0..900)]).unwrap().write());
        assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    gate.open();
    storage.log().flush().wait().unwrap();
    // A flush may end before the samples are in memory. The answer of a later write does not.
    block_on(storage.prepare_write(&[], &[], &[series(2, 0..1)]).unwrap().write()).unwrap();
    let left = 1000 - i64::try_from(storage.samples()).expect("a test is small");
    assert!(left > 900, "most of it was not queued");
    block_on(storage.prepare_write(&[], &[], &[series(1, 0..left)]).unwrap().write()).unwrap();
    assert_eq!(storage.samples(), 1000);
}

/// Regression: the whole write was refused.
#[test]
fn at_the_series_limit_new_series_are_left_out_and_the_others_written() {
    let fs = SimFileSystem::new();
    let config = Config::new("/db").file_system(Arc::new(fs.clone())).shards(1);
    let storage = Storage::open(StorageOptions::new(config).series_max(3)).unwrap();
    let batch: Vec<_> = (0..5).map(|host| series(host, 0..2)).collect();
    let handle = storage.series_handle(&batch[4].labels).unwrap();
    let prepared = storage.prepare_write(&[(handle, Sample::new(9, 1.0))], &[], &batch).unwrap();
    assert_eq!(prepared.left_out(), [2, 3]);
    drop(prepared);
    assert_eq!(storage.series_count(), 1, "a write that is dropped has no effect");
    let prepared = storage.prepare_write(&[(handle, Sample::new(9, 1.0))], &[], &batch).unwrap();
    // Its series have reserved the last places, and may give them back.
    let waits = storage.prepare_write(&[], &[], &batch[2..3]).map(drop);
    assert!(matches!(waits, Err(WriteError::TooManySeries { max: 3 })), "{waits:?}");
    block_on(prepared.write()).unwrap();
    assert_eq!((storage.series_count(), storage.samples()), (3, 7));
    assert_eq!(storage.prepare_write(&[], &[], &batch[2..3]).unwrap().left_out(), [0]);
}
