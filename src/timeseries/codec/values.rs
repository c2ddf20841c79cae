//! The column of values. Each series is either a decimal, told as integers that
//! differ by little from the last (or from the line through the last two,
//! whichever has served better), or bits, told as they differ from the last.
//! A value that is as expected is a hit and costs nothing; each other is one
//! token that says how many hits stood before it, and the difference.

use super::bytes::{Reader, bytes_of, push_low_bytes, push_varint, unzigzag, zigzag};
use super::decimal::{self, EXPONENT_MAX};
use super::{DecodeError, DecodeFault, SeriesSample};
use crate::timeseries::STALE_MARKER_BITS;

/// Low half of a token, beside 1 to 8: how many bytes the difference has.
const END: u8 = 0;
/// The series becomes a decimal: exponent, integer.
const DECIMAL: u8 = 9;
/// The series becomes bits: 8 bytes.
const BITS: u8 = 10;
/// The series becomes bits, and these are the stale marker's.
const STALE: u8 = 11;

/// High half of a token: so many hits or more, the rest as a varint.
const HITS_MORE: u8 = 15;

/// The exponent of a series that is bits.
const NO_EXPONENT: u8 = u8::MAX;

/// How many values of a series of bits go by between tries to make decimals of
/// it. The encoder's choice: the decoder is told.
const TRY_EVERY: u8 = 16;

/// How far the line can be ahead of the last value, and behind.
const TREND_MAX: i8 = 3;

/// What is known of one series' values.
#[derive(Clone, Copy, Default)]
struct Trace {
    /// The last value: 0.0 before the first.
    bits: u64,
    /// The same as a decimal, unless it is bits.
    integer: i64,
    /// From the integer before to this one.
    step: i64,
    exponent: u8,
    /// Above 0: the line through the last two has served better.
    trend: i8,
    /// The encoder's: how many values until it tries for decimals again.
    patience: u8,
}

impl Trace {
    #[inline]
    const fn is_bits(&self) -> bool {
        self.exponent == NO_EXPONENT
    }

    #[inline]
    const fn expected(&self) -> i64 {
        if self.trend > 0 { self.integer.wrapping_add(self.step) } else { self.integer }
    }

    /// Takes the next integer of a decimal.
    #[inline]
    fn advance(&mut self, integer: i64, bits: u64) {
        let step = integer.wrapping_sub(self.integer);
        let by_line = step.wrapping_sub(self.step).unsigned_abs();
        let by_last = step.unsigned_abs();
        if by_line < by_last {
            self.trend = (self.trend + 1).min(TREND_MAX);
        } else if by_line > by_last {
            self.trend = (self.trend - 1).max(-TREND_MAX);
        }
        (self.bits, self.integer, self.step) = (bits, integer, step);
    }

    fn become_decimal(&mut self, exponent: u8, integer: i64, bits: u64) {
        *self = Self { bits, integer, exponent, ..Self::default() };
    }

    fn become_bits(&mut self, bits: u64) {
        *self = Self { bits, exponent: NO_EXPONENT, patience: TRY_EVERY, ..Self::default() };
    }

    /// The next value as expected, which is a hit.
    #[inline]
    fn hit(&mut self) -> u64 {
        // Without a step nothing changes, and most series stand still.
        if !self.is_bits() && self.step != 0 {
            let integer = self.expected();
            let bits = if integer == self.integer {
                self.bits
            } else {
                decimal::to_double(integer, self.exponent).to_bits()
            };
            self.advance(integer, bits);
        }
        self.bits
    }
}

#[derive(Default)]
pub(super) struct Values {
    traces: Vec<Trace>,
}

impl Values {
    pub(super) fn clear(&mut self) {
        self.traces.clear();
    }

    pub(super) fn define(&mut self) {
        self.traces.push(Trace::default());
    }

    pub(super) fn encode(
        &mut self,
        references: &[u32],
        samples: &[SeriesSample],
        out: &mut Vec<u8>,
    ) {
        let mut hits = 0;
        for (reference, SeriesSample { sample, .. }) in references.iter().zip(samples) {
            if encode_one(&mut self.traces[*reference as usize], sample.value, hits, out) {
                hits = 0;
            } else {
                hits += 1;
            }
        }
        if hits > 0 {
            push_token(hits, END, out);
        }
    }

    /// Reads a value for each reference into `samples`.
    pub(super) fn decode(
        &mut self,
        reader: &mut Reader<'_>,
        references: &[u32],
        samples: &mut [SeriesSample],
    ) -> Result<(), DecodeError> {
        let mut at = 0;
        while at < references.len() {
            let token = reader.byte()?;
            let left = references.len() - at;
            let mut hits = usize::from(token >> 4);
            if token >> 4 == HITS_MORE {
                hits += reader.at_most(left, "a run of values")?;
            }
            let told = usize::from(token & 0xf != END);
            // An end that is none would let a batch be as long as it likes.
            if hits + told > left || told == 0 && hits < left {
                let fault = DecodeFault::OutOfRange { what: "a run of values", found: hits as u64 };
                return Err(reader.fault(fault));
            }
            for (reference, found) in references[at..at + hits].iter().zip(&mut samples[at..]) {
                found.sample.value = f64::from_bits(self.traces[*reference as usize].hit());
            }
            at += hits;
            if told == 1 {
                let trace = &mut self.traces[references[at] as usize];
                samples[at].sample.value = f64::from_bits(decode_one(trace, token & 0xf, reader)?);
                at += 1;
            }
        }
        Ok(())
    }
}

/// Encodes a value, unless it is a hit: says which.
#[inline]
fn encode_one(trace: &mut Trace, value: f64, hits: u64, out: &mut Vec<u8>) -> bool {
    let bits = value.to_bits();
    if trace.is_bits() {
        if bits == trace.bits {
            return false;
        }
        trace.patience = trace.patience.saturating_sub(1);
        if bits == STALE_MARKER_BITS || trace.patience == 0 && decimal::find(value).is_some() {
            change(trace, value, hits, out);
            return true;
        }
        if trace.patience == 0 {
            trace.patience = TRY_EVERY;
        }
        push_difference(bits ^ trace.bits, hits, out);
        trace.bits = bits;
        return true;
    }
    let integer = if bits == trace.bits {
        if trace.step == 0 {
            return false;
        }
        trace.integer
    } else if let Some(integer) = decimal::to_integer(value, trace.exponent) {
        integer
    } else {
        change(trace, value, hits, out);
        return true;
    };
    let difference = zigzag(integer.wrapping_sub(trace.expected()));
    trace.advance(integer, bits);
    if difference != 0 {
        push_difference(difference, hits, out);
    }
    difference != 0
}

/// Tells a value whole, and what its series becomes with it.
#[cold]
fn change(trace: &mut Trace, value: f64, hits: u64, out: &mut Vec<u8>) {
    let bits = value.to_bits();
    if bits == STALE_MARKER_BITS {
        push_token(hits, STALE, out);
        trace.become_bits(bits);
    } else if let Some((exponent, integer)) = decimal::find(value) {
        push_token(hits, DECIMAL, out);
        out.push(exponent);
        push_varint(out, zigzag(integer));
        trace.become_decimal(exponent, integer, bits);
    } else {
        push_token(hits, BITS, out);
        push_low_bytes(out, bits, 8);
        trace.become_bits(bits);
    }
}

#[inline]
fn push_difference(difference: u64, hits: u64, out: &mut Vec<u8>) {
    let bytes = bytes_of(difference);
    push_token(hits, bytes.to_le_bytes()[0], out);
    push_low_bytes(out, difference, bytes);
}

#[inline]
fn push_token(hits: u64, low: u8, out: &mut Vec<u8>) {
    let some = hits.min(HITS_MORE.into()).to_le_bytes()[0];
    out.push(some << 4 | low);
    if some == HITS_MORE {
        push_varint(out, hits - u64::from(HITS_MORE));
    }
}

#[inline]
fn decode_one(trace: &mut Trace, low: u8, reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match low {
        1..=8 => {
            let difference = reader.low_bytes(usize::from(low))?;
            if trace.is_bits() {
                trace.bits ^= difference;
            } else {
                let integer = trace.expected().wrapping_add(unzigzag(difference));
                let bits = decimal::to_double(integer, trace.exponent).to_bits();
                trace.advance(integer, bits);
            }
        }
        DECIMAL => {
            let exponent = reader.byte()?;
            if exponent > EXPONENT_MAX {
                let found = u64::from(exponent);
                return Err(reader.fault(DecodeFault::OutOfRange { what: "an exponent", found }));
            }
            let integer = reader.zigzag()?;
            let bits = decimal::to_double(integer, exponent).to_bits();
            trace.become_decimal(exponent, integer, bits);
        }
        BITS => trace.become_bits(reader.low_bytes(8)?),
        STALE => trace.become_bits(STALE_MARKER_BITS),
        _ => {
            let found = u64::from(low);
            return Err(reader.fault(DecodeFault::OutOfRange { what: "a token", found }));
        }
    }
    Ok(trace.bits)
}
