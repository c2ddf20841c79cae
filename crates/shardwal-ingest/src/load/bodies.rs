//! The requests to send: the recorded ones, repeated, each round with later timestamps.
//!
//! All requests are built before the clock starts, because compressing them is the client's work
//! and must not be measured. Timestamps are changed in place in the protobuf, so that everything
//! else remains as Prometheus wrote it. This file does not know the network.

use std::fs;
use std::path::Path;

use super::{Version, version_2};
use crate::Failure;

/// A request to send.
#[derive(Debug)]
pub(crate) struct Body {
    /// A snappy block that contains a request.
    pub(crate) bytes: Vec<u8>,
    /// Number of samples in it.
    pub(crate) samples: u64,
}

/// Builds the requests of `rounds` rounds in a version of remote write.
///
/// # Errors
/// The recording cannot be read or is malformed.
pub(crate) fn prepare(
    recording: &Path,
    rounds: u32,
    version: Version,
) -> Result<Vec<Body>, Failure> {
    let mut messages = read(recording)?;
    if version == Version::Two {
        for message in &mut messages {
            let converted = version_2::convert(message);
            *message = converted.ok_or("a request of the recording is not a WriteRequest")?;
        }
    }
    let (mut first, mut last) = (u64::MAX, 0);
    let mut counts = Vec::new();
    for message in &mut messages {
        let mut count = 0;
        for_each_timestamp(message, version, &mut |bytes| {
            let timestamp = read_varint(bytes).map_or(0, |(timestamp, _)| timestamp);
            (first, last) = (first.min(timestamp), last.max(timestamp));
            count += 1;
        })
        .ok_or("a request of the recording is not a WriteRequest")?;
        counts.push(count);
    }
    let later = last.checked_sub(first).ok_or("the recording holds no sample")? + 1;
    let mut encoder = snap::raw::Encoder::new();
    let mut bodies = Vec::with_capacity(messages.len() * rounds as usize);
    for round in 0..rounds {
        for (message, samples) in messages.iter_mut().zip(&counts) {
            let bytes = encoder.compress_vec(message)?;
            bodies.push(Body { bytes, samples: *samples });
            if round + 1 < rounds {
                let shifted = for_each_timestamp(message, version, &mut |bytes| {
                    if let Some((timestamp, length)) = read_varint(bytes) {
                        write_varint(&mut bytes[..length], timestamp + later);
                    }
                });
                shifted.ok_or("a request of the recording is not a WriteRequest")?;
            }
        }
    }
    Ok(bodies)
}

/// Reads the messages of a recording. Each is a length and a snappy block.
fn read(recording: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let bytes = fs::read(recording)?;
    let mut rest = bytes.as_slice();
    let mut messages = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        let (block, after) =
            after.split_at_checked(length).ok_or("the recording ends within a request")?;
        messages.push(snap::raw::Decoder::new().decompress_vec(block)?);
        rest = after;
    }
    Ok(messages)
}

/// Calls `show` with the bytes of each timestamp, up to the end of its sample. Returns `None` if
/// the bytes are not a request.
fn for_each_timestamp(
    message: &mut [u8],
    version: Version,
    show: &mut impl FnMut(&mut [u8]),
) -> Option<()> {
    let of_series = match version {
        Version::One => 0x0A,
        Version::Two => 0x2A,
    };
    for_each_field(message, &mut |tag, series| match tag {
        _ if tag == of_series => for_each_field(series, &mut |tag, sample| match tag {
            0x12 => for_each_field(sample, &mut |tag, value| {
                if tag == 0x10 {
                    show(value);
                }
                Some(())
            }),
            _ => Some(()),
        }),
        _ => Some(()),
    })
}

/// Calls `show` with the tag and the content of each field.
pub(super) fn for_each_field(
    mut rest: &mut [u8],
    show: &mut impl FnMut(u64, &mut [u8]) -> Option<()>,
) -> Option<()> {
    while !rest.is_empty() {
        let (tag, length) = read_varint(rest)?;
        rest = rest.get_mut(length..)?;
        let length = match tag & 7 {
            0 => read_varint(rest)?.1,
            1 => 8,
            2 => {
                let (length, prefix) = read_varint(rest)?;
                rest = rest.get_mut(prefix..)?;
                usize::try_from(length).ok()?
            }
            5 => 4,
            _ => return None,
        };
        let (content, after) = rest.split_at_mut_checked(length)?;
        show(tag, content)?;
        rest = after;
    }
    Some(())
}

/// Reads a number. Returns it and its length in bytes.
fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let length = bytes.iter().take(10).position(|byte| *byte < 0x80)? + 1;
    let digits = bytes[..length].iter().rev();
    let value = digits.fold(0, |value, byte| value << 7 | u64::from(byte & 0x7F));
    Some((value, length))
}

/// Overwrites a number in place. Both numbers must take equal bytes. Timestamps of this century in
/// milliseconds take six.
fn write_varint(bytes: &mut [u8], mut value: u64) {
    let last = bytes.len() - 1;
    for (index, byte) in bytes.iter_mut().enumerate() {
        let more = if index < last { 0x80 } else { 0 };
        *byte = u8::try_from(value & 0x7F).expect("seven bits") | more;
        value >>= 7;
    }
    assert_eq!(value, 0, "a timestamp takes more bytes than before");
}
