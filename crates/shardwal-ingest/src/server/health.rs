//! Health and readiness, for supervisors, load balancers and clients of InfluxDB 2.
//!
//! `/health` fails if only a restart helps: a shard failed. `/ready` fails if requests are refused
//! now: while the log is replayed, while the server closes, and if a shard failed. Neither needs a
//! token. They show nothing about what is stored.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::app::App;
use super::read::answer;

/// Seconds after which a client should ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Handles `/health`.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response<Body> {
    let has_failed = has_failed(&app);
    let message = if has_failed { "a shard has failed: restart the server" } else { app.phase() };
    respond(
        !has_failed,
        &json!({
            "name": "shardwal-ingest",
            "status": if has_failed { "fail" } else { "pass" },
            "message": message,
            "checks": [],
            "version": env!("CARGO_PKG_VERSION"),
        }),
    )
}

/// Handles `/ready`.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    let phase = if has_failed(&app) { "failed" } else { app.phase() };
    let up = format!("{:.3}s", app.began.elapsed().as_secs_f64());
    respond(phase == "ready", &json!({ "status": phase, "up": up }))
}

/// Whether a shard takes no more writes until the server is restarted.
fn has_failed(app: &App) -> bool {
    let stats = app.storage_if_open().map(|storage| storage.log().stats());
    stats.is_some_and(|stats| stats.shards.iter().any(|shard| shard.poisoned))
}

fn respond(passes: bool, body: &Value) -> Response<Body> {
    let mut response = answer("application/json", body.to_string());
    if !passes {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}
