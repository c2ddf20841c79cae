//! What a search finds, as JSON. This file does not know HTTP.

use std::time::Instant;

use serde_json::{Value, json};
use shardwal_timeseries::{Labels, Sample, SeriesHandle};

use super::app::App;
use super::budget::Reservation;
use super::pieces::{PIECE_BYTES, PIECE_TIME_MAX, Piece, Pieces};
use super::search::{Found, Selection, SeriesSamples};

/// Maximum number of samples per line of an export. A series that has more takes several lines.
const LINE_SAMPLES_MAX: usize = 4096;

/// The samples of the selected series, as lines of JSON.
#[derive(Debug)]
pub(crate) struct Export {
    selection: Selection,
    /// The series of the last line.
    current: Option<SeriesSamples>,
}

impl Export {
    pub(crate) fn new(selection: Selection) -> Self {
        Self { selection, current: None }
    }
}

impl Pieces for Export {
    fn next(&mut self, app: &App) -> Piece {
        let Some(storage) = app.storage_if_open() else { return Piece::End };
        let until = Instant::now() + PIECE_TIME_MAX;
        let mut bytes = Vec::new();
        while bytes.len() < PIECE_BYTES && Instant::now() < until {
            let next = self.current.take().or_else(|| {
                let (labels, series) = self.selection.next(storage, until)?;
                Some(SeriesSamples::new(labels, series, self.selection.range.clone()))
            });
            let Some(mut series) = next else { break };
            let samples = self.selection.samples_of(&mut series, LINE_SAMPLES_MAX);
            if !samples.is_empty() {
                bytes.extend_from_slice(line(&series.labels, &samples).as_bytes());
            }
            self.current = Some(series).filter(|series| !series.is_at_end());
        }
        match (bytes.is_empty(), self.current.is_none() && self.selection.is_at_end()) {
            (false, _) => Piece::Bytes(bytes),
            (true, true) => Piece::End,
            (true, false) => Piece::Nothing,
        }
    }
}

/// The labels of series, as the JSON of Prometheus.
#[derive(Debug)]
pub(crate) struct SeriesList {
    found: std::vec::IntoIter<(Labels, SeriesHandle)>,
    written: usize,
    ended: bool,
    /// Covers `found`.
    _reservation: Reservation,
}

impl SeriesList {
    pub(crate) fn new(found: Found) -> Self {
        let (found, _reservation) = found.into_list();
        Self { found, written: 0, ended: false, _reservation }
    }
}

impl Pieces for SeriesList {
    fn next(&mut self, _: &App) -> Piece {
        if self.ended {
            return Piece::End;
        }
        let mut text = String::new();
        if self.written == 0 {
            text.push_str("{\"status\":\"success\",\"data\":[");
        }
        while text.len() < PIECE_BYTES {
            let Some((labels, _)) = self.found.next() else {
                self.ended = true;
                text.push_str("]}");
                break;
            };
            if self.written > 0 {
                text.push(',');
            }
            self.written += 1;
            text.push_str(&object(&labels).to_string());
        }
        Piece::Bytes(text.into_bytes())
    }
}

fn line(labels: &Labels, samples: &[Sample]) -> String {
    let values: Vec<Value> = samples.iter().map(|sample| value(sample.value)).collect();
    let timestamps: Vec<i64> = samples.iter().map(|sample| sample.timestamp_ms).collect();
    let line = json!({ "metric": object(labels), "values": values, "timestamps": timestamps });
    format!("{line}\n")
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
