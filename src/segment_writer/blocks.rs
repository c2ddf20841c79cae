//! A commit as whole blocks in aligned memory, for writes past the cache: the
//! block that it begins in from its start, the one that it ends in to its end.
//! Knows bytes and offsets; it writes nothing.

/// See the module's words.
#[derive(Debug)]
pub(crate) struct Blocks {
    block: usize,
    /// Longer by a block than what is used of it.
    memory: Vec<u8>,
    /// Where in it the first address stands that is a multiple of the block.
    from: usize,
    /// So many bytes of the last block were written; they stand at `from`.
    tail: usize,
    /// So many bytes are laid out, from `from` on, the padding not counted.
    laid: usize,
}

impl Blocks {
    /// For a file that is written from its start on, in blocks of so many
    /// bytes, a power of two.
    pub(crate) fn new(block: usize) -> Self {
        assert!(block.is_power_of_two(), "memory is aligned to powers of two alone");
        let mut blocks = Self { block, memory: Vec::new(), from: 0, tail: 0, laid: 0 };
        blocks.make_room(block);
        blocks
    }

    pub(crate) fn block(&self) -> usize {
        self.block
    }

    /// Lays out a commit that follows what was written, with at least so many
    /// zeros behind it: whole blocks, of which the first begins in the file
    /// where [`Blocks::start`] says.
    pub(crate) fn lay_out(&mut self, commit: &[u8], zeros: usize) -> &[u8] {
        self.laid = self.tail + commit.len();
        let end = (self.laid + zeros).next_multiple_of(self.block);
        self.make_room(end);
        let used = &mut self.memory[self.from..][..end];
        used[self.tail..self.laid].copy_from_slice(commit);
        used[self.laid..].fill(0);
        used
    }

    /// Where the block begins that holds what was written last before `position`.
    pub(crate) fn start(&self, position: u64) -> u64 {
        position - self.tail as u64
    }

    /// What was laid out has been written: keeps what the next commit needs.
    pub(crate) fn written(&mut self) {
        let tail = self.laid % self.block;
        let last = self.from + self.laid - tail;
        self.memory.copy_within(last..last + tail, self.from);
        self.tail = tail;
    }

    /// Room for so many bytes, the tail kept.
    fn make_room(&mut self, bytes: usize) {
        if self.memory.len() >= bytes + self.block {
            return;
        }
        let mut memory = vec![0; bytes.next_power_of_two() + self.block];
        let from = memory.as_ptr().align_offset(self.block);
        memory[from..from + self.tail]
            .copy_from_slice(&self.memory[self.from..self.from + self.tail]);
        (self.memory, self.from) = (memory, from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_of_any_length_come_to_the_file_as_they_are_with_zeros_behind() {
        for block in [512, 4096] {
            let (mut blocks, mut expected, mut file) = (Blocks::new(block), Vec::new(), Vec::new());
            for (number, length) in
                [1, 511, 512, 513, 4095, 1, 4097, 24, 70_000, 4072].iter().enumerate()
            {
                let commit = vec![number.to_le_bytes()[0] + 1; *length];
                let start = usize::try_from(blocks.start(expected.len() as u64)).unwrap();
                let bytes = blocks.lay_out(&commit, 24);
                assert_eq!((start % block, bytes.len() % block), (0, 0));
                assert_eq!(bytes.as_ptr().align_offset(block), 0);
                file.truncate(start);
                file.extend_from_slice(bytes);
                blocks.written();
                expected.extend_from_slice(&commit);
                assert_eq!(file[..expected.len()], expected);
                assert!(file.len() >= expected.len() + 24);
                assert!(file[expected.len()..].iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn a_commit_that_was_not_written_leaves_no_trace() {
        let mut blocks = Blocks::new(512);
        blocks.lay_out(b"one", 0);
        blocks.written();
        blocks.lay_out(&[b'x'; 600], 0);
        let bytes = blocks.lay_out(b"two", 0);
        assert_eq!(bytes[..6], *b"onetwo");
        assert!(bytes[6..].iter().all(|byte| *byte == 0));
    }
}
