//! `match[]`: a series selector in PromQL's syntax. This file does not know series.
//!
//! ```text
//! up{job="node",host=~"h1.*",mode!="idle"}
//! {"http.requests","service.name"="a"}
//! ```
//!
//! Names that are not plain are quoted, as in Prometheus 3. A string in double or single quotes has
//! Go's escapes, a string in backticks has none. A comment begins with `#`.

use shardwal_timeseries::{METRIC_NAME, Matcher};

use super::read_limits;

/// Parses the matchers of a selector. Each pattern has at most `pattern_bytes_max` bytes once it is
/// compiled.
///
/// # Errors
/// The text is not a selector, has too many matchers, or selects everything.
pub(crate) fn parse(selector: &str, pattern_bytes_max: usize) -> Result<Vec<Matcher>, String> {
    let mut parser =
        Parser { rest: selector, metric: None, matchers: Vec::new(), pattern_bytes_max };
    parser.skip_space();
    if let Some(metric) = parser.take_name(":") {
        parser.set_metric(metric.to_owned())?;
    }
    if parser.take("{") {
        while !parser.take("}") {
            parser.take_matcher()?;
            read_limits::check_matchers(parser.matchers.len())?;
            if !parser.take(",") && !parser.rest.starts_with('}') {
                return Err(format!("expected a comma or a brace before {:?}", parser.shown()));
            }
        }
    }
    match (parser.rest, parser.matchers.is_empty()) {
        ("", false) => Ok(parser.matchers),
        ("", true) => Err("a selector must not select everything".to_owned()),
        _ => Err(format!("unexpected {:?} after the selector", parser.shown())),
    }
}

/// Builds a matcher. `operator` is one of PromQL's, and a pattern is bounded as in [`parse`].
///
/// # Errors
/// The value is an invalid pattern, or too large.
pub(crate) fn matcher(
    operator: &str,
    name: String,
    value: String,
    pattern_bytes_max: usize,
) -> Result<Matcher, String> {
    let pattern = match operator {
        "=~" => Matcher::matches_within(name, &value, pattern_bytes_max),
        "!~" => Matcher::not_matches_within(name, &value, pattern_bytes_max),
        "!=" => return Ok(Matcher::not_equal(name, value)),
        _ => return Ok(Matcher::equal(name, value)),
    };
    pattern.map_err(|error| error.to_string())
}

struct Parser<'a> {
    /// The text that is not parsed yet. It begins with no space.
    rest: &'a str,
    /// The metric's name, if it was given outside of a matcher.
    metric: Option<String>,
    matchers: Vec<Matcher>,
    pattern_bytes_max: usize,
}

impl<'a> Parser<'a> {
    /// The rest, for an error.
    fn shown(&self) -> &'a str {
        let end = self.rest.char_indices().nth(40).map_or(self.rest.len(), |(at, _)| at);
        &self.rest[..end]
    }

    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
            if !self.rest.starts_with('#') {
                return;
            }
            self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
        }
    }

    fn take(&mut self, symbol: &str) -> bool {
        let after = self.rest.strip_prefix(symbol);
        self.rest = after.unwrap_or(self.rest);
        self.skip_space();
        after.is_some()
    }

    /// Takes a name that is not quoted. `more` are characters that it may contain too.
    fn take_name(&mut self, more: &str) -> Option<&'a str> {
        let starts = |c: char| c.is_ascii_alphabetic() || c == '_' || more.contains(c);
        let end = self.rest.find(|c: char| !starts(c) && !c.is_ascii_digit());
        let (name, after) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if !name.starts_with(starts) {
            return None;
        }
        self.rest = after;
        self.skip_space();
        Some(name)
    }

    fn set_metric(&mut self, metric: String) -> Result<(), String> {
        if let Some(before) = &self.metric {
            return Err(format!("the metric's name is both {before:?} and {metric:?}"));
        }
        self.matchers.push(Matcher::equal(METRIC_NAME, metric.as_str()));
        self.metric = Some(metric);
        Ok(())
    }

    /// Takes `name="value"`, or the quoted name of a metric.
    fn take_matcher(&mut self) -> Result<(), String> {
        let is_quoted = self.rest.starts_with(['"', '\'', '`']);
        let name = match self.take_name("") {
            Some(name) => name.to_owned(),
            None if is_quoted => self.take_string()?,
            None => return Err(format!("expected a label name before {:?}", self.shown())),
        };
        if is_quoted && self.rest.starts_with([',', '}']) {
            return self.set_metric(name);
        }
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|each| self.take(each));
        let operator =
            operator.ok_or_else(|| format!("expected an operator before {:?}", self.shown()))?;
        let value = self.take_string()?;
        self.matchers.push(matcher(operator, name, value, self.pattern_bytes_max)?);
        Ok(())
    }

    /// Takes a quoted string.
    fn take_string(&mut self) -> Result<String, String> {
        let shown = self.shown();
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let quote = quote.ok_or_else(|| format!("expected a quote before {shown:?}"))?;
        let mut text = Vec::new();
        let mut rest = &self.rest[1..];
        loop {
            let c = rest.chars().next().ok_or_else(|| format!("{shown:?} has no closing quote"))?;
            rest = &rest[c.len_utf8()..];
            match c {
                c if c == quote => break,
                '\n' if quote != '`' => return Err(format!("a newline in {shown:?}")),
                '\\' if quote != '`' => {
                    let escaped = unescape(&mut rest, quote, &mut text);
                    escaped.ok_or_else(|| format!("unknown escape in {shown:?}"))?;
                }
                c => text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        self.rest = rest;
        self.skip_space();
        String::from_utf8(text).map_err(|_| format!("{shown:?} is not UTF-8"))
    }
}

/// Takes what follows a backslash, as Go's `strconv.UnquoteChar` does.
fn unescape(rest: &mut &str, quote: char, text: &mut Vec<u8>) -> Option<()> {
    let kind = rest.chars().next()?;
    *rest = &rest[kind.len_utf8()..];
    let byte = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0C,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0B,
        '\\' => b'\\',
        '"' | '\'' if kind == quote => u8::try_from(quote).ok()?,
        'x' => u8::try_from(take_digits(rest, 2, 16)?).ok()?,
        '0'..='7' => {
            let high = kind.to_digit(8)?;
            u8::try_from(high << 6 | take_digits(rest, 2, 8)?).ok()?
        }
        'u' | 'U' => {
            let digits = if kind == 'u' { 4 } else { 8 };
            let c = char::from_u32(take_digits(rest, digits, 16)?)?;
            text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(());
        }
        _ => return None,
    };
    text.push(byte);
    Some(())
}

fn take_digits(rest: &mut &str, count: usize, radix: u32) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(count)?;
    *rest = after;
    digits.chars().try_fold(0_u32, |number, c| Some(number * radix + c.to_digit(radix)?))
}
