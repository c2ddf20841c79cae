//! A zero-filled file, and commits that overwrite it as the log's writer does.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise};

const FILE_BYTES: usize = 64 << 20;
/// The strictest alignment that `O_DIRECT` demands of offsets, lengths and memory.
const BLOCK_BYTES: usize = 4096;

/// Creates a file of zeros, and opens it for direct I/O if `direct` is true.
pub(crate) fn make_file(path: &Path, direct: bool) -> io::Result<File> {
    let file = File::create(path)?;
    let zeros = vec![0; 256 << 10];
    for at in (0..FILE_BYTES).step_by(zeros.len()) {
        file.write_all_at(&zeros, at as u64)?;
    }
    file.sync_all()?;
    if direct {
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    let flags = if direct { OFlags::DIRECT } else { OFlags::empty() };
    let flags = i32::try_from(flags.bits()).expect("a flag of open");
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// A buffer whose contents are aligned to a block.
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    from: usize,
}

impl Aligned {
    pub(crate) fn new(length: usize) -> Self {
        let bytes = vec![0; length + 3 * BLOCK_BYTES];
        let from = bytes.as_ptr().align_offset(BLOCK_BYTES);
        Self { bytes, from }
    }

    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..]
    }
}

/// The file, and where the next commit goes.
pub(crate) struct Tail<'a> {
    file: &'a File,
    direct: bool,
    position: usize,
    /// The bytes of the block at the position that are written already.
    begun: Vec<u8>,
}

impl<'a> Tail<'a> {
    pub(crate) fn new(file: &'a File, direct: bool) -> Self {
        Self { file, direct, position: 0, begun: Vec::new() }
    }

    /// Copies the records of a commit, with a checksum, and writes them.
    pub(crate) fn encode_and_write(
        &mut self,
        records: &[u8],
        buffer: &mut Aligned,
    ) -> io::Result<()> {
        if self.position + records.len() + BLOCK_BYTES > FILE_BYTES {
            self.position = 0;
            self.begun.clear();
        }
        let begun = if self.direct { self.begun.len() } else { 0 };
        let bytes = buffer.as_mut();
        bytes[..begun].copy_from_slice(&self.begun[..begun]);
        let end = begun + records.len();
        bytes[begun..end].copy_from_slice(records);
        let checksum = crc32fast::hash(&bytes[begun..end]);
        bytes[begun..begun + 4].copy_from_slice(&checksum.to_le_bytes());
        if self.direct {
            let whole = end.next_multiple_of(BLOCK_BYTES);
            bytes[end..whole].fill(0);
            self.file.write_all_at(&bytes[..whole], (self.position - begun) as u64)?;
            self.begun.clear();
            self.begun.extend_from_slice(&bytes[end / BLOCK_BYTES * BLOCK_BYTES..end]);
        } else {
            self.file.write_all_at(&bytes[..end], self.position as u64)?;
        }
        self.position += records.len();
        Ok(())
    }
}
