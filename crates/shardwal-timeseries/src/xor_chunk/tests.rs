//! Chunks decode to what they encode, bit for bit. Other bytes decode to anything, without a panic.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{STALE_MARKER_BITS, Sample};
use super::{COUNT_BYTES, XorAppender, XorChunk, XorSamples};

fn any_step() -> impl Strategy<Value = i64> {
    // The ends of the ranges that 14, 17 and 20 bits hold, after a step of 1,000.
    let ends = [13, 16, 19].into_iter().flat_map(|bits| {
        [-(1_i64 << bits), 1 << bits].into_iter().flat_map(|end| end - 2..=end + 2)
    });
    let ends: Vec<i64> = ends.map(|change| change + 1000).collect();
    prop_oneof![
        4 => Just(1000),
        2 => 990..1010_i64,
        2 => prop::sample::select(ends),
        1 => -1_000_000..1_000_000_i64,
        1 => any::<i64>(),
    ]
}

fn any_bits() -> impl Strategy<Value = u64> {
    let special = [
        0,
        1,
        1 << 63,
        u64::MAX,
        STALE_MARKER_BITS,
        f64::NAN.to_bits(),
        0x7ff8_dead_beef_0001,
        f64::INFINITY.to_bits(),
        f64::NEG_INFINITY.to_bits(),
        f64::MIN_POSITIVE.to_bits(),
    ];
    prop_oneof![
        3 => Just(1_f64.to_bits()),
        2 => (-1000..1000_i32).prop_map(|value| f64::from(value).to_bits()),
        2 => (0..64_u32, 0..64_u32).prop_map(|(one, other)| 1 << one | 1 << other),
        2 => any::<u64>(),
        2 => prop::sample::select(special.to_vec()),
    ]
}

/// Samples in any order of time.
fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    let start = prop_oneof![Just(1_700_000_000_000), Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    (start, vec((any_step(), any_bits()), 1..200)).prop_map(|(start, steps)| {
        let times = steps.iter().scan(start, |time, (step, _)| {
            let now = *time;
            *time = time.wrapping_add(*step);
            Some(now)
        });
        let values = steps.iter().map(|(_, bits)| f64::from_bits(*bits));
        times.zip(values).map(|(time, value)| Sample::new(time, value)).collect()
    })
}

proptest! {
    #[test]
    fn a_chunk_decodes_to_its_samples_bit_for_bit(samples in any_samples()) {
        let mut appender = XorAppender::default();
        for (count, sample) in samples.iter().enumerate() {
            prop_assert_eq!(appender.len(), count);
            appender.append(*sample);
            prop_assert_eq!(appender.last(), Some(*sample));
        }
        prop_assert_eq!(appender.samples().collect::<Vec<_>>(), samples.clone());
        let chunk = appender.to_chunk().expect("it has samples");
        prop_assert_eq!(chunk.samples().collect::<Vec<_>>(), samples.clone());
        let ends = [samples[0], samples[samples.len() - 1]].map(|sample| sample.timestamp_ms);
        prop_assert_eq!([chunk.first_ms(), chunk.last_ms()], ends);
        // Growing leaves no bits behind.
        let encoded = XorChunk::encode(&samples);
        prop_assert_eq!(encoded.bytes(), chunk.bytes());
        prop_assert!(chunk.bytes().len() <= COUNT_BYTES + 1 + samples.len() * 19);
    }

    /// Whatever the order in which they come, sorted samples make one chunk, to the bit.
    #[test]
    fn samples_that_come_out_of_order_make_the_same_chunk(samples in any_samples()) {
        let (mut appender, mut sorted) = (XorAppender::default(), BTreeMap::new());
        for sample in samples {
            let is_new = sorted.insert(sample.timestamp_ms, sample).is_none();
            match appender.last() {
                Some(last) if sample.timestamp_ms <= last.timestamp_ms => {
                    prop_assert_eq!(appender.insert(sample), is_new);
                }
                _ => appender.append(sample),
            }
            prop_assert_eq!(appender.len(), sorted.len());
        }
        let sorted: Vec<_> = sorted.into_values().collect();
        prop_assert_eq!(appender.samples().collect::<Vec<_>>(), sorted.clone());
        let (found, expected) = (appender.to_chunk().unwrap(), XorChunk::encode(&sorted));
        prop_assert_eq!(found.bytes(), expected.bytes());
    }

    #[test]
    fn any_bytes_decode_to_at_most_their_count(bytes in vec(any::<u8>(), 0..300)) {
        let count = bytes.first_chunk().map_or(0, |[high, low]| {
            usize::from(*high) << 8 | usize::from(*low)
        });
        prop_assert!(XorSamples::of_chunk(&bytes).count() <= count);
        prop_assert!(XorSamples::of_chunk(&bytes).count() <= bytes.len() * 4);
    }

    #[test]
    fn a_changed_chunk_decodes_without_a_panic(
        samples in any_samples(),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = XorChunk::encode(&samples).bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        XorSamples::of_chunk(&bytes).for_each(drop);
        let end = end.index(bytes.len());
        let kept: Vec<_> = XorSamples::of_chunk(&XorChunk::encode(&samples).bytes()[..end]).collect();
        prop_assert!(kept.len() < samples.len() && samples.starts_with(&kept));
    }
}

#[test]
fn a_series_without_changes_takes_two_bits_per_sample() {
    let samples: Vec<_> = (0..120).map(|n| Sample::new(n * 1000, 1.5)).collect();
    let bytes = XorChunk::encode(&samples).bytes().len();
    assert_eq!(bytes, 2 + 1 + 8 + (2 * 8 + 1 + 118 * 2_usize).div_ceil(8));
}
