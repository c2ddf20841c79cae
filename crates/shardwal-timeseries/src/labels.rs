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

/// Maximum number of labels per series. A reader of the disk format accepts no more.
pub const LABELS_MAX: usize = 1024;

/// Maximum bytes of a series' labels in the canonical encoding: names and values, and one to four
/// length bytes before each. A reader of the disk format accepts no more.
pub const LABELS_BYTES_MAX: usize = 1 << 20;

/// Limits on the labels of a series, for [`Labels::within`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelLimits {
    /// Maximum number of labels. More than [`LABELS_MAX`] are never accepted.
    pub labels_max: usize,
    /// Maximum bytes in the canonical encoding. More than [`LABELS_BYTES_MAX`] are never accepted.
    pub bytes_max: usize,
}

impl Default for LabelLimits {
    /// 64 labels of 64 KiB.
    fn default() -> Self {
        Self { labels_max: 64, bytes_max: 64 << 10 }
    }
}

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
    /// Builds labels from pairs of name and value, in any order. Names may be any text, as in
    /// Prometheus 3. A pair with an empty value is left out.
    ///
    /// # Errors
    /// A name is empty, a name occurs twice, or there are more than [`LABELS_MAX`] labels or
    /// [`LABELS_BYTES_MAX`] bytes.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, LabelsError> {
        let limits = LabelLimits { labels_max: LABELS_MAX, bytes_max: LABELS_BYTES_MAX };
        Self::within(pairs, limits)
    }

    /// Builds labels as [`Labels::new`] does, within narrower limits. Takes no more pairs than one
    /// beyond the limit.
    ///
    /// # Errors
    /// A name is empty, a name occurs twice, or the labels exceed a limit.
    pub fn within<N: AsRef<str>, V: AsRef<str>>(
        pairs: impl IntoIterator<Item = (N, V)>,
        limits: LabelLimits,
    ) -> Result<Self, LabelsError> {
        let (labels_max, bytes_max) =
            (limits.labels_max.min(LABELS_MAX), limits.bytes_max.min(LABELS_BYTES_MAX));
        let mut kept: Vec<(N, V)> = Vec::new();
        for (name, value) in pairs {
            if value.as_ref().is_empty() {
                continue;
            }
            if name.as_ref().is_empty() {
                return Err(LabelsError::EmptyName);
            }
            if kept.len() == labels_max {
                return Err(LabelsError::TooMany { max: labels_max });
            }
            kept.push((name, value));
        }
        let pairs = || kept.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        let bytes = Self::canonical_bytes(pairs());
        if bytes > bytes_max {
            return Err(LabelsError::TooLong { bytes, max: bytes_max });
        }
        kept.sort_unstable_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        if let Some(twice) = kept.windows(2).find(|two| two[0].0.as_ref() == two[1].0.as_ref()) {
            return Err(LabelsError::Duplicate { name: twice[0].0.as_ref().to_owned() });
        }
        let pairs = kept.iter().map(|(name, value)| (name.as_ref(), value.as_ref()));
        Ok(Self::of_sorted(pairs))
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

    /// Labels from pairs that are already sorted and valid, such as those of other labels.
    pub(crate) fn of_sorted<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Self {
        let mut canonical = String::with_capacity(Self::canonical_bytes(pairs.clone()));
        for text in pairs.flat_map(|(name, value)| [name, value]) {
            push_text(&mut canonical, text);
        }
        let id = SeriesId::of(&canonical);
        Self { canonical: canonical.into(), id }
    }

    /// Bytes of the canonical encoding of pairs.
    pub(crate) fn canonical_bytes<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
        let texts = pairs.flat_map(|(name, value)| [name, value]);
        texts.map(|text| length_bytes(text.len()) + text.len()).sum()
    }

    /// Replaces the id, to simulate a collision.
    #[cfg(test)]
    pub(crate) fn with_id(mut self, id: SeriesId) -> Self {
        self.id = id;
        self
    }
}

/// Whether a name can be printed without quotes: `[a-zA-Z_][a-zA-Z0-9_]*`.
fn is_plain_name(text: &str) -> bool {
    let starts = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.bytes().next().is_some_and(starts)
        && text.bytes().all(|byte| starts(byte) || byte.is_ascii_digit())
}

/// Number of bytes that encode a length: six bits each.
fn length_bytes(length: usize) -> usize {
    (length.max(1).ilog2() / 6 + 1) as usize
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

/// Prints `{__name__="up", host="a", "service.name"="b"}`, like Prometheus 3: a name that is not
/// `[a-zA-Z_][a-zA-Z0-9_]*` is quoted.
impl fmt::Display for Labels {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        formatter.write_str("{")?;
        for (name, value) in self {
            formatter.write_str(before)?;
            if is_plain_name(name) {
                formatter.write_str(name)?;
            } else {
                quote(name, formatter)?;
            }
            formatter.write_str("=")?;
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

    use super::{LABELS_BYTES_MAX, LABELS_MAX, LabelLimits, Labels, LabelsError, SeriesId};

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
    fn any_text_is_a_name_and_is_quoted_as_prometheus_quotes_it() {
        let pairs = [
            ("__name__", "http.requests"),
            ("service.name", "a"),
            ("größe", "b"),
            ("1a", "c"),
            ("a:b", "d"),
            ("q\"\n", "e"),
        ];
        let found = labels(&pairs);
        let expected = [
            r#"{"1a"="c", __name__="http.requests", "a:b"="d", "größe"="b", "q\"\n"="e","#,
            r#" "service.name"="a"}"#,
        ];
        assert_eq!(found.to_string(), expected.concat());
        assert_eq!(found.metric_name(), Some("http.requests"));
        assert_eq!(Labels::from_canonical(found.canonical()), found);
        let apart = ["f.a", "f-a", "f a", "f_a", "größe", "grüße"];
        let apart = apart.map(|name| labels(&[("__name__", name)]));
        assert_eq!(HashSet::from(apart).len(), 6, "no two names become one");
    }

    #[test]
    fn labels_that_are_not_valid_are_refused_by_name() {
        let refused = |pairs: &[(&str, &str)]| Labels::new(pairs.iter().copied()).unwrap_err();
        assert_eq!(refused(&[("a", "b"), ("", "x")]), LabelsError::EmptyName);
        assert_eq!(labels(&[("a", "b"), ("", "")]), labels(&[("a", "b")]), "there is no label");
        let twice = [("a", "1"), ("b", "1"), ("a", "1")];
        assert_eq!(refused(&twice), LabelsError::Duplicate { name: "a".to_owned() });
        assert_eq!(labels(&[("a", ""), ("a", "1"), ("a", "")]).get("a"), Some("1"));
    }

    #[test]
    fn labels_have_limits() {
        let many = |count| Labels::new((0..count).map(|i| (format!("l{i}"), "v")));
        assert_eq!(many(LABELS_MAX).map(|labels| labels.iter().count()), Ok(LABELS_MAX));
        assert_eq!(many(LABELS_MAX + 1), Err(LabelsError::TooMany { max: LABELS_MAX }));
        // One byte precedes the name, four precede the value.
        let long = |bytes: usize| Labels::new([("a", "x".repeat(bytes - 6))]);
        assert!(long(LABELS_BYTES_MAX).is_ok());
        let (bytes, max) = (LABELS_BYTES_MAX + 1, LABELS_BYTES_MAX);
        assert_eq!(long(bytes), Err(LabelsError::TooLong { bytes, max }));
        let narrow = LabelLimits { labels_max: 2, bytes_max: 8 };
        assert!(Labels::within([("a", "b"), ("c", "d")], narrow).is_ok());
        let wide = LabelLimits { labels_max: usize::MAX, bytes_max: usize::MAX };
        let many = (0..=LABELS_MAX).map(|i| (format!("l{i}"), "v"));
        assert_eq!(Labels::within(many, wide), Err(LabelsError::TooMany { max: LABELS_MAX }));
        let within = |pairs: &[(&str, &str)]| Labels::within(pairs.iter().copied(), narrow);
        let three = [("a", "b"), ("c", "d"), ("e", "f")];
        assert_eq!(within(&three), Err(LabelsError::TooMany { max: 2 }));
        let long = [("a", "b"), ("c", "de")];
        assert_eq!(within(&long), Err(LabelsError::TooLong { bytes: 9, max: 8 }));
    }

    #[test]
    fn series_whose_hashes_collide_stay_two() {
        let one = labels(&[("host", "a")]).with_id(SeriesId(7));
        let other = labels(&[("host", "b")]).with_id(SeriesId(7));
        assert_ne!(one, other);
        assert_eq!(HashSet::from([one.clone(), other, one]).len(), 2);
    }
}
