//! The bytes of the format, implemented again from FORMAT.md, so that a test can
//! inspect and forge them. Shares no code with the library.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "seeds are printed")]
#![allow(dead_code, unreachable_pub, reason = "each program that includes it uses a part")]

use std::path::Path;
use std::sync::Arc;

use crc32fast::Hasher;
use shardwal::fs::sim::SimFileSystem;
use shardwal::{Config, Durability, LogReader, OpenError, RecoveryReport, ReplayOptions};

pub const HEADER_BYTES: usize = 88;
pub const FRAME_BYTES: usize = 24;

/// `(generation, shard, sequence, key, payload)`.
pub type Row = (u32, u32, u64, u64, Vec<u8>);

/// A log that syncs each commit and writes no zeros ahead, so that files are as long as
/// their content.
pub fn config(fs: &SimFileSystem, shards: usize) -> Config {
    fs.set_copy_on_write(true);
    Config::new("/log")
        .file_system(Arc::new(fs.clone()))
        .shards(shards)
        .durability(Durability::Sync)
}

/// Reads the log without changing it, in order.
pub fn read(fs: &SimFileSystem) -> Result<(Vec<Row>, RecoveryReport), OpenError> {
    let reader = LogReader::open_in(Arc::new(fs.clone()), "/log")?;
    let rows = std::sync::Mutex::new(Vec::new());
    let replayed = reader.replay(ReplayOptions::default().threads(1), |record| {
        let at = record.position();
        let row = (at.generation, at.shard, at.sequence, record.key(), record.payload().to_vec());
        rows.lock().expect("one thread").push(row);
        Ok::<_, std::convert::Infallible>(())
    });
    replayed.expect("what open has checked can be read");
    let rows = rows.into_inner().expect("one thread");
    Ok((rows, reader.report().clone()))
}

/// `SHARDWAL_SEED`, or a constant. Prints it. Never 0.
pub fn seed_of_this_run() -> u64 {
    let seed = std::env::var("SHARDWAL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(0x2545_f491_4f6c_dd1d_u64).max(1);
    println!("SHARDWAL_SEED={seed}");
    seed
}

/// Every file and its bytes.
pub fn files(fs: &SimFileSystem) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let bytes = |path: &Path| fs.read_file(path).expect("a file that is listed");
    fs.files().into_iter().map(|path| (path.clone(), bytes(&path))).collect()
}

/// A disk with these files, all durable.
pub fn disk_of(files: &[(std::path::PathBuf, Vec<u8>)]) -> SimFileSystem {
    let fs = SimFileSystem::with_dir("/log");
    fs.set_copy_on_write(true);
    files.iter().for_each(|(path, bytes)| fs.write_file(path, bytes));
    fs
}

pub fn segment_path(generation: u32, shard: u32, number: u64) -> String {
    format!("/log/generation-{generation:05}/shard-{shard:04}/{number:010}.wal")
}

pub fn mark_path(generation: u32, shard: u32) -> String {
    format!("/log/generation-{generation:05}/shard-{shard:04}/purge")
}

pub fn int(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// CRC-32 of `bytes`, continued from another CRC.
pub fn crc(from: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(from);
    hasher.update(bytes);
    hasher.finalize()
}

/// The initial value of a segment's checksums, from its header.
pub fn seed(segment: &[u8]) -> u32 {
    let identity =
        [&segment[24..40], &segment[12..16], &segment[16..20], &segment[40..48]].concat();
    crc(0, &identity)
}

/// The initial value of the checksums of a shard's truncation mark file.
pub fn mark_seed(segment: &[u8]) -> u32 {
    let mut header = segment[..HEADER_BYTES].to_vec();
    header[40..48].fill(0);
    seed(&header)
}

/// The fields of a frame's header, unchecked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub offset: usize,
    pub body: u32,
    pub kind: u8,
    pub records: u16,
    pub first: u32,
    pub lag: u32,
}

impl Frame {
    pub fn end(&self) -> usize {
        self.offset + FRAME_BYTES + self.body as usize
    }
}

/// The frames of a segment, up to the first invalid frame or the end.
pub fn frames(segment: &[u8]) -> Vec<Frame> {
    let seed = seed(segment);
    let (mut at, mut frames) = (HEADER_BYTES, Vec::new());
    while let Some(header) = segment.get(at..at + FRAME_BYTES) {
        let frame = Frame {
            offset: at,
            body: int(header, 0),
            kind: header[4],
            records: u16::from_le_bytes([header[6], header[7]]),
            first: int(header, 8),
            lag: int(header, 12),
        };
        let body = segment.get(at + FRAME_BYTES..frame.end());
        let own = crc(crc(seed, &(at as u64).to_le_bytes()), &header[..20]);
        if own != int(header, 20) || body.is_none_or(|body| crc(seed, body) != int(header, 16)) {
            break;
        }
        at = frame.end();
        frames.push(frame);
    }
    frames
}

/// Recomputes the checksum of a segment header, and those of its frames at these
/// offsets.
pub fn reseal(segment: &mut [u8], frames: &[Frame]) {
    let own = crc(0, &segment[..84]);
    segment[84..88].copy_from_slice(&own.to_le_bytes());
    let seed = seed(segment);
    for frame in frames {
        let body = crc(seed, &segment[frame.offset + FRAME_BYTES..frame.end()]);
        segment[frame.offset + 16..frame.offset + 20].copy_from_slice(&body.to_le_bytes());
        reseal_header(segment, frame.offset, seed);
    }
}

/// Recomputes the checksum of the frame header at `at`.
pub fn reseal_header_at(segment: &mut [u8], at: usize) {
    let seed = seed(segment);
    reseal_header(segment, at, seed);
}

fn reseal_header(segment: &mut [u8], at: usize, seed: u32) {
    let own = crc(crc(seed, &(at as u64).to_le_bytes()), &segment[at..at + 20]);
    segment[at + 20..at + 24].copy_from_slice(&own.to_le_bytes());
}

/// Appends a frame of any kind behind a segment's last frame.
pub fn push_frame(
    segment: &mut Vec<u8>,
    kind: u8,
    records: u16,
    first: u32,
    lag: u32,
    body: &[u8],
) {
    let (at, seed) = (segment.len(), seed(segment));
    segment.extend(u32::try_from(body.len()).expect("a short body").to_le_bytes());
    segment.extend([kind, 0]);
    segment.extend(records.to_le_bytes());
    segment.extend(first.to_le_bytes());
    segment.extend(lag.to_le_bytes());
    segment.extend(crc(seed, body).to_le_bytes());
    segment.extend([0; 4]);
    reseal_header(segment, at, seed);
    segment.extend(body);
}

/// A slot of a truncation mark file.
pub fn mark_slot(seed: u32, epoch: u64, below: u64) -> [u8; 32] {
    let mut slot = [0; 32];
    slot[..8].copy_from_slice(b"purgemrk");
    slot[8..16].copy_from_slice(&epoch.to_le_bytes());
    slot[16..24].copy_from_slice(&below.to_le_bytes());
    let own = crc(seed, &slot[..24]);
    slot[24..28].copy_from_slice(&own.to_le_bytes());
    slot
}

/// The path of a file whose name carries a truncation mark.
pub fn mark_name(dir: &str, carrier: u8, seed: u32, epoch: u64, below: u64) -> String {
    let said = format!("purge-{carrier}-{epoch:016x}-{below:016x}");
    let own = crc(seed, said.as_bytes());
    format!("{dir}/{said}-{own:08x}")
}

/// A manifest of these generations, `(number, shards)`.
pub fn manifest(log: [u8; 16], generations: &[(u32, u32)]) -> String {
    let id: String = log.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = |(number, shards): &(u32, u32)| {
        format!("generation {number} shards {shards} router fxhash64-high\n")
    };
    let lines: String = generations.iter().map(line).collect();
    let text = format!("shardwal 1\nlog {id}\n{lines}");
    let own = crc(0, text.as_bytes());
    format!("{text}crc {own:08x}\n")
}
