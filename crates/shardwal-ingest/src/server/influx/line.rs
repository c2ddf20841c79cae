//! A zero-copy parser of InfluxDB's line protocol.
//!
//! ```text
//! measurement[,tag=value..] field=value[,field=value..] [timestamp]
//! ```
//!
//! Quotes are special only in a field's value. A quoted string may even contain newlines. This file
//! finds the parts and parses numbers. It does not unescape, and does not know series.

use std::fmt;

/// Maximum bytes of a line that an error shows.
const SHOWN_BYTES_MAX: usize = 80;

/// A line that cannot be parsed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LineError {
    /// Line number, from 1.
    pub(crate) line: usize,
    /// The beginning of the line.
    begins: String,
    /// The problem.
    what: String,
}

impl fmt::Display for LineError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, begins, what } = self;
        write!(formatter, "unable to parse '{begins}': {what} (line {line})")
    }
}

/// Iterator over the points of a text, in order. It skips empty lines and lines that begin with
/// `#`.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    rest: &'a [u8],
    line: usize,
}

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Point<'a> {
    line: usize,
    text: &'a [u8],
    /// Measurement and tags, unescaped.
    pub(crate) head: &'a [u8],
    fields: &'a [u8],
    /// The timestamp, in the request's unit.
    pub(crate) timestamp: Option<i64>,
}

/// A field of a line.
#[derive(Debug, PartialEq)]
pub(crate) struct Field<'a> {
    /// Its name, unescaped.
    pub(crate) key: &'a [u8],
    /// Its value. `None` for a string.
    pub(crate) value: Option<f64>,
}

impl<'a> Lines<'a> {
    /// Parses the points in `text`.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { rest: text, line: 1 }
    }

    /// Takes the next line. It ends at a newline outside a string.
    fn take_line(&mut self) -> (usize, &'a [u8]) {
        let (line, rest) = self.rest.split_at(line_end(self.rest));
        self.rest = rest.get(1..).unwrap_or_default();
        let number = self.line;
        self.line += 1 + line.iter().filter(|byte| **byte == b'\n').count();
        (number, line.strip_suffix(b"\r").unwrap_or(line))
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Point<'a>, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            let (number, text) = self.take_line();
            let text = text.trim_ascii_start();
            if !text.is_empty() && text[0] != b'#' {
                return Some(point(text, number));
            }
        }
        None
    }
}

impl<'a> Point<'a> {
    /// The fields, in order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = Result<Field<'a>, &'static str>> + use<'a> {
        let mut rest = Some(self.fields);
        std::iter::from_fn(move || {
            let fields = rest?;
            let end = find_unquoted(fields, b',').unwrap_or(fields.len());
            rest = fields.get(end + 1..);
            Some(field(&fields[..end]))
        })
    }

    /// An error that names this line.
    pub(crate) fn error(&self, what: impl Into<String>) -> LineError {
        line_error(self.text, self.line, what)
    }
}

fn line_error(text: &[u8], line: usize, what: impl Into<String>) -> LineError {
    let shown = &text[..text.len().min(SHOWN_BYTES_MAX)];
    LineError { line, begins: String::from_utf8_lossy(shown).into_owned(), what: what.into() }
}

fn point(text: &[u8], line: usize) -> Result<Point<'_>, LineError> {
    let error = |what: &str| line_error(text, line, what);
    let head = find_unescaped(text, b' ').ok_or_else(|| error("missing fields"))?;
    if head == 0 || text[0] == b',' {
        return Err(error("missing measurement"));
    }
    let rest = text[head..].trim_ascii_start();
    let end = find_unquoted(rest, b' ').unwrap_or(rest.len());
    let (fields, after) = rest.split_at(end);
    if fields.is_empty() {
        return Err(error("missing fields"));
    }
    let after = after.trim_ascii();
    let timestamp = match after {
        b"" => None,
        _ => Some(
            str::from_utf8(after)
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| error("bad timestamp"))?,
        ),
    };
    Ok(Point { line, text, head: &text[..head], fields, timestamp })
}

fn field(text: &[u8]) -> Result<Field<'_>, &'static str> {
    let end = find_unescaped(text, b'=').ok_or("missing field value")?;
    let (key, value) = (&text[..end], &text[end + 1..]);
    if key.is_empty() {
        return Err("missing field key");
    }
    Ok(Field { key, value: number(value)? })
}

/// Parses a field's value. `None` for a string.
fn number(value: &[u8]) -> Result<Option<f64>, &'static str> {
    let text = str::from_utf8(value).map_err(|_| "invalid field value")?;
    let parsed = match (value.first(), value.last()) {
        (None, _) | (_, None) => return Err("missing field value"),
        (Some(b'"'), Some(b'"')) if value.len() > 1 => return Ok(None),
        (Some(b'"'), _) => return Err("unbalanced quotes"),
        (Some(b't' | b'T' | b'f' | b'F'), _) => boolean(text),
        (_, Some(b'i')) => text[..text.len() - 1].parse::<i64>().ok().map(|value| value as f64),
        (_, Some(b'u')) => text[..text.len() - 1].parse::<u64>().ok().map(|value| value as f64),
        // Rust parses `inf` and `nan` as numbers, InfluxDB does not.
        _ => text.parse::<f64>().ok().filter(|value| value.is_finite()),
    };
    parsed.map(Some).ok_or("invalid number")
}

fn boolean(text: &str) -> Option<f64> {
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => Some(0.0),
        _ => None,
    }
}

/// Index of the first `wanted` byte without a backslash before it.
fn find_unescaped(text: &[u8], wanted: u8) -> Option<usize> {
    let mut escaped = false;
    text.iter().position(|&byte| {
        let found = byte == wanted && !escaped;
        escaped = byte == b'\\' && !escaped;
        found
    })
}

/// Index of the first `wanted` byte of the fields that is neither escaped nor in a string.
fn find_unquoted(text: &[u8], wanted: u8) -> Option<usize> {
    scan_fields(text, wanted).0
}

/// Finds as [`find_unquoted`] does, and returns whether a string is still open where the search
/// ended. A string begins with a quote directly after a `=`.
fn scan_fields(text: &[u8], wanted: u8) -> (Option<usize>, bool) {
    let (mut escaped, mut quoted, mut before) = (false, false, 0);
    let found = text.iter().position(|&byte| {
        if byte == b'"' && !escaped && (quoted || before == b'=') {
            quoted = !quoted;
        }
        let found = byte == wanted && !escaped && !quoted;
        escaped = byte == b'\\' && !escaped;
        before = byte;
        found
    });
    (found, quoted)
}

/// Index of the end of the first line. An unterminated string ends at its own line. A text contains
/// at most one such string, so parsing stays linear.
fn line_end(text: &[u8]) -> usize {
    let plain = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
    let first = &text[..plain];
    if !first.contains(&b'"') || first.trim_ascii_start().starts_with(b"#") {
        return plain;
    }
    let Some(head) = find_unescaped(first, b' ') else { return plain };
    match scan_fields(&text[head..], b'\n') {
        (Some(end), _) => head + end,
        (None, true) => plain,
        (None, false) => text.len(),
    }
}
