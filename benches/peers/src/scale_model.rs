//! A small model of a log in a closed loop: what throughput and latency a
//! machine allows, and what bounds them. Times are in microseconds.
//!
//! A shard's writer takes what waits, writes and syncs it, and answers; what
//! arrives meanwhile is the next commit. So a record waits for the commit under
//! way, if there is one, and for its own. Beside that stands the CPU, which all
//! share. It knows numbers only; `scale` measures them.

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

/// What the log itself costs, CPU time.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Of all threads, a record that somebody waits for: it wakes a thread.
    pub waiting: f64,
    /// The same of a record that is one of many under way.
    pub pipelined: f64,
    /// Of a commit, whatever it holds.
    pub commit: f64,
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
    /// Bytes of a record in the file.
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
    let (cpu, writer) = match in_flight {
        1.0 => (costs.waiting, costs.writer_waiting),
        _ => (costs.pipelined, costs.writer_pipelined),
    };
    let others_shard = |records: f64| 1.0 - (1.0 - 1.0 / shards).powf(records);
    // Shards with a record under way, and how often one meets a commit under way.
    let (busy, meets) = (shards * others_shard(records), others_shard(records - 1.0));
    let most = (records / busy / (1.0 + meets)).max(1.0);
    let mut held = most;
    let mut rate = 0.0;
    for _ in 0..STEPS {
        let transfer = bytes / machine.bandwidth * busy;
        let commit = machine.sync_of(busy) + costs.commit + held * (writer + transfer);
        let demand = cpu + costs.commit / held;
        rate = closed_network(records, commit * (1.0 + meets), demand, machine.cores);
        held = (0.5 * (held + rate * commit / busy)).clamp(1.0, most);
    }
    // Each by itself; the rate is below them all.
    let limits = [
        (Bound::Latency, records / ((machine.sync_of(busy) + costs.commit) * (1.0 + meets))),
        (Bound::Cpu, machine.cores / (cpu + costs.commit / held)),
        (Bound::Callers, callers / (cpu - writer).max(f64::MIN_POSITIVE)),
        (Bound::Writers, shards / (writer + costs.commit / held)),
        (Bound::Claims, shards / costs.claim),
        (Bound::Bandwidth, machine.bandwidth / bytes),
    ];
    let least = limits.into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).expect("there are limits");
    let rate = rate.min(least.1);
    Prediction { per_second: rate * 1e6, micros: records / rate, bound: least.0 }
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
    fn a_full_queue_bounds_what_is_under_way() {
        let load = Load { in_flight: 1000.0, depth: 16.0, ..LOAD };
        near(predict(&MACHINE, &FREE, &load).per_second, 32.0 * 1e6 / 400.0);
    }

    #[test]
    fn syncs_at_once_slow_each_other_down() {
        let machine = Machine { sync_more: 100.0, ..MACHINE };
        let sixteen = predict(&machine, &FREE, &Load { shards: 16.0, callers: 1600.0, ..LOAD });
        near(sixteen.micros, 2.0 * (200.0 + 15.0 * 100.0));
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
        let costs = Costs { commit: 32.0, waiting: 1.0, ..FREE };
        // Latency-bound: 32 records a commit, so 1 us more each, hidden by the sync.
        let prediction = predict(&MACHINE, &costs, &LOAD);
        near(prediction.per_second, 64.0 * 1e6 / (2.0 * 232.0));
    }
}
