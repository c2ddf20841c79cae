//! Reads arbitrary bytes as a shard's segments, headers and chain included. Each record
//! that the log returns is in one of them.
//!
//! The input is up to four segments. Each follows its length in two bytes and a byte
//! whose bits say what is corrected: 1, its identity; 2, its header's checksum; 4, its
//! frames' checksums.

#![no_main]

#[path = "../support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use support::raw::{HEADER_BYTES, crc, disk_of, segment_path};
use support::{VICTIM, is_written, read, seal_frames, told, victim_file, write};

fn segment(bytes: &[u8], how: u8, number: u64) -> Vec<u8> {
    let mut segment = bytes.to_vec();
    if segment.len() < HEADER_BYTES {
        return segment;
    }
    if how & 1 != 0 {
        segment[..40].copy_from_slice(&victim_file(&segment_path(1, 0, 1))[..40]);
        segment[40..48].copy_from_slice(&number.to_le_bytes());
    }
    if how & 2 != 0 {
        let own = crc(0, &segment[..84]);
        segment[84..88].copy_from_slice(&own.to_le_bytes());
    }
    if how & 4 != 0 {
        seal_frames(&mut segment);
    }
    segment
}

fuzz_target!(|data: &[u8]| {
    let fs = disk_of(&VICTIM);
    for number in [1, 2] {
        fs.remove_file(segment_path(1, 0, number));
    }
    let (mut rest, mut all) = (data, Vec::new());
    for number in 1..=4 {
        let [low, high, how, bytes @ ..] = rest else { break };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
        let segment = segment(&bytes[..length], *how, number);
        fs.write_file(segment_path(1, 0, number), &segment);
        all.extend(told(&segment));
        rest = &bytes[length..];
    }
    let found = read(&fs);
    for (_, _, sequence, key, payload) in found.iter().flatten() {
        let row = (*sequence, *key, payload.clone());
        assert!(all.contains(&row), "{row:?} stands in no segment");
    }
    if is_written(data) {
        write(&fs, &found);
    }
});
