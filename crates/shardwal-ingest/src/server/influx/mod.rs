//! InfluxDB's line protocol at `/write` and `/api/v2/write`.
//!
//! Each numeric field is a series `measurement_field` with the line's tags. Booleans become 1 and
//! 0, integers the nearest `f64`. Strings are skipped. Characters that a Prometheus name may not
//! contain become `_`. The valid lines of a request are written and acknowledged, even if others
//! are invalid. An invalid line makes the response a 400 that names the line.

use std::io::Read;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use flate2::read::MultiGzDecoder;
use serde_json::json;
use shardwal_timeseries::{Labels, Sample, Storage};

use super::app::App;
use super::batch::{Batch, Complete, Series};
use super::body;
use super::budget::Reservation;
use super::refusal::Refusal;
use line::{LineError, Lines, Point};
use precision::Precision;

pub(crate) mod line;
pub(crate) mod name;
pub(crate) mod precision;

/// Maximum number of invalid lines that a response describes.
const ERRORS_SHOWN_MAX: usize = 10;

/// Bytes reserved per step of inflating.
const INFLATE_STEP: usize = 256 << 10;

/// Handles a write request.
pub(crate) async fn write(
    State(app): State<Arc<App>>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let began = Instant::now();
    let answer = take(&app, &query, &headers, body).await;
    let invalid = |bad: &BadLines| Refusal::Invalid(bad.summary());
    let refusal = match &answer {
        Ok(bad) => (bad.count > 0).then(|| invalid(bad)),
        Err(_) => None,
    };
    app.counters.count_request("/api/v2/write", began, refusal.as_ref().or(answer.as_ref().err()));
    match answer {
        Ok(bad) if bad.count > 0 => bad.answer(),
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
    query: &[(String, String)],
    headers: &HeaderMap,
    body: Body,
) -> Result<BadLines, Refusal> {
    let bytes_max = app.limits.request_bytes_max;
    let (mut bytes, mut reservation) = body::read(&app.budget, bytes_max, body).await?;
    let unit = query.iter().find(|(name, _)| name == "precision").map_or("", |(_, unit)| unit);
    let precision = Precision::named(unit).ok_or_else(|| {
        Refusal::Invalid(format!("unknown precision {unit:?}; use ns, us, ms, s, m or h"))
    })?;
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
    let storage = app.storage()?;
    match encoding {
        b"" | b"identity" => {}
        b"gzip" => bytes = inflate(&bytes, bytes_max, &mut reservation)?,
        _ => {
            let encoding = String::from_utf8_lossy(encoding);
            return Err(Refusal::Encoding(format!("unsupported encoding {encoding:?}; use gzip")));
        }
    }
    let (batch, bad) = Reading::new(app, storage, precision).read(&bytes, &mut reservation)?;
    drop(bytes);
    app.write(batch, reservation).await?;
    Ok(bad)
}

/// Inflates a gzip body, within the limit and the budget.
///
/// # Errors
/// The body is not gzip or too large, or the budget is exhausted.
pub(crate) fn inflate(
    body: &[u8],
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Refusal> {
    let mut decoder = MultiGzDecoder::new(body);
    let mut inflated = Vec::new();
    loop {
        if !reservation.make_room(&mut inflated, INFLATE_STEP) {
            return Err(Refusal::InFlight);
        }
        let room = inflated.capacity() - inflated.len();
        let step = decoder.by_ref().take(room as u64).read_to_end(&mut inflated);
        let read =
            step.map_err(|error| Refusal::Invalid(format!("the body is not gzip: {error}")))?;
        if inflated.len() > bytes_max {
            let (found, max) = (inflated.len() as u64, bytes_max as u64);
            return Err(Refusal::TooLarge { what: "the inflated length", found, max });
        }
        if read < room {
            return Ok(inflated);
        }
    }
}

/// The samples of a request, while it is parsed.
struct Reading<'request> {
    batch: Batch<'request>,
    precision: Precision,
    /// Samples of the current line. They count only if the whole line is valid.
    line: Vec<(Series, Sample)>,
    /// Cache key of the current series. The buffer is reused.
    key: Vec<u8>,
}

impl<'request> Reading<'request> {
    fn new(app: &'request App, storage: &'request Storage, precision: Precision) -> Self {
        let batch = Batch::new(storage, &app.influx_series);
        Self { batch, precision, line: Vec::new(), key: Vec::new() }
    }

    fn read(
        mut self,
        text: &[u8],
        reservation: &mut Reservation,
    ) -> Result<(Complete<'request>, BadLines), Refusal> {
        let mut bad = BadLines::default();
        let now_ms = milliseconds_since_1970();
        for line in Lines::new(text) {
            self.line.clear();
            let read = match line {
                Ok(point) => self.read_line(&point, now_ms, reservation),
                Err(error) => Err(Unreadable::Line(error)),
            };
            match read {
                Ok(()) => {}
                Err(Unreadable::Line(error)) => {
                    bad.add(error);
                    continue;
                }
                Err(Unreadable::Request(refusal)) => return Err(refusal),
            }
            for (series, sample) in &self.line {
                self.batch.add(*series, *sample, reservation)?;
            }
        }
        Ok((self.batch.complete(), bad))
    }

    fn read_line(
        &mut self,
        point: &Point<'_>,
        now_ms: i64,
        reservation: &mut Reservation,
    ) -> Result<(), Unreadable> {
        let timestamp_ms = point.timestamp.map_or(now_ms, |at| self.precision.milliseconds(at));
        for field in point.fields() {
            let field = field.map_err(|what| point.error(what))?;
            let Some(value) = field.value else { continue };
            self.key.clear();
            self.key.extend_from_slice(point.head);
            // A newline separates them, because no line contains one outside a string.
            self.key.push(b'\n');
            self.key.extend_from_slice(field.key);
            let labels = || labels_of(point, field.key);
            let series = self.batch.series(&self.key, reservation, labels)?;
            if !reservation.make_room(&mut self.line, 1) {
                return Err(Unreadable::Request(Refusal::InFlight));
            }
            self.line.push((series, Sample { timestamp_ms, value }));
        }
        Ok(())
    }
}

/// The labels of a field that is not in the cache.
fn labels_of(point: &Point<'_>, field: &[u8]) -> Result<Labels, Unreadable> {
    let pairs = name::labels(point.head, field).map_err(|what| point.error(what))?;
    Ok(Labels::new(pairs).map_err(|error| point.error(error.to_string()))?)
}

/// Why a line was not read.
enum Unreadable {
    /// The line is invalid.
    Line(LineError),
    /// The whole request is refused.
    Request(Refusal),
}

impl From<Refusal> for Unreadable {
    fn from(refusal: Refusal) -> Self {
        Self::Request(refusal)
    }
}

impl From<LineError> for Unreadable {
    fn from(error: LineError) -> Self {
        Self::Line(error)
    }
}

/// The invalid lines of a request.
#[derive(Debug, Default)]
struct BadLines {
    first: Vec<LineError>,
    count: usize,
}

impl BadLines {
    fn add(&mut self, error: LineError) {
        if self.first.len() < ERRORS_SHOWN_MAX {
            self.first.push(error);
        }
        self.count += 1;
    }

    fn summary(&self) -> String {
        let lines: Vec<String> = self.first.iter().map(LineError::to_string).collect();
        format!("partial write: {}; dropped={}", lines.join("; "), self.count)
    }

    /// Response 400, with the fields of both versions of InfluxDB, and the lines.
    fn answer(&self) -> Response<Body> {
        let errors: Vec<_> = self
            .first
            .iter()
            .map(|error| json!({ "line": error.line, "message": error.to_string() }))
            .collect();
        let summary = self.summary();
        let json = json!({
            "code": "invalid",
            "message": summary,
            "error": summary,
            "line": self.first.first().map(|error| error.line),
            "dropped": self.count,
            "errors": errors,
        });
        let mut response = Response::new(Body::from(json.to_string()));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

fn milliseconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
