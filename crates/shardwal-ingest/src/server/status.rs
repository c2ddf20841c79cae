//! The server's status: the page, its numbers as JSON, and metrics for Prometheus. This file does
//! not know the protocols.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use serde_json::{Value, json};
use shardwal::{Latency, ShardStats};
use shardwal_timeseries::Storage;

use super::app::App;
use super::read::answer;
use super::refusal::REASONS;
use super::skipped;
use super::tenants::Tenants;

/// Handles `/`.
pub(crate) async fn page() -> Response<Body> {
    answer("text/html; charset=utf-8", include_str!("status.html"))
}

/// Handles `/status.json`.
pub(crate) async fn numbers(State(app): State<Arc<App>>) -> Response<Body> {
    let storage = app.storage_if_open();
    let stats = storage.map(|storage| storage.log().stats()).unwrap_or_default();
    let shards: Vec<Value> = stats.shards.iter().map(shard).collect();
    let refusals = named(REASONS, app.counters.refusals());
    let skipped = named(skipped::names(), app.skipped.totals());
    let [replayed, to_replay] = app.replay_progress();
    let history = app.history.lock().unwrap_or_else(PoisonError::into_inner).as_json();
    let status = json!({
        "phase": app.phase(),
        "replay": { "bytes_done": replayed, "bytes_total": to_replay },
        "samples": app.counters.samples(),
        "samples_in_memory": storage.map_or(0, Storage::samples),
        "samples_expired": storage.map_or(0, Storage::expired_samples),
        "series": storage.map_or(0, Storage::series_count),
        "requests": app.counters.requests(),
        "refusals": refusals,
        "skipped": skipped,
        "senders": app.senders.as_json(),
        "tenants": app.tenants.as_ref().map(Tenants::as_json),
        "reads": app.open_reads(),
        "in_flight_bytes": app.budget.in_use(),
        "in_flight_bytes_max": app.limits.in_flight_bytes_max,
        "disk": { "free_bytes": stats.free_space.free_bytes, "state": stats.free_space.state.to_string() },
        "shards": shards,
        "history": history,
    });
    answer("application/json", status.to_string())
}

fn named<const COUNT: usize>(names: [&str; COUNT], counts: [u64; COUNT]) -> Value {
    let pairs = names.into_iter().zip(counts);
    pairs.map(|(name, count)| (name.to_owned(), json!(count))).collect()
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
    metrics::gauge!("ingest_ready").set(f64::from(u8::from(app.phase() == "ready")));
    if let Some(storage) = app.storage_if_open() {
        metrics::gauge!("ingest_series").set(storage.series_count() as f64);
        metrics::gauge!("ingest_samples_in_memory").set(storage.samples() as f64);
        let since_snapshot = storage.samples_since_snapshot() as f64;
        metrics::gauge!("ingest_samples_since_snapshot").set(since_snapshot);
        metrics::counter!("ingest_samples_expired_total").absolute(storage.expired_samples());
    }
    answer("text/plain; version=0.0.4; charset=utf-8", app.metrics.render())
}
