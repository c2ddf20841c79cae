//! Senders: the clients of the server, as far as their requests show them. Each has counts, and a
//! line of the log per kind of trouble. This file does not know the protocols.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};

/// Maximum number of senders that are kept. Further ones are only in the totals.
const SENDERS_MAX: usize = 1000;

/// Maximum number of characters of a client's name.
const CLIENT_CHARS_MAX: usize = 64;

/// Maximum number of senders on the status page.
const SHOWN_MAX: usize = 50;

/// The address of a request's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// A client, as far as a request shows it, and where it sent the request.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) address: IpAddr,
    /// What the client calls itself.
    pub(crate) client: String,
    pub(crate) endpoint: &'static str,
    /// The tenant that the request names. Empty if tenants are not named by requests.
    pub(crate) tenant: String,
}

impl Sender {
    /// The sender of a request with these headers.
    pub(crate) fn new(
        endpoint: &'static str,
        peer: Peer,
        headers: &HeaderMap,
        tenant: String,
    ) -> Self {
        let client = headers.get(header::USER_AGENT).map_or(&b""[..], |client| client.as_bytes());
        let client = String::from_utf8_lossy(client);
        let client = client.chars().take(CLIENT_CHARS_MAX).collect();
        Self { address: peer.0, client, endpoint, tenant }
    }
}

/// Counts and reports of each sender.
#[derive(Debug, Default)]
pub(crate) struct Senders(Mutex<HashMap<(IpAddr, String), Record>>);

#[derive(Debug, Default)]
struct Record {
    requests: u64,
    samples: u64,
    refused: u64,
    /// Why its last refused request was refused.
    last_refusal: Option<String>,
    /// The kinds of trouble that the log names, and their endpoints.
    reported: HashSet<(&'static str, &'static str)>,
}

impl Senders {
    fn records(&self) -> MutexGuard<'_, HashMap<(IpAddr, String), Record>> {
        // Ignoring poison is safe: the records are consistent between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record of a sender, if it is kept.
    fn update<T>(&self, sender: &Sender, change: impl FnOnce(&mut Record) -> T) -> Option<T> {
        let mut records = self.records();
        let key = (sender.address, sender.client.clone());
        if records.len() >= SENDERS_MAX && !records.contains_key(&key) {
            return None;
        }
        Some(change(records.entry(key).or_default()))
    }

    /// Counts acknowledged samples.
    pub(crate) fn count_samples(&self, sender: &Sender, samples: u64) {
        self.update(sender, |record| record.samples += samples);
    }

    /// Counts an answered request. `refusal` says why it was refused, at least in part.
    pub(crate) fn count_request(&self, sender: &Sender, refusal: Option<String>) {
        self.update(sender, |record| {
            record.requests += 1;
            record.refused += u64::from(refusal.is_some());
            record.last_refusal = refusal.or(record.last_refusal.take());
        });
    }

    /// Whether the log should name this kind of trouble: the first time per sender and endpoint.
    pub(crate) fn is_first(&self, sender: &Sender, kind: &'static str) -> bool {
        let first = self.update(sender, |record| record.reported.insert((sender.endpoint, kind)));
        first.unwrap_or(false)
    }

    /// The senders with the most requests, for the status page.
    pub(crate) fn as_json(&self) -> Value {
        let records = self.records();
        let mut shown: Vec<_> = records.iter().collect();
        shown.sort_unstable_by_key(|(_, record)| std::cmp::Reverse(record.requests));
        let shown = shown.into_iter().take(SHOWN_MAX).map(|((address, client), record)| {
            json!({
                "address": address,
                "client": client,
                "requests": record.requests,
                "samples": record.samples,
                "refused": record.refused,
                "last_refusal": record.last_refusal,
            })
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{SENDERS_MAX, Sender, Senders};

    /// A client can choose its name, and with it the number of senders.
    #[test]
    fn the_number_of_senders_is_bounded() {
        let senders = Senders::default();
        let sender = |number: usize| Sender {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            client: number.to_string(),
            endpoint: "/write",
            tenant: String::new(),
        };
        for number in 0..2 * SENDERS_MAX {
            senders.count_request(&sender(number), None);
            assert_eq!(senders.is_first(&sender(number), "kind"), number < SENDERS_MAX);
            assert!(!senders.is_first(&sender(number), "kind"));
        }
        assert_eq!(senders.records().len(), SENDERS_MAX);
    }
}
