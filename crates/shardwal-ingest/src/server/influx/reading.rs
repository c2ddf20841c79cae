//! Reads the lines of a request into a batch. This file does not know requests and responses.

use std::borrow::Cow;
use std::time::SystemTime;

use shardwal_timeseries::{LabelLimits, Labels, Sample, Storage};

use super::bad_lines::BadLines;
use super::line::{Line, LineError, Lines, Value};
use super::name::{Head, NAME_BYTES_MAX};
use super::precision::Precision;
use crate::server::app::App;
use crate::server::batch::{Batch, Complete, Series};
use crate::server::budget::Reservation;
use crate::server::excerpt::excerpt;
use crate::server::refusal::{Refusal, WithOption};
use crate::server::skipped::{Kind, Skipped};

/// A request that was read.
pub(crate) struct Parsed<'app> {
    pub(crate) batch: Complete<'app>,
    pub(crate) bad: BadLines,
    pub(crate) skipped: Skipped,
}

/// The samples of a request, while it is parsed.
pub(crate) struct Reading<'request> {
    batch: Batch<'request>,
    limits: LabelLimits,
    precision: Precision,
    /// Samples of the current line. They count only if the whole line is valid.
    line: Vec<(Series, f64)>,
    /// Parts of the current line that are not stored.
    line_skipped: Skipped,
    /// Cache key of the current series: the number of its head, and its field. The buffer is
    /// reused.
    key: Vec<u8>,
}

impl<'request> Reading<'request> {
    pub(crate) fn new(
        app: &'request App,
        storage: &'request Storage,
        precision: Precision,
    ) -> Self {
        let batch = Batch::new(storage, &app.influx_series);
        Self {
            batch,
            limits: app.limits.labels,
            precision,
            line: Vec::new(),
            line_skipped: Skipped::default(),
            key: Vec::new(),
        }
    }

    /// Parses the lines. An invalid one is left out.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(crate) fn read(
        mut self,
        text: &[u8],
        reservation: &mut Reservation,
    ) -> Result<Parsed<'request>, Refusal> {
        let mut bad = BadLines::default();
        let mut skipped = Skipped::default();
        let now_ms = milliseconds_since_1970();
        let mut lines = Lines::new(text);
        while let Some(line) = lines.next() {
            let read = match line {
                Ok(line) => self.read_line(&mut lines, &line, reservation),
                Err(error) => Err(Unreadable::Line(error)),
            };
            let timestamp = match read {
                Ok(timestamp) => timestamp,
                Err(Unreadable::Line(error)) => {
                    bad.add(&error);
                    continue;
                }
                Err(Unreadable::Request(refusal)) => return Err(refusal),
            };
            skipped.add_all(self.line_skipped);
            let timestamp_ms = timestamp.map_or(now_ms, |at| self.precision.milliseconds(at));
            for (series, value) in &self.line {
                self.batch.add(*series, Sample { timestamp_ms, value: *value }, reservation)?;
            }
        }
        Ok(Parsed { batch: self.batch.complete(), bad, skipped })
    }

    /// Reads the fields of a line. Returns its timestamp.
    fn read_line<'text>(
        &mut self,
        lines: &mut Lines<'text>,
        line: &Line<'text>,
        reservation: &mut Reservation,
    ) -> Result<Option<i64>, Unreadable<'text>> {
        self.line.clear();
        self.line_skipped = Skipped::default();
        if line.head.len() > NAME_BYTES_MAX {
            lines.skip(line);
            return Err(Unreadable::Line(line.error("measurement and tags are too long")));
        }
        let number = self.batch.head(line.head, reservation)?;
        self.key.clear();
        self.key.extend(number.to_le_bytes());
        let prefix = self.key.len();
        let mut head = None;
        while let Some(field) = lines.field(line)? {
            let value = match field.value {
                Value::Number(value) => value,
                Value::String => {
                    self.line_skipped.add(Kind::StringFields, 1);
                    continue;
                }
                Value::Timestamp => {
                    self.line_skipped.add(Kind::TimestampFields, 1);
                    continue;
                }
            };
            self.key.truncate(prefix);
            self.key.extend_from_slice(field.key);
            let labels = || labels_of(self.limits, line.head, field.key, &mut head);
            match self.batch.series(&self.key, reservation, labels) {
                Ok(series) => {
                    reservation.make_room(&mut self.line, 1).map_err(Refusal::from)?;
                    self.line.push((series, value));
                }
                Err(BadName::Line(what)) => {
                    lines.skip(line);
                    return Err(Unreadable::Line(line.error(what)));
                }
                Err(BadName::Request(refusal)) => return Err(Unreadable::Request(refusal)),
            }
        }
        Ok(lines.timestamp(line)?)
    }
}

/// The labels of a field that is not in the cache. The head is unescaped for the first such field
/// of a line.
fn labels_of<'text>(
    limits: LabelLimits,
    bytes: &'text [u8],
    field: &[u8],
    head: &mut Option<Head<'text>>,
) -> Result<Labels, BadName> {
    let head = match head {
        Some(head) => head,
        None => head.insert(Head::new(bytes)?),
    };
    let labels = Labels::within(head.labels(field)?, limits);
    labels.map_err(|error| BadName::Line(excerpt(&WithOption(&error)).into()))
}

/// Why a field has no series.
enum BadName {
    /// The names are invalid.
    Line(Cow<'static, str>),
    /// The whole request is refused.
    Request(Refusal),
}

impl From<&'static str> for BadName {
    fn from(what: &'static str) -> Self {
        Self::Line(what.into())
    }
}

impl From<Refusal> for BadName {
    fn from(refusal: Refusal) -> Self {
        Self::Request(refusal)
    }
}

/// Why a line was not read.
enum Unreadable<'text> {
    /// The line is invalid.
    Line(LineError<'text>),
    /// The whole request is refused.
    Request(Refusal),
}

impl From<Refusal> for Unreadable<'_> {
    fn from(refusal: Refusal) -> Self {
        Self::Request(refusal)
    }
}

impl<'text> From<LineError<'text>> for Unreadable<'text> {
    fn from(error: LineError<'text>) -> Self {
        Self::Line(error)
    }
}

fn milliseconds_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
