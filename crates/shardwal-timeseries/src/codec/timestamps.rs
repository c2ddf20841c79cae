//! The column of timestamps, as runs. A run repeats the previous timestamp, repeats each series'
//! last step, or lists differences from that step. All arithmetic wraps, so any `i64` is a valid
//! timestamp. This file does not know values.

use super::bytes::{Reader, push_varint, zigzag};
use super::{DecodeError, DecodeFault, SeriesSample};

/// A run of samples with the timestamp of the sample before.
const SAME: u8 = 1;
/// A run of samples that match their series' prediction.
const EXPECTED: u8 = 2;
/// A run of other samples. A difference for each follows.
const DIFFERENCES: u8 = 4;

/// The state of one series' timestamps.
#[derive(Clone, Copy, Default)]
struct Clock {
    last: i64,
    step: i64,
    /// Whether `last` is valid. Before, the prediction is the previous sample's timestamp.
    ticks: bool,
}

impl Clock {
    #[inline]
    const fn expected(&self, previous: i64) -> i64 {
        if self.ticks { self.last.wrapping_add(self.step) } else { previous }
    }

    #[inline]
    const fn tick(&mut self, now: i64) {
        self.step = if self.ticks { now.wrapping_sub(self.last) } else { 0 };
        self.last = now;
        self.ticks = true;
    }
}

#[derive(Default)]
pub(super) struct Timestamps {
    clocks: Vec<Clock>,
    /// The timestamp of the previous sample.
    previous: i64,
    /// The encoder's current run: its length, the kinds that fit it, and the differences of a run
    /// of kind `DIFFERENCES`.
    run: u64,
    kinds: u8,
    differences: Vec<u8>,
}

impl Timestamps {
    pub(super) fn clear(&mut self) {
        self.clocks.clear();
        self.previous = 0;
    }

    pub(super) fn define(&mut self) {
        self.clocks.push(Clock::default());
    }

    /// Encodes runs: `length * 4 + kind`, and the differences if the kind is `DIFFERENCES`. A run
    /// continues as long as one kind fits all of it.
    pub(super) fn encode(
        &mut self,
        references: &[u32],
        samples: &[SeriesSample],
        out: &mut Vec<u8>,
    ) {
        for (reference, SeriesSample { sample, .. }) in references.iter().zip(samples) {
            let clock = &mut self.clocks[*reference as usize];
            let now = sample.timestamp_ms;
            let expected = clock.expected(self.previous);
            let fits = match (now == self.previous, now == expected) {
                (true, true) => SAME | EXPECTED,
                (true, false) => SAME,
                (false, true) => EXPECTED,
                (false, false) => DIFFERENCES,
            };
            clock.tick(now);
            self.previous = now;
            if self.kinds & fits == 0 {
                self.end_run(out);
                self.kinds = fits;
            }
            self.kinds &= fits;
            self.run += 1;
            if fits == DIFFERENCES {
                push_varint(&mut self.differences, zigzag(now.wrapping_sub(expected)));
            }
        }
        self.end_run(out);
    }

    fn end_run(&mut self, out: &mut Vec<u8>) {
        if self.run > 0 {
            push_varint(out, self.run << 2 | u64::from(self.kinds.trailing_zeros()));
            out.append(&mut self.differences);
        }
        (self.run, self.kinds) = (0, 0);
    }

    /// Decodes a timestamp for each reference into `samples`.
    pub(super) fn decode(
        &mut self,
        reader: &mut Reader<'_>,
        references: &[u32],
        samples: &mut [SeriesSample],
    ) -> Result<(), DecodeError> {
        let mut at = 0;
        while at < references.len() {
            let left = references.len() - at;
            let head = reader.at_most(left << 2 | 3, "a run of timestamps")?;
            let (length, kind) = (head >> 2, head & 3);
            if length == 0 || kind == 3 {
                let fault =
                    DecodeFault::OutOfRange { what: "a run of timestamps", found: head as u64 };
                return Err(reader.fault(fault));
            }
            for (reference, found) in references[at..at + length].iter().zip(&mut samples[at..]) {
                let clock = &mut self.clocks[*reference as usize];
                let expected = clock.expected(self.previous);
                let now = match 1_u8 << kind {
                    SAME => self.previous,
                    EXPECTED => expected,
                    _ => expected.wrapping_add(reader.zigzag()?),
                };
                clock.tick(now);
                self.previous = now;
                found.sample.timestamp_ms = now;
            }
            at += length;
        }
        Ok(())
    }
}
