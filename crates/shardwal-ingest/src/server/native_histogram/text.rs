//! Native histograms as Prometheus prints them: its numbers, then the buckets that are not empty,
//! from the lowest to the highest.
//!
//! ```text
//! {count:4, sum:3.5, [-0.001,0.001]:1, (0.5,1]:1, (1,2]:2}
//! ```

use std::fmt;

use super::bounds::exponential;
use super::go_float;
use super::{CUSTOM, Count, Histogram, Span, ZeroCount};

impl fmt::Display for Histogram {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = go_float::print;
        match self.count {
            Some(Count::Float(count)) => write!(formatter, "{{count:{}", number(count))?,
            Some(Count::Integer(count)) => write!(formatter, "{{count:{count}")?,
            None => write!(formatter, "{{count:0")?,
        }
        write!(formatter, ", sum:{}", number(self.sum))?;
        let negative = buckets(&self.negative_spans, &self.negative_deltas, &self.negative_counts);
        for (index, count) in negative.iter().rev() {
            let (lower, upper) = (-self.bound(*index), -self.bound(index.wrapping_sub(1)));
            self.print_bucket(formatter, *index, [lower, upper], count)?;
        }
        let zero = match self.zero_count {
            Some(ZeroCount::Integer(zero)) if zero != 0 => Some(zero.to_string()),
            Some(ZeroCount::Float(zero)) if zero != 0.0 => Some(number(zero)),
            _ => None,
        };
        if let Some(zero) = zero {
            let threshold = self.zero_threshold;
            write!(formatter, ", [{},{}]:{zero}", number(-threshold), number(threshold))?;
        }
        let positive = buckets(&self.positive_spans, &self.positive_deltas, &self.positive_counts);
        for (index, count) in &positive {
            let (lower, upper) = (self.bound(index.wrapping_sub(1)), self.bound(*index));
            self.print_bucket(formatter, *index, [lower, upper], count)?;
        }
        formatter.write_str("}")
    }
}

impl Histogram {
    /// The upper bound of a positive bucket.
    fn bound(&self, index: i32) -> f64 {
        if self.schema != CUSTOM {
            return exponential(index, self.schema);
        }
        if index == -1 {
            return f64::NEG_INFINITY;
        }
        let bound = usize::try_from(index).ok().and_then(|index| self.custom_values.get(index));
        bound.copied().unwrap_or(f64::INFINITY)
    }

    /// Prints a bucket. A bracket says that its bound belongs to it.
    fn print_bucket(
        &self,
        formatter: &mut fmt::Formatter<'_>,
        index: i32,
        [lower, upper]: [f64; 2],
        count: &str,
    ) -> fmt::Result {
        let (has_lower, has_upper) = match self.schema {
            CUSTOM => (index == 0, true),
            _ => (lower < 0.0, upper > 0.0),
        };
        let begin = if has_lower { '[' } else { '(' };
        let end = if has_upper { ']' } else { ')' };
        let [lower, upper] = [lower, upper].map(go_float::print);
        write!(formatter, ", {begin}{lower},{upper}{end}:{count}")
    }
}

/// The indices of the buckets that are not empty, and their counts. One of the two lists is empty.
fn buckets(spans: &[Span], deltas: &[i64], counts: &[f64]) -> Vec<(i32, String)> {
    let mut last = 0_i64;
    let integers = deltas.iter().map(|delta| {
        last = last.wrapping_add(*delta);
        (last != 0).then(|| last.cast_unsigned().to_string())
    });
    let floats = counts.iter().map(|count| (*count != 0.0).then(|| go_float::print(*count)));
    let mut counts = integers.chain(floats);
    let (mut index, mut found) = (0_i32, Vec::new());
    for span in spans {
        index = index.wrapping_add(span.offset);
        for _ in 0..span.length {
            let Some(count) = counts.next() else { return found };
            found.extend(count.map(|count| (index, count)));
            index = index.wrapping_add(1);
        }
    }
    found
}
