//! The messages of remote write 1.0, read without a copy.
//!
//! Nothing is allocated per label or series. An entry is returned as the bytes of its labels, which
//! name the series in the server's cache, and its samples. This file does not know the server.

use std::borrow::Cow;

use super::protobuf::{Malformed, Reader, Value, malformed};
use super::sample::read_sample;

/// The entries of a `WriteRequest`, in order.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    reader: Reader<'a>,
    /// Number of metadata so far, which are skipped.
    pub(crate) metadata: u64,
    /// Number of other fields so far, which are skipped.
    pub(crate) unknown: u64,
}

impl<'a> Entries<'a> {
    /// Parses the entries in `message`.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { reader: Reader { rest: message }, metadata: 0, unknown: 0 }
    }

    /// Reads the next entry, if there is one.
    ///
    /// # Errors
    /// The bytes are not a `WriteRequest`.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        while let Some((number, value)) = self.reader.field()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => return Entry::read(bytes).map(Some),
                (1, _) => return Err(malformed("a series is not a message")),
                (3, _) => self.metadata += 1,
                _ => self.unknown += 1,
            }
        }
        Ok(None)
    }
}

/// One `TimeSeries` of a request.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// Its labels, undecoded: fields with their tags and lengths. Other fields are among them if
    /// the labels are scattered.
    labels: &'a [u8],
    /// Bytes of all labels, if other fields are between them.
    scattered: Option<usize>,
    /// From the first sample on.
    samples: Reader<'a>,
    /// From the first native histogram on.
    histograms: Reader<'a>,
    /// Number of exemplars, which are skipped.
    pub(crate) exemplars: u64,
    /// Number of other fields, which are skipped.
    pub(crate) unknown: u64,
}

impl<'a> Entry<'a> {
    /// Finds the labels and the samples. Encoders put all labels first, but the format does not
    /// require it.
    #[inline]
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { rest: message };
        let (mut first, mut first_histogram) = (None, None);
        let (mut start, mut end, mut bytes) = (0, 0, 0);
        let (mut exemplars, mut unknown) = (0, 0);
        loop {
            let before = reader.rest;
            let at = message.len() - before.len();
            let Some((number, value)) = reader.field()? else { break };
            let after = message.len() - reader.rest.len();
            match (number, value) {
                (1, Value::Bytes(_)) => {
                    start = if bytes == 0 { at } else { start };
                    end = after;
                    bytes += after - at;
                }
                (2, Value::Bytes(_)) => {
                    first.get_or_insert(before);
                }
                (4, Value::Bytes(_)) => {
                    first_histogram.get_or_insert(before);
                }
                (1 | 2 | 4, _) => return Err(malformed("a label or a sample is not a message")),
                (3, _) => exemplars += 1,
                _ => unknown += 1,
            }
        }
        let (labels, scattered) = (&message[start..end], (bytes < end - start).then_some(bytes));
        let [samples, histograms] =
            [first, first_histogram].map(|first| Reader { rest: first.unwrap_or_default() });
        Ok(Self { labels, scattered, samples, histograms, exemplars, unknown })
    }

    /// Bytes that [`Entry::labels`] allocates.
    pub(crate) fn scattered_bytes(&self) -> usize {
        self.scattered.unwrap_or(0)
    }

    /// Its labels, undecoded: fields with their tags and lengths.
    #[inline]
    pub(crate) fn labels(&self) -> Cow<'a, [u8]> {
        let Some(bytes) = self.scattered else { return self.labels.into() };
        let mut labels = Vec::with_capacity(bytes);
        let mut reader = Reader { rest: self.labels };
        loop {
            let before = reader.rest;
            // The fields were read once before.
            let Ok(Some((number, _))) = reader.field() else { return labels.into() };
            if number == 1 {
                labels.extend_from_slice(&before[..before.len() - reader.rest.len()]);
            }
        }
    }

    /// Reads the next sample, if there is one: a timestamp in milliseconds and a value. Exemplars
    /// are skipped.
    ///
    /// # Errors
    /// The bytes are not a sample.
    #[inline]
    pub(crate) fn next_sample(&mut self) -> Result<Option<(i64, f64)>, Malformed> {
        let sample = self.samples.next_message(2)?;
        let Some(bytes) = sample else { return Ok(None) };
        let read = read_sample(bytes, |_, _| {
            self.unknown += 1;
            Ok(())
        });
        read.map(Some)
    }

    /// The bytes of the next native histogram, if there is one.
    ///
    /// # Errors
    /// The bytes are not fields.
    #[inline]
    pub(crate) fn next_histogram(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        self.histograms.next_message(4)
    }
}

/// Iterator over the names and values of an entry's labels. An error means that the bytes are not
/// labels, or that a string is not UTF-8.
#[derive(Debug)]
pub(crate) struct LabelPairs<'a>(Reader<'a>);

impl<'a> LabelPairs<'a> {
    /// Decodes what [`Entry::labels`] returned.
    pub(crate) fn new(labels: &'a [u8]) -> Self {
        Self(Reader { rest: labels })
    }
}

impl<'a> Iterator for LabelPairs<'a> {
    type Item = Result<(&'a str, &'a str), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.field() {
            Ok(None) => None,
            Ok(Some((_, Value::Bytes(label)))) => Some(pair(label)),
            Ok(Some(_)) => Some(Err(malformed("a label is not a message"))),
            Err(error) => Some(Err(error)),
        }
    }
}

fn pair(label: &[u8]) -> Result<(&str, &str), Malformed> {
    let text = |value| match value {
        Value::Bytes(bytes) => str::from_utf8(bytes).map_err(|_| malformed("a label is not UTF-8")),
        _ => Err(malformed("a label's field has the wrong type")),
    };
    let mut pair = ("", "");
    let mut reader = Reader { rest: label };
    while let Some((number, value)) = reader.field()? {
        match number {
            1 => pair.0 = text(value)?,
            2 => pair.1 = text(value)?,
            _ => {}
        }
    }
    Ok(pair)
}
