//! Decodes a request into a batch. It writes nothing, so that a request that is malformed at its
//! end is refused as a whole. This file does not know HTTP.

use shardwal_timeseries::{LABELS_BYTES_MAX, LabelLimits, Sample, Storage};

use super::attributes::{pairs, text};
use super::exponential;
use super::point::{Point, Type};
use super::series::{Base, Resource};
use crate::server::app::App;
use crate::server::batch::{Batch, Complete, Series};
use crate::server::budget::Reservation;
use crate::server::excerpt::excerpt;
use crate::server::native_histogram::Histogram;
use crate::server::protobuf::{Malformed, Reader, Value, malformed};
use crate::server::refusal::Refusal;
use crate::server::skipped::{Kind, Skipped};

/// The temporality of sums since a fixed time. The others begin anew, or are not known.
const CUMULATIVE: u64 = 2;

/// Prometheus' marker of a series that has ended.
const STALE: f64 = f64::from_bits(0x7FF0_0000_0000_0002);

/// Maximum bytes of labels that are built and turn out invalid, per request.
const INVALID_BYTES_MAX: usize = 16 << 20;

/// Maximum bytes of labels that scopes have from their resources, per request: each scope copies
/// them.
const BASE_BYTES_MAX: usize = 128 << 20;

/// A decoded request.
pub(super) struct Decoded<'app> {
    pub(super) batch: Complete<'app>,
    pub(super) rejected: Rejected,
    pub(super) skipped: Skipped,
}

/// Points that are left out.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    pub(super) points: u64,
    first: Option<String>,
}

impl Rejected {
    fn add(&mut self, points: u64, metric: &str, why: &str) {
        if points > 0 {
            self.first.get_or_insert_with(|| excerpt(&format_args!("{metric:?}: {why}")));
            self.points += points;
        }
    }

    pub(super) fn text(&self) -> Option<String> {
        let (points, first) = (self.points, self.first.as_ref()?);
        Some(format!("{points} data points left out, the others written; the first: {first}"))
    }
}

/// Why a point is not stored.
enum Unstored {
    /// The point is left out.
    Point(String),
    /// The whole request is refused.
    Request(Refusal),
}

impl<E: Into<Refusal>> From<E> for Unstored {
    fn from(error: E) -> Self {
        Self::Request(error.into())
    }
}

/// Decodes an `ExportMetricsServiceRequest`.
///
/// # Errors
/// The message is malformed, or the budget is exhausted.
pub(super) fn decode<'app>(
    app: &'app App,
    storage: &'app Storage,
    message: &[u8],
    reservation: &mut Reservation,
) -> Result<Decoded<'app>, Refusal> {
    let mut decoder = Decoder {
        batch: Batch::new(storage, &app.otlp_series),
        limits: app.limits.labels,
        reservation,
        rejected: Rejected::default(),
        skipped: Skipped::default(),
        point: Point::default(),
        key: Vec::new(),
        samples: Vec::new(),
        invalid_bytes: 0,
        base_bytes: 0,
        latest_ms: None,
    };
    let mut reader = Reader { rest: message };
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => decoder.resource(bytes)?,
            _ => decoder.skipped.add(Kind::UnknownFields, 1),
        }
    }
    let Decoder { batch, rejected, skipped, .. } = decoder;
    Ok(Decoded { batch: batch.complete(), rejected, skipped })
}

struct Decoder<'app, 'request> {
    batch: Batch<'app>,
    limits: LabelLimits,
    reservation: &'request mut Reservation,
    rejected: Rejected,
    skipped: Skipped,
    /// The current point.
    point: Point,
    /// The key of a head or of a series. The buffer is reused.
    key: Vec<u8>,
    /// Samples of the current point. They count only if all of its series are valid.
    samples: Vec<(Series, f64)>,
    /// Bytes of labels that were built and turned out invalid.
    invalid_bytes: usize,
    /// Bytes of the labels of all scopes.
    base_bytes: usize,
    /// The latest point of the current resource.
    latest_ms: Option<i64>,
}

/// A metric.
struct Metric<'a> {
    name: &'a str,
    base: &'a Base,
    /// The number of its head in the cache.
    number: u64,
}

/// One of the series that a point has samples in.
#[derive(Clone, Copy)]
enum Part {
    Value,
    Count,
    Sum,
    /// With the upper bound.
    Bucket(f64),
    Quantile(f64),
}

impl Part {
    /// Its number in keys, the end of its name, its own label.
    fn describe(self) -> (u8, &'static str, Option<(&'static str, f64)>) {
        match self {
            Self::Value => (0, "", None),
            Self::Count => (1, "_count", None),
            Self::Sum => (2, "_sum", None),
            Self::Bucket(bound) => (3, "_bucket", Some(("le", bound))),
            Self::Quantile(quantile) => (4, "", Some(("quantile", quantile))),
        }
    }
}

impl Decoder<'_, '_> {
    fn resource(&mut self, message: &[u8]) -> Result<(), Refusal> {
        let resource = Resource::read(last_message(message, 1)?)?;
        self.latest_ms = None;
        let mut reader = Reader { rest: message };
        while let Some((number, value)) = reader.field()? {
            if let (2, Value::Bytes(bytes)) = (number, value) {
                self.scope(&resource, bytes)?;
            }
        }
        let Some(timestamp_ms) = self.latest_ms else { return Ok(()) };
        let Some(labels) = resource.target_info(self.limits) else {
            self.skipped.add(Kind::ResourceAttributes, resource.others());
            return Ok(());
        };
        self.key.clear();
        self.key.push(b'T');
        self.key.extend_from_slice(labels.canonical().as_ref());
        let series = self.batch.series(&self.key, self.reservation, || Ok::<_, Refusal>(labels))?;
        self.batch.add(series, Sample { timestamp_ms, value: 1.0 }, self.reservation)
    }

    fn scope(&mut self, resource: &Resource<'_>, message: &[u8]) -> Result<(), Refusal> {
        let base = Base::read(resource, last_message(message, 1)?, last_message(message, 3)?)?;
        self.reservation.grow(base.bytes())?;
        self.base_bytes += base.bytes();
        if self.base_bytes > BASE_BYTES_MAX {
            let why = "too many scopes of resources with many attributes; send fewer at a time";
            return Err(Refusal::Invalid(why.to_owned()));
        }
        self.key.clear();
        self.key.push(b'B');
        base.write_key(&mut self.key);
        // The key of a base that is too large is not kept: none of its series is valid.
        let is_valid = resource.is_valid() && base.bytes() <= LABELS_BYTES_MAX;
        let number = match is_valid {
            true => self.batch.head(&self.key, self.reservation)?,
            false => 0,
        };
        let mut reader = Reader { rest: message };
        while let Some((field, value)) = reader.field()? {
            if let (2, Value::Bytes(bytes)) = (field, value) {
                self.metric(&base, number, is_valid, bytes)?;
            }
        }
        self.reservation.release(base.bytes());
        Ok(())
    }

    fn metric(
        &mut self,
        base: &Base,
        number: u64,
        is_valid: bool,
        message: &[u8],
    ) -> Result<(), Refusal> {
        let name = text(last_message(message, 1)?)?;
        let is_valid = is_valid && name.len() <= LABELS_BYTES_MAX;
        if is_valid {
            self.key.clear();
            self.key.push(b'M');
            self.key.extend(number.to_le_bytes());
            self.key.extend_from_slice(name.as_bytes());
        }
        let number = match is_valid {
            true => self.batch.head(&self.key, self.reservation)?,
            false => 0,
        };
        let metric = Metric { name, base, number };
        let has_metadata =
            !last_message(message, 2)?.is_empty() || !last_message(message, 3)?.is_empty();
        self.skipped.add(Kind::Metadata, u64::from(has_metadata));
        let mut reader = Reader { rest: message };
        while let Some((field, value)) = reader.field()? {
            match (Type::of_field(field), value) {
                (Some(of), Value::Bytes(bytes)) => self.data(&metric, is_valid, of, bytes)?,
                (Some(_), _) => return Err(malformed("the data are not a message").into()),
                (None, _) => {}
            }
        }
        Ok(())
    }

    /// Reads the data of a metric: its points.
    fn data(
        &mut self,
        metric: &Metric<'_>,
        is_valid: bool,
        of: Type,
        message: &[u8],
    ) -> Result<(), Refusal> {
        let (mut temporality, mut points) = (0, 0);
        let mut reader = Reader { rest: message };
        while let Some((field, value)) = reader.field()? {
            match (field, value) {
                (1, Value::Bytes(_)) => points += 1,
                (1, _) => return Err(malformed("a point is not a message").into()),
                (2, Value::Varint(found)) => temporality = found,
                _ => {}
            }
        }
        if metric.name.is_empty() || !is_valid {
            let why = if is_valid { "it has no name" } else { "its labels are too long" };
            self.rejected.add(points, metric.name, why);
            return Ok(());
        }
        if of.has_temporality() && temporality != CUMULATIVE {
            let why = "its temporality is not cumulative; set the sender to cumulative";
            self.rejected.add(points, metric.name, why);
            return Ok(());
        }
        let mut reader = Reader { rest: message };
        while let Some((field, value)) = reader.field()? {
            if let (1, Value::Bytes(bytes)) = (field, value) {
                self.point.read(of, bytes, self.reservation)?;
                match self.store(metric, of) {
                    Ok(()) => self.count_skipped(),
                    Err(Unstored::Point(why)) => self.rejected.add(1, metric.name, &why),
                    Err(Unstored::Request(refusal)) => return Err(refusal),
                }
            }
        }
        Ok(())
    }

    /// Counts what is not stored of the current point.
    fn count_skipped(&mut self) {
        self.skipped.add(Kind::Exemplars, self.point.exemplars);
        self.skipped.add(Kind::HistogramExtremes, self.point.extremes);
        self.skipped.add(Kind::CreatedTimestamps, u64::from(self.point.has_start));
    }

    /// Adds the samples of the current point.
    fn store(&mut self, metric: &Metric<'_>, of: Type) -> Result<(), Unstored> {
        let point = &self.point;
        if point.time_nanos == 0 {
            return Err(Unstored::Point("a point has no time".to_owned()));
        }
        let bytes = point.attributes.len() + metric.base.bytes() + metric.name.len();
        if bytes > 2 * LABELS_BYTES_MAX {
            return Err(Unstored::Point("its labels are too long".to_owned()));
        }
        self.samples.clear();
        let value = |value: f64| if point.has_no_value { STALE } else { value };
        let (count, sum) = (value(point.count as f64), point.sum.map(value));
        match of {
            Type::Gauge | Type::Sum => {
                let found = if point.has_no_value { Some(STALE) } else { point.value };
                let no_value = || Unstored::Point("a point has no value".to_owned());
                self.begin_point(metric, false)?;
                self.add(metric, of, Part::Value, found.ok_or_else(no_value)?)?;
            }
            Type::Histogram => {
                check_buckets(point)?;
                self.begin_point(metric, true)?;
                self.add_buckets(metric)?;
                self.add(metric, of, Part::Count, count)?;
            }
            Type::ExponentialHistogram => {
                let native = exponential::native(point, milliseconds(point.time_nanos), STALE);
                let histogram = native.and_then(Histogram::stored).map_err(Unstored::Point)?;
                self.begin_point(metric, false)?;
                let series = self.series(metric, of, Part::Value)?;
                self.batch.add_histogram(series, histogram, self.reservation)?;
            }
            Type::Summary => {
                let sum = value(point.sum.unwrap_or(0.0));
                self.begin_point(metric, true)?;
                for index in 0..self.point.quantiles.len() {
                    let (quantile, found) = self.point.quantiles[index];
                    let found = if self.point.has_no_value { STALE } else { found };
                    self.add(metric, of, Part::Quantile(quantile), found)?;
                }
                self.add(metric, of, Part::Count, count)?;
                self.add(metric, of, Part::Sum, sum)?;
            }
        }
        if let (Type::Histogram, Some(sum)) = (of, sum) {
            self.add(metric, of, Part::Sum, sum)?;
        }
        self.end_point()
    }

    /// Adds the samples of the current point to the batch.
    fn end_point(&mut self) -> Result<(), Unstored> {
        let timestamp_ms = milliseconds(self.point.time_nanos);
        for (series, value) in self.samples.drain(..) {
            self.batch.add(series, Sample { timestamp_ms, value }, self.reservation)?;
        }
        self.latest_ms = self.latest_ms.max(Some(timestamp_ms));
        Ok(())
    }

    /// Adds the buckets of the current point, each with those below it.
    fn add_buckets(&mut self, metric: &Metric<'_>) -> Result<(), Unstored> {
        let mut below = 0_u64;
        for index in 0..self.point.bounds.len() {
            let (bound, count) = (self.point.bounds[index], self.point.bucket_counts[index]);
            below = below.saturating_add(count);
            if bound < f64::INFINITY {
                self.add_bucket(metric, bound, below)?;
            }
        }
        self.add_bucket(metric, f64::INFINITY, self.point.count)
    }

    fn add_bucket(&mut self, metric: &Metric<'_>, bound: f64, count: u64) -> Result<(), Unstored> {
        let count = if self.point.has_no_value { STALE } else { count as f64 };
        self.add(metric, Type::Histogram, Part::Bucket(bound), count)
    }

    /// Writes the begin of the keys of a point's series. Many series share a number for metric and
    /// attributes; a single one has the attributes in its key.
    fn begin_point(&mut self, metric: &Metric<'_>, has_many: bool) -> Result<(), Refusal> {
        self.key.clear();
        if has_many {
            self.key.push(b'P');
        } else {
            self.key.push(b'V');
        }
        self.key.extend(metric.number.to_le_bytes());
        self.key.extend_from_slice(&self.point.attributes);
        if has_many {
            let number = self.batch.head(&self.key, self.reservation)?;
            self.key.clear();
            self.key.push(b'S');
            self.key.extend(number.to_le_bytes());
        }
        Ok(())
    }

    /// Adds a sample of the current point.
    fn add(
        &mut self,
        metric: &Metric<'_>,
        of: Type,
        part: Part,
        value: f64,
    ) -> Result<(), Unstored> {
        let series = self.series(metric, of, part)?;
        self.reservation.make_room(&mut self.samples, 1)?;
        self.samples.push((series, value));
        Ok(())
    }

    /// One of the series of the current point.
    fn series(&mut self, metric: &Metric<'_>, of: Type, part: Part) -> Result<Series, Unstored> {
        let (number, suffix, own) = part.describe();
        let begin = self.key.len();
        if !matches!(part, Part::Value) {
            self.key.push(number);
            self.key.extend(own.map_or(0, |(_, bound)| bound.to_bits()).to_le_bytes());
        }
        let attributes = &self.point.attributes;
        let series = self.batch.series(&self.key, self.reservation, || {
            let attributes = pairs(attributes, of.attribute_field());
            let attributes =
                attributes.map_err(|Malformed { what }| Unstored::Point(what.to_owned()))?;
            let attributes = attributes.iter().map(|(key, value)| (*key, value.as_str()));
            let own = own.map(|(name, bound)| (name, bound_text(bound)));
            let name = format!("{}{suffix}", metric.name);
            metric.base.labels(self.limits, &name, own, attributes).map_err(Unstored::Point)
        });
        self.key.truncate(begin);
        if let Err(Unstored::Point(_)) = series {
            self.invalid_bytes += attributes.len() + metric.base.bytes() + metric.name.len();
            if self.invalid_bytes > INVALID_BYTES_MAX {
                return Err(Refusal::Invalid("too many series are invalid".to_owned()).into());
            }
        }
        series
    }
}

/// Checks that the buckets of a point are in order, and that each has a bound but the last.
fn check_buckets(point: &Point) -> Result<(), Unstored> {
    let (bounds, counts) = (&point.bounds, &point.bucket_counts);
    let are_in_order = bounds.windows(2).all(|two| two[0] < two[1]);
    let is_number = bounds.first().is_none_or(|bound| !bound.is_nan());
    let fit = counts.len() == bounds.len() + 1 || counts.is_empty() && bounds.is_empty();
    if are_in_order && is_number && fit {
        return Ok(());
    }
    Err(Unstored::Point("the buckets of a point do not fit their bounds".to_owned()))
}

/// A bound as Prometheus prints it.
fn bound_text(bound: f64) -> String {
    if bound == f64::INFINITY { "+Inf".to_owned() } else { bound.to_string() }
}

fn milliseconds(nanos: u64) -> i64 {
    i64::try_from(nanos / 1_000_000).unwrap_or(i64::MAX)
}

/// The content of the last field of this number. Empty if there is none.
fn last_message(message: &[u8], number: u64) -> Result<&[u8], Malformed> {
    let mut reader = Reader { rest: message };
    let mut last = &[][..];
    while let Some((found, value)) = reader.field()? {
        match value {
            Value::Bytes(bytes) if found == number => last = bytes,
            _ if found == number => return Err(malformed("a field has the wrong type")),
            _ => {}
        }
    }
    Ok(last)
}
