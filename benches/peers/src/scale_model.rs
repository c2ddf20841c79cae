//! A small model of a log in a closed loop: what throughput and latency a
//! machine allows, and what bounds them. Times are in microseconds.
//!
//! A shard's writer takes what waits, writes and syncs it, and answers one
//! caller after the other; what arrives meanwhile is the next commit. So a
//! record waits for its own commit, and for what is left of the one under way:
//! - in the shard that has just answered its caller, all of the next one, unless
//!   the caller is back before the writer has answered all others;
//! - in another shard half of one, if one is under way.
//!
//! Beside that stands the CPU, which all share. It knows numbers only; `scale`
//! measures them.

/// What a log runs on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Cores.
    pub cores: f64,
    /// A write and its sync, alone.
    pub sync: f64,
    /// What each further sync at the same time adds to each.
    pub sync_more: f64,
    /// Bytes that the disk writes in a microsecond.
    pub bandwidth: f64,
}

impl Machine {
    /// A write and its sync with so many at once.
    fn sync_of(&self, at_once: f64) -> f64 {
        self.sync + self.sync_more * (at_once - 1.0).max(0.0)
    }
}

/// What the log itself costs; CPU time but for `handover`.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Of all threads, a record that somebody waits for: it wakes a thread.
    pub waiting: f64,
    /// The same of a record that is one of very many under way.
    pub pipelined: f64,
    /// Of a commit, whatever it holds.
    pub commit: f64,
    /// What a commit takes beside its sync and its records, elapsed time.
    pub handover: f64,
    /// Of the writer's thread, a record, waking its waiter included.
    pub writer_waiting: f64,
    /// The same where hardly anybody is woken.
    pub writer_pipelined: f64,
    /// Between two claims of a ticket in one shard, however many cores there are.
    pub claim: f64,
}

/// Who appends.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Threads.
    pub callers: f64,
    /// Records that each has under way; 1: it waits for each.
    pub in_flight: f64,
    /// Shards.
    pub shards: f64,
    /// Records that a shard's queue holds.
    pub depth: f64,
    /// Bytes that the disk writes for a record.
    pub bytes: f64,
}

/// What bounds a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The time in which a commit answers: more callers, or more in flight, would bring more.
    Latency,
    /// The cores.
    Cpu,
    /// The callers' own threads, each busy.
    Callers,
    /// The writers' threads, each busy.
    Writers,
    /// The tickets' one word a shard.
    Claims,
    /// The disk's bytes.
    Bandwidth,
}

/// What the model says of a load.
#[derive(Clone, Copy, Debug)]
pub struct Prediction {
    /// Records a second.
    pub per_second: f64,
    /// From an append to its answer, on average.
    pub micros: f64,
    /// Records of a commit.
    pub held: f64,
    /// A commit's write and sync.
    pub synced: f64,
    /// What bounds it.
    pub bound: Bound,
}

/// Steps after which what a commit holds has settled.
const STEPS: usize = 40;

/// See the file's words.
pub fn predict(machine: &Machine, costs: &Costs, load: &Load) -> Prediction {
    let Load { callers, in_flight, shards, depth, bytes } = *load;
    // A queue holds its depth, and the commit under way as much again.
    let records = (callers * in_flight).min(2.0 * depth * shards);
    // A caller is woken once for its records in a commit.
    let woken = (shards.min(in_flight) / in_flight).min(1.0);
    let between = |few: f64, each: f64| few + woken * (each - few);
    let cpu = between(costs.pipelined, costs.waiting);
    let writer = between(costs.writer_pipelined, costs.writer_waiting);
    let taken = |records: f64| 1.0 - (1.0 - 1.0 / shards).powf(records);
    // Shards with a record under way, and how often one meets a commit of others.
    let (busy, meets) = (shards * taken(records), taken(records - 1.0));
    let back = ((machine.cores - 1.0) * writer / (cpu - writer).max(f64::MIN_POSITIVE)).min(1.0);
    let same = 1.0 / shards;
    let commits = 1.0 + meets * (same * (1.0 - back) + (1.0 - same) * 0.5);
    let most = (records / busy).max(1.0);
    let (mut held, mut rate) = (most / commits, 0.0);
    for _ in 0..STEPS {
        let transfer = bytes / machine.bandwidth * busy;
        let commit = machine.sync_of(busy) + costs.handover + held * (writer + transfer);
        let demand = cpu + costs.commit / held;
        rate = closed_network(records, commit * commits, demand, machine.cores);
        // A writer waits for a core as all others do, and takes what came meanwhile.
        let for_cores = (records / rate - commit * commits).max(0.0);
        let comes = rate * (commit + for_cores) / busy;
        held = (0.5 * (held + comes)).clamp(1.0, most);
    }
    // Each by itself; the rate is below them all.
    let shortest = machine.sync_of(busy) + costs.handover;
    let limits = [
        (Bound::Latency, records / (shortest * commits)),
        (Bound::Cpu, machine.cores / (cpu + costs.commit / held)),
        (Bound::Callers, callers / (cpu - writer).max(f64::MIN_POSITIVE)),
        (Bound::Writers, shards / (writer + costs.commit / held)),
        (Bound::Claims, shards / costs.claim),
        (Bound::Bandwidth, machine.bandwidth / bytes),
    ];
    let least = limits.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are limits");
    let rate = rate.min(least.1);
    let synced = machine.sync_of(busy) + held * bytes / machine.bandwidth * busy;
    Prediction { per_second: rate * 1e6, micros: records / rate, held, synced, bound: least.0 }
}

/// Throughput of so many records that go round between a delay and a station of
/// so many servers (mean value analysis; Seidmann's split of the station into
/// a queue and a delay).
fn closed_network(records: f64, delay: f64, demand: f64, servers: f64) -> f64 {
    let (queue_demand, split) = (demand / servers, demand * (servers - 1.0) / servers);
    let (mut queue, mut rate, mut count) = (0.0, 0.0, 0.0);
    while count < records {
        // In larger steps where there are many: the last is what counts.
        count = (count + (records / 1000.0).max(1.0)).min(records);
        let response = queue_demand * (1.0 + queue);
        rate = count / (delay + split + response);
        queue = rate * response;
    }
    rate
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { cores: 2.0, sync: 200.0, sync_more: 0.0, bandwidth: 1e6 };
    const FREE: Costs = Costs {
        waiting: 1e-6,
        pipelined: 1e-6,
        commit: 0.0,
        handover: 0.0,
        writer_waiting: 0.0,
        writer_pipelined: 0.0,
        claim: 1e-9,
    };
    const LOAD: Load =
        Load { callers: 64.0, in_flight: 1.0, shards: 1.0, depth: 8192.0, bytes: 1.0 };

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.02, "{found}, not {expected}");
    }

    #[test]
    fn one_caller_waits_for_its_own_commit_alone() {
        let alone = predict(&MACHINE, &FREE, &Load { callers: 1.0, ..LOAD });
        near(alone.per_second, 1e6 / 200.0);
        near(alone.micros, 200.0);
        assert_eq!(alone.bound, Bound::Latency);
    }

    #[test]
    fn many_callers_wait_for_two_commits() {
        let many = predict(&MACHINE, &FREE, &LOAD);
        near(many.micros, 400.0);
        near(many.per_second, 64.0 * 1e6 / 400.0);
        let twice = predict(&MACHINE, &FREE, &Load { callers: 128.0, ..LOAD });
        near(twice.per_second / many.per_second, 2.0);
    }

    #[test]
    fn who_is_back_before_all_are_answered_waits_for_one_commit() {
        // Answering one takes the writer as long as the caller to come back.
        let costs = Costs { waiting: 0.02, writer_waiting: 0.01, ..FREE };
        near(predict(&MACHINE, &costs, &LOAD).micros, 200.0);
    }

    #[test]
    fn who_has_many_under_way_is_woken_once_a_commit() {
        let fast = Machine { sync: 1e-3, ..MACHINE };
        let costs = Costs { waiting: 17.0, pipelined: 1.0, ..FREE };
        let load = Load { in_flight: 16.0, ..LOAD };
        near(predict(&fast, &costs, &load).per_second, 2e6 / 2.0);
        near(predict(&fast, &costs, &Load { shards: 4.0, ..load }).per_second, 2e6 / 5.0);
    }

    #[test]
    fn a_full_queue_bounds_what_is_under_way() {
        let load = Load { in_flight: 1000.0, depth: 16.0, ..LOAD };
        near(predict(&MACHINE, &FREE, &load).per_second, 32.0 * 1e6 / 400.0);
    }

    #[test]
    fn syncs_at_once_slow_each_other_down() {
        let machine = Machine { sync_more: 100.0, ..MACHINE };
        let sixteen = predict(&machine, &FREE, &Load { shards: 16.0, callers: 1600.0, ..LOAD });
        // Its own, and of the one under way half, or all of it in the same shard.
        near(sixteen.micros, (1.0 + 0.5 * 15.0 / 16.0 + 1.0 / 16.0) * (200.0 + 15.0 * 100.0));
    }

    #[test]
    fn what_is_dear_is_the_bound() {
        let fast = Machine { sync: 1e-3, ..MACHINE };
        let cpu = Costs { waiting: 10.0, ..FREE };
        let bound = predict(&fast, &cpu, &LOAD);
        assert_eq!(bound.bound, Bound::Cpu);
        near(bound.per_second, 2e6 / 10.0);
        let more = Machine { cores: 16.0, ..fast };
        near(predict(&more, &cpu, &LOAD).per_second / bound.per_second, 8.0);

        let writer = Costs { writer_waiting: 8.0, ..cpu };
        let bound = predict(&more, &writer, &LOAD);
        assert_eq!(bound.bound, Bound::Writers);
        near(bound.per_second, 1e6 / 8.0);

        let claims = predict(&more, &Costs { claim: 50.0, ..FREE }, &LOAD);
        assert_eq!(claims.bound, Bound::Claims);
        near(claims.per_second, 1e6 / 50.0);

        let slow = Machine { bandwidth: 1.0, ..fast };
        let bytes = predict(&slow, &FREE, &Load { bytes: 100.0, ..LOAD });
        assert_eq!(bytes.bound, Bound::Bandwidth);
        near(bytes.per_second, 1e6 / 100.0);
    }

    #[test]
    fn a_commit_is_paid_for_by_all_that_it_holds() {
        let fast = Machine { sync: 1e-3, ..MACHINE };
        let costs = Costs { commit: 64.0, waiting: 1.0, ..FREE };
        // CPU-bound, so that all 64 are in it.
        near(predict(&fast, &costs, &LOAD).per_second, 2e6 / 2.0);
        near(predict(&fast, &costs, &LOAD).held, 64.0);
    }
}
