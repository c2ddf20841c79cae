//! A model of a log in a closed loop: the throughput and latency that a machine allows, and what
//! bounds them. Times are in microseconds.
//!
//! A shard's writer takes what waits, writes and syncs it, and wakes the first callers. Each of
//! those wakes the next. The writer goes on, and what has arrived by then is the next commit. A
//! record therefore waits for its own commit, and for the rest of the running one:
//! - in the shard that has just answered its caller, for all of the next commit, unless the caller
//!   was among the first and is back before that begins;
//! - in another shard, for half a commit, if one is running.
//!
//! By the end of the next commit, the writer wakes the callers that the chains have not reached.
//! All threads share the CPU. This file knows only numbers, which `scale` measures.

/// The machine that a log runs on.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Number of cores.
    pub cores: f64,
    /// Duration of a write and its sync, alone.
    pub sync: f64,
    /// Time that each further parallel sync adds to each sync.
    pub sync_more: f64,
    /// Bytes that the disk writes per microsecond.
    pub bandwidth: f64,
}

impl Machine {
    /// Duration of a write and its sync, with `at_once` in parallel.
    fn sync_of(&self, at_once: f64) -> f64 {
        self.sync + self.sync_more * (at_once - 1.0).max(0.0)
    }
}

/// The costs of the log itself: CPU time, except `handover` and `hop`.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Per record that a caller waits for, over all threads. It includes waking a thread.
    pub waiting: f64,
    /// Per record of very many in flight, over all threads.
    pub pipelined: f64,
    /// Per commit, independent of its records.
    pub commit: f64,
    /// Elapsed time of a commit beside its sync and its records.
    pub handover: f64,
    /// Per record, of the writer thread, without waking.
    pub writer: f64,
    /// Of the waking thread, per thread woken.
    pub wake: f64,
    /// Elapsed time from waking a thread until it wakes the next, if a core is idle.
    pub hop: f64,
    /// Number of threads that the writer wakes before it goes on: the number of cores.
    pub chains: f64,
    /// Time between two claims of a ticket in one shard, with any number of cores.
    pub claim: f64,
}

/// The load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Number of calling threads.
    pub callers: f64,
    /// Records that each caller has in flight. 1: it waits for each.
    pub in_flight: f64,
    /// Number of shards.
    pub shards: f64,
    /// Capacity of a shard's queue, in records.
    pub depth: f64,
    /// Bytes that the disk writes per record.
    pub bytes: f64,
}

/// What bounds a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The duration of a commit. More callers, or more records in flight, would help.
    Latency,
    /// The cores.
    Cpu,
    /// The callers' threads, all busy.
    Callers,
    /// The writer threads, all busy.
    Writers,
    /// The ticket counter of each shard.
    Claims,
    /// The disk's bandwidth.
    Bandwidth,
}

/// The model's prediction for a load.
#[derive(Clone, Copy, Debug)]
pub struct Prediction {
    /// Records per second.
    pub per_second: f64,
    /// Mean time from an append to its answer.
    pub micros: f64,
    /// Records per commit.
    pub held: f64,
    /// Duration of a commit's write and sync.
    pub synced: f64,
    /// What bounds it.
    pub bound: Bound,
}

/// Steps until the size of a commit has converged.
const STEPS: usize = 60;

/// Properties of a load that do not depend on the size of commits.
struct Flow {
    /// Records in flight.
    records: f64,
    /// Callers woken per record.
    woken: f64,
    /// CPU time of all threads per record, without its share of a commit.
    cpu: f64,
    /// Number of shards with a record in flight.
    busy: f64,
    /// Probability that a record meets a commit of others in its shard.
    meets: f64,
}

impl Flow {
    fn of(costs: &Costs, load: &Load) -> Self {
        let Load { callers, in_flight, shards, depth, .. } = *load;
        // A queue holds its depth, and the running commit as much again.
        let records = (callers * in_flight).min(2.0 * depth * shards);
        // A caller is woken once for all its records in a commit.
        let woken = (shards.min(in_flight) / in_flight).min(1.0);
        let cpu = costs.pipelined + woken * (costs.waiting - costs.pipelined);
        let taken = |records: f64| 1.0 - (1.0 - 1.0 / shards).powf(records);
        Self { records, woken, cpu, busy: shards * taken(records), meets: taken(records - 1.0) }
    }
}

/// A commit of a given size, and the effects of how it wakes its callers.
struct Commit {
    /// From its beginning to that of the next.
    elapsed: f64,
    /// The writer's CPU time per record.
    writer: f64,
    /// The share of its callers that are back before the next commit begins.
    back: f64,
    /// Mean wait of a caller for those before it in its chain, if cores are idle.
    in_chain: f64,
}

impl Commit {
    fn of(held: f64, flow: &Flow, machine: &Machine, costs: &Costs, bytes: f64) -> Self {
        let Costs { wake, hop, .. } = *costs;
        let woken = flow.woken * held;
        let first = woken.min(costs.chains);
        let transfer = bytes / machine.bandwidth * flow.busy;
        let goes_on = machine.sync_of(flow.busy)
            + costs.handover
            + held * (costs.writer + transfer)
            + first * wake;
        // From the first of a chain to its last.
        let chain = (woken / first - 1.0) * hop;
        let late = if chain > goes_on { (woken - first) * (1.0 - goes_on / chain) } else { 0.0 };
        // The chains continue during that time.
        let by_writer = late / (1.0 + first * wake / hop.max(f64::MIN_POSITIVE));
        let writer = costs.writer + wake * (first + by_writer) / held;
        // The writer yields its core for about one hop before it begins. A caller with many records
        // in flight has to push them all.
        let pushed = (machine.cores - 1.0) * (first * wake + hop);
        let back = pushed / ((flow.cpu - writer) * held).max(f64::MIN_POSITIVE);
        Self {
            elapsed: goes_on + by_writer * wake,
            writer,
            back: back.min(first / woken),
            in_chain: chain.min(goes_on) / 2.0,
        }
    }
}

/// Predicts throughput and latency of a load.
pub fn predict(machine: &Machine, costs: &Costs, load: &Load) -> Prediction {
    let flow = Flow::of(costs, load);
    let Flow { records, cpu, busy, meets, .. } = flow;
    let same = 1.0 / load.shards;
    let waits_for = |back: f64| 1.0 + meets * (same * (1.0 - back) + (1.0 - same) * 0.5);
    let most = (records / busy).max(1.0);
    let (mut held, mut rate) = (most / waits_for(0.0), 0.0);
    let mut commit = Commit::of(held, &flow, machine, costs, load.bytes);
    for _ in 0..STEPS {
        let demand = cpu + costs.commit / held;
        // If the cores are busy, a woken thread waits for a core instead.
        let idle = 1.0 - (rate * demand / machine.cores).min(1.0);
        let delay = commit.elapsed * waits_for(commit.back) + idle * commit.in_chain;
        rate = closed_network(records, delay, demand, machine.cores);
        // A writer waits for a core like all threads, and then takes what has arrived.
        let for_cores = (records / rate - delay).max(0.0);
        let comes = rate * (commit.elapsed + for_cores) / busy;
        held = (0.5 * (held + comes)).clamp(1.0, most);
        commit = Commit::of(held, &flow, machine, costs, load.bytes);
    }
    let Commit { writer, back, .. } = commit;
    // Each bound alone. The rate is below all of them.
    let shortest = machine.sync_of(busy) + costs.handover;
    let limits = [
        (Bound::Latency, records / (shortest * waits_for(back))),
        (Bound::Cpu, machine.cores / (cpu + costs.commit / held)),
        (Bound::Callers, load.callers / (cpu - writer).max(f64::MIN_POSITIVE)),
        (Bound::Writers, load.shards / (writer + costs.commit / held)),
        (Bound::Claims, load.shards / costs.claim),
        (Bound::Bandwidth, machine.bandwidth / load.bytes),
    ];
    let least = limits.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are limits");
    let rate = rate.min(least.1);
    let synced = machine.sync_of(busy) + held * load.bytes / machine.bandwidth * busy;
    Prediction { per_second: rate * 1e6, micros: records / rate, held, synced, bound: least.0 }
}

/// Throughput of `records` that cycle between a delay and a station of `servers` servers. It uses
/// mean value analysis, with Seidmann's split of the station into a queue and a delay.
fn closed_network(records: f64, delay: f64, demand: f64, servers: f64) -> f64 {
    let (queue_demand, split) = (demand / servers, demand * (servers - 1.0) / servers);
    let (mut queue, mut rate, mut count) = (0.0, 0.0, 0.0);
    while count < records {
        // In larger steps if there are many. Only the last step counts.
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
        writer: 0.0,
        wake: 0.0,
        hop: 0.0,
        chains: 2.0,
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
    fn who_is_back_before_all_are_woken_waits_for_one_commit() {
        // Waking one caller takes the writer as long as the caller takes to come back.
        let costs = Costs { waiting: 0.02, wake: 0.01, chains: 64.0, ..FREE };
        near(predict(&MACHINE, &costs, &LOAD).micros, 200.0);
        // If woken callers wake the others, the writer has gone on by then.
        let chains = Costs { chains: 2.0, ..costs };
        near(predict(&MACHINE, &chains, &LOAD).micros, 400.0 * (1.0 - 1.0 / 64.0));
        // Waking costs nothing, but the writer yields its core for as long as 64 take.
        let costs = Costs { waiting: 0.01, wake: 0.0, hop: 64.0 * 0.01, ..costs };
        near(predict(&MACHINE, &costs, &LOAD).micros, 200.0);
    }

    #[test]
    fn a_chain_takes_the_callers_time_and_not_the_writers() {
        let machine = Machine { cores: 1e6, ..MACHINE };
        let costs = Costs { hop: 10.0, ..FREE };
        let chains = predict(&machine, &costs, &LOAD);
        // Two of 32 are back. The last of a chain is its sixteenth.
        near(chains.micros, 200.0 * (2.0 - 2.0 / chains.held) + 15.0 * 10.0 / 2.0);
        // If the writer wakes all, everyone is delayed.
        let costs = Costs { wake: 10.0, chains: 64.0, ..costs };
        near(predict(&machine, &costs, &LOAD).micros, 200.0 + 64.0 * 10.0);
    }

    #[test]
    fn who_is_not_woken_in_time_is_woken_by_the_writer() {
        let machine = Machine { cores: 1e6, ..MACHINE };
        let costs = Costs { wake: 10.0, hop: 1e6, ..FREE };
        let late = predict(&machine, &costs, &LOAD);
        // The first two of a chain are in time, the others after the next commit.
        let commit = 200.0 + 10.0 * late.held;
        near(late.micros, commit * (2.0 - 2.0 / late.held) + (200.0 + 2.0 * 10.0) / 2.0);
        let fast = Machine { sync: 1e-3, ..machine };
        let bound = predict(&fast, &Costs { commit: 640.0, ..costs }, &LOAD);
        assert_eq!(bound.bound, Bound::Writers);
        near(bound.per_second, 1e6 / (10.0 + 640.0 / bound.held));
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
        // Its own commit, and half of the running one, or all of it in its own shard.
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

        let writer = Costs { wake: 8.0, chains: 64.0, ..cpu };
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
