//! Checks of native histograms, as Prometheus makes them before it stores one.

use super::{CUSTOM, Count, Histogram, Span, ZeroCount};

/// The schemas of exponential buckets.
const EXPONENTIAL: std::ops::RangeInclusive<i32> = -4..=8;

/// Checks a histogram.
///
/// # Errors
/// The text says what is wrong.
pub(super) fn check(histogram: &Histogram) -> Result<(), String> {
    if histogram.schema == CUSTOM {
        check_custom(histogram)?;
    } else if EXPONENTIAL.contains(&histogram.schema) {
        if !histogram.custom_values.is_empty() {
            return Err("it has an exponential schema and custom bounds".to_owned());
        }
        check_spans(histogram)?;
    } else {
        let schema = histogram.schema;
        return Err(format!("its schema is {schema}, neither within -4 to 8 nor {CUSTOM}"));
    }
    match (histogram.count, histogram.zero_count) {
        (Some(Count::Float(count)), zero) => {
            let zero = if let Some(ZeroCount::Float(zero)) = zero { zero } else { 0.0 };
            check_floats(histogram, count, zero)
        }
        (count, zero) => {
            let count = if let Some(Count::Integer(count)) = count { count } else { 0 };
            let zero = if let Some(ZeroCount::Integer(zero)) = zero { zero } else { 0 };
            check_integers(histogram, count, zero)
        }
    }
}

/// The number of its buckets above and below zero.
fn buckets(histogram: &Histogram) -> [usize; 2] {
    [
        histogram.positive_deltas.len() + histogram.positive_counts.len(),
        histogram.negative_deltas.len() + histogram.negative_counts.len(),
    ]
}

/// Checks the spans of a histogram with exponential buckets.
fn check_spans(histogram: &Histogram) -> Result<(), String> {
    let spans = [&histogram.positive_spans, &histogram.negative_spans];
    for (spans, buckets) in spans.into_iter().zip(buckets(histogram)) {
        // The first offset is where the buckets begin. It may be negative.
        check_offsets(spans.get(1..).unwrap_or_default())?;
        check_lengths(spans, buckets)?;
    }
    Ok(())
}

fn check_offsets(spans: &[Span]) -> Result<(), String> {
    match spans.iter().find(|span| span.offset < 0) {
        Some(span) => Err(format!("a span has the negative offset {}", span.offset)),
        None => Ok(()),
    }
}

fn check_lengths(spans: &[Span], buckets: usize) -> Result<(), String> {
    let needed: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if needed == buckets as u64 {
        return Ok(());
    }
    Err(format!("its spans need {needed} buckets, and it has {buckets}"))
}

/// Checks bounds and spans of a histogram with custom buckets.
fn check_custom(histogram: &Histogram) -> Result<(), String> {
    let Histogram { custom_values: bounds, positive_spans: spans, .. } = histogram;
    let are_in_order = bounds.windows(2).all(|two| two[0] < two[1]);
    let is_number = |bound: &f64| !bound.is_nan();
    if !are_in_order || !bounds.first().is_none_or(is_number) {
        return Err("its custom bounds do not increase".to_owned());
    }
    if bounds.last() == Some(&f64::INFINITY) {
        return Err("its last custom bound is infinite, which is implied".to_owned());
    }
    check_offsets(spans)?;
    check_lengths(spans, buckets(histogram)[0])?;
    let end = |span: &Span| u64::from(span.length) + u64::from(span.offset.unsigned_abs());
    let end: u64 = spans.iter().map(end).sum();
    if end > bounds.len() as u64 + 1 {
        return Err(format!("its buckets end at {end}, beyond its {} bounds", bounds.len()));
    }
    let has_zero = match histogram.zero_count {
        Some(ZeroCount::Integer(zero)) => zero != 0,
        Some(ZeroCount::Float(zero)) => zero != 0.0,
        None => false,
    };
    if has_zero || histogram.zero_threshold != 0.0 {
        return Err("it has custom buckets and a zero bucket".to_owned());
    }
    if buckets(histogram)[1] > 0 || !histogram.negative_spans.is_empty() {
        return Err("it has custom buckets and negative ones".to_owned());
    }
    Ok(())
}

/// Checks that no bucket is negative, and that the buckets add up.
fn check_integers(histogram: &Histogram, count: u64, zero: u64) -> Result<(), String> {
    let mut found = zero;
    for deltas in [&histogram.positive_deltas, &histogram.negative_deltas] {
        let mut bucket = 0_i64;
        for delta in deltas {
            bucket = bucket.wrapping_add(*delta);
            let observations = u64::try_from(bucket);
            let observations = observations.map_err(|_| format!("a bucket has {bucket}"))?;
            found = found.wrapping_add(observations);
        }
    }
    // Observations that are NaN are in no bucket.
    let fits = if histogram.sum.is_nan() { found <= count } else { found == count };
    if fits {
        return Ok(());
    }
    Err(format!("its buckets have {found} observations, and its count is {count}"))
}

/// Checks that no number is negative. The numbers are floats, and need not add up.
fn check_floats(histogram: &Histogram, count: f64, zero: f64) -> Result<(), String> {
    let buckets = histogram.positive_counts.iter().chain(&histogram.negative_counts);
    let negative = [count, zero].into_iter().chain(buckets.copied()).find(|found| *found < 0.0);
    match negative {
        Some(negative) => Err(format!("one of its numbers of observations is {negative}")),
        None => Ok(()),
    }
}
