//! The codec returns batches bit for bit and in order, for random batches, the recorded stream and
//! the golden file.
//!
//! T1 EXACT: what is decoded is what was encoded. T2 PERIOD: a batch is decoded after exactly the
//! batches after which it was encoded, or refused.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by a panic and prints what it measured"
)]

use crate::codec_rig::{Catalogue, Decoded, decode, encode, expected, labels_of, sample, samples};
use crate::recording::Recording;
use crate::support::seed;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, RngAlgorithm, TestRng, TestRunner};
use shardwal_timeseries::codec::{
    BatchDecoder, BatchEncoder, DecodeError, DecodeFault, SeriesSample,
};
use shardwal_timeseries::{LABELS_MAX, Labels, STALE_MARKER_BITS};

/// Bytes per sample of the recording, counting only payloads of the log.
const BYTES_PER_SAMPLE_MAX: f64 = 2.5;
/// Bytes per sample for labels, included above.
const LABEL_BYTES_PER_SAMPLE_MAX: f64 = 0.3;

fn any_timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => (0_i64..20).prop_map(|scrape| 1_700_000_000_000 + scrape * 1000),
        2 => 1_700_000_000_000_i64..1_700_000_020_000,
        1 => any::<i64>(),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0)],
    ]
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => Just(1.0),
        3 => (-1000_i32..1000).prop_map(f64::from),
        3 => (-100_000_i32..100_000, 0_i32..12)
            .prop_map(|(integer, exponent)| f64::from(integer) / 10_f64.powi(exponent)),
        2 => any::<f64>(),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => any::<i64>().prop_map(|integer| integer as f64),
        1 => prop_oneof![
            Just(f64::from_bits(STALE_MARKER_BITS)),
            Just(f64::from_bits(0x7ff8_0000_0000_0001)),
            Just(-0.0),
            Just(f64::INFINITY),
            Just(9_007_199_254_740_993.0),
        ],
    ]
}

fn any_batch() -> impl Strategy<Value = (bool, Vec<SeriesSample>)> {
    // Few series, so that each occurs several times. Some numbers are not dense.
    let series = prop_oneof![8 => 0_u32..12, 1 => Just(5_000_000)];
    let parts = (series, any_timestamp(), any_value());
    let one = parts.prop_map(|(series, at, value)| sample(series, at, value));
    (prop::bool::weighted(0.2), vec(one, 0..40))
}

/// Checks a property on many random inputs of this run's seed.
fn hold<S: Strategy>(inputs: &S, property: impl Fn(S::Value)) {
    let seed = seed();
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let runs = Runs { cases: 400, failure_persistence: None, ..Runs::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let result = TestRunner::new_with_rng(runs, rng).run(inputs, |input| {
        property(input);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("SHARDWAL_SEED={seed}: {failure}"));
}

#[test]
fn any_batches_come_back_as_they_were() {
    hold(&vec(any_batch(), 1..12), |batches| {
        let decoded = decode(&encode(&batches)).unwrap();
        assert_eq!(decoded.samples, expected(batches.iter().flat_map(|batch| &batch.1)));
    });
}

#[test]
fn one_series_comes_back_as_it_was() {
    hold(&vec(any_value(), 1..400), |values| {
        let all: Vec<_> = (0..).zip(&values).map(|(at, value)| sample(0, at, *value)).collect();
        assert_eq!(decode(&encode(&[(true, all.clone())])).unwrap().samples, expected(&all));
    });
}

#[test]
fn lines_and_random_walks_come_back_as_they_were() {
    let walks = (any::<i32>(), vec((-3_i64..3, 0_usize..30), 1..20), 0_i32..10);
    hold(&walks, |(start, steps, exponent)| {
        let mut integer = i64::from(start);
        let mut all = Vec::new();
        for step in steps.into_iter().flat_map(|(step, times)| std::iter::repeat_n(step, times)) {
            integer += step * 977;
            all.push(sample(0, integer, integer as f64 / 10_f64.powi(exponent)));
        }
        assert_eq!(decode(&encode(&[(true, all.clone())])).unwrap().samples, expected(&all));
    });
}

#[test]
fn a_batch_longer_than_a_block_comes_back() {
    let all: Vec<_> = (0..20_000_u32)
        .map(|i| sample(i.wrapping_mul(2_654_435_761) % 5000, i64::from(i / 7), f64::from(i % 90)))
        .collect();
    let decoded = decode(&encode(&[(true, all.clone()), (false, all.clone())])).unwrap();
    assert_eq!(decoded.samples, expected(all.iter().chain(&all)));
}

#[test]
fn a_batch_without_samples_is_one() {
    let batches = encode(&[(false, Vec::new()), (false, samples(&[1.0])), (false, Vec::new())]);
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>()[0], 1);
    assert_eq!(decode(&batches).unwrap().samples.len(), 1);
}

#[test]
fn labels_of_any_kind_come_back() {
    let (long, longer) = ("ä".repeat(1000), "é".repeat(4000));
    let of = move |series: u32| {
        let (host, number) = (format!("☺{series}é"), format!("{series}"));
        let value = if series.is_multiple_of(4) { &longer } else { &long };
        let many = |count: u32| {
            let of = |i| if i % 7 == 0 { number.clone() } else { "same".to_owned() };
            Labels::new((0..count).map(|i| (format!("l{i}"), of(i)))).unwrap()
        };
        match series % 10 {
            // Of 64 labels and 1, of twice 64, and all that are allowed.
            5 => many(65),
            6 => many(128),
            7 => many(u32::try_from(LABELS_MAX).unwrap()),
            0 => Labels::default(),
            1 => Labels::new([("host", host.as_str()), ("long", value)]).unwrap(),
            2 => Labels::new((0..64).map(|i| (format!("l{i}"), &number))).unwrap(),
            3 => Labels::new([("host", number.as_str()), ("\u{5f}", "\0")]).unwrap(),
            // Shares a longer prefix with the string before than one byte can count.
            _ => Labels::new([("host", "\u{e9}"), ("long", &format!("{long}{series}"))]).unwrap(),
        }
    };
    let catalogue = Catalogue::new(&of);
    let all: Vec<_> = (0..300).map(|series| sample(series, 0, 0.0)).collect();
    let mut bytes = Vec::new();
    BatchEncoder::new().encode(true, &all, &[], &catalogue, &mut bytes);
    let decoded = decode(&[bytes]).unwrap();
    assert_eq!(decoded.series, (0..300).map(of).collect::<Vec<_>>());
}

#[test]
fn labels_are_asked_for_once_a_fresh_period() {
    let catalogue = Catalogue::new(labels_of);
    let mut encoder = BatchEncoder::new();
    for fresh in [false, false, true, false] {
        encoder.encode(fresh, &samples(&[1.0, 2.0, 3.0]), &[], &catalogue, &mut Vec::new());
    }
    assert_eq!(catalogue.asked.into_inner(), (0..3).map(|series| (series, 2)).collect());
}

#[test]
fn a_fresh_batch_needs_nothing_before_it() {
    let batch = |fresh| (fresh, samples(&[1.5, 2.5]));
    let encoded = encode(&[batch(true), batch(false), batch(true), batch(false)]);
    let decoded = decode(&encoded[2..]).unwrap();
    assert_eq!(decoded.samples.len(), 4);
    assert_eq!(encoded[0], encoded[2]);
    assert!(encoded[1].len() < encoded[0].len());
}

#[test]
fn a_batch_is_refused_wherever_it_does_not_belong() {
    // T2 PERIOD. Two periods of equal shape with different values.
    let batch = |fresh, value| (fresh, samples(&[value, 2.0]));
    let batches = encode(&[
        batch(true, 1.0),
        batch(false, 2.0),
        batch(false, 4.0),
        batch(true, 7.0),
        batch(false, 2.0),
        batch(false, 4.0),
    ]);
    let fault = |order: &[usize]| {
        let chosen: Vec<_> = order.iter().map(|at| &batches[*at]).collect();
        decode(&chosen).map(|_| ()).map_err(|DecodeError { fault, .. }| fault)
    };
    assert_eq!(fault(&[0, 1, 2, 3, 4, 5]), Ok(()));
    assert_eq!(fault(&[0, 1, 2, 0, 1, 3, 0, 1, 2]), Ok(()));
    assert_eq!(fault(&[1]), Err(DecodeFault::NotFresh));
    let strays = [&[0, 2][..], &[0, 1, 1], &[0, 1, 5], &[0, 4], &[0, 1, 3, 1], &[0, 1, 2, 2]];
    for order in strays {
        let refused = fault(order);
        assert!(matches!(refused, Err(DecodeFault::OutOfOrder { .. })), "{order:?}: {refused:?}");
    }
}

#[test]
fn a_batch_out_of_place_leaves_the_period_as_it_was() {
    let batch = |fresh, value| (fresh, samples(&[value]));
    let batches = encode(&[batch(true, 1.0), batch(false, 2.0), batch(false, 4.0)]);
    let mut decoder = BatchDecoder::new();
    let mut decoded = Decoded::default();
    decoder.decode(&batches[0], &mut decoded).unwrap();
    decoder.decode(&batches[2], &mut decoded).unwrap_err();
    decoder.decode(&[0x80, 1, 2, 3], &mut decoded).unwrap();
    decoder.decode(&[5], &mut decoded).unwrap_err();
    decoder.decode(&batches[1], &mut decoded).unwrap();
    decoder.decode(&batches[2], &mut decoded).unwrap();
    let values: Vec<_> = decoded.samples.iter().map(|(_, sample)| sample.value).collect();
    assert_eq!(values, [1.0, 2.0, 4.0]);
}

#[test]
fn after_a_fault_only_a_fresh_batch_is_taken() {
    let batch = |fresh, value| (fresh, samples(&[value, 0.5]));
    let batches = encode(&[batch(true, 1.0), batch(false, 2.0), batch(true, 4.0)]);
    let mut decoder = BatchDecoder::new();
    let mut decoded = Decoded::default();
    decoder.decode(&batches[0], &mut decoded).unwrap();
    decoder.decode(&batches[1][..batches[1].len() - 1], &mut decoded).unwrap_err();
    let refused = decoder.decode(&batches[1], &mut decoded).unwrap_err();
    assert_eq!(refused, DecodeError { offset: 0, fault: DecodeFault::NotFresh });
    decoder.decode(&batches[2], &mut decoded).unwrap();
}

#[test]
fn what_may_be_passed_over_is_and_what_may_not_is_refused() {
    for kind in 0..=u8::MAX {
        let decoded = decode(&[[kind, 0xff, 0xff]]);
        match kind {
            0x80.. => assert!(decoded.unwrap().samples.is_empty()),
            1..=4 => assert!(decoded.is_err()),
            _ => assert_eq!(decoded.unwrap_err().fault, DecodeFault::UnknownKind(kind)),
        }
    }
}

#[test]
fn the_recorded_stream_comes_back_and_is_small() {
    let recording = Recording::read();
    let count: usize = recording.batches.iter().map(Vec::len).sum();
    assert_eq!((recording.series.len(), count), (5120, 334_000));
    for shards in [1, 4] {
        let mut columns = [0.0; 6];
        for shard in 0..shards {
            let written = pass(&recording, &recording.shard(shard, shards));
            for (column, bytes) in columns.iter_mut().zip(written) {
                *column += bytes as f64 / count as f64;
            }
        }
        let [total, heads, labels, references, timestamps, values] = columns;
        println!(
            "{shards} shards: {total:.3} bytes a sample: heads {heads:.3}, labels {labels:.3}, \
             references {references:.3}, timestamps {timestamps:.3}, values {values:.3}"
        );
        assert!(total <= BYTES_PER_SAMPLE_MAX, "{total} bytes per sample over {shards} shards");
        assert!(labels < LABEL_BYTES_PER_SAMPLE_MAX, "{labels} bytes per sample for labels");
    }
}

/// Encodes and decodes the batches of one shard. Returns the bytes in total and per column.
fn pass(recording: &Recording, batches: &[Vec<SeriesSample>]) -> [u64; 6] {
    let catalogue = Catalogue::new(|series: u32| recording.series[series as usize].clone());
    let (mut encoder, mut decoder) = (BatchEncoder::new(), BatchDecoder::new());
    let mut decoded = Decoded::default();
    let (mut bytes, mut total) = (Vec::new(), 0);
    for batch in batches {
        bytes.clear();
        encoder.encode(false, batch, &[], &catalogue, &mut bytes);
        total += bytes.len() as u64;
        decoded.samples.clear();
        decoder.decode(&bytes, &mut decoded).unwrap();
        let expected = batch
            .iter()
            .map(|found| (recording.series[found.series as usize].clone(), found.sample));
        assert!(decoded.samples.iter().cloned().eq(expected));
    }
    let written = encoder.encoded_bytes();
    assert_eq!(written.total(), total);
    let columns = [written.labels, written.references, written.timestamps, written.values];
    let [labels, references, timestamps, values] = columns;
    [total, written.heads, labels, references, timestamps, values]
}
