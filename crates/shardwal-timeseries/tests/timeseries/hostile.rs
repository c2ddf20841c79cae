//! Hostile bytes of time series batches: the decoder returns samples or an error with an offset,
//! and never panics. `timeseries_memory.rs` tests the memory that they may take.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by a panic")]

use crate::codec_rig::{Decoded, decode, encode, sample};
use crate::support::{Random, seed};
use shardwal_timeseries::STALE_MARKER_BITS;
use shardwal_timeseries::codec::{DecodeError, DecodeFault, SeriesSample};

/// Two batches that cover every construct.
fn small_batches() -> Vec<Vec<u8>> {
    let values = [0.0, 1.0, -1.5, 0.1, 1e300, 1.0 / 3.0, f64::from_bits(STALE_MARKER_BITS)];
    let batch = |from: i64| {
        let samples = (from..).zip(values.iter().cycle()).take(40);
        let samples = samples.map(|(i, value)| {
            let series = u32::try_from(i * i % 11).unwrap();
            sample(series, i * 1000 + i / 7, *value * i as f64)
        });
        samples.collect::<Vec<SeriesSample>>()
    };
    encode(&[(true, batch(0)), (false, batch(40))])
}

/// An error must have an offset within the bytes, and a text.
fn ended_well(decoded: &Result<Decoded, DecodeError>, bytes: usize) {
    if let Err(error) = decoded {
        assert!(error.offset <= bytes, "{error}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn every_truncation_is_an_error_or_whole_blocks() {
    let batches = small_batches();
    for length in 0..batches[0].len() {
        let decoded = decode(&[&batches[0][..length]]);
        // Only the kind, without a block: a valid empty batch.
        assert_eq!(decoded.is_ok(), length == 1, "{length} bytes");
        ended_well(&decoded, length);
    }
    for length in 0..batches[1].len() {
        let decoded = decode(&[&batches[0], &batches[1][..length]]);
        assert_eq!(decoded.is_ok(), length == 5, "{length} bytes");
        ended_well(&decoded, length);
    }
}

#[test]
fn every_flipped_bit_is_an_error_or_other_samples() {
    let batches = small_batches();
    let mut errors = 0;
    for which in 0..2 {
        for bit in 0..batches[which].len() * 8 {
            let mut corrupted = batches.clone();
            corrupted[which][bit / 8] ^= 1 << (bit % 8);
            let decoded = decode(&corrupted);
            ended_well(&decoded, corrupted[which].len().max(batches[1].len()));
            errors += u32::from(decoded.is_err());
            // T2 PERIOD: even if the flipped batch decodes to other samples, the decoder refuses
            // the next one.
            let skipped = corrupted[which][0] & 0x80 != 0 && which == 1;
            assert!(decoded.is_err() || which == 1, "bit {bit} of the first batch: not refused");
            assert!(!skipped || decoded.is_ok_and(|decoded| decoded.samples.len() == 40));
        }
    }
    println!("{errors} errors of {} flips", batches.iter().map(Vec::len).sum::<usize>() * 8);
}

#[test]
fn random_bytes_and_random_corruption_end_well() {
    let seed = seed();
    let mut random = Random::new(seed);
    let mut below = |limit: usize| usize::try_from(random.below(limit as u64)).unwrap();
    let batches = small_batches();
    for round in 0..30_000 {
        let mut bytes = batches[0].clone();
        let from = if round % 3 == 0 { 1 } else { below(bytes.len()) };
        let to = (from + 1 + below(12)).min(bytes.len());
        for byte in &mut bytes[from..to] {
            *byte = u8::try_from(below(256)).unwrap();
        }
        ended_well(&decode(&[&bytes]), bytes.len());
    }
}

#[test]
fn a_fault_says_what_and_where() {
    let fault = |bytes: &[u8]| {
        let error = decode(&[bytes]).unwrap_err();
        (error.offset, error.fault)
    };
    let out_of_range = |what, found| DecodeFault::OutOfRange { what, found };
    assert_eq!(fault(&[]), (0, DecodeFault::Truncated));
    assert_eq!(fault(&[1, 0]), (2, out_of_range("a number of samples", 0)));
    assert_eq!(fault(&[1, 0x81, 0x20]), (1, out_of_range("a number of samples", 4097)));
    assert_eq!(fault(&[1, 1, 2]), (2, out_of_range("a number of series", 2)));
    assert_eq!(fault(&[1, 1, 1, 2]), (4, out_of_range("a shape", 2)));
    assert_eq!(fault(&[1, 1, 1, 1, 0x81, 8]), (4, out_of_range("a number of labels", 1025)));
    assert_eq!(fault(&[1, 1, 1, 1, 1, 0, 0, 9, b'a']), (8, DecodeFault::Truncated));
    assert_eq!(fault(&[1, 1, 1, 1, 1, 0, 0, 1, 0xff]), (9, DecodeFault::NotUtf8));
    // One label without a name, with the value "v".
    let refused = fault(&[1, 1, 1, 1, 1, 0, 0, 0, 1, 0, 0, 1, b'v']);
    assert!(matches!(refused, (13, DecodeFault::Labels(_))), "{refused:?}");
    // Two samples of a series without labels. The values end after one.
    let ends_early = [1, 2, 1, 1, 0, 0, 1, 1, 1, 2 << 2, 0x10, 0x10];
    assert_eq!(fault(&ends_early), (11, out_of_range("a run of values", 1)));
    // A sample of a series that is not defined.
    assert_eq!(fault(&[1, 1, 0, 1]), (4, out_of_range("a reference", 0)));
}
