//! A random history of a log on a disk that loses power, and a plain model for
//! comparison: the acknowledged records per key. Used by `property.rs` and by the fuzz
//! target `operations`.

use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};
use shardwal::{Checkpoint, Completion, Config, Durability, OpenError, ShardedWal};

use crate::support::ledger::Ledger;
use crate::support::{self, Random, replayed, try_replayed};

/// A step while the log is open.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append {
        key: u64,
        length: usize,
        wait: bool,
    },
    Batch {
        keys: Vec<u64>,
        length: usize,
    },
    Flush,
    Remember,
    Truncate {
        at_remembered: bool,
    },
    FullDisk(bool),
    /// A fault after this number of further calls.
    Fault {
        nth: u64,
        kind: FaultKind,
    },
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Close,
    Drop,
    Kill,
    PowerLoss(u64),
}

/// Opens, uses and ends the log once. The next open may fail first.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
    pub(crate) shards: usize,
    /// The next open is interrupted at this call, if it makes that many.
    pub(crate) open_cut: Option<(u64, FaultKind, End)>,
}

struct Model {
    durability: Durability,
    ledger: Ledger,
    remembered: Option<Checkpoint>,
}

impl Model {
    fn config(&self, fs: &SimFileSystem, shards: usize) -> Config {
        support::config(fs).shards(shards).durability(self.durability)
    }

    /// Runs one life; returns the file system for the next one.
    fn live(&mut self, fs: &SimFileSystem, log: ShardedWal, life: &Life) -> SimFileSystem {
        let mut waiting = Vec::new();
        for step in &life.steps {
            self.step(fs, &log, step, &mut waiting);
        }
        let mut after = match life.end {
            End::Close => log.close().is_ok().then(|| fs.clone()),
            End::Drop | End::Kill | End::PowerLoss(_) => None,
        };
        if after.is_some() {
            self.resolve(&mut waiting);
            self.ledger.flushed();
        }
        if let End::Kill | End::PowerLoss(_) = life.end {
            after = Some(self.die(fs, life.end));
        }
        // Every answer from here on was decided before the death.
        self.resolve(&mut waiting);
        drop(log);
        if fs.fired() > 0 {
            // A sync may have failed and lost written records.
            self.ledger.lose_power();
        }
        let after = after.unwrap_or_else(|| fs.clone());
        // A fault may have killed the machine before the planned end.
        let after = if after.calls(Call::Any) > 0 { after.kill() } else { after };
        after.set_capacity(None);
        after
    }

    fn die(&mut self, fs: &SimFileSystem, end: End) -> SimFileSystem {
        match end {
            End::PowerLoss(seed) => {
                let mut random = Random::new(seed);
                let after = fs.crash(&mut || random.flip());
                if self.durability != Durability::Sync {
                    // Its positions may now belong to other records.
                    self.remembered = None;
                }
                after
            }
            _ => fs.kill(),
        }
    }

    fn resolve(&mut self, waiting: &mut Vec<(u64, u64, Completion<'static>)>) {
        for (key, index, completion) in waiting.drain(..) {
            self.ledger.wait(key, index, completion).ok();
        }
    }

    fn step(
        &mut self,
        fs: &SimFileSystem,
        log: &ShardedWal,
        step: &Step,
        waiting: &mut Vec<(u64, u64, Completion<'static>)>,
    ) {
        let ledger = &mut self.ledger;
        match step {
            Step::Append { key, length, wait } => {
                let payload = ledger.next(*key, *length);
                waiting.push((*key, ledger.len(*key) - 1, log.append(*key, payload).into_owned()));
                if *wait {
                    self.resolve(waiting);
                }
            }
            Step::Batch { keys, length } => {
                ledger.append_batch(log, keys, *length);
            }
            Step::Flush => {
                self.resolve(waiting);
                if log.flush().wait().is_ok() && fs.fired() == 0 {
                    self.ledger.flushed();
                }
            }
            Step::Remember => {
                self.resolve(waiting);
                self.remembered = Some(log.durable_checkpoint());
            }
            Step::Truncate { at_remembered } => {
                self.resolve(waiting);
                let now = log.durable_checkpoint();
                let at = self.remembered.clone().filter(|_| *at_remembered).unwrap_or(now);
                self.truncate(log, &at);
            }
            Step::FullDisk(full) => fs.set_capacity(full.then_some(0)),
            Step::Fault { nth, kind } => fs.fail(Fault::new(Call::Any, *nth, *kind)),
        }
    }

    fn truncate(&mut self, log: &ShardedWal, at: &Checkpoint) {
        let Ok(found) = try_replayed(log) else { return };
        match log.truncate_before(at) {
            Ok(_) => self.ledger.truncated(&found.below(at)),
            Err(_) => self.ledger.maybe_truncated(&found.below(at)),
        }
    }

    /// Opens the log; the first attempt may be interrupted.
    fn open(&mut self, mut fs: SimFileSystem, life: &Life) -> (SimFileSystem, ShardedWal) {
        if let Some((nth, kind, end)) = life.open_cut {
            fs.fail(Fault::new(Call::Any, nth, kind));
            let opened = ShardedWal::open(self.config(&fs, life.shards));
            if let Err(error) = &opened {
                assert!(matches!(error, OpenError::Io { .. }) && fs.fired() > 0, "{error}");
            }
            let after = self.die(&fs, end);
            if let End::PowerLoss(_) = end {
                self.ledger.lose_power();
            }
            drop(opened);
            fs = after;
        }
        let log = ShardedWal::open(self.config(&fs, life.shards));
        let log = log.unwrap_or_else(|error| panic!("{error}\n{:?}", fs.files()));
        (fs, log)
    }
}

/// Runs the lives in turn on one file system, and compares with the plain model.
pub(crate) fn run(durability: Durability, lives: &[Life]) {
    let ledger =
        if durability == Durability::Sync { Ledger::default() } else { Ledger::unsynced() };
    let mut model = Model { durability, ledger, remembered: None };
    let mut fs = SimFileSystem::with_dir(support::DIR);
    let mut log = ShardedWal::open(model.config(&fs, 2)).expect("a new disk");
    for life in lives {
        fs = model.live(&fs, log, life);
        if let End::PowerLoss(_) = life.end {
            model.ledger.lose_power();
        }
        (fs, log) = model.open(fs, life);
        model.ledger.check(&replayed(&log));
    }
}
