//! The messages of remote write 2.0, read without a copy.
//!
//! A request has a table of symbols. The labels of an entry are references to it: the numbers of a
//! name, its value, the next name, and so on. This file does not know the server.

use super::protobuf::{Malformed, Reader, Value, malformed};
use super::sample::{created_in, read_sample};

/// The symbols of a request, in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Symbols<'a>(Reader<'a>);

impl<'a> Symbols<'a> {
    /// Parses the symbols in `message`.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(Reader { rest: message })
    }

    /// Reads the next symbol, if there is one. It may be no UTF-8.
    ///
    /// # Errors
    /// The bytes are not a request.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        while let Some((number, value)) = self.0.field()? {
            match (number, value) {
                (4, Value::Bytes(symbol)) => return Ok(Some(symbol)),
                (4, _) => return Err(malformed("a symbol is not a text")),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// The entries of a request, in order.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    reader: Reader<'a>,
    /// Number of fields so far that are neither symbols nor entries. They are skipped.
    pub(crate) unknown: u64,
}

impl<'a> Entries<'a> {
    /// Parses the entries in `message`.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { reader: Reader { rest: message }, unknown: 0 }
    }

    /// Reads the next entry, if there is one.
    ///
    /// # Errors
    /// The bytes are not a request.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        while let Some((number, value)) = self.reader.field()? {
            match (number, value) {
                (5, Value::Bytes(bytes)) => return Entry::read(bytes).map(Some),
                (5, _) => return Err(malformed("a series is not a message")),
                (4, _) => {}
                _ => self.unknown += 1,
            }
        }
        Ok(None)
    }
}

/// One `TimeSeries` of a request.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    references: References<'a>,
    /// From the first sample on. `None` if there is none.
    samples: Option<Reader<'a>>,
    /// From the first native histogram on. `None` if there is none.
    histograms: Option<Reader<'a>>,
    /// Number of exemplars, which are skipped.
    pub(crate) exemplars: u64,
    /// Number of metadata that say something, which are skipped.
    pub(crate) metadata: u64,
    /// Number of created timestamps, of the series and of the samples that were read. They are
    /// skipped.
    pub(crate) created: u64,
    /// Number of other fields, of the series and of the samples that were read. They are skipped.
    pub(crate) unknown: u64,
}

impl<'a> Entry<'a> {
    /// Finds the references and the samples. Encoders put all references first and into one field,
    /// but the format does not require it.
    #[inline]
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { rest: message };
        let mut references = References::default();
        let (mut samples, mut histograms) = (None, None);
        let (mut exemplars, mut metadata, mut created, mut unknown) = (0, 0, 0, 0);
        loop {
            let before = reader.clone();
            let Some((number, value)) = reader.field()? else { break };
            match (number, value) {
                (1, Value::Bytes(packed)) if references.is_empty() => {
                    references.packed.rest = packed;
                }
                (1, Value::Bytes(_) | Value::Varint(_)) => references = References::all(message),
                (2, Value::Bytes(_)) => {
                    samples.get_or_insert(before);
                }
                (3, Value::Bytes(_)) => {
                    histograms.get_or_insert(before);
                }
                (1..=3, _) => return Err(malformed("references or a sample have the wrong type")),
                (4, _) => exemplars += 1,
                (5, Value::Bytes(said)) => metadata += u64::from(!said.is_empty()),
                (6, Value::Varint(timestamp)) => created += u64::from(timestamp != 0),
                _ => unknown += 1,
            }
        }
        Ok(Self { references, samples, histograms, exemplars, metadata, created, unknown })
    }

    /// The numbers of its symbols: a name, its value, and so on.
    #[inline]
    pub(crate) fn references(&self) -> References<'a> {
        self.references.clone()
    }

    /// Whether it has samples or native histograms.
    pub(crate) fn has_samples(&self) -> bool {
        self.samples.is_some() || self.histograms.is_some()
    }

    /// Reads the next sample, if there is one: a timestamp in milliseconds and a value.
    ///
    /// # Errors
    /// The bytes are not a sample.
    #[inline]
    pub(crate) fn next_sample(&mut self) -> Result<Option<(i64, f64)>, Malformed> {
        let Some(samples) = &mut self.samples else { return Ok(None) };
        let Some(bytes) = samples.next_message(2)? else { return Ok(None) };
        let sample = read_sample(bytes, |number, value| {
            match number {
                3 => self.created += created_in(value)?,
                _ => self.unknown += 1,
            }
            Ok(())
        });
        sample.map(Some)
    }

    /// The bytes of the next native histogram, if there is one.
    ///
    /// # Errors
    /// The bytes are not fields.
    #[inline]
    pub(crate) fn next_histogram(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let Some(histograms) = &mut self.histograms else { return Ok(None) };
        histograms.next_message(3)
    }
}

/// The references of an entry.
#[derive(Clone, Debug)]
pub(crate) struct References<'a> {
    /// The rest of one packed field.
    packed: Reader<'a>,
    /// The fields after it.
    fields: Reader<'a>,
}

impl Default for References<'_> {
    fn default() -> Self {
        Self { packed: Reader { rest: &[] }, fields: Reader { rest: &[] } }
    }
}

impl<'a> References<'a> {
    /// The references in all fields of an entry.
    #[cold]
    fn all(message: &'a [u8]) -> Self {
        Self { packed: Reader { rest: &[] }, fields: Reader { rest: message } }
    }

    fn is_empty(&self) -> bool {
        self.packed.rest.is_empty() && self.fields.rest.is_empty()
    }

    /// The next reference, if there is one.
    ///
    /// # Errors
    /// The bytes are not references.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<u64>, Malformed> {
        while self.packed.rest.is_empty() {
            match self.fields.field()? {
                None => return Ok(None),
                Some((1, Value::Bytes(packed))) => self.packed.rest = packed,
                Some((1, Value::Varint(reference))) => return Ok(Some(reference)),
                Some(_) => {}
            }
        }
        self.packed.varint().map(Some)
    }
}
