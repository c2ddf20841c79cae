//! Reads arbitrary bytes as a log's manifest. Either open refuses it and leaves the log
//! unchanged, or the log opens and works.
//!
//! The lowest bit of the first byte says whether the checksum is corrected. The next
//! bit says whether the log's other files are present.

#![no_main]

#[path = "../support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use support::raw::{crc, disk_of, read as look};
use support::{VICTIM, is_written, read, victim_file, write};

/// Appends the correct checksum to the text.
fn sealed(text: &[u8]) -> Vec<u8> {
    let line = b"\ncrc ";
    let ends = text.windows(line.len()).rposition(|window| window == line);
    let mut text = text[..ends.map_or(text.len(), |at| at + 1)].to_vec();
    if text.last() != Some(&b'\n') {
        text.push(b'\n');
    }
    let own = crc(0, &text);
    text.extend(format!("crc {own:08x}\n").bytes());
    text
}

fuzz_target!(|data: &[u8]| {
    let Some((how, text)) = data.split_first() else { return };
    let fs = disk_of(if how & 2 != 0 { &VICTIM[..] } else { &[] });
    let manifest = if how & 1 != 0 { sealed(text) } else { text.to_vec() };
    // Not any of its files: the lock's file is empty, as a manifest may be.
    let is_the_victims = victim_file("/log/MANIFEST") == manifest;
    fs.write_file("/log/MANIFEST", &manifest);
    let found = read(&fs);
    if how & 2 != 0 && is_the_victims {
        let victims = look(&disk_of(&VICTIM)).expect("the victim is whole").0;
        assert_eq!(found.as_ref().ok(), Some(&victims), "a manifest that is right is read");
    }
    if is_written(data) {
        write(&fs, &found);
    }
});
