//! Prometheus remote write 1.0: a snappy block that contains a protobuf `WriteRequest`. The
//! response is 204 once all samples are acknowledged.
//!
//! Series with invalid labels are skipped, and the others are written. The response is then 400
//! with the reason, as the specification demands. Native histograms, exemplars and metadata are
//! skipped.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode, header};
use shardwal_timeseries::{Labels, Sample, Storage};

use super::app::App;
use super::batch::{Batch, Complete};
use super::body;
use super::budget::Reservation;
use super::protobuf::{Entries, label_pairs};
use super::refusal::Refusal;

const PATH: &str = "/api/v1/write";

/// Maximum ratio of decompressed to compressed bytes: a copy of 64 bytes takes 3.
const SNAPPY_RATIO_MAX: usize = 22;

/// Handles a write request.
pub(crate) async fn write(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let began = Instant::now();
    let answer = take(&app, &headers, body).await;
    app.counters.count_request(PATH, began, answer.as_ref().err());
    match answer {
        Ok(()) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Err(refusal) => refusal.as_text(),
    }
}

async fn take(app: &App, headers: &HeaderMap, body: Body) -> Result<(), Refusal> {
    let (bytes, mut reservation) =
        body::read(&app.budget, app.limits.request_bytes_max, body).await?;
    check_headers(headers)?;
    let storage = app.storage()?;
    let message = decompress(&bytes, app.limits.request_bytes_max, &mut reservation)?;
    drop(bytes);
    let Decoded { batch, invalid } = decode(app, storage, &message, &mut reservation)?;
    drop(message);
    app.write(batch, reservation).await?;
    invalid.map_or(Ok(()), |invalid| Err(Refusal::Invalid(invalid)))
}

fn check_headers(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name| headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"));
    let encoding = text(header::CONTENT_ENCODING);
    if !["", "snappy"].contains(&encoding) {
        return Err(Refusal::Encoding(format!("unsupported encoding {encoding:?}; use snappy")));
    }
    let content_type = text(header::CONTENT_TYPE);
    if content_type.contains("io.prometheus.write.v2") {
        return Err(Refusal::Encoding("remote write 2.0 is not supported; use 1.0".to_owned()));
    }
    Ok(())
}

/// Decompresses a snappy block. The length in its header must be within the limit, possible for a
/// block of this size, and within the budget.
///
/// # Errors
/// The body is not a snappy block or too large, or the budget is exhausted.
pub(crate) fn decompress(
    block: &[u8],
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Refusal> {
    let invalid =
        |error: snap::Error| Refusal::Invalid(format!("the body is not a snappy block: {error}"));
    let length = snap::raw::decompress_len(block).map_err(invalid)?;
    if length > bytes_max {
        let (found, max) = (length as u64, bytes_max as u64);
        return Err(Refusal::TooLarge { what: "the decompressed length", found, max });
    }
    if length > block.len() * SNAPPY_RATIO_MAX {
        let claim = format!("{} bytes cannot decompress to {length}", block.len());
        return Err(Refusal::Invalid(format!("the body is not a snappy block: {claim}")));
    }
    if !reservation.grow(length) {
        return Err(Refusal::InFlight);
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(invalid)
}

/// A decoded request.
struct Decoded<'app> {
    batch: Complete<'app>,
    /// The problem with the series that were skipped.
    invalid: Option<String>,
}

/// Decodes the samples of a request. Writes nothing, so that a request that is malformed at its end
/// is refused as a whole.
fn decode<'app>(
    app: &'app App,
    storage: &'app Storage,
    message: &[u8],
    reservation: &mut Reservation,
) -> Result<Decoded<'app>, Refusal> {
    let malformed = |malformed: super::protobuf::Malformed| Refusal::Invalid(malformed.to_string());
    let mut batch = Batch::new(storage, &app.remote_series);
    let mut invalid = Invalid::default();
    let mut entries = Entries::new(message);
    while let Some(mut entry) = entries.next().map_err(malformed)? {
        let labels = || labels_of(&entry.labels);
        let series = match batch.series(&entry.labels, reservation, labels) {
            Ok(series) => series,
            Err(Refusal::Invalid(why)) => {
                invalid.add(why);
                continue;
            }
            Err(refusal) => return Err(refusal),
        };
        while let Some((timestamp_ms, value)) = entry.next_sample().map_err(malformed)? {
            batch.add(series, Sample { timestamp_ms, value }, reservation)?;
        }
    }
    Ok(Decoded { batch: batch.complete(), invalid: invalid.into_text() })
}

/// The labels of a series that is not in the cache.
fn labels_of(entry: &[u8]) -> Result<Labels, Refusal> {
    let pairs = label_pairs(entry).map_err(|malformed| Refusal::Invalid(malformed.to_string()))?;
    Labels::new(pairs).map_err(|error| Refusal::Invalid(error.to_string()))
}

/// Number of skipped series, and the reason for the first.
#[derive(Default)]
struct Invalid {
    first: Option<String>,
    count: usize,
}

impl Invalid {
    fn add(&mut self, why: String) {
        self.first.get_or_insert(why);
        self.count += 1;
    }

    fn into_text(self) -> Option<String> {
        let Self { first, count } = self;
        first.map(|first| format!("{count} series skipped, the others written; the first: {first}"))
    }
}
