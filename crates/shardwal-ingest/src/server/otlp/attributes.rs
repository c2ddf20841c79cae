//! Attributes: their names and values as texts. This file does not know metrics.
//!
//! A value becomes what it is in Prometheus: numbers in decimal, lists and maps in JSON, bytes in
//! base64.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shardwal_timeseries::{LABELS_BYTES_MAX, LABELS_MAX};

use crate::server::protobuf::{Malformed, Reader, Value, malformed};

/// Maximum number of values within each other.
const DEPTH_MAX: usize = 16;

/// Maximum number of attributes that are read. More cannot be labels.
const ATTRIBUTES_MAX: usize = LABELS_MAX + 1;

/// Calls `each` with the key and the undecoded value of every attribute in a message: of the fields
/// of this number.
pub(super) fn for_each<'a>(
    message: &'a [u8],
    number: u64,
    mut each: impl FnMut(&'a str, &'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut reader = Reader { rest: message };
    while let Some((found, value)) = reader.field()? {
        match value {
            Value::Bytes(bytes) if found == number => {
                let (key, value) = key_value(bytes)?;
                each(key, value)?;
            }
            _ if found == number => return Err(malformed("an attribute is not a message")),
            _ => {}
        }
    }
    Ok(())
}

/// The attributes in a message, as texts. An empty value is left out, and what no labels can hold.
pub(super) fn pairs(message: &[u8], number: u64) -> Result<Vec<(&str, String)>, Malformed> {
    let (mut pairs, mut bytes) = (Vec::new(), 0);
    for_each(message, number, |key, value| {
        if pairs.len() < ATTRIBUTES_MAX && bytes <= LABELS_BYTES_MAX {
            let text = value_text(value)?;
            bytes += key.len() + text.len();
            if !text.is_empty() {
                pairs.push((key, text));
            }
        }
        Ok(())
    })?;
    Ok(pairs)
}

/// The text of a value.
pub(super) fn value_text(bytes: &[u8]) -> Result<String, Malformed> {
    if bytes.len() > LABELS_BYTES_MAX {
        return Err(malformed("an attribute is too long for a label"));
    }
    let mut text = String::new();
    write_value(&mut text, bytes, 0)?;
    Ok(text)
}

/// The key of an attribute, and its value, undecoded.
fn key_value(bytes: &[u8]) -> Result<(&str, &[u8]), Malformed> {
    let mut reader = Reader { rest: bytes };
    let (mut key, mut found) = ("", &[][..]);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => key = text(bytes)?,
            (2, Value::Bytes(bytes)) => found = bytes,
            (1 | 2, _) => return Err(malformed("an attribute's field has the wrong type")),
            _ => {}
        }
    }
    Ok((key, found))
}

/// Decodes a string.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(bytes).map_err(|_| malformed("a string is not UTF-8"))
}

/// Appends a value. `depth` is the number of lists and maps around it.
fn write_value(out: &mut String, bytes: &[u8], depth: usize) -> Result<(), Malformed> {
    let mut reader = Reader { rest: bytes };
    let mut last = None;
    while let Some(field) = reader.field()? {
        last = Some(field);
    }
    match last {
        None => out.push_str(if depth > 0 { "null" } else { "" }),
        Some((1, Value::Bytes(bytes))) if depth > 0 => quote(out, text(bytes)?),
        Some((1, Value::Bytes(bytes))) => out.push_str(text(bytes)?),
        Some((2, Value::Varint(bits))) => out.push_str(if bits == 0 { "false" } else { "true" }),
        // A write into a string never fails.
        Some((3, Value::Varint(bits))) => _ = write!(out, "{}", bits.cast_signed()),
        Some((4, Value::Fixed64(bits))) => _ = write!(out, "{}", f64::from_bits(bits)),
        Some((5, Value::Bytes(bytes))) => write_list(out, bytes, depth, false)?,
        Some((6, Value::Bytes(bytes))) => write_list(out, bytes, depth, true)?,
        Some((7, Value::Bytes(bytes))) if depth > 0 => quote(out, &STANDARD.encode(bytes)),
        Some((7, Value::Bytes(bytes))) => STANDARD.encode_string(bytes, out),
        Some(_) => return Err(malformed("an attribute's value has an unknown type")),
    }
    Ok(())
}

/// Appends the values of a list, or the keys and values of a map.
fn write_list(out: &mut String, bytes: &[u8], depth: usize, is_map: bool) -> Result<(), Malformed> {
    if depth >= DEPTH_MAX {
        return Err(malformed("an attribute's value is nested too deeply"));
    }
    let mut reader = Reader { rest: bytes };
    let mut separator = if is_map { '{' } else { '[' };
    out.push(separator);
    let close = if is_map { '}' } else { ']' };
    while let Some((_, value)) = reader.field()? {
        let Value::Bytes(bytes) = value else {
            return Err(malformed("a value in a list is not a message"));
        };
        if separator == ',' {
            out.push(',');
        }
        separator = ',';
        let mut value = bytes;
        if is_map {
            let (key, found) = key_value(bytes)?;
            quote(out, key);
            out.push(':');
            value = found;
        }
        write_value(out, value, depth + 1)?;
    }
    out.push(close);
    Ok(())
}

fn quote(out: &mut String, text: &str) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
