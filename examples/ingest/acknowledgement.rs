//! How the child tells its parent what the log has acknowledged.
//!
//! Sixteen bytes a record go through the child's standard output: the series'
//! key and the record's ordinal, little-endian. They are written only after the
//! log's completion said `Ok`, so that what the parent has read was
//! acknowledged, whenever the child dies. This file knows pipes as `Read` and
//! `Write` only.

use std::io::{self, Read, Write};

const ACKNOWLEDGEMENT_BYTES: usize = 16;

/// How much a reporter gathers at most: what one write to a pipe carries whole.
const REPORT_BYTES_MAX: usize = 4096;

/// One record that the log has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// The key of its series.
    pub(crate) key: u64,
    /// Which record of that series, from 0.
    pub(crate) ordinal: u64,
}

/// Gathers acknowledgements and writes them out: one reporter a thread.
#[derive(Debug)]
pub(crate) struct Reporter<W> {
    pipe: W,
    gathered: Vec<u8>,
}

impl<W: Write> Reporter<W> {
    /// Reports into a pipe; each write to it must be one that other threads'
    /// reports cannot break into.
    pub(crate) fn new(pipe: W) -> Self {
        let gathered = Vec::with_capacity(REPORT_BYTES_MAX);
        Self { pipe, gathered }
    }

    /// Gathers one acknowledgement, and writes if there are many.
    ///
    /// # Errors
    /// If nobody reads any longer.
    pub(crate) fn report(&mut self, acknowledgement: Acknowledgement) -> io::Result<()> {
        self.gathered.extend(acknowledgement.key.to_le_bytes());
        self.gathered.extend(acknowledgement.ordinal.to_le_bytes());
        if self.gathered.len() >= REPORT_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is gathered. To be called before each wait, so that nothing
    /// that was acknowledged stays untold meanwhile.
    ///
    /// # Errors
    /// If nobody reads any longer.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if !self.gathered.is_empty() {
            self.pipe.write_all(&self.gathered)?;
            self.pipe.flush()?;
            self.gathered.clear();
        }
        Ok(())
    }
}

/// Reads the next acknowledgement; `None` at the end of the pipe. One that the
/// child's death cut short is none.
///
/// # Errors
/// If the pipe cannot be read.
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
