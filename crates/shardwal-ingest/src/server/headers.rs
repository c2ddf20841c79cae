//! What the headers of a write say about its body. This file does not know the protocols.

use axum::http::{HeaderMap, header};

use super::refusal::Refusal;

/// The media types that a protocol takes. A request without a type is taken too.
pub(crate) const PROTOBUF: [&str; 4] = [
    "application/x-protobuf",
    "application/protobuf",
    "application/vnd.google.protobuf",
    "application/octet-stream",
];

/// JSON.
pub(crate) const JSON: &str = "application/json";

/// Text by any name, and what `curl` and others send if no type is given.
pub(crate) const LINES: [&str; 3] =
    ["text/", "application/x-www-form-urlencoded", "application/octet-stream"];

/// A form of parameters.
pub(crate) const FORM: [&str; 1] = ["application/x-www-form-urlencoded"];

/// Checks the media type of a request. A type that ends in `/` takes all of its subtypes.
///
/// # Errors
/// The type is none of `taken`.
pub(crate) fn check_type(headers: &HeaderMap, taken: &[&str]) -> Result<(), Refusal> {
    let essence = essence(headers);
    let is_taken = |taken: &&str| match taken.ends_with('/') {
        true => essence.starts_with(*taken),
        false => essence == **taken,
    };
    if essence.is_empty() || taken.iter().any(is_taken) {
        return Ok(());
    }
    let taken = taken.join(", ");
    Err(Refusal::Encoding(format!("unsupported media type {}; use {taken}", shown(&essence))))
}

/// The media type of a request without its parameters, in lower case. Empty if there is none.
pub(crate) fn essence(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let text = String::from_utf8_lossy(value).to_ascii_lowercase();
    text.split(';').next().unwrap_or_default().trim().to_owned()
}

/// A parameter of the media type of a request, without its quotes. `None` if there is none.
pub(crate) fn type_parameter(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut parameters = text.split(';').skip(1).map(|parameter| {
        let (found, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        (found.trim(), value.trim().trim_matches('"'))
    });
    let found = parameters.find(|(found, _)| found.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.to_owned())
}

/// The encoding of a request, in lower case. Empty if it is not encoded.
pub(crate) fn encoding(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_ENCODING).map_or(&b""[..], |value| value.as_bytes());
    let encoding = String::from_utf8_lossy(value).trim().to_ascii_lowercase();
    match encoding.as_str() {
        "identity" => String::new(),
        "x-gzip" => "gzip".to_owned(),
        _ => encoding,
    }
}

/// Whether a request is encoded with gzip, rather than not at all.
///
/// # Errors
/// The encoding is another one.
pub(crate) fn is_gzip(headers: &HeaderMap) -> Result<bool, Refusal> {
    match encoding(headers).as_str() {
        "" => Ok(false),
        "gzip" => Ok(true),
        other => {
            let encoding = shown(other);
            Err(Refusal::Encoding(format!("unsupported encoding {encoding}; use gzip")))
        }
    }
}

/// A header's text as a response repeats it.
pub(crate) fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(100).collect::<String>())
}
