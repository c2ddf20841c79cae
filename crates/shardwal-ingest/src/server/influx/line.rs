//! A zero-copy scanner of InfluxDB's line protocol.
//!
//! ```text
//! measurement[,tag=value..] field=value[,field=value..] [timestamp]
//! ```
//!
//! One scanner decides where a line begins, what its parts are, and where it ends. It reads a line
//! once, from left to right: the head, then field by field, then the timestamp.
//!
//! | part | escapes |
//! |---|---|
//! | measurement | `\,` `\ ` |
//! | tag key, tag value, field key | `\,` `\=` `\ ` |
//! | string, which may contain newlines | `\"` `\\` |
//!
//! A backslash before any other character is literal. Quotes are special only at the begin of a
//! field's value. A newline in a string belongs to the line only if the whole line is valid: an
//! invalid line ends at its first newline. A quote that is not closed therefore hides no other
//! line. This file finds the parts and parses numbers. It does not unescape, and does not know
//! series.
//!
//! The scanner is linear. Only an invalid line with a string over several lines is read twice. Two
//! such lines do not overlap: within a string of the one, the other is outside, and ends at the
//! next newline.

use std::borrow::Cow;
use std::fmt;

/// Maximum bytes of a line that an error shows.
const SHOWN_BYTES_MAX: usize = 80;

/// A line that cannot be parsed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LineError<'a> {
    /// Line number, from 1.
    pub(crate) line: usize,
    /// The beginning of the line.
    pub(crate) begins: &'a [u8],
    /// The problem.
    pub(crate) what: Cow<'static, str>,
}

impl fmt::Display for LineError<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, begins, what } = self;
        let begins = String::from_utf8_lossy(begins);
        write!(formatter, "unable to parse '{begins}': {what} (line {line})")
    }
}

/// A text of lines. Empty lines and lines that begin with `#` are skipped.
///
/// The calls for each line are [`Lines::next`], [`Lines::field`] until it returns `None`, then
/// [`Lines::timestamp`]. After an error, only `next` follows.
#[derive(Debug)]
pub(crate) struct Lines<'a> {
    text: &'a [u8],
    /// Offset of the next byte to scan.
    at: usize,
    /// Number of the line that begins next, from 1.
    number: usize,
    /// Whether the current line has another field.
    has_field: bool,
    /// Offset behind the first newline in a string of the current line.
    first_newline: Option<usize>,
    /// Number of newlines in strings of the current line.
    newlines: usize,
    /// Number of bytes scanned, for tests that bound it.
    #[cfg(test)]
    pub(crate) scanned: usize,
}

/// A line of which the head is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    number: usize,
    start: usize,
    /// The line, and what follows it.
    text: &'a [u8],
    /// Measurement and tags, with escapes. Each tag has a key and one unescaped `=`.
    pub(crate) head: &'a [u8],
}

/// A field of a line.
#[derive(Debug, PartialEq)]
pub(crate) struct Field<'a> {
    /// Its name, with escapes.
    pub(crate) key: &'a [u8],
    /// Its value.
    pub(crate) value: Value,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    /// A float, an integer or a boolean.
    Number(f64),
    /// A text in quotes.
    String,
    /// A time, as QuestDB's clients send it: an integer with the suffix `t`.
    Timestamp,
}

impl<'a> Line<'a> {
    /// An error that names this line.
    pub(crate) fn error(&self, what: impl Into<Cow<'static, str>>) -> LineError<'a> {
        let shown = &self.text[..self.text.len().min(SHOWN_BYTES_MAX)];
        let begins = shown.split(|byte| *byte == b'\n').next().unwrap_or_default();
        LineError { line: self.number, begins, what: what.into() }
    }
}

impl<'a> Lines<'a> {
    /// Prepares to scan `text`. Skips a byte order mark.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self {
            text: text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text),
            at: 0,
            number: 1,
            has_field: false,
            first_newline: None,
            newlines: 0,
            #[cfg(test)]
            scanned: 0,
        }
    }

    /// Scans the head of the next line. Returns `None` at the end of the text.
    pub(crate) fn next(&mut self) -> Option<Result<Line<'a>, LineError<'a>>> {
        self.skip_blank_lines();
        let (start, text) = (self.at, &self.text[self.at..]);
        if text.is_empty() {
            return None;
        }
        (self.first_newline, self.newlines) = (None, 0);
        let scanned = self.scan_head();
        let line = Line { number: self.number, start, text, head: &self.text[start..self.at] };
        Some(match scanned.and_then(|()| self.begin_fields()) {
            Ok(()) => Ok(line),
            Err(what) => Err(self.fail(&line, what)),
        })
    }

    /// Scans the next field of the line. Returns `None` behind the last.
    ///
    /// # Errors
    /// The line is invalid.
    #[inline]
    pub(crate) fn field(&mut self, line: &Line<'a>) -> Result<Option<Field<'a>>, LineError<'a>> {
        if !self.has_field {
            return Ok(None);
        }
        self.scan_field().map(Some).map_err(|what| self.fail(line, what))
    }

    /// Scans the timestamp, in the request's unit, and ends the line.
    ///
    /// # Errors
    /// It is not a number.
    pub(crate) fn timestamp(&mut self, line: &Line<'a>) -> Result<Option<i64>, LineError<'a>> {
        let end = self.line_end();
        let digits = self.text[self.at..end].trim_ascii();
        let mut timestamp = None;
        if !digits.is_empty() {
            timestamp = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            if timestamp.is_none() {
                return Err(self.fail(line, "bad timestamp"));
            }
        }
        self.end_line(line, end + 1, self.newlines);
        Ok(timestamp)
    }

    /// Scans the rest of the line, and ends it. For a caller that found an error of its own.
    pub(crate) fn skip(&mut self, line: &Line<'a>) {
        loop {
            match self.field(line) {
                Ok(Some(_)) => {}
                Ok(None) => return drop(self.timestamp(line)),
                Err(_) => return,
            }
        }
    }

    /// Ends an invalid line: at its first newline, even if a string contains it.
    fn fail(&mut self, line: &Line<'a>, what: &'static str) -> LineError<'a> {
        let next = self.first_newline.unwrap_or_else(|| self.line_end() + 1);
        self.end_line(line, next, 0);
        line.error(what)
    }

    fn end_line(&mut self, line: &Line<'a>, next: usize, newlines: usize) {
        #[cfg(test)]
        {
            self.scanned += self.at.max(next) - line.start;
        }
        debug_assert!(next > line.start, "each line takes at least a byte");
        self.at = next.min(self.text.len());
        self.number = line.number + newlines + 1;
    }

    /// Offset of the next newline, or of the end.
    fn line_end(&self) -> usize {
        let rest = &self.text[self.at..];
        rest.iter().position(|byte| *byte == b'\n').map_or(self.text.len(), |end| self.at + end)
    }

    fn skip_blank_lines(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => self.number += 1,
                b'#' => {
                    self.at = self.line_end();
                    continue;
                }
                byte if byte.is_ascii_whitespace() => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    /// Scans measurement and tags, up to the space behind them.
    fn scan_head(&mut self) -> Result<(), &'static str> {
        let start = self.at;
        self.skip_until(b",", b", ");
        if self.at == start {
            return Err("missing measurement");
        }
        while self.peek() == Some(b',') {
            self.at += 1;
            let start = self.at;
            self.skip_until(b",=", b",= ");
            match self.peek() {
                Some(b'=') if self.at > start => self.at += 1,
                Some(b'=') => return Err("missing tag key"),
                _ => return Err("missing tag value"),
            }
            self.skip_until(b",=", b",= ");
            if self.peek() == Some(b'=') {
                return Err("a tag has two unescaped `=`");
            }
        }
        match self.peek() {
            Some(b' ') => Ok(()),
            _ => Err("missing fields"),
        }
    }

    /// Skips the space between the head and the fields.
    fn begin_fields(&mut self) -> Result<(), &'static str> {
        let is_space = |byte: &u8| byte.is_ascii_whitespace() && *byte != b'\n';
        while self.peek().as_ref().is_some_and(is_space) {
            self.at += 1;
        }
        self.has_field = true;
        match self.peek() {
            None | Some(b'\n') => Err("missing fields"),
            Some(_) => Ok(()),
        }
    }

    fn scan_field(&mut self) -> Result<Field<'a>, &'static str> {
        let start = self.at;
        self.skip_until(b"=,", b",= ");
        let key = &self.text[start..self.at];
        if self.peek() != Some(b'=') {
            return Err("missing field value");
        }
        if key.is_empty() {
            return Err("missing field key");
        }
        self.at += 1;
        let value = match self.peek() {
            Some(b'"') => self.skip_string().map(|()| Value::String),
            _ => self.scan_number(),
        };
        self.has_field = self.peek() == Some(b',');
        self.at += usize::from(self.has_field);
        Ok(Field { key, value: value? })
    }

    /// Skips a string. A separator or the end of the line must follow it.
    fn skip_string(&mut self) -> Result<(), &'static str> {
        self.at += 1;
        loop {
            let byte = self.peek().ok_or("unbalanced quotes")?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' if matches!(self.peek(), Some(b'"' | b'\\')) => self.at += 1,
                b'\n' => {
                    self.first_newline.get_or_insert(self.at);
                    self.newlines += 1;
                }
                _ => {}
            }
        }
        match &self.text[self.at..] {
            [] | [b',' | b' ' | b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..] => Ok(()),
            _ => Err("unbalanced quotes"),
        }
    }

    fn scan_number(&mut self) -> Result<Value, &'static str> {
        let start = self.at;
        while self.peek().is_some_and(|byte| !matches!(byte, b',' | b' ' | b'\n')) {
            self.at += 1;
        }
        let value = &self.text[start..self.at];
        let at_end = matches!(self.peek(), None | Some(b'\n'));
        number(if at_end { value.strip_suffix(b"\r").unwrap_or(value) } else { value })
    }

    /// Skips to a separator, a space, a newline or the end. A backslash before one of `escapes` is
    /// an escape, and before anything else it is literal.
    #[inline]
    fn skip_until(&mut self, separators: &[u8], escapes: &[u8]) {
        while let Some(byte) = self.peek() {
            if byte == b' ' || byte == b'\n' || separators.contains(&byte) {
                return;
            }
            self.at += 1;
            let escaped = byte == b'\\' && self.peek().is_some_and(|next| escapes.contains(&next));
            self.at += usize::from(escaped);
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

/// Parses a field's value that is not a string.
fn number(value: &[u8]) -> Result<Value, &'static str> {
    let text = str::from_utf8(value).map_err(|_| "invalid field value")?;
    let parsed = match (value.first(), value.last()) {
        (None, _) | (_, None) => return Err("missing field value"),
        (Some(b't' | b'T' | b'f' | b'F'), _) => boolean(text),
        (_, Some(b't')) => {
            let time = text[..text.len() - 1].parse::<i64>();
            return time.map(|_| Value::Timestamp).map_err(|_| "invalid number");
        }
        (_, Some(b'i')) => text[..text.len() - 1].parse::<i64>().ok().map(|value| value as f64),
        (_, Some(b'u')) => text[..text.len() - 1].parse::<u64>().ok().map(|value| value as f64),
        // Rust parses `inf` and `nan` as numbers, InfluxDB does not.
        _ => text.parse::<f64>().ok().filter(|value| value.is_finite()),
    };
    parsed.map(Value::Number).ok_or("invalid number")
}

fn boolean(text: &str) -> Option<f64> {
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => Some(0.0),
        _ => None,
    }
}
