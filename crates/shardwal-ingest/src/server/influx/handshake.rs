//! What clients of InfluxDB and QuestDB ask before they write: whether the server is there, which
//! databases it has, which protocol it speaks. This file does not know writes.
//!
//! The server has one database, by whatever name a client calls it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::server::app::App;
use crate::server::excerpt::excerpt;
use crate::server::parameters::Parameters;
use crate::server::read::answer;

/// The version of InfluxDB whose requests are answered here. Clients compare it with others.
const VERSION: &str = "1.8.10";

/// The only database.
const DATABASE: &str = "shardwal";

/// Maximum number of statements in a query.
const STATEMENTS_MAX: usize = 100;

/// Handles `/ping`: 204, or 200 with the version if `verbose` is set.
pub(crate) async fn ping(Query(query): Query<Vec<(String, String)>>) -> Response<Body> {
    let value = query.iter().find(|(name, _)| name == "verbose").map_or("", |(_, value)| value);
    let is_verbose = !["", "0", "false"].contains(&value);
    let mut response = if is_verbose {
        answer("application/json", json!({ "version": VERSION }).to_string())
    } else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response
    };
    let headers = response.headers_mut();
    for (name, value) in [("x-influxdb-version", VERSION), ("x-influxdb-build", "OSS")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// Handles `/settings` of QuestDB: of its versions of line protocol, 1 is the one in text.
pub(crate) async fn settings() -> Response<Body> {
    let settings = json!({ "config": { "line.proto.support.versions": [1] } });
    answer("application/json", settings.to_string())
}

/// Handles `/query` of InfluxDB 1, as far as clients need it to begin to write.
pub(crate) async fn query(State(app): State<Arc<App>>, request: Request) -> Response<Body> {
    let parameters = match Parameters::read(&app.budget, request).await {
        Ok(parameters) => parameters,
        Err(refusal) => return refusal.as_json(),
    };
    let results = results(parameters.get("q").unwrap_or_default());
    let (status, body) = match results {
        Ok(results) => (StatusCode::OK, json!({ "results": results })),
        Err(why) => (StatusCode::BAD_REQUEST, json!({ "error": why })),
    };
    let mut response = answer("application/json", body.to_string());
    *response.status_mut() = status;
    response
}

/// The result of each statement.
fn results(statements: &str) -> Result<Vec<Value>, String> {
    let statements = split(statements);
    if statements.is_empty() {
        return Err("missing required parameter \"q\"".to_owned());
    }
    if statements.len() > STATEMENTS_MAX {
        return Err(format!("a query has at most {STATEMENTS_MAX} statements"));
    }
    statements.iter().enumerate().map(|(number, statement)| result(number, statement)).collect()
}

fn result(number: usize, statement: &str) -> Result<Value, String> {
    let mut words = statement.split_ascii_whitespace();
    let mut is_next =
        |word: &str| words.next().is_some_and(|found| found.eq_ignore_ascii_case(word));
    if is_next("CREATE") && is_next("DATABASE") && words.next().is_some() {
        return Ok(json!({ "statement_id": number }));
    }
    let words: Vec<&str> = statement.split_ascii_whitespace().take(3).collect();
    if let [show, databases] = words[..]
        && show.eq_ignore_ascii_case("SHOW")
        && databases.eq_ignore_ascii_case("DATABASES")
    {
        let series = json!({ "name": "databases", "columns": ["name"], "values": [[DATABASE]] });
        return Ok(json!({ "statement_id": number, "series": [series] }));
    }
    Err(format!(
        "only CREATE DATABASE and SHOW DATABASES are answered, not {:?}; samples are read at \
         /api/v1/export",
        excerpt(&statement)
    ))
}

/// The statements of a query, which semicolons separate. A name in quotes may contain one.
fn split(statements: &str) -> Vec<&str> {
    let mut quote = None;
    let mut is_escaped = false;
    let ends = |c: char| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match quote {
            _ if was_escaped => {}
            Some(_) if c == '\\' => is_escaped = true,
            Some(open) if open == c => quote = None,
            Some(_) => {}
            None if c == '"' || c == '\'' => quote = Some(c),
            None => return c == ';',
        }
        false
    };
    let parts = statements.split(ends).map(str::trim);
    parts.filter(|part| !part.is_empty()).collect()
}
