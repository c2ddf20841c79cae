//! Prometheus remote read: a snappy block that contains a `ReadRequest`.
//!
//! The response holds the samples of each query, in one of two types: `SAMPLES`, one message, or
//! `STREAMED_XOR_CHUNKS`, a stream of frames. The first type that the client takes and the server
//! knows is used, as in Prometheus. Only `SAMPLES` has native histograms here, so it comes first if
//! there are any.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Response};
use shardwal_timeseries::{Matcher, Storage};

use super::app::{App, OpenRead};
use super::body;
use super::compression::Compression;
use super::headers;
use super::pieces::PieceBody;
use super::protobuf;
use super::read::{answer, compile, find};
use super::read_limits;
use super::refusal::Refusal;
use super::search::{Found, Selection};
use super::selector;
use frames::{Frames, HELD_BYTES};
use message::{MatcherText, Query, ReadRequest};

mod frames;
mod message;
mod samples;

/// Maximum bytes of a request, before and after decompression.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// The type of a streamed response.
const CHUNKED: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// A type of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Samples,
    StreamedXorChunks,
}

impl Kind {
    /// The known ones of the accepted types, in order. Without any, it is `SAMPLES`.
    fn negotiate(accepted: &[u64]) -> Result<Vec<Self>, Refusal> {
        let known = |kind: &u64| match kind {
            0 => Some(Self::Samples),
            1 => Some(Self::StreamedXorChunks),
            _ => None,
        };
        match accepted {
            [] => Ok(vec![Self::Samples]),
            _ => match accepted.iter().filter_map(known).collect::<Vec<_>>() {
                none if none.is_empty() => {
                    let why = "unknown response types; use SAMPLES or STREAMED_XOR_CHUNKS";
                    Err(Refusal::Invalid(why.to_owned()))
                }
                kinds => Ok(kinds),
            },
        }
    }
}

/// Handles a read request.
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let until = Instant::now() + app.limits.read_time_max;
    respond(&app, until, &headers, body).await.unwrap_or_else(|refusal| refusal.as_text())
}

async fn respond(
    app: &Arc<App>,
    until: Instant,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let (open, selections, kinds) = request(app, headers, body).await?;
    let mut results = Vec::new();
    for selection in selections {
        results.push(find(app, until, selection).await?);
    }
    let has_histograms = results.iter().any(Found::has_histograms);
    let with_histograms = has_histograms && kinds.contains(&Kind::Samples);
    let kind = if with_histograms { Kind::Samples } else { kinds[0] };
    match kind {
        Kind::Samples => samples::respond(app, until, open, results).await,
        Kind::StreamedXorChunks => {
            let mut reservation = app.read_budget.reserve_nothing();
            reservation.grow(HELD_BYTES)?;
            let frames = Frames::new(results, reservation);
            let body = PieceBody::new(Arc::clone(app), until, open, frames);
            Ok(answer(CHUNKED, Body::new(body)))
        }
    }
}

/// Reads a request: what each query selects, and the types of responses, at least one. The read is
/// open once the request has arrived.
async fn request(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(OpenRead, Vec<Selection>, Vec<Kind>), Refusal> {
    let bytes_max = app.limits.request_bytes_max.min(REQUEST_BYTES_MAX);
    let (bytes, mut reservation) = body::read(&app.budget, bytes_max, body).await?;
    let open = app.open_read()?;
    headers::check_type(headers, &headers::PROTOBUF)?;
    let compression = Compression::of(headers, &[Compression::Snappy])?;
    let storage = app.storage()?;
    let message = compression.decompress(&bytes, bytes_max, &mut reservation)?;
    let request = ReadRequest::parse(&message)?;
    let kinds = Kind::negotiate(&request.accepted)?;
    let matchers = || request.queries.iter().flat_map(|query| &query.matchers);
    read_limits::check_selectors(request.queries.len())?;
    for query in &request.queries {
        read_limits::check_matchers(query.matchers.len()).map_err(Refusal::Invalid)?;
    }
    let patterns = matchers().filter(|matcher| matcher.is_pattern()).count();
    let pattern_bytes_max = read_limits::pattern_bytes_max(patterns)?;
    let selections = compile(app, || {
        let selections =
            request.queries.iter().map(|query| select(storage, query, pattern_bytes_max));
        selections.collect::<Result<_, _>>()
    });
    Ok((open, selections.await?, kinds))
}

/// What a query selects.
fn select(
    storage: &Storage,
    query: &Query<'_>,
    pattern_bytes_max: usize,
) -> Result<Selection, Refusal> {
    let matcher = |text: &MatcherText<'_>| {
        let (name, value) = (text.name.to_owned(), text.value.to_owned());
        selector::matcher(text.operator, name, value, pattern_bytes_max).map_err(Refusal::Invalid)
    };
    let matchers = query.matchers.iter().map(matcher);
    let matchers: Vec<Matcher> = matchers.collect::<Result<_, _>>()?;
    Ok(Selection::new(storage, vec![matchers], query.start..=query.end))
}
