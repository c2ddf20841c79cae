//! The tables of docs/scale.md: model and measurement, larger machines, and sleeps.

use crate::machine_words::short;
use crate::scale_fit::Fit;
use crate::scale_model::{Costs, Load, Machine, Prediction, predict};
use crate::{CHECKED, COUNTED, DEPTH, KNOWN, Measured, RECORD_BYTES, median};

/// Prints each case: measurement, model, and their ratio.
pub fn print_check(fit: &Fit, checked: &[Measured]) {
    println!("\n### Model and measurement\n");
    println!(
        "| callers | shards | disk | measured/s (range) | model/s | model / measured | records per commit | model | its write and \
         sync, us | model | mean us | model |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    );
    let mut errors = Vec::new();
    for (case, measured) in CHECKED.iter().zip(checked) {
        let (machine, costs) = fit.under(case.disk);
        let model = predict(&machine, &costs, &case.load());
        let rate = median(&measured.per_second);
        let lowest = measured.per_second.iter().copied().fold(f64::MAX, f64::min);
        let highest = measured.per_second.iter().copied().fold(0.0, f64::max);
        let ratio = model.per_second / rate;
        errors.push(ratio.ln().abs());
        println!(
            "| {} | {} ({} .. {}) | {} | {ratio:.2} | {:.1} | {:.1} | {:.0} | {:.0} | {:.0} | {:.0} |",
            case.in_words(),
            short(rate),
            short(lowest),
            short(highest),
            short(model.per_second),
            median(&measured.held),
            model.held,
            median(&measured.synced_micros),
            model.synced,
            median(&measured.mean_micros),
            model.micros
        );
    }
    let (known, new) = errors.split_at(KNOWN);
    for (errors, which) in [(known, "first"), (new, "last")] {
        let mean = (errors.iter().sum::<f64>() / errors.len() as f64).exp();
        let most = errors.iter().copied().fold(0.0, f64::max).exp();
        println!(
            "\nThe {which} {}: off by a factor of {mean:.2} on (geometric) average, {most:.2} at most.",
            errors.len()
        );
    }
}

/// The best number of shards on `machine`, and its prediction.
fn best(
    machine: &Machine,
    costs: &Costs,
    callers: f64,
    in_flight: f64,
    bytes: f64,
) -> (u32, Prediction) {
    let of = |shards: u32| {
        let depth = DEPTH as f64;
        let load = Load { callers, in_flight, shards: f64::from(shards), depth, bytes };
        (shards, predict(machine, costs, &load))
    };
    let all: Vec<_> = (0..8).map(|power| of(1 << power)).collect();
    let most = all.iter().map(|one| one.1.per_second).fold(0.0, f64::max);
    // The fewest shards that reach nearly the best rate.
    let enough = all.into_iter().find(|one| one.1.per_second >= 0.97 * most);
    enough.expect("the best is one of them")
}

/// For comparison: a writer that always wakes this number of callers itself.
const FEW: f64 = 8.0;

/// Prints what larger machines would reach, and what bounds them.
pub fn print_predictions(fit: &Fit) {
    println!("\n### Larger machines\n");
    println!(
        "| cores | disk | callers | best shards | records/s | mean us | bound | zeros first | {FEW} woken first |\n\
         |---|---|---|---|---|---|---|---|---|"
    );
    let nvme = Machine { sync: 20.0, sync_more: 2.0, bandwidth: 3000.0, ..fit.machine };
    for cores in [16.0, 64.0, 128.0] {
        let costs = Costs { chains: cores, ..fit.costs };
        let few = Costs { chains: FEW, ..costs };
        for (name, disk) in [("this disk", fit.machine), ("NVMe, 20 us", nvme)] {
            for (callers, in_flight) in [(64.0, 1.0), (1024.0, 1.0), (64.0, 256.0)] {
                let machine = Machine { cores, ..disk };
                let of = |costs, bytes| best(&machine, costs, callers, in_flight, bytes);
                let rate = |costs, bytes| {
                    let (shards, prediction) = of(costs, bytes);
                    format!("{} ({shards})", short(prediction.per_second))
                };
                let (shards, prediction) = of(&costs, RECORD_BYTES);
                let manner = if in_flight > 1.0 { "256 in flight" } else { "waiting" };
                println!(
                    "| {cores} | {name} | {callers} x {manner} | {shards} | {} | {:.0} | {:?} | {} | {} |",
                    short(prediction.per_second),
                    prediction.micros,
                    prediction.bound,
                    rate(&costs, 2.0 * RECORD_BYTES),
                    rate(&few, RECORD_BYTES)
                );
            }
        }
    }
}

/// Prints how often callers and writers sleep.
pub fn print_counters(counted: &[Measured]) {
    println!("\n### Sleeps, with 64 callers on a disk that discards\n");
    println!(
        "| callers | shards | disk | records/s | records per commit | caller sleeps per record | writer \
         sleeps per commit | CPU us per record | of that, the writers |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (case, measured) in COUNTED.iter().zip(counted) {
        println!(
            "| {} | {} | {:.1} | {:.4} | {:.3} | {:.2} | {:.2} |",
            case.in_words(),
            short(median(&measured.per_second)),
            median(&measured.held),
            median(&measured.caller_sleeps),
            median(&measured.writer_sleeps) * median(&measured.held),
            median(&measured.cpu),
            median(&measured.writer)
        );
    }
}
