//! A byte buffer aligned to a block size in memory, as direct I/O needs.
//!
//! It knows addresses. It does not know what the bytes mean.

use std::ops::{Deref, DerefMut};

/// A growable buffer whose bytes begin at a multiple of `block`.
#[derive(Debug, Default)]
pub(crate) struct AlignedBuf {
    memory: Vec<u8>,
    /// Index in `memory` of the first byte.
    from: usize,
    /// The alignment of the first byte's address, a power of two.
    block: usize,
}

impl AlignedBuf {
    /// A buffer of `bytes` zeros, aligned to `block`.
    pub(crate) fn zeros(bytes: usize, block: usize) -> Self {
        let mut zeros = Self::default();
        zeros.clear(block);
        zeros.resize(bytes);
        zeros.align();
        zeros
    }

    /// Empties the buffer, and aligns it to `block`.
    ///
    /// # Panics
    /// If `block` is not a power of two.
    pub(crate) fn clear(&mut self, block: usize) {
        assert!(block.is_power_of_two(), "memory is aligned to powers of two alone");
        self.block = block;
        self.from = self.memory.as_ptr().align_offset(block);
        self.resize(0);
    }

    /// The vector to append to. The caller must not change the bytes in it.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    /// Cuts the buffer to `bytes`, or fills it up with zeros.
    pub(crate) fn resize(&mut self, bytes: usize) {
        self.memory.resize(self.from + bytes, 0);
    }

    /// Moves the bytes to an aligned address, after the vector may have moved them.
    pub(crate) fn align(&mut self) {
        let (from, bytes) = (self.from, self.len());
        if self.memory.as_ptr().align_offset(self.block) == from {
            return;
        }
        // Reserve the memory first: it may move, and with it the aligned index.
        self.memory.resize(bytes + 2 * self.block, 0);
        self.from = self.memory.as_ptr().align_offset(self.block);
        self.memory.copy_within(from..from + bytes, self.from);
        self.resize(bytes);
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.from..]
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.from..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_what_they_are_wherever_their_memory_grows_to() {
        for block in [1, 512, 4096] {
            let mut bytes = AlignedBuf::default();
            for length in [0, 1, 511, 512, 4097, 70_000, 300, 1 << 20, 2] {
                bytes.clear(block);
                let mut expected = Vec::new();
                while expected.len() < length {
                    let number = expected.len().to_le_bytes();
                    expected.extend_from_slice(&number);
                    bytes.end().extend_from_slice(&number);
                }
                let whole = expected.len().next_multiple_of(block);
                bytes.resize(whole);
                bytes.align();
                assert_eq!(bytes.as_ptr().align_offset(block), 0);
                assert!(bytes.starts_with(&expected) && bytes.len() == whole);
                assert!(bytes[expected.len()..].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn what_was_cut_off_comes_back_as_zeros() {
        let mut bytes = AlignedBuf::zeros(100, 64);
        bytes.fill(7);
        bytes.resize(10);
        bytes.resize(100);
        assert_eq!(*bytes, *[[7; 10].as_slice(), &[0; 90]].concat());
    }
}
