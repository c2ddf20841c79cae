//! Labels that a client chose so that their ids collide.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use shardwal_timeseries::{Labels, Sample, Storage, StorageOptions, TimeSeries};

const PRIME_1: u64 = 0x9e37_79b1_85eb_ca87;
const PRIME_2: u64 = 0xc2b2_ae3d_27d4_eb4f;
/// Number of colliding label sets: two to this power.
const BITS: usize = 8;

/// One round of XXH64 on one accumulator.
fn round(accumulator: u64, input: u64) -> u64 {
    accumulator.wrapping_add(input.wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
}

/// The inverse of an odd number, by Newton's method.
fn inverse(odd: u64) -> u64 {
    (0..6).fold(odd, |x, _| x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x))))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Returns a printable word other than `first`, and the word 32 bytes later with which the
/// accumulator reaches the state that `first` and `second` lead to.
fn alternative(accumulator: u64, first: u64, second: u64, random: &mut u64) -> [u64; 2] {
    let middle = round(accumulator, first);
    loop {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let other = u64::from_le_bytes(random.to_le_bytes().map(|byte| 0x21 + byte % 0x5d));
        let difference = middle.wrapping_sub(round(accumulator, other));
        let back = second.wrapping_add(difference.wrapping_mul(inverse(PRIME_2)));
        if other != first && back.to_le_bytes().iter().all(|byte| (0x20..0x7f).contains(byte)) {
            return [other, back];
        }
    }
}

/// Label sets of one label, all with one id. Each pair of stripes of 32 bytes has two contents that
/// hash to one state.
fn colliding() -> Vec<Labels> {
    let length = 28 + 64 * BITS;
    let six_bits = |number: usize| (number & 63).to_le_bytes()[0];
    let mut text = vec![1, b'a', 0x40 | six_bits(length), six_bits(length >> 6)];
    text.extend(std::iter::repeat_n(b'x', length));
    let mut accumulator = round(PRIME_1.wrapping_add(PRIME_2), word(&text, 0));
    let mut random = 88_172_645_463_325_252;
    let mut alternatives = Vec::new();
    for pair in 0..BITS {
        let at = 32 + 64 * pair;
        let (first, second) = (word(&text, at), word(&text, at + 32));
        alternatives.push((at, alternative(accumulator, first, second, &mut random)));
        accumulator = round(round(accumulator, first), second);
    }
    let labels = |number: usize| {
        let mut text = text.clone();
        let chosen = alternatives.iter().enumerate().filter(|(bit, _)| number >> bit & 1 == 1);
        for (_, (at, [first, second])) in chosen {
            text[*at..at + 8].copy_from_slice(&first.to_le_bytes());
            text[at + 32..at + 40].copy_from_slice(&second.to_le_bytes());
        }
        let value = str::from_utf8(&text[4..]).expect("it is printable");
        Labels::new([("a", value)]).expect("they are valid")
    };
    (0..1 << BITS).map(labels).collect()
}

/// Regression: all of them fell into one bucket of every map, and each was compared with all
/// others.
#[test]
fn labels_whose_ids_collide_have_different_hashes_in_memory() {
    let colliding = colliding();
    let ids: HashSet<_> = colliding.iter().map(Labels::id).collect();
    assert_eq!(ids.len(), 1, "they collide");
    let keyed = RandomState::new();
    let hashes: HashSet<_> = colliding.iter().map(|labels| keyed.hash_one(labels)).collect();
    assert_eq!(hashes.len(), colliding.len());
}

#[test]
fn series_whose_ids_collide_are_found_again() {
    let fs = SimFileSystem::new();
    let options =
        || StorageOptions::new(Config::new("/db").file_system(Arc::new(fs.clone())).shards(3));
    let series: Vec<_> = (0..)
        .zip(colliding())
        .map(|(number, labels)| TimeSeries::new(labels, vec![Sample::new(number, 1.0)]))
        .collect();
    let storage = Storage::open(options()).unwrap();
    storage.write_batch(&series).unwrap();
    drop(storage);
    let mut expected = series;
    expected.sort_by(|one, other| one.labels.cmp(&other.labels));
    assert_eq!(Storage::open(options()).unwrap().query(&[], 0..=i64::MAX), expected);
}
