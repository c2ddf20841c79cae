//! The invalid lines of a request, and the responses that name them. This file does not parse.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::api::Api;
use super::line::LineError;
use crate::server::excerpt::excerpt;

/// Maximum number of invalid lines that a response lists, and that its summary repeats.
const ERRORS_SHOWN_MAX: usize = 10;
const SUMMARY_ERRORS_MAX: usize = 3;

/// The invalid lines of a request.
#[derive(Debug, Default)]
pub(crate) struct BadLines {
    /// The first of them.
    first: Vec<BadLine>,
    pub(crate) count: usize,
    /// Whether the valid lines are left out too.
    pub(crate) refuse_all: bool,
}

#[derive(Debug)]
struct BadLine {
    number: usize,
    /// The beginning of the line.
    begins: String,
    /// The problem.
    what: String,
    /// All of this.
    text: String,
}

impl BadLines {
    pub(crate) fn add(&mut self, error: &LineError<'_>) {
        if self.first.len() < ERRORS_SHOWN_MAX {
            self.first.push(BadLine {
                number: error.line,
                begins: String::from_utf8_lossy(error.begins).into_owned(),
                what: excerpt(&error.what),
                text: excerpt(error),
            });
        }
        self.count += 1;
    }

    /// A text of one line.
    pub(crate) fn summary(&self) -> String {
        let first = self.first.iter().take(SUMMARY_ERRORS_MAX);
        let lines: Vec<&str> = first.map(|line| line.text.as_str()).collect();
        let lines = lines.join("; ");
        match self.refuse_all {
            true => format!("nothing written: {lines}; invalid={}", self.count),
            false => format!("partial write: {lines}; dropped={}", self.count),
        }
    }

    /// Response 400 that names the lines.
    pub(crate) fn answer(&self, api: Api) -> Response<Body> {
        let json = match api {
            Api::V2 => self.as_v2(),
            Api::V3 => self.as_v3(),
        };
        let mut response = Response::new(Body::from(json.to_string()));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }

    /// The fields of versions 1 and 2 of InfluxDB, and the lines.
    fn as_v2(&self) -> Value {
        let error = |line: &BadLine| json!({ "line": line.number, "message": line.text });
        let errors: Vec<Value> = self.first.iter().map(error).collect();
        let summary = self.summary();
        json!({
            "code": "invalid",
            "message": summary,
            "error": summary,
            "line": self.first.first().map(|line| line.number),
            "dropped": self.count,
            "errors": errors,
        })
    }

    /// The fields of version 3. Its clients look for these texts.
    fn as_v3(&self) -> Value {
        let error = |line: &BadLine| {
            json!({
                "line_number": line.number,
                "original_line": line.begins,
                "error_message": line.what,
            })
        };
        match (self.refuse_all, self.first.first()) {
            (true, Some(first)) => {
                json!({ "error": "parsing failed for write_lp endpoint", "data": error(first) })
            }
            _ => {
                let errors: Vec<Value> = self.first.iter().map(error).collect();
                json!({ "error": "partial write of line protocol occurred", "data": errors })
            }
        }
    }
}
