//! The column of values. A series is decimal or binary. A decimal series encodes the difference of
//! its integer from a prediction: the last integer, or the line through the last two, whichever was
//! closer recently. A binary series encodes the XOR with the last value.
//!
//! A value that equals its prediction is a *hit* and takes no bytes. Any other value is a token,
//! with the number of hits before it, and the difference. This file does not know timestamps.

use super::bytes::{Reader, bytes_of, push_low_bytes, push_varint, unzigzag, zigzag};
use super::decimal::{self, EXPONENT_MAX};
use super::{DecodeError, DecodeFault, SeriesSample};
use crate::STALE_MARKER_BITS;

/// Low half of a token: no value follows. 1 to 8 are the bytes of a difference.
const END: u8 = 0;
/// The series becomes decimal. Exponent and integer follow.
const DECIMAL: u8 = 9;
/// The series becomes binary. 8 bytes follow.
const BITS: u8 = 10;
/// The series becomes binary, with the stale marker as its value.
const STALE: u8 = 11;

/// High half of a token: 15 hits or more. The rest follows as a varint.
const HITS_MORE: u8 = 15;

/// The exponent of a binary series.
const NO_EXPONENT: u8 = u8::MAX;

/// Number of values of a binary series between two attempts to make it decimal. Only the encoder
/// needs it, because the token has it.
const RETRY_EVERY: u8 = 16;

/// Bound on `Trace::trend`, in both directions.
const TREND_MAX: i8 = 3;

/// The state of one series' values.
#[derive(Clone, Copy, Default)]
struct Trace {
    /// The last value. 0.0 before the first.
    bits: u64,
    /// The last value as a decimal, if the series is decimal.
    integer: i64,
    /// The difference of the last two integers.
    step: i64,
    exponent: u8,
    /// Above 0 if the line through the last two integers has predicted better.
    trend: i8,
    /// The encoder's number of values until the next attempt to become decimal.
    retry_in: u8,
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

    /// Advances a decimal series to its next integer.
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
        *self = Self { bits, exponent: NO_EXPONENT, retry_in: RETRY_EVERY, ..Self::default() };
    }

    /// Advances by a hit. Returns the bits of the value.
    #[inline]
    fn hit(&mut self) -> u64 {
        // Most series are constant. Without a step nothing changes.
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

    /// Decodes a value for each reference into `samples`.
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
            let misses = usize::from(token & 0xf != END);
            // An end token must be the last. Otherwise a batch could grow without bound.
            if hits + misses > left || misses == 0 && hits < left {
                let fault = DecodeFault::OutOfRange { what: "a run of values", found: hits as u64 };
                return Err(reader.fault(fault));
            }
            for (reference, found) in references[at..at + hits].iter().zip(&mut samples[at..]) {
                found.sample.value = f64::from_bits(self.traces[*reference as usize].hit());
            }
            at += hits;
            if misses == 1 {
                let trace = &mut self.traces[references[at] as usize];
                samples[at].sample.value = f64::from_bits(decode_one(trace, token & 0xf, reader)?);
                at += 1;
            }
        }
        Ok(())
    }
}

/// Encodes a value unless it is a hit. Returns whether it wrote a token.
#[inline]
fn encode_one(trace: &mut Trace, value: f64, hits: u64, out: &mut Vec<u8>) -> bool {
    let bits = value.to_bits();
    if trace.is_bits() {
        if bits == trace.bits {
            return false;
        }
        trace.retry_in = trace.retry_in.saturating_sub(1);
        if bits == STALE_MARKER_BITS || trace.retry_in == 0 && decimal::find(value).is_some() {
            change(trace, value, hits, out);
            return true;
        }
        if trace.retry_in == 0 {
            trace.retry_in = RETRY_EVERY;
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

/// Encodes a value without prediction, and changes what its series is.
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
