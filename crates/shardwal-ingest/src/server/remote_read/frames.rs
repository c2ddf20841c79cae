//! The response type `STREAMED_XOR_CHUNKS`: a frame per series, sorted by labels, at the pace of
//! the client. A series whose chunks exceed the size of a frame takes several.
//!
//! A frame is the length of a `ChunkedReadResponse` as a varint, its CRC-32C in big-endian order,
//! and the message.

use std::time::Instant;

use shardwal_timeseries::XorChunk;

use super::message::{put_bytes, put_labels, put_number};
use crate::server::app::App;
use crate::server::budget::Reservation;
use crate::server::pieces::{PIECE_BYTES, PIECE_TIME_MAX, Piece, Pieces};
use crate::server::search::{Found, SeriesSamples};
use crate::server::varint::put_varint;

/// Bytes of chunks from which on a frame is complete, as in Prometheus.
const FRAME_BYTES: usize = 1 << 20;

/// Bytes that a response holds: a series' message and its frame.
pub(super) const HELD_BYTES: usize = 3 * FRAME_BYTES;

/// Number of chunks that are taken from the storage at a time.
const CHUNKS_STEP: usize = 32;

/// What the number of a chunk's encoding says.
const ENCODING_XOR: i64 = 1;

/// The frames of a response.
#[derive(Debug)]
pub(super) struct Frames {
    results: std::iter::Enumerate<std::vec::IntoIter<Found>>,
    /// The number of the query that is being answered, and the rest of its series.
    result: Option<(usize, Found)>,
    /// The series that is being read.
    current: Option<SeriesSamples>,
    /// Its labels and chunks for the next frame.
    series: Vec<u8>,
    has_chunks: bool,
    /// Covers [`HELD_BYTES`].
    _reservation: Reservation,
}

impl Frames {
    /// `reservation` must cover [`HELD_BYTES`].
    pub(super) fn new(results: Vec<Found>, reservation: Reservation) -> Self {
        let results = results.into_iter().enumerate();
        let (series, _reservation) = (Vec::new(), reservation);
        Self { results, result: None, current: None, series, has_chunks: false, _reservation }
    }

    /// Goes one step on. False at the end.
    fn step(&mut self, frames: &mut Vec<u8>) -> bool {
        if let (Some((_, found)), Some(series)) = (&self.result, &mut self.current) {
            for chunk in found.chunks_of(series, CHUNKS_STEP) {
                put_chunk(&mut self.series, &chunk);
                self.has_chunks = true;
            }
            let is_at_end = series.is_at_end();
            if is_at_end || self.series.len() >= FRAME_BYTES {
                self.end_frame(frames);
            }
            self.current = self.current.take().filter(|_| !is_at_end);
            return true;
        }
        let Some((_, found)) = &mut self.result else {
            self.result = self.results.next();
            return self.result.is_some();
        };
        match found.next() {
            Some(series) => self.begin_frame(series),
            None => self.result = None,
        }
        true
    }

    fn begin_frame(&mut self, series: SeriesSamples) {
        self.series.clear();
        self.has_chunks = false;
        put_labels(&mut self.series, &series.labels);
        self.current = Some(series);
    }

    /// Appends the frame of the current series, and begins another.
    #[expect(clippy::big_endian_bytes, reason = "the checksum of a frame is big-endian")]
    fn end_frame(&mut self, frames: &mut Vec<u8>) {
        let Some(series) = self.current.take() else { return };
        if self.has_chunks {
            let query = self.result.as_ref().map_or(0, |(query, _)| *query);
            let mut message = Vec::with_capacity(self.series.len() + 32);
            put_bytes(&mut message, 1, &self.series);
            put_number(&mut message, 2, i64::try_from(query).unwrap_or(i64::MAX));
            put_varint(frames, message.len() as u64);
            frames.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
            frames.extend_from_slice(&message);
        }
        self.begin_frame(series);
    }
}

impl Pieces for Frames {
    fn next(&mut self, _: &App) -> Piece {
        let until = Instant::now() + PIECE_TIME_MAX;
        let mut frames = Vec::new();
        while frames.len() < PIECE_BYTES && Instant::now() < until {
            if !self.step(&mut frames) {
                return if frames.is_empty() { Piece::End } else { Piece::Bytes(frames) };
            }
        }
        if frames.is_empty() { Piece::Nothing } else { Piece::Bytes(frames) }
    }
}

/// Appends a chunk: a field with the number 2.
fn put_chunk(series: &mut Vec<u8>, chunk: &XorChunk) {
    let mut message = Vec::new();
    put_number(&mut message, 1, chunk.first_ms());
    put_number(&mut message, 2, chunk.last_ms());
    put_number(&mut message, 3, ENCODING_XOR);
    put_bytes(&mut message, 4, chunk.bytes());
    put_bytes(series, 2, &message);
}
