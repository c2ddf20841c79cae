//! What a line's measurement, tags and field are called as a series.

/// The labels of a field: `__name__` is the measurement and the field, the
/// others are the tags. A tag without a value is none.
///
/// # Errors
/// If the measurement is missing or a tag has no name or no `=`.
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

/// The parts between separators that no backslash precedes.
fn split_unescaped(bytes: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    bytes.split(move |&byte| {
        let splits = byte == separator && !escaped;
        escaped = byte == b'\\' && !escaped;
        splits
    })
}

/// The text that is meant: a backslash before a comma, an equals sign, a space
/// or a backslash is none, any other stands for itself.
fn unescape(bytes: &[u8]) -> Result<String, &'static str> {
    let text = str::from_utf8(bytes).map_err(|_| "a name is no UTF-8")?;
    let mut meant = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let special = rest.next_if(|next| c == '\\' && matches!(next, ',' | '=' | ' ' | '\\'));
        meant.push(special.unwrap_or(c));
    }
    Ok(meant)
}

/// A name with `_` for whatever Prometheus would not have in one.
fn valid_name(name: &str, metric: bool) -> String {
    let valid = |(index, c): (usize, char)| match c {
        'a'..='z' | 'A'..='Z' | '_' => c,
        '0'..='9' if index > 0 => c,
        ':' if metric => c,
        _ => '_',
    };
    name.chars().enumerate().map(valid).collect()
}
