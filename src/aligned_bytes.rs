//! Bytes that begin in memory where a block may begin, as writes past the
//! system's cache ask. Knows addresses; it does not know what the bytes are.

use std::ops::{Deref, DerefMut};

/// See the module's words.
#[derive(Debug, Default)]
pub(crate) struct AlignedBytes {
    memory: Vec<u8>,
    /// Where in it the bytes begin.
    from: usize,
    /// What their address is to be a multiple of, a power of two.
    block: usize,
}

impl AlignedBytes {
    /// So many zeros, for blocks of so many bytes.
    pub(crate) fn zeros(bytes: usize, block: usize) -> Self {
        let mut zeros = Self::default();
        zeros.clear(block);
        zeros.resize(bytes);
        zeros.align();
        zeros
    }

    /// Empties it; what is put in next is for blocks of so many bytes.
    pub(crate) fn clear(&mut self, block: usize) {
        assert!(block.is_power_of_two(), "memory is aligned to powers of two alone");
        self.block = block;
        self.from = self.memory.as_ptr().align_offset(block);
        self.resize(0);
    }

    /// To append to, and nothing else.
    pub(crate) fn end(&mut self) -> &mut Vec<u8> {
        &mut self.memory
    }

    /// Cuts it, or puts zeros behind.
    pub(crate) fn resize(&mut self, bytes: usize) {
        self.memory.resize(self.from + bytes, 0);
    }

    /// Moves the bytes to where a block may begin: memory that grew is elsewhere.
    pub(crate) fn align(&mut self) {
        let (from, bytes) = (self.from, self.len());
        if self.memory.as_ptr().align_offset(self.block) == from {
            return;
        }
        // Room wherever it is that a block may begin, before that is asked.
        self.memory.resize(bytes + 2 * self.block, 0);
        self.from = self.memory.as_ptr().align_offset(self.block);
        self.memory.copy_within(from..from + bytes, self.from);
        self.resize(bytes);
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.from..]
    }
}

impl DerefMut for AlignedBytes {
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
            let mut bytes = AlignedBytes::default();
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
        let mut bytes = AlignedBytes::zeros(100, 64);
        bytes.fill(7);
        bytes.resize(10);
        bytes.resize(100);
        assert_eq!(*bytes, *[[7; 10].as_slice(), &[0; 90]].concat());
    }
}
