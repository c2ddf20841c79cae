//! Read requests: lists series and exports their samples.
//!
//! `/api/v1/series` responds like Prometheus. `/api/v1/export` responds like VictoriaMetrics, with
//! lines of JSON, in no order of series. Both are produced piece by piece, at the pace of the
//! client. This file does not know how samples are stored.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, header};
use shardwal_timeseries::Matcher;

use super::app::{App, OpenRead};
use super::body::off_worker;
use super::headers;
use super::parameters::Parameters;
use super::pieces::{Piece, PieceBody, produce};
use super::read_json::{Export, SeriesList};
use super::read_limits;
use super::refusal::Refusal;
use super::search::{Found, Search, Selection};
use super::selector;
use super::times;

/// Handles `/api/v1/series?match[]=..&start=..&end=..`.
pub(crate) async fn series(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let until = Instant::now() + app.limits.read_time_max;
    match find_series(&app, until, request).await {
        Ok(body) => answer("application/json", Body::new(body)),
        Err(refusal) => refusal.as_prometheus(),
    }
}

async fn find_series(
    app: &Arc<App>,
    until: Instant,
    request: Request,
) -> Result<PieceBody<SeriesList>, Refusal> {
    let (open, selection) = selection(app, request).await?;
    let list = SeriesList::new(find(app, until, selection).await?);
    Ok(PieceBody::new(Arc::clone(app), until, open, list))
}

/// Finds the series of a selection, sorted by their labels.
///
/// # Errors
/// The budget for reads is exhausted, or the search takes until `until`.
pub(crate) async fn find(
    app: &Arc<App>,
    until: Instant,
    selection: Selection,
) -> Result<Found, Refusal> {
    let mut search = Search::new(selection, app.read_budget.reserve_nothing());
    while Instant::now() < until {
        let produced = produce(Arc::clone(app), search).await;
        let (after, piece) = produced.ok_or(Refusal::ReadTime)?;
        search = after;
        if let Some(exhausted) = search.exhausted {
            return Err(exhausted.into());
        }
        if matches!(piece, Piece::End) {
            return Ok(off_worker(usize::MAX, || search.into_found()));
        }
    }
    Err(Refusal::ReadTime)
}

/// Handles `/api/v1/export?match[]=..&start=..&end=..`.
pub(crate) async fn export(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let until = Instant::now() + app.limits.read_time_max;
    match export_selected(&app, until, request).await {
        Ok(body) => answer("application/stream+json; charset=utf-8", Body::new(body)),
        Err(refusal) => refusal.as_prometheus(),
    }
}

async fn export_selected(
    app: &Arc<App>,
    until: Instant,
    request: Request,
) -> Result<PieceBody<Export>, Refusal> {
    let (open, selection) = selection(app, request).await?;
    Ok(PieceBody::new(Arc::clone(app), until, open, Export::new(selection)))
}

/// What a read selects. The read is open once its parameters have arrived.
async fn selection(app: &App, request: Request) -> Result<(OpenRead, Selection), Refusal> {
    let query = Parameters::read(&app.budget, request).await?;
    let open = app.open_read()?;
    let selectors = compile(app, || selectors(&query)).await?;
    Ok((open, Selection::new(app.storage()?, selectors, range(&query)?)))
}

/// Compiles patterns, which takes milliseconds each.
pub(crate) async fn compile<T>(app: &App, compile: impl FnOnce() -> T) -> T {
    // The semaphore is never closed.
    let _turn = app.reads.acquire().await;
    off_worker(usize::MAX, compile)
}

fn selectors(query: &Parameters) -> Result<Vec<Vec<Matcher>>, Refusal> {
    let asked = || query.all("match[]").chain(query.all("match"));
    read_limits::check_selectors(asked().count())?;
    // Each pattern has an operator with a tilde. Others are counted in vain.
    let patterns = asked().map(|text| text.matches('~').count()).sum();
    let bytes_max = read_limits::pattern_bytes_max(patterns)?;
    let selectors: Result<Vec<_>, _> =
        asked().map(|text| selector::parse(text, bytes_max)).collect();
    match selectors {
        Ok(selectors) if selectors.is_empty() => {
            Err(Refusal::Invalid("match[] is missing".to_owned()))
        }
        Ok(selectors) => Ok(selectors),
        Err(why) => Err(Refusal::Invalid(format!("match[]: {why}"))),
    }
}

/// Parses `start` and `end` to milliseconds. Either may be missing.
fn range(query: &Parameters) -> Result<RangeInclusive<i64>, Refusal> {
    let bound = |wanted: &str, default| {
        let Some(text) = query.get(wanted) else { return Ok(default) };
        times::milliseconds(text).ok_or_else(|| {
            let text = headers::shown(text);
            Refusal::Invalid(format!("{wanted}={text} is neither seconds nor RFC 3339"))
        })
    };
    Ok(bound("start", i64::MIN)?..=bound("end", i64::MAX)?)
}

/// Builds a response whose body is complete.
pub(crate) fn answer(content_type: &'static str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
