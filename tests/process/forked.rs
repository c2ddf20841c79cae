//! A process forks with an open log. The child has a copy of the log, but none of its
//! threads. Each call reports that, and no call affects the parent's log.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::convert::Infallible;
use std::ffi::c_int;
use std::fs;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::gate::Gate;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{
    AppendError, Cause, Config, Durability, OpenError, ReplayError, ReplayOptions, ShardedWal,
    TruncateError,
};
use shardwal_timeseries::{Storage, StorageError, StorageOptions};

unsafe extern "C" {
    fn fork() -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn kill(pid: c_int, signal: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}
const WNOHANG: c_int = 1;
const SIGKILL: c_int = 9;
const LIMIT: Duration = Duration::from_secs(20);

/// Runs `child` in a forked child, which writes its findings to a file. Fails if there
/// are any, or if the child does not end.
fn in_a_child(scratch: &Path, child: impl FnOnce() -> Vec<String>) {
    let reported = scratch.join("reported");
    // SAFETY: the child allocates and writes one file, which glibc and the kernel allow
    // after a fork, and takes no lock that another thread may have held.
    let pid = unsafe { fork() };
    if pid == 0 {
        let found = catch_unwind(AssertUnwindSafe(child));
        let found = found.unwrap_or_else(|_| vec!["it has panicked".into()]);
        let written = fs::write(&reported, found.join("\n")).is_ok();
        // SAFETY: it ends the child at once.
        unsafe { _exit(c_int::from(!written)) }
    }
    assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
    let (began, mut status) = (Instant::now(), 0);
    // SAFETY: `status` lives; the child is this process's own and not waited for
    // elsewhere.
    while unsafe { waitpid(pid, &raw mut status, WNOHANG) } == 0 {
        if began.elapsed() > LIMIT {
            // SAFETY: the child has not been waited for, so the number is still its
            // own.
            unsafe { kill(pid, SIGKILL) };
            panic!("the child hangs");
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(status, 0, "the child's end");
    assert_eq!(fs::read_to_string(&reported).unwrap(), "", "the child reports no error");
}

fn is_forked(cause: &Cause, parent: u32) -> bool {
    matches!(cause, Cause::Forked { opened_by, called_by }
        if *opened_by == parent && *called_by == std::process::id() && opened_by != called_by)
}

/// The calls that do not report that the log belongs to another process.
fn wrong(log: &ShardedWal, parent: u32) -> Vec<String> {
    let forked = |cause: &Cause| is_forked(cause, parent);
    let reported = |error: AppendError| forked(error.cause()) && error.is_not_written();
    let mut context = Context::from_waker(Waker::noop());
    let found = [
        ("append", reported(log.append(1, "child").wait().unwrap_err())),
        ("append_wait", reported(log.append_wait(1, "child, and longer").unwrap_err())),
        ("try_append", forked(&log.try_append(1, "child").unwrap_err().cause)),
        ("append_timeout", forked(&log.append_timeout(1, "child", LIMIT).unwrap_err().cause)),
        (
            "append_async",
            match pin!(log.append_async(1, "child")).poll(&mut context) {
                Poll::Ready(Err(refused)) => forked(refused.cause()),
                _ => false,
            },
        ),
        ("append_batch", {
            let error = log.append_batch([(1, "child")]).wait().unwrap_err();
            reported(error.failed[0].error.clone())
        }),
        ("append_batch_wait", {
            reported(log.append_batch_wait([(1, "child")]).unwrap_err().failed[0].error.clone())
        }),
        (
            "truncate_before",
            match log.truncate_before(&log.durable_checkpoint()) {
                Err(TruncateError::NotHere(cause)) => forked(&cause),
                _ => false,
            },
        ),
        (
            "replay",
            match log.replay(ReplayOptions::default(), |_| Ok::<_, Infallible>(())) {
                Err(ReplayError::NotHere(cause)) => forked(&cause),
                _ => false,
            },
        ),
        (
            "request_snapshot",
            log.request_snapshot().wait().is_err_and(|error| forked(&error.cause))
                && match pin!(log.request_snapshot()).poll(&mut context) {
                    Poll::Ready(Err(error)) => forked(&error.cause),
                    _ => false,
                },
        ),
        ("close", forked(&log.close().unwrap_err().cause)),
    ];
    found.into_iter().filter(|(_, right)| !right).map(|(call, _)| call.into()).collect()
}

fn replayed(log: &ShardedWal) -> Vec<String> {
    let found = Mutex::new(Vec::new());
    let each = |record: &shardwal::Record<'_>| {
        found.lock().unwrap().push(String::from_utf8_lossy(record.payload()).into_owned());
        Ok::<_, Infallible>(())
    };
    log.replay(ReplayOptions::default(), each).unwrap();
    found.into_inner().unwrap()
}

/// The parent still holds the lock, although the child has dropped the log.
#[test]
fn calls_in_a_forked_child_are_refused_and_the_parents_log_is_intact() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let scratch = tempfile::tempdir().unwrap();
        let config = || Config::new(scratch.path().join("wal")).shards(1).durability(durability);
        let log = ShardedWal::open(config()).unwrap();
        let parent = std::process::id();
        log.append_wait(1, "first").unwrap();
        // The child takes a copy of its own; the parent's stays in place.
        let mut log = Some(log);
        in_a_child(scratch.path(), || {
            let log = log.take().unwrap();
            let found = wrong(&log, parent);
            drop(log);
            found
        });
        let log = log.expect("the child took a copy");
        let second = ShardedWal::open(config());
        assert!(matches!(second, Err(OpenError::Locked { .. })), "{second:?}");
        log.append_wait(1, "second").unwrap();
        log.append(1, "third").wait().unwrap();
        log.close().unwrap();
        let log = ShardedWal::open(config()).unwrap();
        assert_eq!(replayed(&log), ["first", "second", "third"]);
    }
}

/// In the child a completed answer stays, and a pending one fails at once. A log that
/// the child opens is its own.
#[test]
fn a_forked_child_waits_for_nothing_and_may_open_a_log() {
    let scratch = tempfile::tempdir().unwrap();
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let log =
        ShardedWal::open(Config::new("/wal").shards(1).file_system(gate.before(&fs))).unwrap();
    let parent = std::process::id();
    let mut answered = log.append(1, "answered");
    while !answered.is_done() {
        thread::yield_now();
    }
    gate.shut();
    let mut waiting = log.append(1, "waiting");
    let mut polled = log.append(1, "polled");
    gate.wait_for_writer();
    in_a_child(scratch.path(), || {
        let mut context = Context::from_waker(Waker::noop());
        let indeterminate = |error: AppendError| matches!(&error, AppendError::Indeterminate { cause, .. } if is_forked(cause, parent));
        let timed = waiting
            .wait_timeout(LIMIT * 10)
            .is_some_and(|reported| indeterminate(reported.unwrap_err()));
        let polled = match Pin::new(&mut polled).poll(&mut context) {
            Poll::Ready(Err(error)) => indeterminate(error),
            _ => false,
        };
        let flushed = match pin!(log.flush()).poll(&mut context) {
            Poll::Ready(Err(error)) => indeterminate(error),
            _ => false,
        };
        let own = Config::new(scratch.path().join("own"))
            .shards(1)
            .file_system(Arc::new(shardwal::fs::OsFileSystem));
        let own = ShardedWal::open(own).unwrap();
        let own = own.append_wait(1, "own").is_ok() && own.close().is_ok();
        let answered = matches!(Pin::new(&mut answered).poll(&mut context), Poll::Ready(Ok(_)));
        let found = [
            ("an answer", answered),
            ("wait_timeout", timed),
            ("poll", polled),
            ("flush", flushed),
            ("flush and wait", log.flush().wait().is_err_and(indeterminate)),
            ("its own log", own),
        ];
        found.into_iter().filter(|(_, right)| !right).map(|(call, _)| call.into()).collect()
    });
    gate.open();
    for completion in [answered, waiting, polled] {
        completion.wait().unwrap();
    }
    log.close().unwrap();
}

/// The child drops the storage's own lock too, and must not release it.
#[test]
fn a_forked_child_that_drops_a_storage_leaves_it_locked() {
    let scratch = tempfile::tempdir().unwrap();
    let options = || StorageOptions::new(Config::new(scratch.path().join("storage")).shards(1));
    let parent = std::process::id();
    let mut storage = Some(Storage::open(options()).unwrap());
    in_a_child(scratch.path(), || {
        let storage = storage.take().unwrap();
        let reported = storage.snapshot();
        let closed = storage.close();
        let right = matches!(&reported, Err(StorageError::NotHere(cause)) if is_forked(cause, parent))
            && closed.is_err_and(|error| is_forked(&error.cause, parent));
        drop(storage);
        if right { Vec::new() } else { vec![format!("{reported:?}")] }
    });
    let second = Storage::open(options());
    let locked = matches!(second, Err(StorageError::Log(OpenError::Locked { .. })));
    assert!(locked, "the child has unlocked it");
    storage.expect("the child took a copy").close().unwrap();
    Storage::open(options()).unwrap();
}
