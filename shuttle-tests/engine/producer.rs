//! A producer that appends in every way there is, and records what was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use shardwal::{AppendError, BatchError, Cause, Completion, Position, ShardedWal};
use shuttle::future::block_on;

use crate::scene::{SHARDS, below, flip, record_event};
use crate::support::ledger::{Ledger, Parts};
use crate::support::{Found, replayed};

/// Long enough that it passes only if the schedule says so.
const A_WHILE: Duration = Duration::from_millis(1);

/// The reasons for which an append may be refused.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing.
    Fair,
    /// The log may be closed at any moment.
    Closing,
    /// The disk may fail.
    Foul,
}

/// One producer's records, and what it knows of them. Its keys are its own, one in each
/// shard.
pub(crate) struct Book {
    keys: Vec<u64>,
    length: usize,
    weather: Weather,
    ledger: Ledger,
    /// Records whose absence is no hole, because they were refused or truncated.
    absent: BTreeSet<(u64, u64)>,
    /// Records that were withdrawn, unless they got room before.
    perhaps: BTreeSet<(u64, u64)>,
    /// Records that are certainly queued, and that no thread waits for.
    queued: Vec<(u64, u64)>,
    /// The position of each record, if it is in the log.
    pub(crate) places: Vec<(Position, u64, Bytes)>,
    /// Whether a shard has reported that it failed for good.
    failed: bool,
    /// Whether a record was acknowledged.
    acknowledged: bool,
    /// Whether the producer waits for every answer.
    patient: bool,
}

impl Book {
    pub(crate) fn new(log: &ShardedWal, number: u64, weather: Weather) -> Self {
        let first_key = number * 1000;
        let key_in = |shard| (first_key..).find(|key| log.shard_of(*key) == shard);
        let keys = (0..SHARDS).map(|shard| key_in(shard).expect("each shard has keys")).collect();
        Self {
            keys,
            length: 8,
            weather,
            ledger: Ledger::default(),
            absent: BTreeSet::new(),
            perhaps: BTreeSet::new(),
            queued: Vec::new(),
            places: Vec::new(),
            failed: false,
            acknowledged: false,
            patient: false,
        }
    }

    /// A producer whose shard does not fail if the other one does.
    pub(crate) fn in_shard_1(log: &ShardedWal, number: u64) -> Self {
        let mut book = Self::new(log, number, Weather::Fair);
        book.keys[0] = book.keys[1];
        book
    }

    /// Sets the length of the payloads.
    pub(crate) fn of_length(mut self, length: usize) -> Self {
        self.length = length;
        self
    }

    /// For a log that acknowledges before the sync.
    pub(crate) fn unsynced(mut self) -> Self {
        self.ledger.acknowledges_unsynced();
        self
    }

    pub(crate) fn has_seen_failure(&self) -> bool {
        self.failed
    }

    pub(crate) fn has_been_acknowledged(&self) -> bool {
        self.acknowledged
    }

    pub(crate) fn may_fail(&self) -> bool {
        self.weather == Weather::Foul
    }

    /// Waits for every answer. A full disk may refuse a record that no thread waits for, which
    /// would be a hole that the producer does not know of.
    pub(crate) fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    pub(crate) fn lose_power(&mut self) {
        self.ledger.lose_power();
    }

    /// Records that every queued record is durable.
    pub(crate) fn closed_in_order(&mut self) {
        if self.weather != Weather::Foul {
            self.all_queued_is_there();
        }
        self.ledger.flushed();
    }

    fn all_queued_is_there(&mut self) {
        for (key, index) in std::mem::take(&mut self.queued) {
            self.ledger.answered(key, index, &Ok(()));
        }
    }

    /// Records that a truncation has removed the records below.
    pub(crate) fn truncated(&mut self, below: &Found) {
        self.ledger.truncated(below);
        for (key, indices) in below.by_key() {
            self.absent.extend(indices.into_iter().map(|index| (key, index)));
        }
        self.queued.retain(|record| !self.absent.contains(record));
    }

    /// One append or flush, of a random kind.
    pub(crate) fn act(&mut self, log: &ShardedWal) {
        match below(9) {
            0..6 => self.append(log),
            6 | 7 => self.append_batch(log),
            _ => self.flush(log),
        }
    }

    /// Appends one record, and waits for it, in a random way.
    pub(crate) fn append(&mut self, log: &ShardedWal) {
        let key = self.keys[usize::from(flip())];
        let payload = self.ledger.next(key, self.length);
        let index = self.ledger.len(key) - 1;
        let completion = match below(5) {
            4 => return self.append_inline(log, key, index, payload),
            0 => log.try_append(key, payload.clone()),
            1 => log.append_timeout(key, payload.clone(), A_WHILE),
            2 => return self.append_as_task(log, key, index, payload),
            _ => Ok(log.append(key, payload.clone())),
        };
        match completion {
            Ok(completion) => {
                if let Some(position) = completion.position() {
                    self.places.push((position, key, payload));
                }
                self.wait(log, key, index, completion);
            }
            Err(refused) => {
                assert_eq!(refused.payload, payload, "a refused payload comes back");
                let cause = refused.cause;
                let full = matches!(cause, Cause::QueueFull | Cause::SegmentNotReady);
                let error = AppendError::NotWritten { position: None, cause };
                assert!(full || self.expected(&error), "{error}");
                self.enter(log, key, index, Err(error));
            }
        }
    }

    /// Appends one record with `append_wait`, which commits it inline if the shard is idle.
    fn append_inline(&mut self, log: &ShardedWal, key: u64, index: u64, payload: Bytes) {
        let answer = log.append_wait(key, &payload[..]);
        self.answered_with_place(log, key, index, payload, answer);
    }

    /// Appends one record as a task does: awaits it, with or without a permit, or polls it and
    /// withdraws it.
    fn append_as_task(&mut self, log: &ShardedWal, key: u64, index: u64, payload: Bytes) {
        let mut append = if flip() {
            log.append_async(key, payload.clone())
        } else {
            match block_on(log.reserve(key, payload.len())) {
                Ok(permit) => permit.append(payload.clone()),
                Err(error) => {
                    assert!(self.expected(&error), "{key}:{index}: {error}");
                    return self.enter(log, key, index, Err(error));
                }
            }
        };
        if !self.patient && below(4) == 0 {
            if let Poll::Ready(answer) = poll_once(&mut append) {
                return self.answered_with_place(log, key, index, payload, answer);
            }
            record_event("nobody waited");
            // Without a position, the record may still get one before the drop below.
            if let Some(position) = append.position() {
                self.places.push((position, key, payload));
                self.queued.push((key, index));
            } else {
                self.perhaps.insert((key, index));
                self.ledger.withdrawn(key, index);
            }
            return;
        }
        let answer = block_on(append);
        self.answered_with_place(log, key, index, payload, answer);
    }

    fn answered_with_place(
        &mut self,
        log: &ShardedWal,
        key: u64,
        index: u64,
        payload: Bytes,
        answer: Result<Position, AppendError>,
    ) {
        match &answer {
            Ok(position) => self.places.push((*position, key, payload)),
            Err(error) => assert!(self.expected(error), "{key}:{index}: {error}"),
        }
        self.enter(log, key, index, answer.map(drop));
    }

    fn wait(&mut self, log: &ShardedWal, key: u64, index: u64, mut completion: Completion<'_>) {
        let answer = match below(if self.patient { 3 } else { 4 }) {
            0 => completion.wait(),
            1 => block_on(completion),
            2 => loop {
                if let Some(answer) = completion.wait_timeout(A_WHILE) {
                    break answer;
                }
                record_event("a deadline passed");
            },
            // Polled once and abandoned, or not polled at all.
            _ => {
                let is_queued = completion.position().is_some();
                if flip() {
                    drop(poll_once(completion));
                }
                if is_queued {
                    record_event("nobody waited");
                    self.queued.push((key, index));
                }
                return;
            }
        };
        if let Err(error) = &answer {
            assert!(self.expected(error), "{key}:{index}: {error}");
        }
        self.enter(log, key, index, answer.map(drop));
    }

    fn expected(&self, error: &AppendError) -> bool {
        match self.weather {
            Weather::Fair => false,
            Weather::Closing => {
                matches!(error, AppendError::NotWritten { cause: Cause::Closed, .. })
            }
            Weather::Foul => true,
        }
    }

    fn enter(&mut self, log: &ShardedWal, key: u64, index: u64, answer: Result<(), AppendError>) {
        self.ledger.answered(key, index, &answer);
        let Err(error) = answer else {
            self.acknowledged = true;
            return;
        };
        if error.is_not_written() {
            self.absent.insert((key, index));
        }
        match cause_of(&error) {
            Some(Cause::DiskFull(_)) => record_event("a full disk"),
            Some(Cause::QueueFull) => record_event("a full queue"),
            Some(Cause::Closed) => record_event("an append was refused: closed"),
            Some(Cause::WriterPanicked) => record_event("a writer panicked"),
            Some(Cause::Poisoned(_)) => record_event("a shard failed"),
            _ => {}
        }
        if let Some(Cause::Poisoned(_) | Cause::WriterPanicked) = cause_of(&error) {
            self.failed = true;
            self.a_failed_shard_takes_nothing(log, key);
        }
    }

    /// W2 STICKY, as a caller sees it.
    fn a_failed_shard_takes_nothing(&mut self, log: &ShardedWal, key: u64) {
        let payload = self.ledger.next(key, self.length);
        let index = self.ledger.len(key) - 1;
        let answer = log.append(key, payload).wait().map(drop);
        let refused = answer.as_ref().is_err_and(AppendError::is_not_written);
        assert!(refused, "a shard that failed took {key}:{index}: {answer:?}");
        self.ledger.answered(key, index, &answer);
        self.absent.insert((key, index));
    }

    /// One or two records in each shard.
    fn append_batch(&mut self, log: &ShardedWal) {
        let keys = [&self.keys[..], if flip() { &self.keys } else { &[] }].concat();
        let (records, parts) = self.ledger.begin_batch(log, &keys, self.length);
        if below(4) == 0 {
            let answer = log.append_batch_wait(records);
            return self.enter_batch(&parts, answer.err().as_ref());
        }
        let batch = log.append_batch(records);
        let answer = match below(if self.patient { 2 } else { 3 }) {
            0 => batch.wait(),
            1 => block_on(batch),
            _ => {
                if flip() {
                    drop(poll_once(batch));
                }
                return;
            }
        };
        self.enter_batch(&parts, answer.err().as_ref());
    }

    fn enter_batch(&mut self, parts: &Parts, error: Option<&BatchError>) {
        self.ledger.batch_answered(parts, error);
        for failed in error.map_or(&[][..], |error| &error.failed) {
            assert!(self.expected(&failed.error), "{}", failed.error);
            if failed.error.is_not_written() {
                self.absent.extend(&parts[&failed.shard]);
            }
        }
    }

    /// Flushes: that covers all records appended before, waited for or not.
    pub(crate) fn flush(&mut self, log: &ShardedWal) {
        let barrier = log.flush();
        let answer = if flip() { barrier.wait() } else { block_on(barrier) };
        match answer {
            Ok(()) => {
                if self.weather != Weather::Foul {
                    self.all_queued_is_there();
                }
                self.ledger.flushed();
                if self.weather == Weather::Fair {
                    self.assert_all_is_read(&replayed(log).by_key());
                }
            }
            Err(error) => assert!(self.weather != Weather::Fair, "a barrier: {error}"),
        }
    }

    /// Compares the records found with those known. Returns the number of this producer's
    /// records found.
    pub(crate) fn check(&mut self, found: &Found) -> usize {
        let mine = found.records.iter().filter(|(_, key, _)| self.keys.contains(key));
        let mine = Found { records: mine.cloned().collect() };
        let indices = mine.by_key();
        self.ledger.check(&mine);
        self.check_gapless(&indices);
        mine.records.len()
    }

    /// A replay beside the writers finds every record that a flush covers.
    fn assert_all_is_read(&self, found: &BTreeMap<u64, Vec<u64>>) {
        for key in &self.keys {
            let found = found.get(key).map_or(&[][..], |indices| indices);
            let expected = self.expected_of(*key, found).count();
            assert_eq!(found.len(), expected, "key {key} after a barrier");
        }
    }

    /// R1 REPLAY: the records of a key in the log are a prefix of those appended.
    fn check_gapless(&self, found: &BTreeMap<u64, Vec<u64>>) {
        for (key, indices) in found {
            let prefix: Vec<u64> = self.expected_of(*key, indices).take(indices.len()).collect();
            assert_eq!(&prefix, indices, "R1 REPLAY: key {key} has a hole");
        }
    }

    /// The records of a key that the log has, or had before it failed, if it has those `found`.
    fn expected_of(&self, key: u64, found: &[u64]) -> impl Iterator<Item = u64> {
        (0..self.ledger.len(key)).filter(move |index| {
            let record = (key, *index);
            let is_withdrawn = self.perhaps.contains(&record) && !found.contains(index);
            !self.absent.contains(&record) && !is_withdrawn
        })
    }
}

fn cause_of(error: &AppendError) -> Option<&Cause> {
    match error {
        AppendError::NotWritten { cause, .. } | AppendError::Indeterminate { cause, .. } => {
            Some(cause)
        }
        _ => None,
    }
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}
