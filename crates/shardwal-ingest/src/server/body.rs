//! Reads the body of a request into reserved memory. This file does not know what a body means.
//!
//! The body of a refused request is still read and discarded. The client then receives the response
//! and can reuse its connection.

use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::budget::{Budget, Reservation};
use super::refusal::Refusal;
use std::sync::Arc;

/// Maximum time from the first byte of a body to its last.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Maximum bytes of a refused body to discard. If the body is longer, the connection is closed.
const DRAIN_BYTES_MAX: usize = 64 << 20;

/// Reads a whole body of at most `bytes_max` bytes.
///
/// # Errors
/// The body is too large, arrives too slowly or breaks off, or the budget is exhausted.
pub(crate) async fn read(
    budget: &Arc<Budget>,
    bytes_max: usize,
    mut body: Body,
) -> Result<(Vec<u8>, Reservation), Refusal> {
    let mut reservation = budget.reserve_nothing();
    let within = async {
        let refusal = match gather(&mut reservation, bytes_max, &mut body).await {
            Ok(bytes) => return Ok(bytes),
            Err(refusal) => refusal,
        };
        discard(&mut body).await;
        Err(refusal)
    };
    let read = tokio::time::timeout(BODY_TIME_MAX, within).await.unwrap_or(Err(Refusal::Slow));
    read.map(|bytes| (bytes, reservation))
}

async fn gather(
    reservation: &mut Reservation,
    bytes_max: usize,
    body: &mut Body,
) -> Result<Vec<u8>, Refusal> {
    let too_large =
        |found| Refusal::TooLarge { what: "the body's length", found, max: bytes_max as u64 };
    let mut bytes = Vec::new();
    if let Some(length) = body.size_hint().exact() {
        let length = usize::try_from(length).ok().filter(|length| *length <= bytes_max);
        let length = length.ok_or_else(|| too_large(body.size_hint().lower()))?;
        if !reservation.grow(length) {
            return Err(Refusal::InFlight);
        }
        bytes.reserve_exact(length);
    }
    while let Some(frame) = body.frame().await {
        let broken = |error| Refusal::Invalid(format!("the body broke off: {error}"));
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > bytes_max {
            return Err(too_large(length as u64));
        }
        if length > bytes.capacity() {
            // A chunked body: double the capacity, so that the total cost of growing stays linear.
            let capacity = length.max(bytes.capacity() * 2).min(bytes_max);
            if !reservation.grow(capacity - bytes.capacity()) {
                return Err(Refusal::InFlight);
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn discard(body: &mut Body) {
    let mut discarded = 0;
    while discarded < DRAIN_BYTES_MAX {
        match body.frame().await {
            Some(Ok(frame)) => discarded += frame.data_ref().map_or(0, |data| data.len()),
            Some(Err(_)) | None => return,
        }
    }
}
