//! One record of the log: the samples of one series in one request.
//!
//! The payload describes itself. All integers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | request: its number in the stream, counted on through the repetitions |
//! | 8 | ordinal: number of the record in its series, from 0 without a gap |
//! | 4 | label count: 0 except in record 0, which names the series |
//! | 4 | sample count |
//! | each label | name length (4), name, value length (4), value |
//! | each sample | timestamp (8, signed milliseconds), bits of the value (8) |
//!
//! The log stores the series' key beside each record, so it is not in the payload. This file does
//! not know files, logs or streams.

use std::fmt;

use crate::stream::{Label, Sample};

/// Bytes before the labels.
const HEADER_BYTES: usize = 24;

/// Minimum bytes of a label: two lengths.
const LABEL_BYTES_MIN: usize = 8;

/// Bytes of a sample: a timestamp and a value.
const SAMPLE_BYTES: usize = 16;

/// The samples of one series in one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeriesRecord {
    /// Number of the request in the stream, counted on through the repetitions.
    pub(crate) request: usize,
    /// Number of the record in its series, from 0 without a gap.
    pub(crate) ordinal: usize,
    /// The labels of the series in record 0. Empty in all others.
    pub(crate) labels: Vec<Label>,
    /// The samples, in the order in which they were sent.
    pub(crate) samples: Vec<Sample>,
}

/// The payload was not written by [`SeriesRecord::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotARecord;

impl fmt::Display for NotARecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the payload is not a record of this program")
    }
}

impl std::error::Error for NotARecord {}

impl SeriesRecord {
    /// Encodes the payload to log.
    ///
    /// # Panics
    /// If a count or a length exceeds `u32`. A request of 32 MiB cannot reach that.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(HEADER_BYTES + self.samples.len() * SAMPLE_BYTES);
        payload.extend((self.request as u64).to_le_bytes());
        payload.extend((self.ordinal as u64).to_le_bytes());
        push_length(&mut payload, self.labels.len());
        push_length(&mut payload, self.samples.len());
        for label in &self.labels {
            for text in [&label.name, &label.value] {
                push_length(&mut payload, text.len());
                payload.extend(text.as_bytes());
            }
        }
        for sample in &self.samples {
            payload.extend(sample.timestamp.to_le_bytes());
            payload.extend(sample.value.to_bits().to_le_bytes());
        }
        payload
    }

    /// Decodes a payload.
    ///
    /// # Errors
    /// The payload is too short or too long, or a label is not UTF-8.
    pub(crate) fn decode(payload: &[u8]) -> Result<Self, NotARecord> {
        let mut rest = payload;
        let request = take_number(&mut rest)?;
        let ordinal = take_number(&mut rest)?;
        let label_count = take_length(&mut rest)?;
        let sample_count = take_length(&mut rest)?;
        // Accept a count only if the remaining bytes can hold it.
        if label_count > rest.len() / LABEL_BYTES_MIN || sample_count > rest.len() / SAMPLE_BYTES {
            return Err(NotARecord);
        }
        let labels = (0..label_count)
            .map(|_| {
                let name = take_text(&mut rest)?;
                let value = take_text(&mut rest)?;
                Ok(Label { name, value })
            })
            .collect::<Result<_, _>>()?;
        let samples = (0..sample_count)
            .map(|_| {
                let timestamp = i64::from_le_bytes(take(&mut rest)?);
                let value = f64::from_bits(u64::from_le_bytes(take(&mut rest)?));
                Ok(Sample { timestamp, value })
            })
            .collect::<Result<_, _>>()?;
        if !rest.is_empty() {
            return Err(NotARecord);
        }
        Ok(Self { request, ordinal, labels, samples })
    }
}

/// Computes the key of a series: FNV-1a (64 bits) over its sorted labels. Each name and value ends
/// with a byte 0xFF, which UTF-8 never contains. The key is on disk, so it must not change between
/// processes or versions.
pub(crate) fn series_key(labels: &[Label]) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    debug_assert!(labels.is_sorted(), "a key is that of the sorted labels");
    labels
        .iter()
        .flat_map(|label| [&label.name, &label.value])
        .flat_map(|text| text.bytes().chain([0xFF]))
        .fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

fn push_length(payload: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a request is far smaller than 4 GiB");
    payload.extend(length.to_le_bytes());
}

fn take<const BYTES: usize>(rest: &mut &[u8]) -> Result<[u8; BYTES], NotARecord> {
    let (taken, after) = rest.split_first_chunk().ok_or(NotARecord)?;
    *rest = after;
    Ok(*taken)
}

fn take_number(rest: &mut &[u8]) -> Result<usize, NotARecord> {
    usize::try_from(u64::from_le_bytes(take(rest)?)).map_err(|_| NotARecord)
}

fn take_length(rest: &mut &[u8]) -> Result<usize, NotARecord> {
    usize::try_from(u32::from_le_bytes(take(rest)?)).map_err(|_| NotARecord)
}

fn take_text(rest: &mut &[u8]) -> Result<String, NotARecord> {
    let length = take_length(rest)?;
    let (text, after) = rest.split_at_checked(length).ok_or(NotARecord)?;
    *rest = after;
    String::from_utf8(text.to_vec()).map_err(|_| NotARecord)
}
