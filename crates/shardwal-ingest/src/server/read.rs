//! Read requests: lists series and exports their samples.
//!
//! `/api/v1/series` responds like Prometheus. `/api/v1/export` responds like VictoriaMetrics, with
//! a line of JSON per series. Samples are written series by series, at the pace of the client. This
//! file does not know how samples are stored.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderValue, Response, header};
use hyper::body::Frame;
use serde_json::{Value, json};
use shardwal_timeseries::{Labels, Matcher, TimeSeries};
use tokio::sync::mpsc;

use super::app::App;
use super::refusal::Refusal;
use super::selector;

/// Number of lines buffered for the client.
const LINES_AHEAD: usize = 4;

type Parameters = Query<Vec<(String, String)>>;

/// Handles `/api/v1/series?match[]=..`.
pub(crate) async fn series(
    State(app): State<Arc<App>>,
    Query(query): Parameters,
) -> Response<Body> {
    let found = async {
        let selectors = selectors(&query)?;
        let storage = app.storage()?;
        let _permit = app.reads.acquire().await;
        let mut found = BTreeMap::new();
        for labels in selectors.iter().flat_map(|selector| storage.series(selector)) {
            found.insert(labels.to_string(), labels);
        }
        Ok::<_, Refusal>(found)
    };
    match found.await {
        Ok(found) => {
            let data: Vec<Value> = found.values().map(object).collect();
            answer("application/json", json!({ "status": "success", "data": data }).to_string())
        }
        Err(refusal) => refusal.as_json(),
    }
}

/// Handles `/api/v1/export?match[]=..&start=..&end=..`, with both times in seconds.
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    Query(query): Parameters,
) -> Response<Body> {
    let asked = selectors(&query).and_then(|selectors| {
        app.storage()?;
        Ok((selectors, range(&query)?))
    });
    let (selectors, range) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return refusal.as_json(),
    };
    let (lines, body) = mpsc::channel(LINES_AHEAD);
    tokio::spawn(async move {
        let _permit = app.reads.acquire().await;
        let app = Arc::clone(&app);
        let write = tokio::task::spawn_blocking(move || {
            write_lines(&app, &selectors, &range, &lines);
        });
        // A panic there ends the body early, which the client notices.
        drop(write.await);
    });
    let mut response = Response::new(Body::new(Lines(body)));
    let json_lines = HeaderValue::from_static("application/stream+json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json_lines);
    response
}

fn write_lines(
    app: &App,
    selectors: &[Vec<Matcher>],
    range: &RangeInclusive<i64>,
    lines: &mpsc::Sender<Bytes>,
) {
    let Some(storage) = app.storage_if_open() else { return };
    let mut written = std::collections::HashSet::new();
    for selector in selectors {
        for series in storage.query(selector, range.clone()) {
            let first_time = selectors.len() == 1 || written.insert(series.labels.to_string());
            if first_time
                && !series.samples.is_empty()
                && lines.blocking_send(line(&series)).is_err()
            {
                return;
            }
        }
    }
}

fn line(series: &TimeSeries) -> Bytes {
    let values: Vec<Value> = series.samples.iter().map(|sample| value(sample.value)).collect();
    let timestamps: Vec<i64> = series.samples.iter().map(|sample| sample.timestamp_ms).collect();
    let line =
        json!({ "metric": object(&series.labels), "values": values, "timestamps": timestamps });
    Bytes::from(format!("{line}\n"))
}

/// Formats a value like VictoriaMetrics, because JSON has no such numbers.
fn value(value: f64) -> Value {
    match value {
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value if value.is_nan() => Value::Null,
        value => json!(value),
    }
}

fn object(labels: &Labels) -> Value {
    labels.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

fn selectors(query: &[(String, String)]) -> Result<Vec<Vec<Matcher>>, Refusal> {
    let asked = query.iter().filter(|(name, _)| name == "match[]" || name == "match");
    let selectors: Result<Vec<_>, _> = asked.map(|(_, text)| selector::parse(text)).collect();
    match selectors {
        Ok(selectors) if selectors.is_empty() => {
            Err(Refusal::Invalid("match[] is missing".to_owned()))
        }
        Ok(selectors) => Ok(selectors),
        Err(why) => Err(Refusal::Invalid(format!("match[]: {why}"))),
    }
}

/// Parses `start` and `end` to milliseconds. Either may be missing.
#[expect(clippy::cast_possible_truncation, reason = "the cast saturates, as intended")]
fn range(query: &[(String, String)]) -> Result<RangeInclusive<i64>, Refusal> {
    let bound = |wanted: &str, default| {
        let Some((_, text)) = query.iter().find(|(name, _)| name == wanted) else {
            return Ok(default);
        };
        let seconds: f64 = text.parse().map_err(|_| {
            Refusal::Invalid(format!("{wanted}={text:?} is not a number of seconds"))
        })?;
        Ok((seconds * 1e3) as i64)
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

/// A body that is produced while it is sent.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
