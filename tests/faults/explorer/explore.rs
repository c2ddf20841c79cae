//! Walks the crash points of a workload, and the states that each may leave on the
//! disk.

use std::collections::HashSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use shardwal::fs::sim::{Call, Fault, FaultKind, SimFileSystem};

use super::opinion::Opinions;
use super::recorder::Moment;
use super::state::{check_by_reading, check_found, fingerprint};
use super::workload::{Client, Setting, Workload};
use crate::support::ledger::Ledger;
use crate::support::{DIR, EIO, Random, replayed};

/// At most this many unsynced pieces: every subset is tried.
const EXHAUSTIVE_PIECES: usize = 12;
/// The limit during a recovery, which has many more crash points.
const EXHAUSTIVE_RECOVERY_PIECES: usize = 4;
/// One state per this number is opened for writing, not only read.
const OPENED_ONE_IN: u64 = 50;
/// One opened state per this number has its recovery interrupted at each call.
const INTERRUPTED_ONE_IN: u64 = 20;

/// Counts of the exploration. A state is the content of the disk together with the
/// records that must be found in it. A repeated state is not counted again.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// States after one crash, each read.
    pub(crate) states: AtomicU64,
    /// States after a crash during the recovery of such a state, each read.
    pub(crate) recovery_states: AtomicU64,
    /// States that were also opened, replayed and appended to.
    pub(crate) opened: AtomicU64,
    /// States that were seen before.
    pub(crate) repeated: AtomicU64,
    /// Crash points with every subset tried, and crash points with a sample.
    pub(crate) exhausted: AtomicU64,
    pub(crate) sampled: AtomicU64,
}

impl Counts {
    pub(crate) fn all_states(&self) -> u64 {
        self.states.load(Relaxed) + self.recovery_states.load(Relaxed)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, recovery_states, opened, repeated, exhausted, sampled } = self;
        let all = self.all_states();
        write!(
            f,
            "{all} distinct states: {states:?} after a crash, {recovery_states:?} after a crash \
             of the recovery; {opened:?} opened for writing; {repeated:?} repeated; crash \
             points: {exhausted:?} with every subset, {sampled:?} with random ones"
        )
    }
}

/// State that all workloads of a run share.
pub(crate) struct Explorer {
    pub(crate) counts: Counts,
    seed: u64,
    /// Random subsets of a crash point with too many pieces.
    subsets_max: u64,
    /// Fingerprints, spread over the locks by their last bits to reduce contention.
    fingerprints: Vec<Mutex<HashSet<u64>>>,
    /// A closed log without records.
    template: SimFileSystem,
    /// The second reader; `None` without Python.
    opinions: Option<Opinions>,
}

impl Explorer {
    pub(crate) fn new(seed: u64, subsets_max: u64) -> Self {
        let setting = super::SYNC;
        let mut client = Client::new(&SimFileSystem::with_dir(DIR), setting, Ledger::default(), 1);
        client.open().expect("a new disk");
        let template = client.recorder.sim().crash(&mut || true);
        let fingerprints = (0..64).map(|_| Mutex::default()).collect();
        let opinions = Opinions::start();
        Self { counts: Counts::default(), seed, subsets_max, fingerprints, template, opinions }
    }

    fn judge(&self, after: &SimFileSystem, print: u64) {
        if let Some(opinions) = &self.opinions {
            opinions.judge(after, print);
        }
    }

    /// Prints the counts of the second reader.
    pub(crate) fn print_opinions(&self) {
        let Some(opinions) = &self.opinions else {
            return println!("SKIPPED: the explorer's second opinion: there is no python3");
        };
        opinions.print();
        assert!(opinions.crashes() >= super::JUDGED_MIN, "{} images", opinions.crashes());
    }

    /// Forgets the known states, so that the next round counts them again.
    pub(crate) fn forget(&self) {
        for fingerprints in &self.fingerprints {
            fingerprints.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn is_new(&self, print: u64) -> bool {
        let shard =
            &self.fingerprints[usize::from(print.to_le_bytes()[0]) % self.fingerprints.len()];
        shard.lock().unwrap_or_else(PoisonError::into_inner).insert(print)
    }

    /// A client with an open log without records.
    pub(crate) fn client(&self, setting: Setting) -> Client {
        let ledger = super::ledger_of(setting);
        let mut client = Client::new(&self.template.copy(), setting, ledger, 1);
        client.open().expect("a sound disk");
        client
    }

    /// Runs the workload once, and cuts the power at each call of its last operation.
    /// Earlier operations are the last ones of other workloads.
    pub(crate) fn explore(&self, workload: &Workload) {
        let mut client = self.client(workload.setting);
        for operation in &workload.operations {
            client.recorder.begin();
            assert!(client.run(*operation), "{operation:?} of {workload:?} fails");
        }
        let moments = client.recorder.take();
        drop(client.log.take());
        for (number, moment) in moments.iter().enumerate() {
            let random = Random::new(self.seed ^ (number as u64) << 32);
            let scenario = Scenario { workload, moment, number, shards: client.shards };
            self.explore_moment(&scenario, random);
        }
    }

    /// Runs the workload with its `nth` sync failing, and continues after the failure.
    /// Returns whether the workload has that many syncs. Then kills the process.
    /// Whatever the next process replays must last, for a power loss at each of its
    /// calls.
    pub(crate) fn explore_failed_sync(&self, workload: &Workload, nth: u64) -> bool {
        let mut client = self.client(workload.setting);
        client.recorder.sim().fail(Fault::new(Call::Sync, nth, FaultKind::Error(EIO)));
        let answers: Vec<bool> =
            workload.operations.iter().map(|operation| client.run(*operation)).collect();
        let fired = client.recorder.sim().fired() > 0;
        assert!(fired || answers.iter().all(|answer| *answer), "{answers:?} of {workload:?}");
        let moment = client.recorder.take().pop().expect("the last moment");
        drop(client.log.take());
        if fired {
            let shards = client.shards;
            let scenario = Scenario { workload, moment: &moment, number: 0, shards };
            let mut random = Random::new(self.seed ^ nth);
            scenario.explain(&[], || {
                self.recover(&moment.fs, &moment.ledger, &scenario, true, &mut random);
            });
        }
        fired
    }

    /// Creates a log, and opens what a crash leaves of it.
    pub(crate) fn explore_creation(&self, setting: Setting) {
        let workload = &Workload { setting, operations: Vec::new() };
        let ledger = super::ledger_of(setting);
        let mut client = Client::new(&SimFileSystem::new(), setting, ledger, 2);
        client.open().expect("a new disk");
        let moments = client.recorder.take();
        let mut random = Random::new(self.seed);
        for (number, moment) in moments.iter().enumerate() {
            let scenario = Scenario { workload, moment, number, shards: 2 };
            let Moment { fs, ledger, .. } = moment;
            scenario.explain(&[], || self.recover(fs, ledger, &scenario, true, &mut random));
            for subset in subsets(fs.unsynced(), 10, 200, &mut random.clone()) {
                let after = crash(fs, &subset);
                if self.is_new(fingerprint(&after, ledger)) {
                    scenario.explain(&subset, || {
                        self.recover(&after, ledger, &scenario, false, &mut random);
                    });
                }
            }
        }
    }

    fn explore_moment(&self, scenario: &Scenario<'_>, mut random: Random) {
        let Moment { fs, ledger, .. } = scenario.moment;
        if !self.is_new(print_of_moment(scenario.moment)) {
            return;
        }
        let pieces = fs.unsynced();
        let exhaustive = pieces <= EXHAUSTIVE_PIECES;
        let counter = if exhaustive { &self.counts.exhausted } else { &self.counts.sampled };
        counter.fetch_add(1, Relaxed);
        self.after_a_kill(scenario, &mut random);
        let mut ledger = ledger.clone();
        ledger.lose_power();
        for subset in subsets(pieces, EXHAUSTIVE_PIECES, self.subsets_max, &mut random) {
            let after = crash(fs, &subset);
            let print = fingerprint(&after, &ledger);
            if !self.is_new(print) {
                self.counts.repeated.fetch_add(1, Relaxed);
                continue;
            }
            self.counts.states.fetch_add(1, Relaxed);
            scenario.explain(&subset, || {
                check_by_reading(&after, &mut ledger.clone());
                self.judge(&after, print);
            });
            if print.is_multiple_of(OPENED_ONE_IN) {
                let interrupted = print.is_multiple_of(OPENED_ONE_IN * INTERRUPTED_ONE_IN);
                scenario.explain(&subset, || {
                    self.recover(&after, &ledger, scenario, interrupted, &mut random);
                });
            }
        }
    }

    /// Kills the process without a power loss. The next process sees unsynced bytes
    /// too, and loses power during its recovery.
    fn after_a_kill(&self, scenario: &Scenario<'_>, random: &mut Random) {
        let Moment { fs, ledger, .. } = scenario.moment;
        let interrupted = random.below(4) == 0;
        scenario.explain(&[], || {
            check_by_reading(&fs.copy(), &mut ledger.clone());
            self.recover(fs, ledger, scenario, interrupted, random);
        });
    }

    /// Opens the log, appends to it, and cuts the power at each call of both.
    pub(crate) fn recover(
        &self,
        fs: &SimFileSystem,
        ledger: &Ledger,
        scenario: &Scenario<'_>,
        interrupted: bool,
        random: &mut Random,
    ) {
        self.counts.opened.fetch_add(1, Relaxed);
        let setting = scenario.workload.setting;
        let mut client = Client::new(&fs.copy(), setting, ledger.clone(), scenario.shards);
        client.recorder.begin();
        client.open().unwrap_or_else(|error| panic!("{error}"));
        let found = replayed(client.log.as_ref().expect("it is open"));
        check_found(&found, &mut client.recorder.ledger());
        assert!(client.append(1, 100), "a sound disk");
        let moments = client.recorder.take();
        drop(client.log.take());
        if !interrupted {
            return;
        }
        for moment in &moments {
            if self.is_new(print_of_moment(moment)) {
                self.explore_recovery(moment, random);
            }
        }
    }

    fn explore_recovery(&self, moment: &Moment, random: &mut Random) {
        let Moment { fs, ledger, after } = moment;
        let mut ledger = ledger.clone();
        ledger.lose_power();
        for subset in subsets(fs.unsynced(), EXHAUSTIVE_RECOVERY_PIECES, 16, random) {
            let after_crash = crash(fs, &subset);
            let print = fingerprint(&after_crash, &ledger);
            if !self.is_new(print) {
                self.counts.repeated.fetch_add(1, Relaxed);
                continue;
            }
            self.counts.recovery_states.fetch_add(1, Relaxed);
            let what = || format!("recovery, after {after}, where of its pieces {subset:?} lived");
            explain(what, || {
                check_by_reading(&after_crash, &mut ledger.clone());
                self.judge(&after_crash, print);
            });
        }
    }
}

/// A crash point.
pub(crate) struct Scenario<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) moment: &'a Moment,
    pub(crate) number: usize,
    pub(crate) shards: usize,
}

impl Scenario<'_> {
    /// Runs the check. If it panics, prints the crash point first.
    pub(crate) fn explain(&self, subset: &[bool], check: impl FnOnce()) {
        let what = || {
            let Self { workload, moment, number, .. } = self;
            let after = moment.after;
            format!("{workload:?}, moment {number} (after {after}), where {subset:?} lived")
        };
        explain(what, check);
    }
}

fn explain(what: impl Fn() -> String, check: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        panic!("{}\n  in {}", text.unwrap_or_default(), what());
    }
}

/// Moments with equal minimum, maximum and number of unsynced pieces count as one.
fn print_of_moment(moment: &Moment) -> u64 {
    let none = fingerprint(&moment.fs.crash(&mut || false), &moment.ledger);
    let all = fingerprint(&moment.fs.crash(&mut || true), &moment.ledger);
    let pieces = moment.fs.unsynced() as u64;
    (none.rotate_left(20) ^ all.rotate_left(40)).wrapping_add(pieces).wrapping_mul(0x517c_c1b7)
}

fn crash(fs: &SimFileSystem, subset: &[bool]) -> SimFileSystem {
    let mut pieces = subset.iter();
    fs.crash(&mut || *pieces.next().expect("as many as were counted"))
}

/// Every subset of at most `few` pieces. For more pieces: none, all, and random
/// subsets. In half of the random subsets every piece has an even chance; in the others
/// few pieces are lost or few survive.
fn subsets(pieces: usize, few: usize, random_max: u64, random: &mut Random) -> Vec<Vec<bool>> {
    if pieces <= few {
        let bit = |subset: u64| (0..pieces).map(move |piece| subset >> piece & 1 == 1).collect();
        return (0..1 << pieces).map(bit).collect();
    }
    let mut all = vec![vec![false; pieces], vec![true; pieces]];
    for round in 0..random_max {
        let (odds, kept) = if round % 2 == 0 { (2, true) } else { (8, round % 4 == 1) };
        all.push((0..pieces).map(|_| (random.below(odds) == 0) == kept).collect());
    }
    all
}
