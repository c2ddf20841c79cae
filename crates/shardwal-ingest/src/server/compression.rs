//! Decompresses the blocks of Prometheus' protocols, within a limit and a budget: snappy, and zstd,
//! which vmagent sends to a server that knows it.

use axum::http::HeaderMap;

use super::budget::Reservation;
use super::headers;
use super::refusal::{REQUEST_BYTES_MAX, Refusal};

/// Maximum ratio of decompressed to compressed bytes: a copy of 64 bytes takes 3.
const SNAPPY_RATIO_MAX: usize = 22;

/// Bytes that a zstd decoder takes beside the message.
const ZSTD_BYTES: usize = 256 << 10;

/// The compression of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Snappy,
    Zstd,
}

impl Compression {
    /// The compression that a request names. One that names none is a snappy block.
    ///
    /// # Errors
    /// It is none of `taken`.
    pub(crate) fn of(headers: &HeaderMap, taken: &[Self]) -> Result<Self, Refusal> {
        let encoding = headers::encoding(headers);
        let named = match encoding.as_str() {
            "" | "snappy" => Some(Self::Snappy),
            "zstd" => Some(Self::Zstd),
            _ => None,
        };
        named.filter(|named| taken.contains(named)).ok_or_else(|| {
            let encoding = headers::shown(&encoding);
            Refusal::Encoding(format!("unsupported encoding {encoding}; use snappy"))
        })
    }

    /// The length of the message that a block claims. It is not checked.
    pub(crate) fn claimed_length(self, block: &[u8]) -> Option<usize> {
        match self {
            Self::Snappy => snap::raw::decompress_len(block).ok(),
            Self::Zstd => {
                let length = zstd::zstd_safe::get_frame_content_size(block).ok().flatten();
                length.and_then(|length| usize::try_from(length).ok())
            }
        }
    }

    /// Decompresses a block.
    ///
    /// # Errors
    /// The block is invalid or too large, or the budget is exhausted.
    pub(crate) fn decompress(
        self,
        block: &[u8],
        bytes_max: usize,
        reservation: &mut Reservation,
    ) -> Result<Vec<u8>, Refusal> {
        match self {
            Self::Snappy => decompress_snappy(block, bytes_max, reservation),
            Self::Zstd => decompress_zstd(block, bytes_max, reservation),
        }
    }
}

fn check_length(length: usize, bytes_max: usize) -> Result<(), Refusal> {
    if length > bytes_max {
        let (found, max) = (length as u64, bytes_max as u64);
        let (what, limit) = ("the decompressed length", REQUEST_BYTES_MAX);
        return Err(Refusal::TooLarge { what, found, max, limit });
    }
    Ok(())
}

/// Decompresses a frame of zstd, which must say its length.
fn decompress_zstd(
    frame: &[u8],
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Refusal> {
    // vmagent falls back to snappy.
    let no_length = || Refusal::Encoding("a zstd frame must say its length; use snappy".to_owned());
    let length = Compression::Zstd.claimed_length(frame).ok_or_else(no_length)?;
    check_length(length, bytes_max)?;
    reservation.grow(length + ZSTD_BYTES)?;
    let invalid = |error| Refusal::Invalid(format!("the body is not a zstd frame: {error}"));
    let mut decoder = zstd::bulk::Decompressor::new().map_err(invalid)?;
    let message = decoder.decompress(frame, length).map_err(invalid)?;
    reservation.release(length - message.capacity().min(length) + ZSTD_BYTES);
    Ok(message)
}

/// Decompresses a snappy block. The length in its header must be within the limit, possible for a
/// block of this size, and within the budget.
fn decompress_snappy(
    block: &[u8],
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Refusal> {
    let invalid =
        |error: snap::Error| Refusal::Invalid(format!("the body is not a snappy block: {error}"));
    let length = snap::raw::decompress_len(block).map_err(invalid)?;
    check_length(length, bytes_max)?;
    if length > block.len() * SNAPPY_RATIO_MAX {
        let claim = format!("{} bytes cannot decompress to {length}", block.len());
        return Err(Refusal::Invalid(format!("the body is not a snappy block: {claim}")));
    }
    reservation.grow(length)?;
    snap::raw::Decoder::new().decompress_vec(block).map_err(invalid)
}
