//! The messages of remote read. Bytes of requests are read without a copy, and responses are
//! appended to a vector. This file does not know the server.

use shardwal_timeseries::{Labels, Sample};

use crate::server::read_limits::{MATCHERS_MAX, SELECTORS_MAX};

use super::protobuf::{Malformed, Reader, Value, malformed};
use crate::server::varint::put_varint;

/// Maximum bytes that [`put_sample`] appends.
pub(super) const SAMPLE_BYTES_MAX: usize = 2 + 9 + 11;

/// Maximum bytes of the tag and the length before a message or a text.
pub(super) const HEAD_BYTES_MAX: usize = 11;

/// A `ReadRequest`.
#[derive(Debug, Default)]
pub(super) struct ReadRequest<'a> {
    pub(super) queries: Vec<Query<'a>>,
    /// The types of responses that the client takes, the preferred one first.
    pub(super) accepted: Vec<u64>,
}

/// What a query selects. Its hints are ignored.
#[derive(Debug, Default)]
pub(super) struct Query<'a> {
    /// Milliseconds, both included.
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) matchers: Vec<MatcherText<'a>>,
}

/// A matcher that is not compiled.
#[derive(Debug)]
pub(super) struct MatcherText<'a> {
    /// The operator, as PromQL writes it.
    pub(super) operator: &'static str,
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

impl<'a> ReadRequest<'a> {
    /// Parses a request. Reads at most one query, and one matcher each, more than a read may have.
    ///
    /// # Errors
    /// The bytes are not a request.
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut request = Self::default();
        let mut reader = Reader { rest: message };
        while let Some((number, value)) = reader.field()? {
            match (number, value) {
                // One too many is for the caller to refuse.
                (1, Value::Bytes(_)) if request.queries.len() > SELECTORS_MAX => {}
                (1, Value::Bytes(bytes)) => request.queries.push(Query::parse(bytes)?),
                (2, Value::Varint(kind)) => request.accept(kind),
                (2, Value::Bytes(packed)) => {
                    let mut packed = Reader { rest: packed };
                    while !packed.rest.is_empty() {
                        request.accept(packed.varint()?);
                    }
                }
                (1 | 2, _) => return Err(malformed("a field has the wrong type")),
                _ => {}
            }
        }
        Ok(request)
    }

    /// Adds a type of responses, unless the list has it.
    fn accept(&mut self, kind: u64) {
        // Others than the first few are unknown.
        if kind < 8 && !self.accepted.contains(&kind) {
            self.accepted.push(kind);
        }
    }
}

impl<'a> Query<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut query = Self::default();
        let mut reader = Reader { rest: message };
        while let Some((number, value)) = reader.field()? {
            match (number, value) {
                (1, Value::Varint(start)) => query.start = start.cast_signed(),
                (2, Value::Varint(end)) => query.end = end.cast_signed(),
                (3, Value::Bytes(_)) if query.matchers.len() > MATCHERS_MAX => {}
                (3, Value::Bytes(matcher)) => query.matchers.push(MatcherText::parse(matcher)?),
                (1..=3, _) => return Err(malformed("a query's field has the wrong type")),
                _ => {}
            }
        }
        Ok(query)
    }
}

impl<'a> MatcherText<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut matcher = Self { operator: "=", name: "", value: "" };
        let text = |bytes| str::from_utf8(bytes).map_err(|_| malformed("a matcher is not UTF-8"));
        let mut reader = Reader { rest: message };
        while let Some((number, value)) = reader.field()? {
            match (number, value) {
                (1, Value::Varint(kind)) => {
                    let operator = usize::try_from(kind).ok().and_then(|kind| OPERATORS.get(kind));
                    matcher.operator = operator.ok_or(malformed("a matcher has no known type"))?;
                }
                (2, Value::Bytes(name)) => matcher.name = text(name)?,
                (3, Value::Bytes(value)) => matcher.value = text(value)?,
                (1..=3, _) => return Err(malformed("a matcher's field has the wrong type")),
                _ => {}
            }
        }
        Ok(matcher)
    }

    /// Whether its value is a pattern.
    pub(super) fn is_pattern(&self) -> bool {
        self.operator.ends_with('~')
    }
}

/// The operators of matchers, by the number of their type.
const OPERATORS: [&str; 4] = ["=", "!=", "=~", "!~"];

/// Appends a field that is a message or a text. `field` is at most 15.
pub(super) fn put_bytes(message: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    message.push(field << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

/// Appends a field that is a number, unless it is 0. `field` is at most 15.
pub(super) fn put_number(message: &mut Vec<u8>, field: u8, number: i64) {
    if number != 0 {
        message.push(field << 3);
        put_varint(message, number.cast_unsigned());
    }
}

/// Maximum bytes that [`put_labels`] appends.
pub(super) fn labels_bytes_max(labels: &Labels) -> usize {
    let label = |(name, value): (&str, &str)| name.len() + value.len() + 3 * HEAD_BYTES_MAX;
    labels.iter().map(label).sum()
}

/// Appends labels: fields with the number 1.
pub(super) fn put_labels(message: &mut Vec<u8>, labels: &Labels) {
    let mut label = Vec::new();
    for (name, value) in labels {
        label.clear();
        put_bytes(&mut label, 1, name.as_bytes());
        put_bytes(&mut label, 2, value.as_bytes());
        put_bytes(message, 1, &label);
    }
}

/// Appends a sample: a field with the number 2.
pub(super) fn put_sample(message: &mut Vec<u8>, sample: Sample) {
    message.extend_from_slice(&[2 << 3 | 2, 0]);
    let begin = message.len();
    if sample.value.to_bits() != 0 {
        message.push(1 << 3 | 1);
        message.extend_from_slice(&sample.value.to_bits().to_le_bytes());
    }
    put_number(message, 2, sample.timestamp_ms);
    let length = message.len() - begin;
    // At most 20 bytes: the length takes one.
    message[begin - 1] = length.to_le_bytes()[0];
}
