//! Acknowledgements: how the child reports to its parent what the log has acknowledged.
//!
//! The child writes 16 bytes per record to its standard output: the series' key and the record's
//! ordinal, little-endian. It writes them only after the log's completion returned `Ok`. Everything
//! that the parent reads was therefore acknowledged, whenever the child dies. This file knows pipes
//! only as `Read` and `Write`.

use std::io::{self, Read, Write};

const ACKNOWLEDGEMENT_BYTES: usize = 16;

/// Maximum size of a report: a pipe takes that much in one atomic write.
const REPORT_BYTES_MAX: usize = 4096;

/// A record that the log has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// The key of its series.
    pub(crate) key: u64,
    /// Its index among the records of its series, from 0.
    pub(crate) ordinal: u64,
}

/// Buffers acknowledgements and writes them to the pipe. There is one reporter per thread.
#[derive(Debug)]
pub(crate) struct Reporter<W> {
    pipe: W,
    gathered: Vec<u8>,
}

impl<W: Write> Reporter<W> {
    /// Creates a reporter. Writes of other threads must not split a write to `pipe`.
    pub(crate) fn new(pipe: W) -> Self {
        let gathered = Vec::with_capacity(REPORT_BYTES_MAX);
        Self { pipe, gathered }
    }

    /// Buffers one acknowledgement. Writes if the buffer is full.
    ///
    /// # Errors
    /// The pipe's reader is gone.
    pub(crate) fn report(&mut self, acknowledgement: Acknowledgement) -> io::Result<()> {
        self.gathered.extend(acknowledgement.key.to_le_bytes());
        self.gathered.extend(acknowledgement.ordinal.to_le_bytes());
        if self.gathered.len() >= REPORT_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the buffered acknowledgements. The caller flushes before each wait, so that no
    /// acknowledgement stays unreported during the wait.
    ///
    /// # Errors
    /// The pipe's reader is gone.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.pipe.write_all(&self.gathered)?;
            self.pipe.flush()?;
            self.gathered.clear();
        }
        Ok(())
    }
}

/// Reads the next acknowledgement. Returns `None` at the end of the pipe, also if the child's death
/// cut the last one short.
///
/// # Errors
/// The pipe cannot be read.
pub(crate) fn receive(pipe: &mut impl Read) -> io::Result<Option<Acknowledgement>> {
    let mut bytes = [0; ACKNOWLEDGEMENT_BYTES];
    match pipe.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut numbers = bytes.as_chunks::<8>().0.iter().map(|number| u64::from_le_bytes(*number));
    Ok(numbers.next().zip(numbers.next()).map(|(key, ordinal)| Acknowledgement { key, ordinal }))
}
