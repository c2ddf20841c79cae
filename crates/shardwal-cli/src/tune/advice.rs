//! The recommendation: settings with their reasons, as Rust code, as a serde
//! `Config` and as tables. It takes figures; it does not know how they are
//! measured.

use std::fmt;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use shardwal::{Config, Durability, QUEUE_CAPACITY_MAX};

use super::Settings;
use super::choice::{Candidate, Spread, choose, reasons};
use super::device::{Device, SyncFigures};

/// Limits of the recommended [`Config::queue_bytes`]: at least the default, and
/// bounded above, because a queue takes memory.
const QUEUE_BYTES: std::ops::RangeInclusive<usize> = (16 << 20)..=(1 << 30);
/// The share of a busy disk's time that syncs may take.
const SYNC_SHARE: f64 = 0.05;
/// Limits of the recommended [`Config::max_commit_bytes`], as powers of two: 256 KiB to
/// 16 MiB. No disk needs smaller or larger commits.
const COMMIT_BYTES: std::ops::RangeInclusive<u32> = 18..=24;

/// The recommended config, with reasons and assumptions.
#[derive(Serialize)]
pub(crate) struct Advice {
    config: Config,
    reasons: Vec<String>,
    assumed: Vec<String>,
}

impl Advice {
    pub(crate) fn new(
        settings: &Settings,
        device: &Device,
        shards: &[Candidate],
        depths: &[Candidate],
        cores: usize,
    ) -> Self {
        let mut why = vec![device_reason(device, cores)];
        let best = choose(shards);
        let in_words = |count: usize| format!("{count} shard{}", if count == 1 { "" } else { "s" });
        why.extend(reasons(shards, best, in_words, "the fewer"));
        let depth = choose(depths);
        let in_words = |depth: usize| format!("a queue of {depth}");
        why.extend(reasons(depths, depth, in_words, "the shallower: a full queue adds latency"));
        let config = Config::new(&settings.dir).shards(shards[best].value);
        let config = with_limits(config, settings, device, depths[depth].value, &mut why);
        let flags = "--threads, --inflight, --batch, --record-bytes, --durability";
        let assumed = vec![
            format!("{} ({flags})", settings.in_words()),
            "random keys: a few hot keys would load only a few shards".into(),
            format!(
                "other programs use the {cores} cores and the disk no more than during this run"
            ),
        ];
        Self { config: config.durability(settings.durability), reasons: why, assumed }
    }

    /// The recommended config, with another directory.
    pub(crate) fn on(&self, dir: &Path) -> serde_json::Result<Config> {
        let mut config = serde_json::to_value(&self.config)?;
        config["dir"] = serde_json::to_value(dir)?;
        serde_json::from_value(config)
    }

    /// Adds the comparison with the default config. If the default config was faster,
    /// recommends it instead.
    pub(crate) fn check(
        &mut self,
        settings: &Settings,
        default: &Candidate,
        recommended: &Candidate,
    ) {
        let [theirs, ours] = [default, recommended].map(|one| &one.records_per_s);
        let ratio = ours.median / theirs.median;
        let late = recommended.p99_us.median / default.p99_us.median;
        let noise = if ours.exceeds(theirs) || theirs.exceeds(ours) { "outside" } else { "within" };
        let mut reason = format!(
            "compared with the default config: {ratio:.2} x its throughput, {noise} the noise, and \
             {late:.2} x its P99"
        );
        if theirs.exceeds(ours) {
            reason.push_str("; so the default config is recommended, despite the reasons above");
            self.config = Config::new(&settings.dir).durability(settings.durability);
        }
        self.reasons.push(reason);
    }
}

/// Adds the limits of queue and commit to the config, and their reasons to `why`.
fn with_limits(
    config: Config,
    settings: &Settings,
    device: &Device,
    depth: usize,
    why: &mut Vec<String>,
) -> Config {
    let (in_flight, record_bytes) = (settings.in_flight(), settings.record_bytes);
    let queue_capacity = depth.max(in_flight.next_power_of_two().min(QUEUE_CAPACITY_MAX));
    if queue_capacity > depth {
        why.push(format!(
            "queue_capacity: the load has {in_flight} records in flight, and one shard may get them all"
        ));
    }
    let queue_bytes =
        in_flight.saturating_mul(record_bytes).clamp(*QUEUE_BYTES.start(), *QUEUE_BYTES.end());
    let queue_bytes = queue_bytes.next_power_of_two();
    why.push(format!(
        "queue_bytes: holds {} records of {record_bytes} bytes",
        queue_bytes / record_bytes.max(1)
    ));
    why.push("max_commit_records: a commit may take the whole queue".into());
    why.push(format!(
        "max_commit_bytes: about the smallest with which syncs take at most {:.0} % of a busy disk's time; \
         computed from the disk's figures, not measured",
        SYNC_SHARE * 100.0
    ));
    config
        .queue_capacity(queue_capacity)
        .queue_bytes(queue_bytes)
        .max_commit_records(queue_capacity)
        .max_commit_bytes(max_commit_bytes(device))
}

fn device_reason(device: &Device, cores: usize) -> String {
    let [first, .., last] = &device.syncs;
    let ratio = last.per_s / first.per_s;
    let said = match ratio {
        2.0.. => "so more than one shard may help, if the cores can drive them",
        _ => "so more than one shard gives no more syncs",
    };
    format!(
        "the disk syncs {} files {ratio:.1} x as often as one file ({cores} cores), {said}",
        last.files
    )
}

/// The bytes per commit with which syncs take [`SYNC_SHARE`] of the time.
fn max_commit_bytes(device: &Device) -> usize {
    let enough = device.sync_seconds() * (1.0 / SYNC_SHARE - 1.0) * device.bytes_per_s();
    let mut sizes = COMMIT_BYTES.map(|power| 1_usize << power);
    sizes.find(|bytes| *bytes as f64 >= enough).unwrap_or(1 << COMMIT_BYTES.end())
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = serde_json::to_value(&self.config).map_err(|_| fmt::Error)?;
        writeln!(f, "recommended:\n\n    Config::new({})", config["dir"])?;
        for limit in
            ["shards", "queue_capacity", "queue_bytes", "max_commit_records", "max_commit_bytes"]
        {
            writeln!(f, "        .{limit}({})", config[limit])?;
        }
        writeln!(f, "        .durability(Durability::{})", in_rust(&config["durability"]))?;
        writeln!(f, "\nbecause:")?;
        self.reasons.iter().try_for_each(|reason| writeln!(f, "  - {reason}"))?;
        writeln!(f, "\nassumed:")?;
        self.assumed.iter().try_for_each(|assumption| writeln!(f, "  - {assumption}"))
    }
}

/// A durability as Rust code.
fn in_rust(durability: &Value) -> String {
    match serde_json::from_value(durability.clone()) {
        Ok(Durability::Interval(interval)) => {
            format!("Interval(Duration::from_micros({}))", interval.as_micros())
        }
        Ok(other) => format!("{other:?}"),
        Err(error) => error.to_string(),
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the disk: 4 KiB overwritten and synced")?;
        writeln!(f, "  {:>12} {:>12} {:>10}", "files at once", "syncs/s", "P50 us")?;
        for figures in &self.syncs {
            let SyncFigures { files, per_s, p50_us } = figures;
            writeln!(f, "  {files:>13} {per_s:>12.0} {p50_us:>10.0}")?;
        }
        writeln!(f, "  1 MiB at a time, each synced: {:.0} MiB/s", self.mib_per_s)
    }
}

/// A table of measurements.
pub(crate) enum Section<'a> {
    Shards { load: &'a str, candidates: &'a [Candidate] },
    Depths { shards: usize, candidates: &'a [Candidate] },
}

impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, candidates) = match self {
            Self::Shards { load, candidates } => {
                writeln!(f, "shards: {load}")?;
                ("shards", candidates)
            }
            Self::Depths { shards, candidates } => {
                writeln!(f, "queue depth, with {shards} shards; the threads keep the queues full")?;
                ("depth", candidates)
            }
        };
        let (rate, p50, p99) = ("records/s (range)", "P50 us", "P99 us (range)");
        writeln!(f, "  {name:>8} {rate:>32} {p50:>10} {p99:>32}")?;
        for Candidate { value, records_per_s, p50_us, p99_us } in *candidates {
            let spread = |spread: &Spread| {
                format!("{:.0} ({:.0} .. {:.0})", spread.median, spread.lowest, spread.highest)
            };
            let (rate, p99) = (spread(records_per_s), spread(p99_us));
            writeln!(f, "  {value:>8} {rate:>32} {:>10.0} {p99:>32}", p50_us.median)?;
        }
        Ok(())
    }
}
