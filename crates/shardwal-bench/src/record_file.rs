//! The file of a [`SingleMutexLog`](crate::SingleMutexLog): a magic number, the first record's
//! sequence, and a checksum of both. Records follow, each with its length, the checksum of its
//! sequence and bytes, and its bytes.

use std::io::{self, Read};

use shardwal::BATCH_BYTES_MAX;
use shardwal::fs::FileHandle;
use shardwal::internals::read_full;

const MAGIC: [u8; 8] = *b"SWMUTEX\x01";
const HEADER_BYTES: usize = 8 + 8 + 4;
pub(crate) const RECORD_HEADER_BYTES: usize = 4 + 4;
/// Bytes per read of a copy or a replay.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

pub(crate) fn encode_record_header(sequence: u64, bytes: &[u8]) -> [u8; RECORD_HEADER_BYTES] {
    let length = u32::try_from(bytes.len()).expect("bounded far below u32");
    let mut head = [0; RECORD_HEADER_BYTES];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&checksum(sequence, bytes).to_le_bytes());
    head
}

fn checksum(sequence: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// Reads the records of a file, in order.
pub(crate) struct Records<'a> {
    from: io::BufReader<At<'a>>,
    left: u64,
    /// The sequence of the next record.
    pub(crate) next: u64,
}

struct At<'a> {
    file: &'a dyn FileHandle,
    offset: u64,
}

impl Read for At<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = read_full(self.file, bytes, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl<'a> Records<'a> {
    /// Starts after the header. `None` if the file does not have a valid one.
    pub(crate) fn begin(file: &'a dyn FileHandle) -> io::Result<Option<Self>> {
        let mut header = [0; HEADER_BYTES];
        if read_full(file, &mut header, 0)? < header.len()
            || header != encode_header(first_sequence(&header))
        {
            return Ok(None);
        }
        let from =
            io::BufReader::with_capacity(PIECE_BYTES, At { file, offset: HEADER_BYTES as u64 });
        Ok(Some(Self {
            from,
            left: file.len()? - HEADER_BYTES as u64,
            next: first_sequence(&header),
        }))
    }

    /// The next record. `None` at the first that is not whole.
    pub(crate) fn next(&mut self) -> io::Result<Option<(u64, Vec<u8>)>> {
        if self.left < RECORD_HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut head = [0; RECORD_HEADER_BYTES];
        self.from.read_exact(&mut head)?;
        self.left -= head.len() as u64;
        let [l0, l1, l2, l3, crc @ ..] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > BATCH_BYTES_MAX || length as u64 > self.left {
            return Ok(None);
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes)?;
        self.left -= length as u64;
        if checksum(self.next, &bytes) != u32::from_le_bytes(crc) {
            return Ok(None);
        }
        self.next += 1;
        Ok(Some((self.next - 1, bytes)))
    }
}

fn first_sequence(header: &[u8; HEADER_BYTES]) -> u64 {
    let [_, _, _, _, _, _, _, _, first @ .., _, _, _, _] = *header;
    u64::from_le_bytes(first)
}

pub(crate) fn encode_header(first: u64) -> [u8; HEADER_BYTES] {
    let mut head = [0; HEADER_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..16].copy_from_slice(&first.to_le_bytes());
    let crc = checksum(first, &MAGIC);
    head[16..].copy_from_slice(&crc.to_le_bytes());
    head
}
