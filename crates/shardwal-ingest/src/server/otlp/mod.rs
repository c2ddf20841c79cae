//! OTLP metrics over HTTP at `/v1/metrics`, in protobuf or JSON, also gzipped.
//!
//! Names are stored as they are sent. A point that cannot be stored is left out, and the response
//! counts it in its `partial_success`. Server-side failures are answered 503 with `Retry-After`,
//! which senders retry, and invalid requests 400, which they do not.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prost::Message;
use serde_json::json;

use super::app::App;
use super::body;
use super::gzip;
use super::headers;
use super::refusal::Refusal;
use super::sender::{Peer, Sender};
use super::skipped::Kind;
use decode::{Decoded, decode};
use json::Rewritten;

mod attributes;
mod decode;
mod exponential;
mod json;
mod point;
mod series;

const PATH: &str = "/v1/metrics";

/// The media types of requests. A response has the type of its request.
const TYPES: [&str; 5] = {
    let [a, b, c, d] = headers::PROTOBUF;
    [headers::JSON, a, b, c, d]
};

/// The code of an invalid argument, and of a server that is not available, in a `Status`.
const INVALID_ARGUMENT: i32 = 3;
const UNAVAILABLE: i32 = 14;

/// The response to a request that was written, at least in part.
#[derive(Clone, PartialEq, Message)]
struct ExportMetricsServiceResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_data_points: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// The response to a refused request.
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// Handles an export.
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let began = Instant::now();
    let sender = app.sender(PATH, peer, &headers);
    let taken = take(&app, &sender, &headers, body).await;
    let left_out = taken.as_ref().ok().and_then(Option::as_ref);
    let left_out = left_out.map(|partial| Refusal::Invalid(partial.error_message.clone()));
    app.count_request(&sender, began, taken.as_ref().err().or(left_out.as_ref()));
    let is_json = headers::essence(&headers) == headers::JSON;
    let encode: fn(&_) -> _ = if is_json { Reply::to_json } else { Reply::to_protobuf };
    let (mut response, body) = match taken {
        Ok(partial) => (Response::new(Body::empty()), encode(&Reply::Written(partial))),
        Err(refusal) => {
            let response = refusal.as_text();
            let status = response.status();
            let is_passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            let code = if is_passing { UNAVAILABLE } else { INVALID_ARGUMENT };
            let status = Status { code, message: super::excerpt::excerpt(&refusal) };
            (response, encode(&Reply::Refused(status)))
        }
    };
    *response.body_mut() = Body::from(body);
    let kind = if is_json { headers::JSON } else { headers::PROTOBUF[0] };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The body of a response.
enum Reply {
    /// The points that were left out, if any were.
    Written(Option<PartialSuccess>),
    Refused(Status),
}

impl Reply {
    fn to_protobuf(&self) -> Vec<u8> {
        match self {
            Self::Written(partial) => {
                let partial_success = partial.clone();
                ExportMetricsServiceResponse { partial_success }.encode_to_vec()
            }
            Self::Refused(status) => status.encode_to_vec(),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        let value = match self {
            Self::Written(None) => json!({}),
            Self::Written(Some(PartialSuccess { rejected_data_points, error_message })) => {
                // A number of 64 bits is a string in this encoding.
                let points = rejected_data_points.to_string();
                let partial =
                    json!({ "rejectedDataPoints": points, "errorMessage": error_message });
                json!({ "partialSuccess": partial })
            }
            Self::Refused(Status { code, message }) => json!({ "code": code, "message": message }),
        };
        value.to_string().into_bytes()
    }
}

/// Writes a request. Returns what was left out of it.
async fn take(
    app: &App,
    sender: &Sender,
    headers: &HeaderMap,
    body: Body,
) -> Result<Option<PartialSuccess>, Refusal> {
    let bytes_max = app.limits.request_bytes_max;
    let (bytes, mut reservation) = body::read(&app.budget, bytes_max, body).await?;
    headers::check_type(headers, &TYPES)?;
    let is_json = headers::essence(headers) == headers::JSON;
    let is_gzip = headers::is_gzip(headers)?;
    let storage = app.storage()?;
    let Decoded { batch, rejected, skipped } =
        gzip::parse(bytes, is_gzip, bytes_max, &mut reservation, |message, reservation| {
            if !is_json {
                return decode(app, storage, message, reservation);
            }
            let Rewritten { message, unknown } = json::rewrite(message, reservation)?;
            if message.is_empty() && unknown > 0 {
                let why = "the request has no \"resourceMetrics\", but other fields";
                return Err(Refusal::Invalid(why.to_owned()));
            }
            let mut decoded = decode(app, storage, &message, reservation)?;
            decoded.skipped.add(Kind::UnknownFields, unknown);
            reservation.release(message.capacity());
            Ok(decoded)
        })?;
    let written = app.write(sender, batch, skipped, reservation).await;
    let message = rejected.text();
    let mut points = rejected.points;
    let message = match written {
        Ok(_) => message,
        // A series that is left out counts as a point. A point of a histogram has several.
        Err(refusal @ Refusal::SeriesLimit { count, .. }) => {
            points += count as u64;
            Some(super::excerpt::excerpt(&refusal.and_also(message)))
        }
        Err(refusal) => return Err(refusal),
    };
    let rejected_data_points = i64::try_from(points).unwrap_or(i64::MAX);
    Ok(message.map(|error_message| PartialSuccess { rejected_data_points, error_message }))
}
