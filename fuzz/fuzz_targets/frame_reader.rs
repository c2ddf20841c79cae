//! Reads arbitrary bytes as the frames of a segment with a valid header. The log
//! returns the records of the whole frames, and no more.
//!
//! If the first byte is below 192, the checksums are corrected.

#![no_main]

#[path = "../support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use support::raw::{HEADER_BYTES, disk_of, segment_path};
use support::{VICTIM, is_written, read, seal_frames, told, victim_file, write};

fuzz_target!(|data: &[u8]| {
    let Some((how, frames)) = data.split_first() else { return };
    let path = segment_path(1, 0, 1);
    let mut segment = victim_file(&path)[..HEADER_BYTES].to_vec();
    segment.extend_from_slice(frames);
    if *how < 192 {
        seal_frames(&mut segment);
    }
    let only = VICTIM.iter().filter(|(name, _)| !name.ends_with("0000000002.wal"));
    let fs = disk_of(&only.cloned().collect::<Vec<_>>());
    fs.write_file(&path, &segment);
    let found = read(&fs);
    if let Ok(rows) = &found {
        let told = told(&segment);
        assert!(rows.len() <= told.len(), "more is read than the frames say");
        for ((_, _, sequence, key, payload), told) in rows.iter().zip(told) {
            assert_eq!((*sequence, *key, payload), (told.0, told.1, &told.2));
        }
    }
    if is_written(data) {
        write(&fs, &found);
    }
});
