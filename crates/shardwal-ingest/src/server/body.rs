//! Reads the body of a request into reserved memory. This file does not know what a body means.
//!
//! The body of a refused request is still read and discarded. The client then receives the response
//! and can reuse its connection.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::Body as _;

use super::budget::{Budget, Reservation};
use super::refusal::{REQUEST_BYTES_MAX, Refusal};
use std::sync::Arc;

/// Maximum time from the first byte of a body to its last.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Bytes reserved for a body at its first byte, if it may be that long.
const FIRST_BYTES: usize = 16 << 10;

/// Maximum bytes of a refused body to discard. If the body is longer, the connection is closed.
const DRAIN_BYTES_MAX: usize = 64 << 20;

/// From this number of bytes on, a body is parsed off the runtime's worker.
const WORKER_BYTES_MAX: usize = 1 << 20;

/// Parses a body of about `bytes` bytes. A large one takes milliseconds: then another thread takes
/// over the other tasks of this worker.
pub(crate) fn off_worker<T>(bytes: usize, parse: impl FnOnce() -> T) -> T {
    if bytes < WORKER_BYTES_MAX { parse() } else { tokio::task::block_in_place(parse) }
}

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
    let (what, max, limit) = ("the body's length", bytes_max as u64, REQUEST_BYTES_MAX);
    let too_large = |found| Refusal::TooLarge { what, found, max, limit };
    // A client can claim any length. Memory is reserved for what has arrived.
    let claimed = body.size_hint().lower();
    if claimed > max {
        return Err(too_large(claimed));
    }
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let broken = |error| Refusal::Invalid(format!("the body broke off: {error}"));
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > bytes_max {
            return Err(too_large(length as u64));
        }
        if length > bytes.capacity() {
            // Double the capacity, so that the total cost of growing stays linear.
            let rest =
                usize::try_from(body.size_hint().exact().unwrap_or(max)).unwrap_or(bytes_max);
            let end = length.saturating_add(rest).min(bytes_max);
            let capacity = (bytes.capacity() * 2).max(FIRST_BYTES).min(end).max(length);
            reservation.grow(capacity - bytes.capacity())?;
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads the body of a request that is refused by its head, within the limits on bytes and time. A
/// client that is still sending would otherwise see a broken connection in place of the response.
pub(crate) async fn discard_refused(headers: &HeaderMap, mut body: Body) {
    // Such a client waits for a word before it sends the body.
    if !headers.contains_key(header::EXPECT) {
        tokio::time::timeout(BODY_TIME_MAX, discard(&mut body)).await.ok();
    }
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
