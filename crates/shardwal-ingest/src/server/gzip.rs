//! Parses bodies that may be gzip, which it inflates into reserved memory. This file does not know
//! what a body means.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;

use super::body::off_worker;
use super::budget::Reservation;
use super::refusal::{REQUEST_BYTES_MAX, Refusal};

/// Bytes reserved per step of inflating.
const INFLATE_STEP: usize = 256 << 10;

/// Parses a body, which is first inflated if it is gzip, off the worker if it is large. Releases
/// its memory afterwards.
///
/// # Errors
/// The body is not gzip or too large, the budget is exhausted, or `parse` fails.
pub(crate) fn parse<T>(
    mut body: Vec<u8>,
    is_gzip: bool,
    bytes_max: usize,
    reservation: &mut Reservation,
    parse: impl FnOnce(&[u8], &mut Reservation) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    // The inflated length is not known yet.
    let expected = if is_gzip { bytes_max } else { body.len() };
    off_worker(expected, || {
        if is_gzip {
            let inflated = inflate(&body, bytes_max, reservation)?;
            reservation.release(body.capacity());
            body = inflated;
        }
        let parsed = parse(&body, reservation)?;
        reservation.release(body.capacity());
        Ok(parsed)
    })
}

/// Inflates a gzip body, within the limit and the budget.
fn inflate(
    body: &[u8],
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Refusal> {
    let mut decoder = MultiGzDecoder::new(body);
    let mut inflated = Vec::new();
    loop {
        reservation.make_room(&mut inflated, INFLATE_STEP)?;
        let room = inflated.capacity() - inflated.len();
        let step = decoder.by_ref().take(room as u64).read_to_end(&mut inflated);
        let read =
            step.map_err(|error| Refusal::Invalid(format!("the body is not gzip: {error}")))?;
        if inflated.len() > bytes_max {
            let (found, max) = (inflated.len() as u64, bytes_max as u64);
            let (what, limit) = ("the inflated length", REQUEST_BYTES_MAX);
            return Err(Refusal::TooLarge { what, found, max, limit });
        }
        if read < room {
            return Ok(inflated);
        }
    }
}
