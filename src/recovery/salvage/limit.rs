//! What limits a segment in a salvage: its successor, the next hole, the durable marks.
//!
//! This file knows the elements of a skeleton. It reads no file.

use super::Piece;
use super::skeleton::{Element, Hole};
use crate::segment::frame_reader::Frame;
use crate::segment::header::Predecessor;

/// The segments before the next hole, and the hole.
pub(super) fn chain_of(elements: &[Element]) -> (&[Element], Option<&Hole>) {
    let at = elements.iter().position(|element| matches!(element, Element::Hole(_)));
    let chain = &elements[..at.unwrap_or(elements.len())];
    match elements.get(chain.len()) {
        Some(Element::Hole(hole)) => (chain, Some(hole)),
        _ => (chain, None),
    }
}

/// Facts that limit where a segment ends.
pub(super) struct Limit {
    /// The end according to its successor.
    pub(super) expected: Option<Predecessor>,
    /// The first sequence of the next hole, if it is known.
    pub(super) cut: Option<u64>,
    /// The lower of the two. From this sequence on, the segment's frames are not the
    /// log's.
    pub(super) below: u64,
}

impl Limit {
    pub(super) fn of(later: &[Element]) -> Self {
        let expected = match later.first() {
            Some(Element::Segment(successor)) => Some(successor.predecessor),
            Some(Element::Hole(_)) | None => None,
        };
        let cut = chain_of(later).1.and_then(|hole| hole.first_sequence);
        let expected_below = expected.map_or(u64::MAX, |expected| expected.next_sequence);
        Self { expected, cut, below: expected_below.min(cut.unwrap_or(u64::MAX)) }
    }
}

/// The proof that the log continued after a corrupted place.
pub(super) struct Vouched {
    /// The sequence that the log reached.
    pub(super) to: u64,
    /// Frames that begin with a higher sequence do not count.
    pub(super) first_max: u64,
}

/// What to keep of a segment, so far.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) pieces: Vec<Piece>,
    pub(super) records_end: u64,
    pub(super) is_changed: bool,
}

impl Taken {
    pub(super) fn frame(&mut self, frame: &Frame) {
        match self.pieces.last_mut() {
            Some(Piece::Frames { to, .. }) if *to == frame.offset => *to = frame.end(),
            _ => self.pieces.push(Piece::Frames { from: frame.offset, to: frame.end() }),
        }
    }
}
