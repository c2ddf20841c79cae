//! Handles without a borrow of the log: they are stored, sent to other threads, and outlive it.

use std::future::Future;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use futures_executor::block_on;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{
    AppendError, AppendFuture, BatchCompletion, Cause, Completion, Flush, Permit, Position,
};

use crate::support::gate::Gate;
use crate::support::{config, open, payload};

fn is_free<T: Send + Unpin + 'static>(handle: T) -> T {
    handle
}

#[test]
fn owned_handles_can_be_sent_and_stored() {
    let log = open(config(&SimFileSystem::new()).shards(2));
    let appends: Vec<Completion<'static>> = (0..10)
        .map(|index| is_free(log.append(index, payload(1, index, 10)).into_owned()))
        .collect();
    let batch: BatchCompletion<'static> =
        is_free(log.append_batch([(1, "a"), (2, "b")]).into_owned());
    let future: AppendFuture<'static> = is_free(log.append_async(7, "c").into_owned());
    let permit: Permit<'static> =
        is_free(block_on(is_free(log.reserve(7, 1).into_owned())).expect("there is room"));
    let flush: Flush<'static> = is_free(log.flush().into_owned());
    let waiting = thread::spawn(move || {
        for append in appends {
            append.wait().expect("it is written");
        }
        batch.wait().expect("it is written");
        block_on(future).expect("it is written");
        block_on(is_free(permit.append("d"))).expect("it is written");
        flush.wait().expect("it is synced");
    });
    waiting.join().expect("all of it is answered");
    assert_eq!(log.stats().total.records, 14);
}

/// C3 ANSWER: the log is dropped, which writes what is queued.
#[test]
fn an_owned_completion_is_answered_by_the_drop_of_the_log() {
    let log = open(config(&SimFileSystem::new()));
    let completion = log.append(1, "kept").into_owned();
    let flush = log.flush().into_owned();
    drop(log);
    completion.wait().expect("the drop writes it");
    flush.wait().expect("and syncs it");
}

/// C3 ANSWER: an owned future outlives its log, and is refused.
#[test]
fn an_owned_append_is_refused_once_the_log_is_gone() {
    let log = open(config(&SimFileSystem::new()));
    let future = log.append_async(1, "late").into_owned();
    drop(log);
    let refused = block_on(future).expect_err("the log is closed");
    assert!(matches!(refused.cause(), Cause::Closed), "{refused}");
}

/// A position may have any number of waiters, also before there is a record.
#[test]
fn a_position_is_awaited_by_many() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let log = open(config(&fs).shards(1).file_system(gate.before(&fs)));
    let first = log.append(1, payload(1, 0, 10)).wait().expect("it is written");
    gate.shut();
    drop(log.append(1, payload(1, 1, 10)));
    gate.wait_for_writer();
    let next = |by| Position { sequence: first.sequence + by, ..first };
    let mut early = log.acknowledged(next(3)).into_owned();
    let mut context = Context::from_waker(Waker::noop());
    assert!(std::pin::Pin::new(&mut early).poll(&mut context).is_pending());
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let completion = log.acknowledged(next(2)).into_owned();
            thread::spawn(move || completion.wait())
        })
        .collect();
    let own = log.append(1, payload(1, 2, 10));
    gate.open();
    assert_eq!(own.wait().expect("it is written"), next(2));
    for waiting in waiting {
        assert_eq!(waiting.join().expect("it is answered").expect("it is written"), next(2));
    }
    drop(log.append(1, payload(1, 3, 10)));
    assert_eq!(block_on(early).expect("it is written"), next(3));
    assert_eq!(log.acknowledged(first).wait().expect("it is written"), first);
}

/// A position from before the open is answered at once. One that the shard can no longer give is
/// refused when the log closes.
#[test]
fn a_position_of_an_earlier_open_or_of_no_record_is_answered() {
    let fs = SimFileSystem::new();
    let log = open(config(&fs).shards(1));
    let first = log.append(1, "kept").wait().expect("it is written");
    log.close().expect("it ends in order");
    let log = open(config(&fs).shards(1));
    assert_eq!(log.acknowledged(first).wait().expect("it was recovered"), first);
    let mut never =
        log.acknowledged(Position { sequence: first.sequence + 9, ..first }).into_owned();
    drop(log);
    let answer = never.wait_timeout(Duration::from_secs(60)).expect("the close answers it");
    let refused = answer.expect_err("there is no such record");
    assert!(matches!(refused, AppendError::NotWritten { cause: Cause::Closed, .. }), "{refused}");
}
