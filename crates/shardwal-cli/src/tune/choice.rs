//! The choice between candidates that were measured over several rounds.
//!
//! Differences within the noise are ignored. Of equally good candidates, the
//! cheapest is taken. This file knows numbers; it does not know what they measure.

use serde::Serialize;

/// Ratios below this are noise, unless the ranges do not overlap.
const NOISE: f64 = 1.5;
/// Ratios below this are always noise: the ranges of a few rounds may differ by
/// chance.
const NOISE_WHERE_APART: f64 = 1.05;

/// The lowest value, the median and the highest value of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) lowest: f64,
    pub(crate) median: f64,
    pub(crate) highest: f64,
}

impl Spread {
    /// The spread of the values. NaN if there is none.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        Self { lowest: at(0), median: at(values.len() / 2), highest: at(last) }
    }

    /// Whether this is higher than the other, outside the noise.
    pub(crate) fn exceeds(&self, other: &Self) -> bool {
        let ratio = self.median / other.median;
        let apart = self.lowest > other.highest;
        ratio >= NOISE || (apart && ratio >= NOISE_WHERE_APART)
    }
}

/// A candidate and its measurements.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Candidate {
    /// The number of shards, the queue depth, or the index of one of two configs.
    pub(crate) value: usize,
    pub(crate) records_per_s: Spread,
    pub(crate) p50_us: Spread,
    pub(crate) p99_us: Spread,
}

/// The index of the candidate to take. `candidates` has at least one, cheapest
/// first. Takes the first one whose throughput no other exceeds, and whose P99
/// exceeds no other of these.
pub(crate) fn choose(candidates: &[Candidate]) -> usize {
    let all: Vec<_> = (0..candidates.len()).collect();
    let fast = |&one: &usize| {
        let slower = &candidates[one].records_per_s;
        !candidates.iter().any(|other| other.records_per_s.exceeds(slower))
    };
    let fast: Vec<_> = all.into_iter().filter(fast).collect();
    let prompt = |&&one: &&usize| {
        let late = &candidates[one].p99_us;
        !fast.iter().any(|&other| late.exceeds(&candidates[other].p99_us))
    };
    // One always matches: no other exceeds the highest median throughput, and the
    // lowest P99 exceeds no other.
    fast.iter().find(prompt).copied().unwrap_or(0)
}

/// One line per candidate that was not chosen, with the reason. `cheaper` says in
/// words how earlier candidates compare with later ones.
pub(crate) fn reasons(
    candidates: &[Candidate],
    chosen: usize,
    in_words: impl Fn(usize) -> String,
    cheaper: &str,
) -> Vec<String> {
    let rate = |one: &Candidate| one.records_per_s.median;
    let others = candidates.iter().enumerate().filter(|(index, _)| *index != chosen);
    let reason = |(_, other): (usize, &Candidate)| {
        let name = in_words(other.value);
        let faster =
            candidates.iter().filter(|one| one.records_per_s.exceeds(&other.records_per_s));
        if let Some(faster) = faster.max_by(|a, b| rate(a).total_cmp(&rate(b))) {
            let (ratio, faster) = (rate(other) / rate(faster), in_words(faster.value));
            return format!("{name}: {ratio:.2} x the throughput of {faster}, outside the noise");
        }
        let best = &candidates[chosen];
        let (ratio, best_name) = (rate(best) / rate(other), in_words(best.value));
        let late = other.p99_us.median / best.p99_us.median;
        if other.p99_us.exceeds(&best.p99_us) {
            return format!(
                "{name}: throughput within the noise of {best_name}, but {late:.2} x its P99, outside it"
            );
        }
        format!(
            "{best_name}: {ratio:.2} x the throughput of {name}, within the noise, so {cheaper}"
        )
    };
    others.map(reason).collect()
}
