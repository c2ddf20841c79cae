//! A woken task closes or drops the log. Its executor polls it in the waker, on
//! whatever thread of the log completes it.
//!
//! Holds Q3 CLOSE, C3 ANSWER (ARCHITECTURE.md).

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle};

use crate::support::gate::Gate;
use crate::support::machine::reporting;
use crate::support::{EIO, config, must_end, open, payload, replayed};
use shardwal::fs::sim::SimFileSystem;
use shardwal::{Cause, Durability, OpenError, ShardedWal};

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task of an executor that polls in the waker. Reports the name of the thread on
/// which the task ended, or that it panicked.
struct Task {
    job: Mutex<Option<Job>>,
    ended: Mutex<Sender<Option<String>>>,
}

impl Task {
    /// Polls the task for the first time, on this thread.
    fn begin(job: impl Future<Output = ()> + Send + 'static) -> Receiver<Option<String>> {
        let (sender, ended) = channel();
        let job = Mutex::new(Some(Box::pin(job) as Job));
        Arc::new(Self { job, ended: Mutex::new(sender) }).wake();
        ended
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut slot = self.job.lock().unwrap();
        let Some(job) = slot.as_mut() else { return };
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(&mut context)));
        if let Ok(Poll::Pending) = polled {
            return;
        }
        *slot = None;
        let name = thread::current().name().unwrap_or_default().to_string();
        self.ended.lock().unwrap().send(polled.is_ok().then_some(name)).unwrap();
    }
}

fn ended_on(ended: &Receiver<Option<String>>) -> String {
    ended.recv().unwrap().expect("the end of a task panics")
}

/// The next opener waits until the last queued record is written.
#[test]
fn a_task_that_drops_the_log_on_the_writer_thread_ends_and_loses_nothing() {
    must_end("a log that its own thread drops", || {
        for (shards, closes) in [(1, false), (3, false), (1, true)] {
            let (fs, gate) = (SimFileSystem::new(), Gate::default());
            let log = open(config(&fs).shards(shards).file_system(gate.before(&fs)));
            gate.shut();
            let again = gate.clone();
            let ended = Task::begin(async move {
                log.append(1, payload(1, 0, 20)).await.unwrap();
                again.shut();
                (1..40).for_each(|index| drop(log.append(1, payload(1, index, 20))));
                if closes {
                    log.close().unwrap();
                }
            });
            gate.wait_for_writer();
            gate.open();
            let ended = ended_on(&ended);
            assert!(ended.starts_with("shardwal-"), "on {ended}");
            gate.wait_for_writer();
            let early = ShardedWal::open(config(&fs).shards(shards));
            assert!(matches!(early, Err(OpenError::Locked { .. })), "{early:?}");
            gate.open();
            let log = loop {
                match ShardedWal::open(config(&fs).shards(shards)) {
                    Ok(log) => break log,
                    Err(OpenError::Locked { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            };
            assert!(replayed(&log).of(1).into_iter().eq(0..40));
        }
    });
}

/// A log of two shards, and a caller of `append_wait` named `CALLER`. It holds the
/// commit lock of key 1's shard and is blocked at the gate with the last record.
struct InlineCommit {
    fs: SimFileSystem,
    gate: Gate,
    log: Arc<ShardedWal>,
    caller: JoinHandle<bool>,
    /// Records of key 1 so far.
    appended: u64,
}

const CALLER: &str = "a caller that commits inline";

impl InlineCommit {
    fn new(durability: Durability) -> Self {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let config = config(&fs).shards(2).queue_capacity(4).durability(durability);
        // In a mode without a sync per commit, the gate is in the state machine
        // instead.
        let log = match durability {
            // The state machine waits at a gate as it applies an acknowledged record.
            Durability::Buffered => ShardedWal::open_with_state_machine(config, |_| {
                let gate = gate.clone();
                reporting(|_| {}, move || gate.pass().unwrap())
            }),
            _ => ShardedWal::open(config.file_system(gate.before(&fs))),
        };
        let log = Arc::new(log.unwrap());
        for appended in 1.. {
            gate.shut();
            let (inline, record) = (log.clone(), payload(1, appended - 1, 20));
            let append = move || inline.append_wait(1, record).is_ok();
            let caller = thread::Builder::new().name(CALLER.into()).spawn(append).unwrap();
            gate.wait_for_writer();
            if gate.came_last() == Some(caller.thread().id()) {
                return Self { fs, gate, log, caller, appended };
            }
            // The shard's thread was not parked yet.
            gate.open();
            assert!(caller.join().unwrap());
        }
        unreachable!("the shard's thread never sleeps");
    }
}

/// An inline commit completes tasks that wait for a sync and tasks that wait for room.
#[test]
fn a_task_that_closes_the_log_during_an_inline_commit_ends_and_loses_nothing() {
    must_end("a log that is closed during an inline commit", || {
        for durability in [Durability::Sync, Durability::Buffered] {
            let inline = InlineCommit::new(durability);
            let InlineCommit { log, mut appended, .. } = inline;
            let its_log = log.clone();
            let ended = if durability == Durability::Sync {
                Task::begin(async move {
                    its_log.flush().await.unwrap();
                    its_log.close().unwrap();
                })
            } else {
                // The committing caller takes all of these in its next commit.
                let queue = |index| drop(log.try_append(1, payload(1, index, 20)).unwrap());
                (appended..appended + 4).for_each(queue);
                appended += 5;
                let last = payload(1, appended - 1, 20);
                Task::begin(async move {
                    // Granted by the caller that commits, once it has taken the queued records.
                    drop(its_log.reserve(1, last.len()).await.unwrap().append(last));
                    its_log.close().unwrap();
                })
            };
            inline.gate.open();
            assert_eq!(ended_on(&ended), CALLER);
            assert!(inline.caller.join().unwrap(), "the record is acknowledged");
            let refused = log.try_append(1, "late").unwrap_err();
            assert!(matches!(refused.cause, Cause::Closed), "{refused}");
            log.close().unwrap();
            let after = inline.fs.crash(&mut || false);
            let found = replayed(&open(config(&after).shards(2)));
            assert!(found.of(1).into_iter().eq(0..appended), "{found:?}");
        }
    });
}

/// The caller has released the commit lock by then.
#[test]
fn a_caller_waits_for_close_after_an_inline_commit() {
    let (fs, gate) = (SimFileSystem::new(), Gate::default());
    let log = open(config(&fs).file_system(gate.before(&fs)));
    loop {
        log.append_wait(1, "inline").unwrap();
        if gate.came_last() == Some(thread::current().id()) {
            break;
        }
    }
    log.close().unwrap();
    // Nobody has the log open any more.
    open(config(&fs));
}

/// C3 ANSWER: the writer ends during an inline commit, and that caller answers every
/// waiter.
#[test]
fn a_task_that_closes_a_failed_log_during_an_inline_commit_ends() {
    must_end("a failed log that is closed during an inline commit", || {
        let InlineCommit { gate, log, caller, .. } = InlineCommit::new(Durability::Sync);
        let its_log = log.clone();
        let ended = Task::begin(async move {
            its_log.flush().await.unwrap_err();
            its_log.close().unwrap();
        });
        gate.open_with_error(EIO);
        assert_eq!(ended_on(&ended), CALLER);
        assert!(!caller.join().unwrap(), "the sync fails");
        let error = log.close().unwrap_err();
        assert!(matches!(error.cause, Cause::Poisoned(_)), "{error}");
    });
}

/// Q3 CLOSE: closing wakes the tasks that wait for room, and one of them closes the log
/// too.
#[test]
fn a_task_that_closes_a_closing_log_ends() {
    must_end("a closing log that is closed again", || {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let log = open(config(&fs).queue_capacity(4).file_system(gate.before(&fs)));
        let log = Arc::new(log);
        gate.shut();
        drop(log.append(1, payload(1, 0, 10)));
        gate.wait_for_writer();
        (1..5).for_each(|index| drop(log.append(1, payload(1, index, 10))));
        let its_log = log.clone();
        let ended = Task::begin(async move {
            its_log.append_async(1, "late").await.unwrap_err();
            its_log.close().unwrap();
        });
        thread::scope(|scope| {
            let closing = scope.spawn(|| log.close());
            // The gate is shut, so only the close can have woken the task.
            while !matches!(log.try_append(1, "x"), Err(refused) if matches!(refused.cause, Cause::Closed))
            {
                thread::yield_now();
            }
            gate.open();
            closing.join().unwrap().unwrap();
        });
        ended_on(&ended);
        let after = fs.crash(&mut || false);
        assert_eq!(replayed(&open(config(&after))).of(1), [0, 1, 2, 3, 4]);
    });
}
