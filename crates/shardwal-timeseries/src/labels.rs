//! Labels: the names and values that identify a series, in one reference-counted string, and the
//! hash that routes it. This file does not know samples or shards.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::labels_error::LabelsError;
use super::quote::quote;

/// Name of the label that holds the metric's name.
pub const METRIC_NAME: &str = "__name__";

/// Maximum number of labels per series.
pub const LABELS_MAX: usize = 64;

/// Maximum bytes of a series' labels in the canonical encoding: names and values, and one to three
/// length bytes before each.
pub const LABELS_BYTES_MAX: usize = 64 << 10;

/// A stable hash of a series' labels, which routes the series to its shard. It is part of the disk
/// format and never changes. It does not identify a series, because two series may share it.
///
/// A client that chooses labels can therefore choose the shard. That slows down the series of this
/// shard, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u64);

impl SeriesId {
    /// XXH64 with seed 0, fixed by the disk format. The router's fxhash is for finished 64-bit keys
    /// only. Over strings it reads words in the host's byte order. Its single multiplication per
    /// word lets differences of neighbouring words cancel.
    fn of(canonical: &str) -> Self {
        Self(twox_hash::XxHash64::oneshot(0, canonical.as_bytes()))
    }
}

impl fmt::Display for SeriesId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// The labels that identify a series. They are sorted by name (by bytes, as in Prometheus), each
/// name occurs once, and no value is empty. Cloning copies a reference.
///
/// [`Hash`] reads the whole text, not the [`SeriesId`]. A client can choose labels whose ids
/// collide, so a map is safe only if its hash has a random key, like the standard library's.
#[derive(Clone)]
pub struct Labels {
    /// The canonical encoding. Per label: length of the name, name, length of the value, value. A
    /// length has six bits per byte, lowest first, with 0x40 set on all but the last byte. Lengths
    /// are thus ASCII, and the whole is text.
    canonical: Arc<str>,
    id: SeriesId,
}

impl Labels {
    /// Builds labels from pairs of name and value, in any order. A pair with an empty value is left
    /// out, as in Prometheus.
    ///
    /// # Errors
    /// A name or metric name is invalid, a name occurs twice, or there are more than [`LABELS_MAX`]
    /// labels or [`LABELS_BYTES_MAX`] bytes.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LabelsError> {
        let mut kept: Vec<(N, V)> = Vec::new();
        for (name, value) in pairs {
            check_label(name.as_ref(), value.as_ref())?;
            if value.as_ref().is_empty() {
                continue;
            }
            if kept.len() == LABELS_MAX {
                return Err(LabelsError::TooMany);
            }
            kept.push((name, value));
        }
        kept.sort_unstable_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        if let Some(twice) = kept.windows(2).find(|two| two[0].0.as_ref() == two[1].0.as_ref()) {
            return Err(LabelsError::Duplicate { name: twice[0].0.as_ref().to_owned() });
        }
        let length_of = |text: &str| text.len() + 3;
        let bytes = kept.iter().map(|(n, v)| length_of(n.as_ref()) + length_of(v.as_ref())).sum();
        let mut canonical = String::with_capacity(bytes);
        for text in kept.iter().flat_map(|(name, value)| [name.as_ref(), value.as_ref()]) {
            push_text(&mut canonical, text);
        }
        if canonical.len() > LABELS_BYTES_MAX {
            return Err(LabelsError::TooLong { bytes: canonical.len() });
        }
        let id = SeriesId::of(&canonical);
        Ok(Self { canonical: canonical.into(), id })
    }

    /// The hash that routes this series.
    #[must_use]
    pub const fn id(&self) -> SeriesId {
        self.id
    }

    /// The value of the label `name`, if the series has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The metric's name: the value of the label [`METRIC_NAME`].
    #[must_use]
    pub fn metric_name(&self) -> Option<&str> {
        self.get(METRIC_NAME)
    }

    /// Iterates over names and values, sorted by name.
    #[must_use]
    pub fn iter(&self) -> LabelIter<'_> {
        LabelIter { rest: &self.canonical }
    }

    /// The canonical encoding, as in FORMAT.md. Two encodings are equal exactly if the labels are.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Parses a canonical encoding that this process made.
    pub(crate) fn from_canonical(canonical: &str) -> Self {
        Self { canonical: canonical.into(), id: SeriesId::of(canonical) }
    }

    /// Replaces the id, to simulate a collision.
    #[cfg(test)]
    pub(crate) fn with_id(mut self, id: SeriesId) -> Self {
        self.id = id;
        self
    }
}

fn check_label(name: &str, value: &str) -> Result<(), LabelsError> {
    if !is_name(name, false) {
        return Err(LabelsError::Name { name: name.to_owned() });
    }
    if name == METRIC_NAME && !value.is_empty() && !is_name(value, true) {
        return Err(LabelsError::MetricName { value: value.to_owned() });
    }
    Ok(())
}

fn is_name(text: &str, of_metric: bool) -> bool {
    let starts = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || of_metric && byte == b':';
    text.bytes().next().is_some_and(starts)
        && text.bytes().all(|byte| starts(byte) || byte.is_ascii_digit())
}

fn push_text(canonical: &mut String, text: &str) {
    let mut length = text.len();
    while length >= 64 {
        canonical.push(char::from(0x40 | (length & 0x3f).to_le_bytes()[0]));
        length >>= 6;
    }
    canonical.push(char::from(length.to_le_bytes()[0]));
    canonical.push_str(text);
}

impl Default for Labels {
    /// The empty label set.
    fn default() -> Self {
        Self { canonical: "".into(), id: SeriesId::of("") }
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        #[cfg(test)]
        COMPARISONS.set(COMPARISONS.get() + 1);
        self.id == other.id && self.canonical == other.canonical
    }
}

impl Eq for Labels {}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Not the id: it has no secret key, so a client can make ids collide.
        self.canonical.hash(state);
    }
}

#[cfg(test)]
std::thread_local! {
    /// Number of comparisons that this thread has made, for tests that bound it.
    pub(crate) static COMPARISONS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Compares names and values in turn, as Prometheus sorts series.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Prints `{__name__="up", host="a"}`, like Prometheus.
impl fmt::Display for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        formatter.write_str("{")?;
        for (name, value) in self {
            write!(formatter, "{before}{name}=")?;
            quote(value, formatter)?;
            before = ", ";
        }
        formatter.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelIter<'a>;

    fn into_iter(self) -> LabelIter<'a> {
        self.iter()
    }
}

/// Iterator over names and values, from [`Labels::iter`].
#[derive(Clone, Debug)]
pub struct LabelIter<'a> {
    rest: &'a str,
}

impl<'a> LabelIter<'a> {
    fn text(&mut self) -> Option<&'a str> {
        let mut length = 0;
        let mut start = 0;
        loop {
            let byte = *self.rest.as_bytes().get(start)?;
            length |= usize::from(byte & 0x3f) << (6 * start);
            start += 1;
            if byte & 0x40 == 0 {
                break;
            }
        }
        let (text, rest) = self.rest[start..].split_at(length);
        self.rest = rest;
        Some(text)
    }
}

impl<'a> Iterator for LabelIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.text()?, self.text()?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{LABELS_BYTES_MAX, LABELS_MAX, Labels, LabelsError, SeriesId};

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::new(pairs.iter().copied()).expect("valid labels")
    }

    /// FORMAT.md lists these values. They were computed in Python with another implementation of
    /// XXH64.
    #[test]
    fn the_hash_on_disk_never_changes() {
        let (x, y) = ("x".repeat(64), "y".repeat(5000));
        let cpu = [
            ("__name__", "node_cpu_seconds_total"),
            ("cpu", "0"),
            ("host", "h5"),
            ("instance", "127.0.0.1:19100"),
            ("job", "node5"),
            ("mode", "idle"),
        ];
        let table: [(&[(&str, &str)], u64); 6] = [
            (&[], 0xef46_db37_51d8_e999),
            (&[("__name__", "up")], 0xecd7_5f13_400a_bdf5),
            (&[("__name__", "up"), ("host", "a")], 0x6afa_1286_7790_ce80),
            (&cpu, 0x5e15_c040_5ead_824d),
            (&[("a", &x), ("b", "ä☺")], 0xe662_7a58_246f_da08),
            (&[("long", &y)], 0x10a3_ace2_555e_e7bf),
        ];
        for (pairs, id) in table {
            let labels = labels(pairs);
            assert_eq!(labels.id(), SeriesId(id), "{labels}");
            assert!(labels.iter().eq(pairs.iter().copied()));
        }
        assert_eq!(Labels::default(), labels(&[]));
    }

    #[test]
    fn labels_are_sorted_and_print_as_prometheus_prints_them() {
        let up = labels(&[("host", "a\"b\\\n"), ("__name__", "up"), ("zone", ""), ("Z", "ä")]);
        assert_eq!(up.to_string(), r#"{Z="ä", __name__="up", host="a\"b\\\n"}"#);
        assert_eq!(up.metric_name(), Some("up"));
        assert_eq!(up.get("zone"), None);
        assert_eq!(labels(&[]).to_string(), "{}");
        assert!(labels(&[("a", "1")]) < labels(&[("a", "1"), ("b", "1")]));
        assert!(labels(&[("a", "2")]) > labels(&[("a", "1"), ("b", "1")]));
    }

    #[test]
    fn labels_that_are_not_valid_are_refused_by_name() {
        let refused = |pairs: &[(&str, &str)]| Labels::new(pairs.iter().copied()).unwrap_err();
        for name in ["", "1a", "a-b", "a:b", "ä"] {
            let name = name.to_owned();
            assert_eq!(refused(&[("a", "b"), (&name, "x")]), LabelsError::Name { name });
        }
        for value in ["1a", "a b", "ä"] {
            let expected = LabelsError::MetricName { value: value.to_owned() };
            assert_eq!(refused(&[("__name__", value)]), expected);
        }
        assert_eq!(labels(&[("__name__", "a:b")]).metric_name(), Some("a:b"));
        let twice = [("a", "1"), ("b", "1"), ("a", "1")];
        assert_eq!(refused(&twice), LabelsError::Duplicate { name: "a".to_owned() });
        assert_eq!(labels(&[("a", ""), ("a", "1"), ("a", "")]).get("a"), Some("1"));
    }

    #[test]
    fn labels_have_limits() {
        let many = |count| Labels::new((0..count).map(|i| (format!("l{i}"), "v")));
        assert_eq!(many(LABELS_MAX).map(|labels| labels.iter().count()), Ok(LABELS_MAX));
        assert_eq!(many(LABELS_MAX + 1), Err(LabelsError::TooMany));
        // One byte precedes the name, three precede the value.
        let long = |bytes: usize| Labels::new([("a", "x".repeat(bytes - 5))]);
        assert!(long(LABELS_BYTES_MAX).is_ok());
        let bytes = LABELS_BYTES_MAX + 1;
        assert_eq!(long(bytes), Err(LabelsError::TooLong { bytes }));
    }

    #[test]
    fn series_whose_hashes_collide_stay_two() {
        let one = labels(&[("host", "a")]).with_id(SeriesId(7));
        let other = labels(&[("host", "b")]).with_id(SeriesId(7));
        assert_ne!(one, other);
        assert_eq!(HashSet::from([one.clone(), other, one]).len(), 2);
    }
}
