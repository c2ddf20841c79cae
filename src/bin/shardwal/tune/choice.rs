//! Which of several candidates to take: measured over several rounds, gaps
//! within the noise are none, and the one that costs least is taken of those
//! that are as good. It knows numbers, and not what they are of.

use serde::Serialize;

/// Ratios below this are noise, unless the ranges do not meet.
const NOISE: f64 = 1.5;
/// And even then: a handful of rounds may lie apart by chance.
const NOISE_WHERE_APART: f64 = 1.05;

/// Lowest, median and highest of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    pub(crate) lowest: f64,
    pub(crate) median: f64,
    pub(crate) highest: f64,
}

impl Spread {
    /// Of at least one value; NaN where there is none.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        Self { lowest: at(0), median: at(values.len() / 2), highest: at(last) }
    }

    /// Whether it is more than the other by more than the noise.
    pub(crate) fn exceeds(&self, other: &Self) -> bool {
        let ratio = self.median / other.median;
        let apart = self.lowest > other.highest;
        ratio >= NOISE || (apart && ratio >= NOISE_WHERE_APART)
    }
}

/// One that may be taken: its value, and what was measured with it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Candidate {
    /// So many shards, so deep a queue, or which of two configs.
    pub(crate) value: usize,
    pub(crate) records_per_s: Spread,
    pub(crate) p50_us: Spread,
    pub(crate) p99_us: Spread,
}

/// The candidate to take, by its index, of at least one in the order of their
/// costs: the first of those whose throughput none exceeds, and of these whose
/// P99 exceeds no other's.
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
    // The highest median is exceeded by none, nor is the lowest P99 too late.
    fast.iter().find(prompt).copied().unwrap_or(0)
}

/// Why the chosen one and not each of the others, a line each. `cheaper` is what
/// the earlier candidates are beside the later ones.
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
