//! Random histories of a log on a disk that loses power, against a plain model: the
//! acknowledged records per key.
//!
//! Holds R1 REPLAY, W1 PREFIX, R3 FRESH (ARCHITECTURE.md).

use crate::history::{End, Life, Step, run};
use crate::support::{EIO, must_end, seed};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};
use shardwal::Durability;
use shardwal::fs::sim::FaultKind;

fn step() -> impl Strategy<Value = Step> {
    let key = 0..4_u64;
    let length = prop_oneof![0..100_usize, 0..100_usize, 1000..6000_usize];
    let cut = prop_oneof![
        Just(FaultKind::PowerCut),
        Just(FaultKind::TornPowerCut),
        Just(FaultKind::Error(EIO)),
        Just(FaultKind::WriteBack),
    ];
    prop_oneof![
        10 => (key.clone(), length.clone(), any::<bool>())
            .prop_map(|(key, length, wait)| Step::Append { key, length, wait }),
        3 => (vec(key, 1..12), 0..800_usize).prop_map(|(keys, length)| Step::Batch { keys, length }),
        1 => Just(Step::Flush),
        1 => Just(Step::Remember),
        1 => any::<bool>().prop_map(|at_remembered| Step::Truncate { at_remembered }),
        1 => any::<bool>().prop_map(Step::FullDisk),
        1 => (1..60_u64, cut).prop_map(|(nth, kind)| Step::Fault { nth, kind }),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        Just(End::Close),
        Just(End::Drop),
        Just(End::Kill),
        any::<u64>().prop_map(End::PowerLoss),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    let cut = prop_oneof![Just(FaultKind::PowerCut), Just(FaultKind::TornPowerCut)];
    let cut_end = prop_oneof![Just(End::Kill), any::<u64>().prop_map(End::PowerLoss)];
    let open_cut = proptest::option::of((1..80_u64, cut, cut_end));
    (vec(step(), 0..25), end(), 1..4_usize, open_cut)
        .prop_map(|(steps, end, shards, open_cut)| Life { steps, end, shards, open_cut })
}

fn durability() -> impl Strategy<Value = Durability> {
    // So long that no sync follows by itself: the worst case.
    let hour = std::time::Duration::from_secs(3600);
    let modes = [Durability::Sync, Durability::Buffered, Durability::Interval(hour)];
    proptest::sample::select(modes.to_vec())
}

#[test]
fn every_history_keeps_acknowledged_records() {
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let cases = std::env::var("SHARDWAL_CASES").ok().and_then(|cases| cases.parse().ok());
    let runs = Runs {
        cases: cases.unwrap_or(150),
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..Runs::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(runs, rng);
    let histories = (durability(), vec(life(), 1..6));
    let result = runner.run(&histories, |(durability, lives)| {
        must_end("a history", move || run(durability, &lives));
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("SHARDWAL_SEED={seed}: {failure}"));
}
