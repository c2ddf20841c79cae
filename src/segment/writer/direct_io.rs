//! Writes commits as whole blocks, for direct I/O.
//!
//! A commit begins with the earlier bytes of its first block, and ends with zeros up to
//! the end of its last block. This file knows offsets and blocks. It does not know
//! frames.

use std::io;

use crate::fs::{FileHandle, write_direct_full};
use crate::segment::aligned_buf::AlignedBuf;

/// The block that the next commit begins in.
#[derive(Debug)]
pub(crate) struct Blocks {
    block: usize,
    /// The bytes of that block that are written already.
    begun: Vec<u8>,
}

impl Blocks {
    /// For a file that is written from offset 0 on. `block` is the block size in bytes,
    /// a power of two.
    pub(crate) fn new(block: usize) -> Self {
        Self { block, begun: Vec::with_capacity(block) }
    }

    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// The bytes that the next commit must begin with.
    pub(crate) fn begun(&self) -> &[u8] {
        &self.begun
    }

    /// `bytes`, rounded up to whole blocks.
    pub(crate) fn whole(&self, bytes: usize) -> usize {
        bytes.next_multiple_of(self.block)
    }

    /// Writes `commit` at `start`, the offset of the block that it begins in. At least
    /// `zeros` bytes of zeros follow it. `commit` is unchanged after the call.
    pub(crate) fn write(
        &mut self,
        file: &mut dyn FileHandle,
        commit: &mut AlignedBuf,
        zeros: usize,
        start: u64,
    ) -> io::Result<()> {
        let length = commit.len();
        commit.resize(self.whole(length + zeros));
        commit.align();
        let written = write_direct_full(file, commit, start, self.block);
        commit.resize(length);
        written?;
        self.begun.clear();
        self.begun.extend_from_slice(&commit[length - length % self.block..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::fs::sim::SimFileSystem;
    use crate::fs::{FileSystem, OpenMode};

    #[test]
    fn commits_of_any_length_come_to_the_file_as_they_are_with_zeros_behind() {
        for block in [512, 4096] {
            let (fs, path) = (SimFileSystem::new(), Path::new("/file"));
            fs.set_direct_io_alignment(Some(block));
            let mut file = fs.open(path, OpenMode::CreateNew).unwrap();
            let (mut blocks, mut commit) = (Blocks::new(block), AlignedBuf::default());
            let mut expected: Vec<u8> = Vec::new();
            for (number, length) in
                [1, 511, 512, 513, 4095, 1, 4097, 24, 70_000, 4072].iter().enumerate()
            {
                commit.clear(block);
                commit.end().extend_from_slice(blocks.begun());
                let start = expected.len() - blocks.begun().len();
                let new = vec![number.to_le_bytes()[0] + 1; *length];
                commit.end().extend_from_slice(&new);
                let before = commit.to_vec();
                blocks.write(file.as_mut(), &mut commit, 24, start as u64).expect("it is aligned");
                assert_eq!(*commit, *before, "it is given back as it was");
                expected.extend_from_slice(&new);
                let found = fs.read_file(path).unwrap();
                assert_eq!(found[..expected.len()], expected);
                assert!(found[expected.len()..].iter().all(|byte| *byte == 0));
                assert!(start + blocks.whole(before.len() + 24) <= found.len());
            }
        }
    }
}
