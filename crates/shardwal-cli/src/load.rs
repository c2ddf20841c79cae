//! The load of `bench` and `tune`: threads that append to a log for some seconds,
//! and the latencies that they measured.
//!
//! A latency is the time from the call of an append, or of a batch, until the
//! caller sees its completion. A caller with several appends in flight waits for
//! the oldest first. This file does not know what the figures are for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use histogram::Histogram;
use shardwal::{BatchCompletion, Completion, ShardedWal};

use crate::Failed;

/// The histogram's precision, 1/128, and its range, up to 2^40 ns.
const BUCKETS: (u8, u8) = (7, 40);

/// How the threads append.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) threads: u16,
    /// Payload bytes per record.
    pub(crate) record_bytes: usize,
    /// Records per append. More than one are appended as a batch.
    pub(crate) batch: u32,
    /// Appends in flight per thread.
    pub(crate) inflight: u32,
    /// Appends after which a thread ends early, so that the disk does not fill up.
    pub(crate) appends_max: u64,
}

impl Load {
    /// Starts the threads, lets them append for `elapsed`, and waits for all
    /// completions.
    pub(crate) fn run_on(&self, log: &ShardedWal, elapsed: Duration) -> Result<Tally, Failed> {
        let payload = Bytes::from(vec![0x5a; self.record_bytes]);
        let end = Instant::now() + elapsed;
        let mut all = Tally::new()?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (1..=u64::from(self.threads))
                .map(|thread| {
                    let payload = payload.clone();
                    scope.spawn(move || self.append_until(log, &payload, end, thread))
                })
                .collect();
            for thread in threads {
                let tally = thread.join().map_err(|_| "an appending thread panicked")??;
                all.add(&tally)?;
            }
            Ok(all)
        })
    }

    fn append_until(
        &self,
        log: &ShardedWal,
        payload: &Bytes,
        end: Instant,
        thread: u64,
    ) -> Result<Tally, Failed> {
        let mut tally = Tally::new()?;
        let mut pending = VecDeque::new();
        let mut keys = Keys(thread.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        loop {
            let now = Instant::now();
            let begun = tally.appends + pending.len() as u64;
            // Each thread appends at least once, even if it starts late.
            let is_over = begun > 0 && (now >= end || begun >= self.appends_max);
            if !is_over && self.inflight == 1 {
                self.append_wait(log, payload, &mut keys)?;
                tally.count(now.elapsed())?;
                continue;
            }
            if !is_over {
                let append = if self.batch == 1 {
                    Pending::One(log.append(keys.next(), payload.clone()))
                } else {
                    Pending::Batch(log.append_batch(self.records(payload, &mut keys)))
                };
                pending.push_back((now, append));
            }
            if is_over || pending.len() >= self.inflight as usize {
                let Some((began, append)) = pending.pop_front() else { return Ok(tally) };
                append.wait()?;
                tally.count(began.elapsed())?;
            }
        }
    }

    /// Appends and waits. A caller with one append in flight may commit inline.
    fn append_wait(
        &self,
        log: &ShardedWal,
        payload: &Bytes,
        keys: &mut Keys,
    ) -> Result<(), Failed> {
        if self.batch == 1 {
            log.append_wait(keys.next(), payload.clone())?;
        } else {
            log.append_batch_wait(self.records(payload, keys))?;
        }
        Ok(())
    }

    fn records<'a>(
        &self,
        payload: &'a Bytes,
        keys: &'a mut Keys,
    ) -> impl Iterator<Item = (u64, Bytes)> + use<'a> {
        (0..self.batch).map(|_| (keys.next(), payload.clone()))
    }
}

/// An append in flight.
enum Pending<'log> {
    One(Completion<'log>),
    Batch(BatchCompletion<'log>),
}

impl Pending<'_> {
    fn wait(self) -> Result<(), Failed> {
        match self {
            Self::One(completion) => drop(completion.wait()?),
            Self::Batch(completion) => completion.wait()?,
        }
        Ok(())
    }
}

/// Random keys, by xorshift64.
struct Keys(u64);

impl Keys {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// The measurements of all threads.
pub(crate) struct Tally {
    latencies: Histogram,
    pub(crate) appends: u64,
    max_nanos: u64,
}

impl Tally {
    fn new() -> Result<Self, histogram::Error> {
        let latencies = Histogram::new(BUCKETS.0, BUCKETS.1)?;
        Ok(Self { latencies, appends: 0, max_nanos: 0 })
    }

    fn count(&mut self, latency: Duration) -> Result<(), histogram::Error> {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.appends += 1;
        self.max_nanos = self.max_nanos.max(nanos);
        self.latencies.increment(nanos.min((1 << BUCKETS.1) - 1))
    }

    fn add(&mut self, other: &Self) -> Result<(), histogram::Error> {
        self.appends += other.appends;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
        self.latencies = self.latencies.checked_add(&other.latencies)?;
        Ok(())
    }

    /// A quantile of the latencies, in microseconds. It is the upper end of the
    /// histogram's bucket, so it is never too low, but at most the maximum. 0 if
    /// nothing was appended.
    pub(crate) fn quantile_micros(&self, quantile: f64) -> Result<f64, histogram::Error> {
        let bucket = self.latencies.quantile_bucket(quantile)?;
        Ok(bucket.map_or(0, |bucket| bucket.end().min(self.max_nanos)) as f64 / 1e3)
    }

    pub(crate) fn max_micros(&self) -> f64 {
        self.max_nanos as f64 / 1e3
    }
}
