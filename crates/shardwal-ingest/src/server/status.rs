//! The server's status: the page, its numbers as JSON, and metrics for Prometheus. This file does
//! not know the protocols.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde_json::{Value, json};
use shardwal::{Latency, ShardStats};

use super::app::App;
use super::read::answer;
use super::refusal::REASONS;

/// Handles `/`.
pub(crate) async fn page() -> Response<Body> {
    answer("text/html; charset=utf-8", include_str!("status.html"))
}

/// Handles `/status.json`.
pub(crate) async fn numbers(State(app): State<Arc<App>>) -> Response<Body> {
    let stats = app.storage_if_open().map(|storage| storage.log().stats()).unwrap_or_default();
    let shards: Vec<Value> = stats.shards.iter().map(shard).collect();
    let refusals: serde_json::Map<_, _> = REASONS
        .iter()
        .zip(app.counters.refusals())
        .map(|(reason, count)| ((*reason).to_owned(), json!(count)))
        .collect();
    let [replayed, to_replay] = app.replay_progress();
    let history = app.history.lock().unwrap_or_else(PoisonError::into_inner).as_json();
    let status = json!({
        "phase": app.phase(),
        "replay": { "bytes_done": replayed, "bytes_total": to_replay },
        "samples": app.counters.samples(),
        "requests": app.counters.requests(),
        "refusals": refusals,
        "in_flight_bytes": app.budget.in_use(),
        "in_flight_bytes_max": app.limits.in_flight_bytes_max,
        "disk": { "free_bytes": stats.free_space.free_bytes, "state": stats.free_space.state.to_string() },
        "shards": shards,
        "history": history,
    });
    answer("application/json", status.to_string())
}

fn shard(stats: &ShardStats) -> Value {
    json!({
        "records": stats.records,
        "bytes": stats.bytes,
        "commits": stats.commits,
        "syncs": stats.syncs,
        "refused_records": stats.refused_records,
        "poisoned": stats.poisoned,
        "queue_depth": stats.queue_depth,
        "queue_depth_max": stats.queue_depth_max,
        "records_per_commit": stats.records_per_commit.mean,
        "records_per_commit_p99": stats.records_per_commit.p99,
        "write": latency(&stats.write),
        "sync": latency(&stats.sync),
        "acknowledged": latency(&stats.acknowledged),
    })
}

fn latency(latency: &Latency) -> Value {
    json!({
        "p50_micros": latency.p50_nanos / 1_000,
        "p99_micros": latency.p99_nanos / 1_000,
        "max_micros": latency.max_nanos / 1_000,
    })
}

/// Handles `/metrics`.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    metrics::gauge!("ingest_in_flight_bytes").set(app.budget.in_use() as f64);
    answer("text/plain; version=0.0.4; charset=utf-8", app.metrics.render())
}
