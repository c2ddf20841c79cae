//! The format of the mutex designs (length, checksum, key, payload), and a plain reader of one such
//! file, as a baseline for replays.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::peer::Record;

/// Length, checksum, key.
const HEADER_BYTES: usize = 4 + 4 + 8;
/// Bytes per read.
const READ_BYTES: usize = 1 << 20;

/// Appends the record's frame to the buffer. Callers do this outside every lock.
pub fn frame(buffer: &mut Vec<u8>, record: Record) {
    frame_parts(buffer, record.key, record.payload);
}

/// Appends the frame of a key and a payload to the buffer.
pub fn frame_parts(buffer: &mut Vec<u8>, key: u64, payload: &[u8]) {
    let at = buffer.len();
    let length = u32::try_from(payload.len()).expect("a record of the arena is small");
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&key.to_le_bytes());
    buffer.extend_from_slice(payload);
    let crc = crc32fast::hash(&buffer[at + 8..]);
    buffer[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Reads a file to its end, or to its first zeros.
pub fn read(path: &Path, found: &(dyn Fn(u64, &[u8]) + Send + Sync)) {
    let mut file = File::open(path).expect("the file is there");
    let mut buffer = vec![0; 2 * READ_BYTES];
    let (mut from, mut to) = (0, 0);
    loop {
        while let Some(end) = whole_frame(&buffer[from..to]) {
            let frame = &buffer[from..from + end];
            let crc = u32::from_le_bytes(frame[4..8].try_into().expect("four bytes"));
            assert_eq!(crc, crc32fast::hash(&frame[8..]), "a frame is what was written");
            found(u64::from_le_bytes(frame[8..16].try_into().expect("eight bytes")), &frame[16..]);
            from += end;
        }
        let zeros = to - from >= 4 && buffer[from..from + 4] == [0; 4];
        buffer.copy_within(from..to, 0);
        (from, to) = (0, to - from);
        let read =
            if zeros { 0 } else { file.read(&mut buffer[to..]).expect("the file can be read") };
        if read == 0 {
            return;
        }
        to += read;
    }
}

/// Length of the frame at the beginning of the buffer, if it is complete.
fn whole_frame(buffer: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*buffer.first_chunk()?) as usize;
    let end = HEADER_BYTES + length;
    (length > 0 && buffer.len() >= end).then_some(end)
}
