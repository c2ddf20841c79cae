//! Counters of requests, for the status page and for Prometheus. This file does not know the
//! protocols.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::refusal::{REASONS, Refusal};

/// Number of latency buckets: two per power of two, in microseconds.
const LATENCY_BUCKETS: usize = 64;

/// Counters of the status page. All are Relaxed: each count is displayed by itself and decides
/// nothing.
#[derive(Debug)]
pub(crate) struct Counters {
    samples: AtomicU64,
    requests: AtomicU64,
    refusals: [AtomicU64; REASONS.len()],
    latencies: [AtomicU64; LATENCY_BUCKETS],
}

impl Default for Counters {
    /// Also exposes each reason at 0, so that a rate sees the first refusal.
    fn default() -> Self {
        for reason in REASONS {
            metrics::counter!("ingest_refusals_total", "reason" => reason).increment(0);
        }
        Self {
            samples: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            refusals: Default::default(),
            latencies: [const { AtomicU64::new(0) }; LATENCY_BUCKETS],
        }
    }
}

impl Counters {
    /// Counts acknowledged samples.
    pub(crate) fn count_samples(&self, samples: u64) {
        self.samples.fetch_add(samples, Ordering::Relaxed);
        metrics::counter!("ingest_samples_total").increment(samples);
    }

    /// Counts a request that was answered, refused or not.
    pub(crate) fn count_request(
        &self,
        path: &'static str,
        began: Instant,
        refusal: Option<&Refusal>,
    ) {
        let took = began.elapsed();
        self.requests.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("ingest_requests_total", "path" => path).increment(1);
        match refusal {
            None => {
                self.latencies[latency_bucket(took)].fetch_add(1, Ordering::Relaxed);
                metrics::histogram!("ingest_request_seconds", "path" => path).record(took);
            }
            Some(refusal) => {
                let reason = refusal.reason();
                self.refusals[reason].fetch_add(1, Ordering::Relaxed);
                metrics::counter!("ingest_refusals_total", "reason" => REASONS[reason])
                    .increment(1);
            }
        }
    }

    /// Number of acknowledged samples.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }

    /// Number of answered write requests.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Number of refused requests, by reason.
    pub(crate) fn refusals(&self) -> [u64; REASONS.len()] {
        self.refusals.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Returns P99 and P50 of the latency since the last call, in microseconds.
    pub(crate) fn take_latencies(&self) -> [u64; 2] {
        let counts = self.latencies.each_ref().map(|count| count.swap(0, Ordering::Relaxed));
        let total: u64 = counts.iter().sum();
        [99, 50].map(|percent| {
            let rank = (total * percent).div_ceil(100);
            let mut seen = 0;
            let bucket = counts.iter().position(|count| {
                seen += count;
                seen >= rank && rank > 0
            });
            bucket.map_or(0, latency_of_bucket)
        })
    }
}

fn latency_bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = micros.ilog2();
    let upper_half = power > 0 && micros >> (power - 1) & 1 == 1;
    (power as usize * 2 + usize::from(upper_half)).min(LATENCY_BUCKETS - 1)
}

/// The upper end of a bucket, in microseconds.
fn latency_of_bucket(bucket: usize) -> u64 {
    let base = 1_u64 << (bucket / 2);
    if bucket.is_multiple_of(2) { base + base / 2 } else { base * 2 }
}
