//! Prometheus remote write 1.0 and 2.0: a snappy block that contains a protobuf message. The
//! response is 204 once all samples are acknowledged. The block may be zstd, as vmagent sends it.
//!
//! Series with invalid labels and invalid native histograms are left out, and the others are
//! written. The response is then 400 with the reason, as the specification demands. Exemplars,
//! metadata and created timestamps are skipped and counted. A response to version 2.0 says in its
//! headers what was written.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Body as _;

use super::app::App;
use super::batch::Written;
use super::body::{self, off_worker};
use super::budget::Reservation;
use super::compression::Compression;
use super::headers;
use super::native_histogram;
use super::protobuf;
use super::read::answer;
use super::refusal::Refusal;
use super::sender::{Peer, Sender};
use decode::{Decoded, decode_v1, decode_v2};

mod decode;
mod sample;
mod symbols;
mod v1;
mod v2;

const PATH: &str = "/api/v1/write";

/// The parameter with which vmagent asks whether it may send zstd. The body is empty.
const ZSTD_PROBE: &str = "get_vm_proto_version=";

/// Numbers of what was written, in a response to version 2.0.
const SAMPLES_WRITTEN: &str = "x-prometheus-remote-write-samples-written";
const HISTOGRAMS_WRITTEN: &str = "x-prometheus-remote-write-histograms-written";
const EXEMPLARS_WRITTEN: &str = "x-prometheus-remote-write-exemplars-written";

/// A version of remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    /// The version of a request: the parameter `proto` of its media type. Without one, it is 1.0.
    ///
    /// # Errors
    /// The media type is not protobuf, or names another message.
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        headers::check_type(headers, &headers::PROTOBUF)?;
        match headers::type_parameter(headers, "proto").as_deref() {
            None | Some("prometheus.WriteRequest") => Ok(Self::V1),
            Some("io.prometheus.write.v2.Request") => Ok(Self::V2),
            Some(message) => {
                let message = headers::shown(message);
                let known = "prometheus.WriteRequest or io.prometheus.write.v2.Request";
                Err(Refusal::Encoding(format!("unsupported message {message}; use {known}")))
            }
        }
    }
}

/// What became of a request.
struct Outcome {
    written: Written,
    refusal: Option<Refusal>,
}

/// Handles a write request.
pub(crate) async fn write(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    if body.is_end_stream() && query.is_some_and(|query| query.contains(ZSTD_PROBE)) {
        return answer("text/plain; charset=utf-8", "1");
    }
    let began = Instant::now();
    let sender = app.sender(PATH, peer, &headers);
    let version = Version::of(&headers);
    let is_v2 = matches!(version, Ok(Version::V2));
    let outcome = match read(&app, version, &headers, body).await {
        Ok((decoded, reservation)) => store(&app, &sender, decoded, reservation).await,
        Err(refusal) => Outcome { written: Written::default(), refusal: Some(refusal) },
    };
    app.count_request(&sender, began, outcome.refusal.as_ref());
    let mut response = outcome.refusal.map_or_else(Response::default, |refusal| refusal.as_text());
    if response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    if is_v2 {
        let headers = response.headers_mut();
        headers.insert(SAMPLES_WRITTEN, outcome.written.samples.into());
        headers.insert(HISTOGRAMS_WRITTEN, outcome.written.histograms.into());
        headers.insert(EXEMPLARS_WRITTEN, HeaderValue::from_static("0"));
    }
    response
}

/// Reads and decodes a request.
async fn read<'app>(
    app: &'app App,
    version: Result<Version, Refusal>,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Decoded<'app>, Reservation), Refusal> {
    let bytes_max = app.limits.request_bytes_max;
    let (bytes, mut reservation) = body::read(&app.budget, bytes_max, body).await?;
    let compression = Compression::of(headers, &[Compression::Snappy, Compression::Zstd])?;
    let version = version?;
    let storage = app.storage()?;
    let expected = compression.claimed_length(&bytes).unwrap_or(0);
    let decoded = off_worker(expected, || {
        let message = compression.decompress(&bytes, bytes_max, &mut reservation)?;
        reservation.release(bytes.capacity());
        drop(bytes);
        let decoded = match version {
            Version::V1 => decode_v1(app, storage, &message, &mut reservation)?,
            Version::V2 => decode_v2(app, storage, &message, &mut reservation)?,
        };
        reservation.release(message.capacity());
        Ok::<_, Refusal>(decoded)
    })?;
    Ok((decoded, reservation))
}

/// Writes a decoded request.
async fn store(
    app: &App,
    sender: &Sender,
    decoded: Decoded<'_>,
    reservation: Reservation,
) -> Outcome {
    let Decoded { batch, invalid, skipped } = decoded;
    match app.write(sender, batch, skipped, reservation).await {
        Ok(written) => Outcome { written, refusal: invalid.map(Refusal::Invalid) },
        Err(refusal) => {
            Outcome { written: refusal.written(), refusal: Some(refusal.and_also(invalid)) }
        }
    }
}
