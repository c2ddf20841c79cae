//! The names of InfluxDB series: measurement, tags and field as Prometheus labels. This file does
//! not know values.

/// The labels of a field. `__name__` is measurement and field, the other labels are the tags. A tag
/// with an empty value is left out.
///
/// # Errors
/// The measurement is missing, or a tag has no name or no `=`.
pub(crate) fn labels(head: &[u8], field: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
    let mut parts = split_unescaped(head, b',');
    let measurement = parts.next().filter(|measurement| !measurement.is_empty());
    let mut metric = unescape(measurement.ok_or("missing measurement")?)?;
    metric.push('_');
    metric.push_str(&unescape(field)?);
    let mut labels = vec![("__name__".to_owned(), valid_name(&metric, true))];
    for tag in parts {
        let mut pair = split_unescaped(tag, b'=');
        let name = pair.next().filter(|name| !name.is_empty()).ok_or("missing tag key")?;
        let value = pair.next().ok_or("missing tag value")?;
        if pair.next().is_some() {
            return Err("a tag has two unescaped `=`");
        }
        labels.push((valid_name(&unescape(name)?, false), unescape(value)?));
    }
    Ok(labels)
}

/// Splits at separators that have no backslash before them.
fn split_unescaped(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    bytes.split(move |&byte| {
        let splits = byte == separator && !escaped;
        escaped = byte == b'\\' && !escaped;
        splits
    })
}

/// Removes escapes. A backslash escapes a comma, an equals sign, a space or a backslash. Before
/// other characters it is literal.
fn unescape(bytes: &[u8]) -> Result<String, &'static str> {
    let text = str::from_utf8(bytes).map_err(|_| "a name is not UTF-8")?;
    let mut meant = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let special = rest.next_if(|next| c == '\\' && matches!(next, ',' | '=' | ' ' | '\\'));
        meant.push(special.unwrap_or(c));
    }
    Ok(meant)
}

/// Replaces characters that a Prometheus name may not contain by `_`.
fn valid_name(name: &str, metric: bool) -> String {
    let valid = |(index, c): (usize, char)| match c {
        'a'..='z' | 'A'..='Z' | '_' => c,
        '0'..='9' if index > 0 => c,
        ':' if metric => c,
        _ => '_',
    };
    name.chars().enumerate().map(valid).collect()
}
