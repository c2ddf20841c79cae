//! A soak test. Sixty-four threads append to sixteen shards without pause. The disk
//! fails at random, fills up and loses power. The log is reopened repeatedly, and every
//! acknowledged record must be found each time.
//!
//! Runs five seconds, or `SHARDWAL_SOAK_SECONDS`. `SHARDWAL_SEED` repeats the random
//! choices, but not the order of the threads.
//!
//! Holds C2 DURABLE, C3 ANSWER, R1 REPLAY, Q4 WAKE (ARCHITECTURE.md).

#![allow(clippy::print_stdout, reason = "figures are printed")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::ledger::Ledger;
use crate::support::{
    self, EINTR, EIO, ENOSPC, Found, Random, must_end_within, open, replayed, seed,
};
use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Config, OpenError, ShardedWal};

const THREADS: u64 = 64;
const SHARDS: usize = 16;
const SECONDS: u64 = 5;
/// Keys per thread and epoch.
const KEYS: u64 = 4;
/// Appends per thread until the log is reopened.
const STEPS: u64 = 24;
/// After this number of lives the log is truncated and new keys are used.
const LIVES_OF_AN_EPOCH: u64 = 12;

/// Counts over the run.
#[derive(Debug, Default)]
struct Seen {
    lives: u64,
    /// Faults that fired, power losses included.
    faults: u64,
    power_losses: u64,
    /// Appends with the answer `Ok`.
    acknowledged: u64,
    refused: u64,
    /// Records found by replays after an open.
    found: u64,
    opens_refused: u64,
}

/// A thread and its ledger.
#[derive(Debug, Default)]
struct Client {
    ledger: Ledger,
    acknowledged: u64,
    refused: u64,
}

/// A machine and its clients.
struct Soak {
    random: Random,
    fs: SimFileSystem,
    clients: Vec<Client>,
    epoch: u64,
    seen: Seen,
}

fn config(fs: &SimFileSystem, shards: usize) -> Config {
    support::config(fs).shards(shards).segment_bytes(16 << 10).queue_capacity(32)
}

fn key(epoch: u64, thread: u64, which: u64) -> u64 {
    (epoch * THREADS + thread) * KEYS + which
}

fn new_clients() -> Vec<Client> {
    (0..THREADS).map(|_| Client::default()).collect()
}

impl Client {
    fn answered(&mut self, kept: bool) {
        if kept { self.acknowledged += 1 } else { self.refused += 1 }
    }

    /// Appends a few records at a time, and now and then a batch. A client whose shard
    /// is out of service continues with its other keys.
    fn append(&mut self, log: &ShardedWal, keys: [u64; 4], random: &mut Random) {
        let mut steps = 0;
        while steps < STEPS {
            let length = [0, 40, 300, 3000][usize::try_from(random.below(4)).unwrap_or(0)];
            if random.below(8) == 0 {
                let kept = self.ledger.append_batch(log, &keys, length);
                self.answered(kept);
                steps += 1;
                continue;
            }
            let queued: Vec<_> = (0..=random.below(4))
                .map(|_| {
                    let key = keys[usize::try_from(random.below(KEYS)).unwrap_or(0)];
                    let payload = self.ledger.next(key, length);
                    (key, self.ledger.len(key) - 1, log.append(key, payload))
                })
                .collect();
            for (key, index, completion) in queued {
                let kept = self.ledger.wait(key, index, completion).is_ok();
                self.answered(kept);
                steps += 1;
            }
        }
    }
}

impl Soak {
    fn new(seed: u64) -> Self {
        let (random, fs) = (Random::new(seed), SimFileSystem::new());
        Self { random, fs, clients: new_clients(), epoch: 0, seen: Seen::default() }
    }

    fn plan_faults(&mut self) {
        const CALLS: [Call; 7] = [
            Call::Write,
            Call::Sync,
            Call::Any,
            Call::Open,
            Call::SyncDir,
            Call::Rename,
            Call::SetLen,
        ];
        const KINDS: [FaultKind; 8] = [
            FaultKind::Error(EIO),
            FaultKind::Error(ENOSPC),
            FaultKind::Error(EINTR),
            FaultKind::Short,
            FaultKind::WriteBack,
            FaultKind::PowerCut,
            FaultKind::TornPowerCut,
            FaultKind::Error(EIO),
        ];
        for _ in 0..self.random.below(4) {
            let call = CALLS[usize::try_from(self.random.below(7)).unwrap_or(0)];
            let kind = KINDS[usize::try_from(self.random.below(8)).unwrap_or(0)];
            let nth = 1 + self.random.below(600);
            let shard = format!("shard-{:04}", self.random.below(SHARDS as u64));
            let path_contains = self.random.flip().then_some(shard);
            let sticky = kind == FaultKind::Error(ENOSPC) && self.random.flip();
            self.fs.fail(Fault { path_contains, sticky, ..Fault::new(call, nth, kind) });
        }
        if self.random.below(4) == 0 {
            self.fs.set_capacity(Some((100 + self.random.below(400)) * 4096));
        }
    }

    /// Opens on a disk that may fail, then without faults.
    fn open(&mut self) -> ShardedWal {
        let shards = if self.random.below(10) == 0 { SHARDS - 1 } else { SHARDS };
        if self.random.below(3) == 0 {
            let nth = 1 + self.random.below(400);
            self.fs.fail(Fault::new(Call::Any, nth, FaultKind::Error(EIO)));
            match ShardedWal::open(config(&self.fs, shards)) {
                Ok(log) => drop(log),
                Err(OpenError::Io { .. }) => self.seen.opens_refused += 1,
                Err(other) => panic!("a fault was reported as another error: {other}"),
            }
            self.seen.faults += self.fs.fired();
            self.fs = self.fs.kill();
        }
        self.fs.set_capacity(None);
        open(config(&self.fs, shards))
    }

    /// Each client checks its own records.
    fn check(&mut self, log: &ShardedWal) {
        let mut parts: BTreeMap<u64, Found> = BTreeMap::new();
        for record in replayed(log).records {
            self.seen.found += 1;
            let (epoch, thread) = (record.1 / KEYS / THREADS, record.1 / KEYS % THREADS);
            assert_eq!(epoch, self.epoch, "key {} was truncated", record.1);
            parts.entry(thread).or_default().records.push(record);
        }
        for (thread, client) in (0..).zip(&mut self.clients) {
            client.ledger.check(&parts.remove(&thread).unwrap_or_default());
        }
    }

    /// Opens, checks, appends from all threads, and ends in one of four ways.
    fn live(&mut self) {
        let log = self.open();
        self.check(&log);
        self.plan_faults();
        let (epoch, fs) = (self.epoch, self.fs.clone());
        std::thread::scope(|scope| {
            for (thread, client) in (0..).zip(&mut self.clients) {
                let mut random = Random::new(self.random.below(u64::MAX));
                let (log, fs) = (&log, &fs);
                scope.spawn(move || {
                    let keys = [0, 1, 2, 3].map(|which| key(epoch, thread, which));
                    client.append(log, keys, &mut random);
                    if thread == 0 {
                        // Frees room while the other threads append.
                        fs.set_capacity(None);
                    }
                });
            }
        });
        self.seen.faults += self.fs.fired();
        self.fs = self.end(log);
        self.seen.lives += 1;
    }

    fn end(&mut self, log: ShardedWal) -> SimFileSystem {
        match self.random.below(4) {
            0 => drop(log.close()),
            1 => drop(log),
            2 => return self.fs.kill(),
            _ => {
                self.seen.power_losses += 1;
                let random = &mut self.random;
                return self.fs.crash(&mut || random.flip());
            }
        }
        self.fs.kill()
    }

    /// Truncates the whole epoch. A record of it that came back would be noticed.
    fn begin_epoch(&mut self) {
        let log = self.open();
        self.check(&log);
        let checkpoint = log.durable_checkpoint();
        log.truncate_before(&checkpoint).expect("the disk is whole");
        assert!(replayed(&log).records.is_empty(), "no truncated record comes back");
        drop(log);
        for client in std::mem::replace(&mut self.clients, new_clients()) {
            self.seen.acknowledged += client.acknowledged;
            self.seen.refused += client.refused;
        }
        self.epoch += 1;
        // The next generations begin with a small log.
        self.fs = self.fs.kill();
    }
}

fn soak(seed: u64, time: Duration) -> Seen {
    let (began, mut soak) = (Instant::now(), Soak::new(seed));
    while began.elapsed() < time {
        for _ in 0..LIVES_OF_AN_EPOCH {
            soak.live();
        }
        soak.begin_epoch();
    }
    soak.seen
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn sixty_four_threads_on_sixteen_shards_of_a_failing_disk_lose_nothing() {
    let asked = std::env::var("SHARDWAL_SOAK_SECONDS").ok().and_then(|time| time.parse().ok());
    let time = Duration::from_secs(asked.unwrap_or(SECONDS));
    let seed = seed();
    let seen =
        must_end_within(time * 2 + Duration::from_secs(120), "the soak", move || soak(seed, time));
    println!("{seen:?}");
    println!("FIGURE soak: {} seconds", time.as_secs());
    println!("FIGURE soak, lives of the log: {} lives", seen.lives);
    println!("FIGURE soak, faults met: {} faults", seen.faults);
    println!("FIGURE soak, records acknowledged, none lost: {} records", seen.acknowledged);
    assert!(seen.lives >= time.as_secs(), "{seen:?}");
    assert!(seen.faults >= seen.lives / 4 && seen.power_losses >= seen.lives / 8, "{seen:?}");
    assert!(seen.acknowledged >= 200 * seen.lives && seen.refused > 0, "{seen:?}");
}
