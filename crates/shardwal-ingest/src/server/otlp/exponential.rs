//! Exponential histograms as native histograms, as Prometheus converts them. This file does not
//! know series.

use shardwal_timeseries::HISTOGRAM_BYTES_MAX;

use super::point::{Buckets, Point};
use crate::server::native_histogram::{Count, Histogram, Span, ZeroCount};

/// The finest schema of a native histogram, and the coarsest.
const SCHEMA_MAX: i32 = 8;
const SCHEMA_MIN: i32 = -4;

/// Below this, an observation is in the zero bucket. Prometheus assumes it for all senders.
const ZERO_THRESHOLD: f64 = 1e-128;

/// Up to this number of empty buckets in a row are stored. More begin a new span.
const GAP_MAX: i64 = 2;

/// Converts a point. `stale` is the sum of one that has no value.
///
/// # Errors
/// The text says why it cannot be converted.
pub(super) fn native(point: &Point, timestamp: i64, stale: f64) -> Result<Histogram, String> {
    let scale = point.scale;
    if scale < SCHEMA_MIN {
        return Err(format!("its scale is {scale}, below {SCHEMA_MIN}"));
    }
    let schema = scale.min(SCHEMA_MAX);
    let begun =
        Histogram { schema, zero_threshold: ZERO_THRESHOLD, timestamp, ..Histogram::default() };
    if point.has_no_value {
        let (count, zero_count) = (Some(Count::Integer(0)), Some(ZeroCount::Integer(0)));
        return Ok(Histogram { count, zero_count, sum: stale, ..begun });
    }
    let (positive_spans, positive_deltas) = layout(&point.positive, scale - schema)?;
    let (negative_spans, negative_deltas) = layout(&point.negative, scale - schema)?;
    Ok(Histogram {
        count: Some(Count::Integer(point.count)),
        sum: point.sum.unwrap_or(0.0),
        zero_count: Some(ZeroCount::Integer(point.zero_count)),
        positive_spans,
        positive_deltas,
        negative_spans,
        negative_deltas,
        ..begun
    })
}

/// Spans and deltas of buckets, after `2^down` of them became one.
fn layout(buckets: &Buckets, down: i32) -> Result<(Vec<Span>, Vec<i64>), String> {
    let down = down.clamp(0, 63).unsigned_abs();
    // The bucket 0 of OTLP begins at 1. That of Prometheus ends there.
    let numbered = (i64::from(buckets.offset)..).zip(&buckets.counts);
    let mut numbered = numbered.map(|(index, count)| ((index >> down) + 1, *count)).peekable();
    let mut deltas = Deltas::default();
    while let Some((index, mut count)) = numbered.next() {
        while let Some((_, more)) = numbered.next_if(|(next, _)| *next == index) {
            count = count.saturating_add(more);
        }
        if count > 0 {
            deltas.push(index, count)?;
        }
    }
    Ok((deltas.spans, deltas.deltas))
}

#[derive(Default)]
struct Deltas {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    /// The index after the last bucket.
    end: i64,
    last: i64,
}

impl Deltas {
    fn push(&mut self, index: i64, count: u64) -> Result<(), String> {
        let gap = index - self.end;
        if self.spans.is_empty() || gap > GAP_MAX {
            let offset = i32::try_from(gap).map_err(|_| format!("a bucket has index {index}"))?;
            self.spans.push(Span { offset, length: 0 });
        } else {
            (0..gap).for_each(|_| self.push_delta(0));
        }
        self.push_delta(i64::try_from(count).unwrap_or(i64::MAX));
        self.end = index + 1;
        // Each takes at least one byte.
        if self.deltas.len() > HISTOGRAM_BYTES_MAX {
            return Err(format!("it has more than {HISTOGRAM_BYTES_MAX} buckets"));
        }
        Ok(())
    }

    fn push_delta(&mut self, count: i64) {
        self.deltas.push(count.wrapping_sub(self.last));
        self.last = count;
        if let Some(span) = self.spans.last_mut() {
            span.length += 1;
        }
    }
}
