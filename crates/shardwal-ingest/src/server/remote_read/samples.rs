//! The response type `SAMPLES`: one message that holds all samples and native histograms, as one
//! snappy block. It is complete before its first byte is sent, and held within the budget for
//! reads.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};

use super::message::{
    HEAD_BYTES_MAX, SAMPLE_BYTES_MAX, labels_bytes_max, put_bytes, put_labels, put_sample,
};
use crate::server::app::{App, OpenRead};
use crate::server::body::off_worker;
use crate::server::budget::{Exhausted, Reservation};
use crate::server::pieces::{PIECE_BYTES, PIECE_TIME_MAX, Piece, PieceBody, Pieces, produce};
use crate::server::read::answer;
use crate::server::refusal::Refusal;
use crate::server::search::{Found, SeriesSamples};
use crate::server::varint::put_varint;

/// Maximum number of samples that are taken from the storage at a time.
const SAMPLES_STEP: usize = 4096;

/// Maximum number of native histograms that are taken at a time.
const HISTOGRAMS_STEP: usize = 64;

/// The number of the field that holds a native histogram.
const HISTOGRAM_FIELD: u8 = 4;

/// Answers with all samples of the series that were found, one result per query.
///
/// # Errors
/// The response exceeds the budget, or takes until `until`.
pub(super) async fn respond(
    app: &Arc<App>,
    until: Instant,
    open: OpenRead,
    results: Vec<Found>,
) -> Result<Response<Body>, Refusal> {
    let mut message = Message::new(results, app.read_budget.reserve_nothing());
    loop {
        let produced = produce(Arc::clone(app), message).await;
        let (after, piece) = produced.ok_or(Refusal::ReadTime)?;
        message = after;
        if let Some(exhausted) = message.exhausted {
            return Err(exhausted.into());
        }
        if matches!(piece, Piece::End) {
            break;
        }
        if Instant::now() >= until {
            return Err(Refusal::ReadTime);
        }
    }
    let block = off_worker(message.bytes.len(), || message.compress())?;
    let body = PieceBody::new(Arc::clone(app), until, open, block);
    let mut response = answer("application/x-protobuf", Body::new(body));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    Ok(response)
}

/// A `ReadResponse` that is being built.
#[derive(Debug)]
struct Message {
    results: std::vec::IntoIter<Found>,
    /// The result that is being built, and where it begins.
    result: Option<(Found, usize)>,
    /// The series that is being read, and its message so far.
    current: Option<SeriesSamples>,
    series: Vec<u8>,
    bytes: Vec<u8>,
    /// Covers `series` and `bytes`.
    reservation: Reservation,
    exhausted: Option<Exhausted>,
}

impl Message {
    fn new(results: Vec<Found>, reservation: Reservation) -> Self {
        let (series, bytes) = (Vec::new(), Vec::new());
        let results = results.into_iter();
        Self { results, result: None, current: None, series, bytes, reservation, exhausted: None }
    }

    /// Goes one step on. False at the end.
    fn step(&mut self) -> Result<bool, Exhausted> {
        if let (Some((found, _)), Some(series)) = (&self.result, &mut self.current)
            && !series.is_at_end()
        {
            let samples = found.samples_of(series, SAMPLES_STEP);
            let room = samples.len() * SAMPLE_BYTES_MAX;
            self.reservation.make_room_for(&mut self.series, room)?;
            for sample in samples {
                put_sample(&mut self.series, sample);
            }
            return Ok(true);
        }
        if let (Some((found, _)), Some(series)) = (&self.result, &mut self.current) {
            for histogram in found.histograms_of(series, HISTOGRAMS_STEP) {
                let room = histogram.bytes.len() + HEAD_BYTES_MAX;
                self.reservation.make_room_for(&mut self.series, room)?;
                put_bytes(&mut self.series, HISTOGRAM_FIELD, &histogram.bytes);
            }
            if series.is_at_end_of_histograms() {
                let room = self.series.len() + HEAD_BYTES_MAX;
                self.reservation.make_room_for(&mut self.bytes, room)?;
                put_bytes(&mut self.bytes, 1, &self.series);
                self.current = None;
            }
            return Ok(true);
        }
        let Some((found, begin)) = &mut self.result else {
            self.result = self.results.next().map(|found| (found, self.bytes.len()));
            return Ok(self.result.is_some());
        };
        if let Some(series) = found.next() {
            self.series.clear();
            let room = labels_bytes_max(&series.labels);
            self.reservation.make_room_for(&mut self.series, room)?;
            put_labels(&mut self.series, &series.labels);
            self.current = Some(series);
        } else {
            // The length of a result is known at its end.
            let begin = *begin;
            let mut head = vec![1 << 3 | 2];
            put_varint(&mut head, (self.bytes.len() - begin) as u64);
            self.reservation.make_room_for(&mut self.bytes, head.len())?;
            self.bytes.splice(begin..begin, head);
            self.result = None;
        }
        Ok(true)
    }

    /// Compresses the message.
    ///
    /// # Errors
    /// The budget is exhausted.
    fn compress(self) -> Result<Block, Refusal> {
        let Self { bytes, series, mut reservation, .. } = self;
        reservation.release(series.capacity());
        drop(series);
        let bytes_max = snap::raw::max_compress_len(bytes.len());
        reservation.grow(bytes_max)?;
        let compressed = snap::raw::Encoder::new().compress_vec(&bytes);
        // Only a message above 4 GiB cannot be compressed.
        let mut compressed = compressed.map_err(|error| Refusal::Invalid(error.to_string()))?;
        compressed.shrink_to_fit();
        reservation.release(bytes_max - compressed.capacity().min(bytes_max) + bytes.capacity());
        Ok(Block { compressed, sent: 0, _reservation: reservation })
    }
}

impl Pieces for Message {
    fn next(&mut self, _: &App) -> Piece {
        let until = Instant::now() + PIECE_TIME_MAX;
        while Instant::now() < until {
            match self.step() {
                Ok(true) => {}
                Ok(false) => return Piece::End,
                Err(exhausted) => {
                    self.exhausted = Some(exhausted);
                    return Piece::End;
                }
            }
        }
        Piece::Nothing
    }
}

/// A compressed message that is being sent.
#[derive(Debug)]
struct Block {
    compressed: Vec<u8>,
    sent: usize,
    /// Covers `compressed`.
    _reservation: Reservation,
}

impl Pieces for Block {
    fn next(&mut self, _: &App) -> Piece {
        let rest = &self.compressed[self.sent..];
        let piece = &rest[..rest.len().min(PIECE_BYTES)];
        self.sent += piece.len();
        if piece.is_empty() { Piece::End } else { Piece::Bytes(piece.to_vec()) }
    }
}
