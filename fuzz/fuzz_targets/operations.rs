//! Runs an arbitrary history of a log: appends, batches, flushes, truncations, full
//! disks, faults, closes, kills, power losses, interrupted opens and changed shard
//! counts. Every acknowledged record is found, in order, and no other.

#![no_main]

#[path = "../../tests/history/mod.rs"]
mod history;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use history::{End, Life, Step, run};
use libfuzzer_sys::fuzz_target;
use shardwal::Durability;
use shardwal::fs::sim::FaultKind;
use support::EIO;

/// Limits that keep an input at some milliseconds.
const LIVES_MAX: usize = 4;
const STEPS_MAX: usize = 16;

fn length(input: &mut Unstructured<'_>) -> Result<usize> {
    Ok(if input.ratio(1, 4)? {
        input.int_in_range(1000..=6000)?
    } else {
        input.int_in_range(0..=99)?
    })
}

fn key(input: &mut Unstructured<'_>) -> Result<u64> {
    input.int_in_range(0..=3)
}

fn step(input: &mut Unstructured<'_>) -> Result<Step> {
    let kinds =
        [FaultKind::PowerCut, FaultKind::TornPowerCut, FaultKind::Error(EIO), FaultKind::WriteBack];
    Ok(match input.int_in_range(0..=15)? {
        0..=6 => {
            Step::Append { key: key(input)?, length: length(input)?, wait: input.arbitrary()? }
        }
        7..=9 => {
            let keys = (0..input.int_in_range(1..=8)?).map(|_| key(input));
            Step::Batch { keys: keys.collect::<Result<_>>()?, length: input.int_in_range(0..=800)? }
        }
        10 => Step::Flush,
        11 => Step::Remember,
        12 => Step::Truncate { at_remembered: input.arbitrary()? },
        13 => Step::FullDisk(input.arbitrary()?),
        _ => Step::Fault { nth: input.int_in_range(1..=60)?, kind: *input.choose(&kinds)? },
    })
}

fn end(input: &mut Unstructured<'_>) -> Result<End> {
    Ok(match input.int_in_range(0..=3)? {
        0 => End::Close,
        1 => End::Drop,
        2 => End::Kill,
        _ => End::PowerLoss(input.arbitrary()?),
    })
}

fn life(input: &mut Unstructured<'_>) -> Result<Life> {
    let steps = (0..input.int_in_range(0..=STEPS_MAX)?).map(|_| step(input));
    let steps = steps.collect::<Result<_>>()?;
    let open_cut = if input.arbitrary()? {
        let kind = *input.choose(&[FaultKind::PowerCut, FaultKind::TornPowerCut])?;
        let end = if input.arbitrary()? { End::Kill } else { End::PowerLoss(input.arbitrary()?) };
        Some((input.int_in_range(1..=80)?, kind, end))
    } else {
        None
    };
    Ok(Life { steps, end: end(input)?, shards: input.int_in_range(1..=3)?, open_cut })
}

fn history(mut input: Unstructured<'_>) -> Result<(Durability, Vec<Life>)> {
    // Too long for a sync by the timer, which is the worst case.
    let hour = Duration::from_secs(3600);
    let modes = [Durability::Sync, Durability::Sync, Durability::Buffered, Durability::Interval(hour)];
    let mode = *input.choose(&modes)?;
    let mut lives = Vec::new();
    while lives.is_empty() || (lives.len() < LIVES_MAX && !input.is_empty()) {
        lives.push(life(&mut input)?);
    }
    Ok((mode, lives))
}

fuzz_target!(|data: &[u8]| {
    if let Ok((mode, lives)) = history(Unstructured::new(data)) {
        run(mode, &lives);
    }
});
