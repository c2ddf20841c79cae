//! Data points of each type, as the message holds them. This file does not know series.

use crate::server::budget::Reservation;
use crate::server::protobuf::{Malformed, Reader, Value, malformed};
use crate::server::refusal::Refusal;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

/// The meaning of a field.
#[derive(Clone, Copy)]
enum Role {
    Start,
    Time,
    Double,
    Integer,
    Count,
    Sum,
    BucketCounts,
    Bounds,
    Scale,
    ZeroCount,
    Positive,
    Negative,
    Quantile,
    Exemplar,
    Attribute,
    Flags,
    Extreme,
    Other,
}

impl Type {
    /// The type of the data in a field of a metric.
    pub(super) fn of_field(number: u64) -> Option<Self> {
        Some(match number {
            5 => Self::Gauge,
            7 => Self::Sum,
            9 => Self::Histogram,
            10 => Self::ExponentialHistogram,
            11 => Self::Summary,
            _ => return None,
        })
    }

    /// The number of the field that holds a point's attributes.
    pub(super) fn attribute_field(self) -> u64 {
        match self {
            Self::ExponentialHistogram => 1,
            Self::Histogram => 9,
            Self::Gauge | Self::Sum | Self::Summary => 7,
        }
    }

    /// Whether its points are over a time, which may begin anew at each.
    pub(super) fn has_temporality(self) -> bool {
        !matches!(self, Self::Gauge | Self::Summary)
    }

    fn role(self, number: u64) -> Role {
        use Role::*;
        match (self, number) {
            (_, number) if number == self.attribute_field() => Attribute,
            (_, 2) => Start,
            (_, 3) => Time,
            (Self::Gauge | Self::Sum, 4) => Double,
            (Self::Gauge | Self::Sum, 5) => Exemplar,
            (Self::Gauge | Self::Sum, 6) => Integer,
            (_, 4) => Count,
            (_, 5) => Sum,
            (Self::Histogram, 6) => BucketCounts,
            (Self::Histogram, 7) => Bounds,
            (Self::Histogram, 8) => Exemplar,
            (Self::Histogram | Self::ExponentialHistogram, 10) => Flags,
            (Self::ExponentialHistogram, 6) => Scale,
            (Self::ExponentialHistogram, 7) => ZeroCount,
            (Self::ExponentialHistogram, 8) => Positive,
            (Self::ExponentialHistogram, 9) => Negative,
            (Self::ExponentialHistogram, 11) => Exemplar,
            (Self::Histogram, 11) => Extreme,
            (Self::Histogram | Self::ExponentialHistogram, 12) => Extreme,
            (Self::ExponentialHistogram, 13) => Extreme,
            (Self::Summary, 6) => Quantile,
            (Self::Gauge | Self::Sum | Self::Summary, 8) => Flags,
            _ => Other,
        }
    }
}

/// Consecutive buckets of an exponential histogram.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    /// The index of the first.
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}

impl Buckets {
    fn read(&mut self, bytes: &[u8], reservation: &mut Reservation) -> Result<(), Refusal> {
        let mut reader = Reader { rest: bytes };
        while let Some((number, value)) = reader.field()? {
            match (number, value) {
                (1, Value::Varint(zigzag)) => self.offset = signed(zigzag),
                (2, Value::Varint(count)) => self.push(count, reservation)?,
                (2, Value::Bytes(packed)) => {
                    let mut packed = Reader { rest: packed };
                    while !packed.rest.is_empty() {
                        self.push(packed.varint()?, reservation)?;
                    }
                }
                (1 | 2, _) => return Err(malformed("buckets have the wrong type").into()),
                _ => {}
            }
        }
        Ok(())
    }

    fn push(&mut self, count: u64, reservation: &mut Reservation) -> Result<(), Refusal> {
        reservation.make_room(&mut self.counts, 1)?;
        self.counts.push(count);
        Ok(())
    }

    fn clear(&mut self) {
        self.offset = 0;
        self.counts.clear();
    }
}

/// A signed number of 32 bits, from its zigzag form.
#[expect(clippy::cast_possible_truncation, reason = "protobuf takes the lowest bits")]
fn signed(zigzag: u64) -> i32 {
    let zigzag = zigzag as u32;
    (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed()
}

/// A data point. Its memory is reused for the next.
#[derive(Debug, Default)]
pub(super) struct Point {
    pub(super) time_nanos: u64,
    pub(super) has_start: bool,
    /// Whether the sender says that there is no value.
    pub(super) has_no_value: bool,
    pub(super) value: Option<f64>,
    pub(super) count: u64,
    pub(super) sum: Option<f64>,
    pub(super) exemplars: u64,
    pub(super) extremes: u64,
    pub(super) bounds: Vec<f64>,
    pub(super) bucket_counts: Vec<u64>,
    /// Of an exponential histogram.
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) positive: Buckets,
    pub(super) negative: Buckets,
    /// Quantiles and their values.
    pub(super) quantiles: Vec<(f64, f64)>,
    /// Fields whose content is an attribute.
    pub(super) attributes: Vec<u8>,
}

impl Point {
    /// Reads a point.
    ///
    /// # Errors
    /// The bytes are not a point, or the budget is exhausted.
    pub(super) fn read(
        &mut self,
        of: Type,
        bytes: &[u8],
        reservation: &mut Reservation,
    ) -> Result<(), Refusal> {
        self.clear();
        let mut reader = Reader { rest: bytes };
        loop {
            let before = reader.rest;
            let Some((number, value)) = reader.field()? else { return Ok(()) };
            match (of.role(number), value) {
                (Role::Start, Value::Fixed64(nanos)) => self.has_start = nanos != 0,
                (Role::Time, Value::Fixed64(nanos)) => self.time_nanos = nanos,
                (Role::Double, Value::Fixed64(bits)) => self.value = Some(f64::from_bits(bits)),
                (Role::Integer, Value::Fixed64(bits)) => {
                    self.value = Some(bits.cast_signed() as f64);
                }
                (Role::Count, Value::Fixed64(count)) => self.count = count,
                (Role::Sum, Value::Fixed64(bits)) => self.sum = Some(f64::from_bits(bits)),
                (Role::BucketCounts, Value::Fixed64(_) | Value::Bytes(_)) => {
                    numbers(&mut self.bucket_counts, value, |bits| bits, reservation)?;
                }
                (Role::Bounds, Value::Fixed64(_) | Value::Bytes(_)) => {
                    numbers(&mut self.bounds, value, f64::from_bits, reservation)?;
                }
                (Role::Scale, Value::Varint(zigzag)) => self.scale = signed(zigzag),
                (Role::ZeroCount, Value::Fixed64(count)) => self.zero_count = count,
                (Role::Positive, Value::Bytes(bytes)) => self.positive.read(bytes, reservation)?,
                (Role::Negative, Value::Bytes(bytes)) => self.negative.read(bytes, reservation)?,
                (Role::Quantile, Value::Bytes(bytes)) => {
                    let quantile = quantile(bytes)?;
                    reservation.make_room(&mut self.quantiles, 1)?;
                    self.quantiles.push(quantile);
                }
                (Role::Exemplar, _) => self.exemplars += 1,
                (Role::Attribute, Value::Bytes(_)) => {
                    let field = &before[..before.len() - reader.rest.len()];
                    reservation.make_room_for(&mut self.attributes, field.len())?;
                    self.attributes.extend_from_slice(field);
                }
                (Role::Flags, Value::Varint(flags)) => self.has_no_value = flags & 1 != 0,
                (Role::Extreme, _) => self.extremes += 1,
                (Role::Other, _) => {}
                _ => return Err(malformed("a point's field has the wrong type").into()),
            }
        }
    }

    fn clear(&mut self) {
        let empty = Self {
            bounds: std::mem::take(&mut self.bounds),
            bucket_counts: std::mem::take(&mut self.bucket_counts),
            positive: std::mem::take(&mut self.positive),
            negative: std::mem::take(&mut self.negative),
            quantiles: std::mem::take(&mut self.quantiles),
            attributes: std::mem::take(&mut self.attributes),
            ..Self::default()
        };
        *self = empty;
        self.bounds.clear();
        self.bucket_counts.clear();
        self.positive.clear();
        self.negative.clear();
        self.quantiles.clear();
        self.attributes.clear();
    }
}

/// Appends one number, or packed ones.
fn numbers<T>(
    list: &mut Vec<T>,
    value: Value<'_>,
    of_bits: impl Fn(u64) -> T,
    reservation: &mut Reservation,
) -> Result<(), Refusal> {
    let single;
    let packed = match value {
        Value::Fixed64(bits) => {
            single = bits.to_le_bytes();
            &single[..]
        }
        Value::Bytes(bytes) => bytes,
        _ => &[],
    };
    let (chunks, []) = packed.as_chunks::<8>() else {
        return Err(malformed("packed numbers are cut off").into());
    };
    for chunk in chunks {
        reservation.make_room(list, 1)?;
        list.push(of_bits(u64::from_le_bytes(*chunk)));
    }
    Ok(())
}

fn quantile(bytes: &[u8]) -> Result<(f64, f64), Malformed> {
    let mut reader = Reader { rest: bytes };
    let mut found = (0.0, 0.0);
    while let Some((number, value)) = reader.field()? {
        match (number, value) {
            (1, Value::Fixed64(bits)) => found.0 = f64::from_bits(bits),
            (2, Value::Fixed64(bits)) => found.1 = f64::from_bits(bits),
            _ => {}
        }
    }
    Ok(found)
}
