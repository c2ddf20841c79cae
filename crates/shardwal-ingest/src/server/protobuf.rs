//! A zero-copy parser of the protobuf in a remote-write request.
//!
//! It allocates nothing per label or series. An entry is returned as the bytes of its labels, which
//! name the series in the server's cache, and its samples. Every length is checked against the
//! remaining bytes. This file knows the wire format and the field numbers of remote write 1.0, not
//! the server.

use std::borrow::Cow;
use std::fmt;

/// The bytes are not a `WriteRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The problem.
    pub(crate) what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the body is not a WriteRequest: {}", self.what)
    }
}

const fn malformed(what: &'static str) -> Malformed {
    Malformed { what }
}

/// The content of a field.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The rest of a message.
#[derive(Clone, Debug)]
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the next field, if there is one.
    #[inline]
    fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.chunk()?)),
            2 => {
                let length = usize::try_from(self.varint()?).ok();
                let split = length.and_then(|length| self.rest.split_at_checked(length));
                let (bytes, rest) =
                    split.ok_or(malformed("a length exceeds the remaining bytes"))?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => {
                self.chunk::<4>()?;
                Value::Fixed32
            }
            _ => return Err(malformed("a field has an unknown wire type")),
        };
        match tag >> 3 {
            0 => Err(malformed("a field has the number 0")),
            number => Ok(Some((number, value))),
        }
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(malformed("a number does not end"))
    }

    fn chunk<const BYTES: usize>(&mut self) -> Result<[u8; BYTES], Malformed> {
        let split = self.rest.split_first_chunk().ok_or(malformed("a field is cut off"))?;
        self.rest = split.1;
        Ok(*split.0)
    }
}

/// The entries of a `WriteRequest`, in order. Metadata is skipped.
#[derive(Debug)]
pub(crate) struct Entries<'a>(Reader<'a>);

impl<'a> Entries<'a> {
    /// Parses the entries in `message`.
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(Reader { rest: message })
    }

    /// Reads the next entry, if there is one.
    ///
    /// # Errors
    /// The bytes are not a `WriteRequest`.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        while let Some((number, value)) = self.0.field()? {
            match (number, value) {
                (1, Value::Bytes(bytes)) => return Entry::read(bytes).map(Some),
                (1, _) => return Err(malformed("a series is not a message")),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// One `TimeSeries` of a request.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// Its labels, undecoded: fields with their tags and lengths.
    pub(crate) labels: Cow<'a, [u8]>,
    /// From the first sample on.
    samples: Reader<'a>,
}

impl<'a> Entry<'a> {
    /// Finds the labels and the samples. Encoders put all labels first, but the format does not
    /// require it.
    #[inline]
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { rest: message };
        let mut first = None;
        let (mut start, mut end) = (0, 0);
        let mut scattered: Option<Vec<u8>> = None;
        loop {
            let before = reader.rest;
            let at = message.len() - before.len();
            let Some((number, value)) = reader.field()? else { break };
            let after = message.len() - reader.rest.len();
            match (number, value) {
                (1, Value::Bytes(_)) if start == end => (start, end) = (at, after),
                (1, Value::Bytes(_)) if at == end && scattered.is_none() => end = after,
                (1, Value::Bytes(_)) => scattered
                    .get_or_insert_with(|| message[start..end].to_vec())
                    .extend(&message[at..after]),
                (2, Value::Bytes(_)) => {
                    first.get_or_insert(before);
                }
                (1 | 2, _) => return Err(malformed("a label or a sample is not a message")),
                _ => {}
            }
        }
        let labels = scattered.map_or(Cow::Borrowed(&message[start..end]), Cow::Owned);
        Ok(Self { labels, samples: Reader { rest: first.unwrap_or_default() } })
    }

    /// Reads the next sample, if there is one: a timestamp in milliseconds and a value. Exemplars
    /// and native histograms are skipped.
    ///
    /// # Errors
    /// The bytes are not a sample.
    #[inline]
    pub(crate) fn next_sample(&mut self) -> Result<Option<(i64, f64)>, Malformed> {
        while let Some((number, value)) = self.samples.field()? {
            if let (2, Value::Bytes(bytes)) = (number, value) {
                return sample(bytes).map(Some);
            }
        }
        Ok(None)
    }
}

#[inline]
fn sample(bytes: &[u8]) -> Result<(i64, f64), Malformed> {
    let mut reader = Reader { rest: bytes };
    let (mut timestamp_ms, mut sampled) = (0, 0.0);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Value::Fixed64(bits)) => sampled = f64::from_bits(bits),
            (2, Value::Varint(bits)) => timestamp_ms = bits.cast_signed(),
            (1 | 2, _) => return Err(malformed("a sample's field has the wrong type")),
            _ => {}
        }
    }
    Ok((timestamp_ms, sampled))
}

/// Decodes the names and values of an entry's labels.
///
/// # Errors
/// The bytes are not labels, or a string is not UTF-8.
pub(crate) fn label_pairs(labels: &[u8]) -> Result<Vec<(&str, &str)>, Malformed> {
    let text = |value| match value {
        Value::Bytes(bytes) => str::from_utf8(bytes).map_err(|_| malformed("a label is not UTF-8")),
        _ => Err(malformed("a label's field has the wrong type")),
    };
    let mut pairs = Vec::new();
    let mut reader = Reader { rest: labels };
    while let Some((_, value)) = reader.field()? {
        let Value::Bytes(bytes) = value else { continue };
        let mut pair = ("", "");
        let mut label = Reader { rest: bytes };
        while let Some((number, value)) = label.field()? {
            match number {
                1 => pair.0 = text(value)?,
                2 => pair.1 = text(value)?,
                _ => {}
            }
        }
        pairs.push(pair);
    }
    Ok(pairs)
}
