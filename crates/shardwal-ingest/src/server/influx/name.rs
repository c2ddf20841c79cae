//! The names of InfluxDB series: measurement, tags and field as Prometheus labels. This file does
//! not know values, and trusts the scanner for the structure of a head.

use std::borrow::Cow;

use shardwal_timeseries::{LABELS_BYTES_MAX, LABELS_MAX, METRIC_NAME};

/// Maximum bytes of a head, with its escapes, and of a field's key. No valid labels are longer,
/// even if each of their bytes is escaped.
pub(crate) const NAME_BYTES_MAX: usize = 4 * LABELS_BYTES_MAX;

/// Maximum number of tags that are kept. More cannot be valid.
const TAGS_MAX: usize = LABELS_MAX + 1;

/// The label that holds a measurement with a `_`. No tag may have this name.
const MEASUREMENT: &str = "_measurement";

/// Characters that a backslash escapes in a tag and in a field's key.
const ESCAPES: &str = ",= ";

/// Measurement and tags of a line, unescaped once for all of its fields.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) measurement: Cow<'a, str>,
    /// Tags that have a value, at most [`TAGS_MAX`].
    pub(crate) tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Head<'a> {
    /// Unescapes a head. A tag with an empty value is left out.
    ///
    /// # Errors
    /// The head is too long or not UTF-8, or has a reserved tag.
    pub(crate) fn new(head: &'a [u8]) -> Result<Self, &'static str> {
        let (measurement, mut rest) = split_unescaped(text(head)?, b',');
        let measurement = unescape(measurement, ", ");
        let mut tags = Vec::new();
        while let Some(from) = rest.filter(|_| tags.len() < TAGS_MAX) {
            let (tag, after) = split_unescaped(from, b',');
            rest = after;
            let (key, value) = split_unescaped(tag, b'=');
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                let key = unescape(key, ESCAPES);
                if key == MEASUREMENT {
                    return Err("the tag `_measurement` is reserved");
                }
                tags.push((key, unescape(value, ESCAPES)));
            }
        }
        Ok(Self { measurement, tags })
    }

    /// The labels of a field. `__name__` is `measurement_field`, the other labels are the tags.
    ///
    /// `p_q` with the field `r` and `p` with the field `q_r` have the same name. A measurement that
    /// contains `_` is therefore a label too, [`MEASUREMENT`]. Without this label, the measurement
    /// ends at the first `_` of the name.
    ///
    /// # Errors
    /// The key is too long, or not UTF-8.
    pub(crate) fn labels(
        &self,
        field: &[u8],
    ) -> Result<impl Iterator<Item = (&str, Cow<'_, str>)>, &'static str> {
        let field = unescape(text(field)?, ESCAPES);
        let metric = format!("{}_{field}", self.measurement);
        let measurement: &str = &self.measurement;
        let measurement = measurement.contains('_').then_some((MEASUREMENT, measurement.into()));
        let tags = self.tags.iter().map(|(key, value)| {
            let (key, value): (&str, &str) = (key, value);
            (key, value.into())
        });
        Ok(std::iter::once((METRIC_NAME, metric.into())).chain(measurement).chain(tags))
    }
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    if bytes.len() > NAME_BYTES_MAX {
        return Err("the names are too long");
    }
    str::from_utf8(bytes).map_err(|_| "a name is not UTF-8")
}

/// Splits at the first separator that is not escaped.
fn split_unescaped(text: &str, separator: u8) -> (&str, Option<&str>) {
    let bytes = text.as_bytes();
    let is_special = |byte: &u8| ESCAPES.as_bytes().contains(byte);
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            byte if byte == separator => return (&text[..at], Some(&text[at + 1..])),
            b'\\' if bytes.get(at + 1).is_some_and(is_special) => at += 2,
            _ => at += 1,
        }
    }
    (text, None)
}

/// Removes escapes. A backslash before any other character is literal.
fn unescape<'a>(text: &'a str, escapes: &str) -> Cow<'a, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut meant = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let escaped = rest.next_if(|next| c == '\\' && escapes.contains(*next));
        meant.push(escaped.unwrap_or(c));
    }
    meant.into()
}
