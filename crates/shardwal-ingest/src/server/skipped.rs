//! What an acknowledged request contained and the server did not store: counted by kind, and logged
//! once per sender and kind. This file does not know the protocols.

use std::sync::atomic::{AtomicU64, Ordering};

use super::sender::{Sender, Senders};

/// A kind of content that is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exemplars,
    Metadata,
    CreatedTimestamps,
    UnknownFields,
    StringFields,
    TimestampFields,
    HistogramExtremes,
    ResourceAttributes,
}

/// The kinds and their names, in the order of their counters.
const KINDS: [(Kind, &str); 8] = [
    (Kind::Exemplars, "exemplars"),
    (Kind::Metadata, "metadata"),
    (Kind::CreatedTimestamps, "created_timestamps"),
    (Kind::UnknownFields, "unknown_fields"),
    (Kind::StringFields, "string_fields"),
    (Kind::TimestampFields, "timestamp_fields"),
    (Kind::HistogramExtremes, "histogram_extremes"),
    (Kind::ResourceAttributes, "resource_attributes"),
];

/// The names of the kinds, in the order of their counters.
pub(crate) fn names() -> [&'static str; KINDS.len()] {
    KINDS.map(|(_, name)| name)
}

/// What one request contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skipped([u64; KINDS.len()]);

/// The counters of all requests. Relaxed: each is displayed by itself and decides nothing.
#[derive(Debug)]
pub(crate) struct SkippedCounters([AtomicU64; KINDS.len()]);

impl Skipped {
    /// Counts what was skipped.
    pub(crate) fn add(&mut self, kind: Kind, count: u64) {
        self.0[kind as usize] += count;
    }

    /// Counts what was skipped in a part of the request.
    pub(crate) fn add_all(&mut self, part: Self) {
        for (count, more) in self.0.iter_mut().zip(part.0) {
            *count += more;
        }
    }
}

impl Default for SkippedCounters {
    /// Also exposes each kind at 0, so that a rate sees the first.
    fn default() -> Self {
        for (_, kind) in KINDS {
            metrics::counter!("ingest_skipped_total", "kind" => kind).increment(0);
        }
        Self(Default::default())
    }
}

impl SkippedCounters {
    /// Counts what an acknowledged request contained. Logs each kind of a sender once.
    pub(crate) fn count(&self, senders: &Senders, sender: &Sender, skipped: Skipped) {
        for (kind, name) in KINDS {
            let count = skipped.0[kind as usize];
            if count == 0 {
                continue;
            }
            // Relaxed: see the type.
            self.0[kind as usize].fetch_add(count, Ordering::Relaxed);
            metrics::counter!("ingest_skipped_total", "kind" => name).increment(count);
            if senders.is_first(sender, name) {
                tracing::warn!(
                    sender = %sender.address,
                    client = sender.client,
                    endpoint = sender.endpoint,
                    kind = name,
                    "acknowledged but not stored, see ingest_skipped_total"
                );
            }
        }
    }

    /// The number of skipped items, by kind.
    pub(crate) fn totals(&self) -> [u64; KINDS.len()] {
        // Relaxed: see the type.
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}
