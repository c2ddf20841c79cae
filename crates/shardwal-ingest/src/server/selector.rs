//! `match[]`: a series selector in Prometheus' syntax. This file does not know series.
//!
//! ```text
//! up{job="node",host=~"h1.*",mode!="idle"}
//! ```

use shardwal_timeseries::Matcher;

/// Parses the matchers of a selector.
///
/// # Errors
/// The text is not a selector, or selects everything.
pub(crate) fn parse(selector: &str) -> Result<Vec<Matcher>, String> {
    let mut rest = selector.trim();
    let mut matchers = Vec::new();
    let name_end = rest.find(|c: char| !is_name(c) && c != ':').unwrap_or(rest.len());
    let (metric, after) = rest.split_at(name_end);
    if !metric.is_empty() {
        matchers.push(Matcher::equal("__name__", metric));
    }
    rest = after.trim_start();
    if let Some(after) = rest.strip_prefix('{') {
        rest = after.trim_start();
        while !rest.starts_with('}') {
            matchers.push(take_matcher(&mut rest)?);
            rest = rest.trim_start();
            match rest.strip_prefix(',') {
                Some(after) => rest = after.trim_start(),
                None if rest.starts_with('}') => {}
                None => return Err(format!("expected a comma or a brace before {rest:?}")),
            }
        }
        rest = rest[1..].trim_start();
    }
    match (rest, matchers.is_empty()) {
        ("", false) => Ok(matchers),
        ("", true) => Err("a selector must not select everything".to_owned()),
        _ => Err(format!("unexpected {rest:?} after the selector")),
    }
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn take_matcher(rest: &mut &str) -> Result<Matcher, String> {
    let (name, after) = rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()));
    let after = after.trim_start();
    let operators = ["=~", "!~", "!=", "="];
    let found = operators.into_iter().find_map(|each| Some((each, after.strip_prefix(each)?)));
    let (operator, after) =
        found.ok_or_else(|| format!("expected an operator before {after:?}"))?;
    if name.is_empty() {
        return Err("a matcher needs a label name".to_owned());
    }
    *rest = after.trim_start();
    let value = take_string(rest)?;
    match operator {
        "=~" => Matcher::matches(name, &value).map_err(|error| error.to_string()),
        "!~" => Matcher::not_matches(name, &value).map_err(|error| error.to_string()),
        "!=" => Ok(Matcher::not_equal(name, value)),
        _ => Ok(Matcher::equal(name, value)),
    }
}

/// Parses a quoted string with the escapes of a selector.
fn take_string(rest: &mut &str) -> Result<String, String> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
    let quote = quote.ok_or_else(|| format!("expected a quote before {rest:?}"))?;
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => {
                *rest = &rest[at + 1..];
                return Ok(text);
            }
            '\\' if quote != '`' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, escaped @ ('\\' | '"' | '\''))) => text.push(escaped),
                _ => return Err(format!("unknown escape in {rest:?}")),
            },
            c => text.push(c),
        }
    }
    Err(format!("{rest:?} has no closing quote"))
}
