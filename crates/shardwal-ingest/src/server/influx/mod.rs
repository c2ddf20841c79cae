//! InfluxDB's line protocol at `/write`, `/api/v2/write` and `/api/v3/write_lp`.
//!
//! Each numeric field is a series `measurement_field` with the line's tags. Booleans become 1 and
//! 0, integers the nearest `f64`. Strings and timestamps are skipped and counted. Names may be any
//! UTF-8, and no two become one. The valid lines of a request are written and acknowledged, even if
//! others are invalid, unless a client of version 3 asks for all or none. An invalid line makes the
//! response a 400 that names the line.

use std::sync::Arc;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Response, StatusCode};

use super::app::App;
use super::body;
use super::gzip;
use super::headers;
use super::refusal::Refusal;
use super::sender::{Peer, Sender};
pub(crate) use api::Api;
use api::WriteOptions;
use bad_lines::BadLines;
use reading::{Parsed, Reading};

mod api;
mod bad_lines;
pub(crate) mod handshake;
mod line;
mod name;
mod precision;
mod reading;

/// Handles a write of the version of the API that its route names.
pub(crate) async fn write(
    State(app): State<Arc<App>>,
    Extension(api): Extension<Api>,
    Extension(peer): Extension<Peer>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let began = Instant::now();
    let sender = app.sender(api.path(), peer, &headers);
    let answer = take(&app, &sender, api, &query, &headers, body).await;
    let invalid = |bad: &BadLines| Refusal::Invalid(bad.summary());
    let refusal = match &answer {
        Ok(bad) => (bad.count > 0).then(|| invalid(bad)),
        Err(_) => None,
    };
    app.count_request(&sender, began, refusal.as_ref().or(answer.as_ref().err()));
    match answer {
        Ok(bad) if bad.count > 0 => bad.answer(api),
        Ok(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Err(refusal) => refusal.as_json(),
    }
}

async fn take(
    app: &App,
    sender: &Sender,
    api: Api,
    query: &[(String, String)],
    headers: &HeaderMap,
    body: Body,
) -> Result<BadLines, Refusal> {
    let bytes_max = app.limits.request_bytes_max;
    let (bytes, mut reservation) = body::read(&app.budget, bytes_max, body).await?;
    let WriteOptions { precision, accept_partial } = api.options(query)?;
    headers::check_type(headers, &headers::LINES)?;
    let storage = app.storage()?;
    let is_gzip = headers::is_gzip(headers)?;
    let Parsed { mut batch, mut bad, skipped } =
        gzip::parse(bytes, is_gzip, bytes_max, &mut reservation, |lines, reservation| {
            Reading::new(app, storage, precision).read(lines, reservation)
        })?;
    batch.all_or_none = !accept_partial;
    bad.refuse_all = !accept_partial;
    if bad.count > 0 && bad.refuse_all {
        return Ok(bad);
    }
    let written = app.write(sender, batch, skipped, reservation).await;
    let also = (bad.count > 0).then(|| bad.summary());
    written.map_err(|refusal| refusal.and_also(also))?;
    Ok(bad)
}
