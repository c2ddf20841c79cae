//! Line protocol a second time, as its specification reads: slow, simple, and without a state that
//! survives a line. The property tests compare the server's scanner with it.

/// A point, unescaped.
#[derive(Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) measurement: Vec<u8>,
    /// Tags that have a value.
    pub(crate) tags: Vec<(Vec<u8>, Vec<u8>)>,
    /// Fields that are numbers. The key keeps its escapes.
    pub(crate) fields: Vec<(Vec<u8>, f64)>,
    pub(crate) timestamp: Option<i64>,
}

/// Each line: its number, and its point if it is valid.
pub(crate) fn points(text: &[u8]) -> Vec<(usize, Option<Point>)> {
    let mut found = Vec::new();
    let mut start = if text.starts_with(b"\xEF\xBB\xBF") { 3 } else { 0 };
    let begin = start;
    while start < text.len() {
        let newline = text[start..].iter().position(|byte| *byte == b'\n');
        let line = &text[start..newline.map_or(text.len(), |at| start + at)];
        let trimmed = line.trim_ascii_start();
        let mut length = line.len() + 1;
        if !trimmed.is_empty() && trimmed[0] != b'#' {
            let number = 1 + text[begin..start].iter().filter(|byte| **byte == b'\n').count();
            let rest = text[start..].trim_ascii_start();
            let point = point(rest);
            if let Some((_, left)) = &point {
                length = text.len() - start - left.len();
            }
            found.push((number, point.map(|(point, _)| point)));
        }
        start += length;
    }
    found
}

/// The point at the begin of the text, and what follows its line. `None` if the line is invalid.
fn point(text: &[u8]) -> Option<(Point, &[u8])> {
    let (measurement, mut rest) = name(text, b", ", b", ")?;
    let mut tags = Vec::new();
    while let Some(after) = rest.strip_prefix(b",") {
        let (key, after) = name(after, b",= ", b",= ")?;
        let (value, after) = optional_name(after.strip_prefix(b"=")?, b",= ", b",= ")?;
        if !value.is_empty() {
            tags.push((key, value));
        }
        rest = after;
    }
    rest = rest.strip_prefix(b" ")?;
    while let [b' ' | b'\t' | b'\r' | b'\x0c', after @ ..] = rest {
        rest = after;
    }
    let mut fields = Vec::new();
    loop {
        let (_, after) = name(rest, b",= ", b",= ")?;
        let key = rest[..rest.len() - after.len()].to_vec();
        let (value, after) = value(after.strip_prefix(b"=")?)?;
        fields.extend(value.map(|value| (key, value)));
        rest = after;
        match rest.strip_prefix(b",") {
            Some(after) => rest = after,
            None => break,
        }
    }
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let digits = str::from_utf8(rest[..end].trim_ascii()).ok()?;
    let timestamp = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
    let point = Point { measurement, tags, fields, timestamp };
    Some((point, rest.get(end + 1..).unwrap_or_default()))
}

/// A name that is not empty.
fn name<'a>(text: &'a [u8], ends: &[u8], escapes: &[u8]) -> Option<(Vec<u8>, &'a [u8])> {
    optional_name(text, ends, escapes).filter(|(name, _)| !name.is_empty())
}

/// An unescaped name, and what follows it.
fn optional_name<'a>(
    mut text: &'a [u8],
    ends: &[u8],
    escapes: &[u8],
) -> Option<(Vec<u8>, &'a [u8])> {
    let mut name = Vec::new();
    loop {
        match text {
            [b'\\', escaped, after @ ..] if escapes.contains(escaped) => {
                name.push(*escaped);
                text = after;
            }
            [byte, after @ ..] if !ends.contains(byte) && *byte != b'\n' => {
                name.push(*byte);
                text = after;
            }
            _ => return Some((name, text)),
        }
    }
}

/// A field's value, and what follows it. `None` for what is not a number.
fn value(text: &[u8]) -> Option<(Option<f64>, &[u8])> {
    if let Some(mut rest) = text.strip_prefix(b"\"") {
        loop {
            match rest {
                [b'\\', b'"' | b'\\', after @ ..] | [b'\0'..=b'!' | b'#'..=b'\xFF', after @ ..] => {
                    rest = after;
                }
                [b'"', after @ ..] => {
                    let ends = [b",".as_slice(), b" ", b"\n", b"\r\n"];
                    let ends = ends.iter().any(|end| after.starts_with(end));
                    return (ends || after.is_empty() || after == b"\r").then_some((None, after));
                }
                [] => return None,
            }
        }
    }
    let end = text.iter().position(|byte| b", \n".contains(byte)).unwrap_or(text.len());
    let (mut value, rest) = text.split_at(end);
    if rest.first().is_none_or(|byte| *byte == b'\n') {
        value = value.strip_suffix(b"\r").unwrap_or(value);
    }
    let value = str::from_utf8(value).ok()?;
    let number = match (value.chars().next()?, value.chars().last()?) {
        ('t' | 'T', _) if ["t", "T", "true", "True", "TRUE"].contains(&value) => 1.0,
        ('f' | 'F', _) if ["f", "F", "false", "False", "FALSE"].contains(&value) => 0.0,
        (_, 't') => {
            value[..value.len() - 1].parse::<i64>().ok()?;
            return Some((None, rest));
        }
        (_, 'i') => value[..value.len() - 1].parse::<i64>().ok()? as f64,
        (_, 'u') => value[..value.len() - 1].parse::<u64>().ok()? as f64,
        _ => value.parse::<f64>().ok().filter(|value| value.is_finite())?,
    };
    Some((Some(number), rest))
}
