//! Tenants: whose samples a request holds, and how many samples and series each may send. This file
//! does not know the protocols.
//!
//! A request is refused as a whole if one of its tenants is beyond its rate. New series beyond a
//! tenant's limit are left out, as at the limit on all series. The number of tenants is bounded:
//! further ones share one account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::http::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use shardwal_timeseries::{Matcher, SeriesHandle, Storage, WriteError};

use super::batch::Contents;
use super::refusal::Refusal;

/// The options that limit a tenant.
pub(crate) const SERIES_MAX: &str = "--tenant-series-max";
const RATE_MAX: &str = "--tenant-samples-per-second";

/// Maximum bytes of a tenant's name. Those with longer ones share the account of further tenants.
const NAME_BYTES_MAX: usize = 128;

/// The name of the account of further tenants, in metrics.
const OTHERS: &str = "(others)";

/// Maximum number of series of a request whose accounts are remembered at a time.
const KNOWN_SERIES_MAX: usize = 4096;

/// What says whose samples they are.
#[derive(Clone, Debug)]
pub(crate) enum TenantBy {
    /// A header of the request.
    Header(HeaderName),
    /// A label of each series.
    Label(String),
}

/// Limits on a tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TenantLimits {
    /// Maximum number of series.
    pub(crate) series_max: Option<u64>,
    /// Samples per second, on average.
    pub(crate) samples_per_second: Option<u64>,
}

/// Settings of the tenants.
#[derive(Clone, Debug)]
pub(crate) struct TenantSettings {
    pub(crate) by: TenantBy,
    /// The limits of a tenant without its own.
    pub(crate) default: TenantLimits,
    pub(crate) named: HashMap<String, TenantLimits>,
    /// Maximum number of tenants with an account, beside the named ones.
    pub(crate) tenants_max: usize,
}

/// The tenants of a server.
#[derive(Debug)]
pub(crate) struct Tenants {
    settings: TenantSettings,
    accounts: Mutex<HashMap<String, Arc<Account>>>,
    others: Arc<Account>,
}

/// What one tenant has sent.
#[derive(Debug)]
struct Account {
    name: String,
    limits: TenantLimits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Samples that may be sent now. A request may overdraw it, so that one of any size passes.
    allowed: f64,
    /// When `allowed` was up to date.
    at: Instant,
    /// New series of requests that are being written.
    pending: u64,
    /// Series that were new in a request. Only used without a label to count by.
    series: u64,
    samples: u64,
    /// Samples of requests that were refused for the rate.
    refused_samples: u64,
    /// Series that were left out.
    refused_series: u64,
}

impl Account {
    fn new(name: &str, limits: TenantLimits) -> Arc<Self> {
        let state = State {
            allowed: limits.samples_per_second.map_or(0.0, |rate| rate as f64),
            at: Instant::now(),
            pending: 0,
            series: 0,
            samples: 0,
            refused_samples: 0,
            refused_series: 0,
        };
        Arc::new(Self { name: name.to_owned(), limits, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Ignoring poison is safe: the state is consistent between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Seconds until more samples may be sent. `None` if they may be sent now.
    fn wait(&self) -> Option<u64> {
        let rate = self.limits.samples_per_second? as f64;
        let mut state = self.state();
        let now = Instant::now();
        let gained = now.duration_since(state.at).as_secs_f64() * rate;
        state.allowed = (state.allowed + gained).min(rate);
        state.at = now;
        #[expect(clippy::cast_possible_truncation, reason = "such a cast saturates")]
        let seconds = ((1.0 - state.allowed) / rate).ceil().max(1.0) as u64;
        (state.allowed <= 0.0).then_some(seconds)
    }
}

/// What a request takes from one account. Dropping it ends the request, and returns the samples
/// unless they were written.
#[derive(Debug)]
struct Part {
    account: Arc<Account>,
    samples: u64,
    /// New series, as indices in the batch.
    new: Vec<usize>,
    /// Number of new series that are pending.
    pending: u64,
    is_written: bool,
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut state = self.account.state();
        state.pending -= self.pending;
        if self.is_written {
            state.series += self.new.len() as u64;
            state.samples += self.samples;
        } else {
            state.allowed += self.samples as f64;
        }
    }
}

/// What a request takes from its tenants.
#[derive(Debug, Default)]
pub(crate) struct Admitted {
    parts: Vec<Part>,
    /// New series that are left out: how many, the labels of the first, and the limit.
    pub(crate) left_out: Option<(usize, String, u64)>,
}

impl Admitted {
    /// Records that the samples were written, but for the new series that the storage left out.
    pub(crate) fn written(mut self, left_out: &[usize]) {
        for part in &mut self.parts {
            part.new.retain(|index| left_out.binary_search(index).is_err());
            let name = part.account.name.clone();
            metrics::counter!("ingest_tenant_samples_total", "tenant" => name)
                .increment(part.samples);
            part.is_written = true;
        }
    }
}

impl Tenants {
    pub(crate) fn new(settings: TenantSettings) -> Self {
        let named = settings.named.iter();
        let accounts = named.map(|(name, limits)| (name.clone(), Account::new(name, *limits)));
        let others = Account::new(OTHERS, settings.default);
        Self { accounts: Mutex::new(accounts.collect()), others, settings }
    }

    /// The tenant that a request names, if a header names it.
    pub(crate) fn of_request(&self, headers: &HeaderMap) -> String {
        let TenantBy::Header(header) = &self.settings.by else { return String::new() };
        let name = headers.get(header).map_or(&b""[..], |value| value.as_bytes());
        String::from_utf8_lossy(name).into_owned()
    }

    fn account(&self, name: &str) -> Arc<Account> {
        // Ignoring poison is safe: the map is consistent between any two statements.
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = accounts.get(name) {
            return Arc::clone(account);
        }
        let max = self.settings.tenants_max + self.settings.named.len();
        if accounts.len() >= max || name.len() > NAME_BYTES_MAX {
            return Arc::clone(&self.others);
        }
        let account = Account::new(name, self.settings.default);
        accounts.insert(name.to_owned(), Arc::clone(&account));
        account
    }

    /// Admits a request of the tenant that it names, or of those that its series name. Takes the
    /// samples of new series beyond a limit out of it.
    ///
    /// # Errors
    /// [`Refusal::TenantRate`] if a tenant is beyond its rate, and
    /// [`WriteError::TooManySeries`] if room for its series depends on requests in flight.
    pub(crate) fn admit(
        &self,
        tenant: &str,
        contents: &mut Contents,
        storage: &Storage,
    ) -> Result<Admitted, Refusal> {
        let mut parts = self.parts(tenant, contents, storage);
        let mut waits = parts.iter().map(|part| (part.account.wait(), part));
        if let Some((Some(seconds), part)) = waits.find(|(seconds, _)| seconds.is_some()) {
            let (account, samples) = (&part.account, part.samples);
            account.state().refused_samples += samples;
            count_refused(&account.name, "rate", samples);
            let refusal = Refusal::TenantRate {
                tenant: account.name.clone(),
                max: account.limits.samples_per_second.unwrap_or(0),
                limit: RATE_MAX,
                seconds,
            };
            // They have taken nothing yet.
            parts.iter_mut().for_each(|part| part.samples = 0);
            return Err(refusal);
        }
        let mut admitted = Admitted::default();
        for number in 0..parts.len() {
            let left_out = match self.leave_out(&mut parts[number], storage) {
                Ok(left_out) => left_out,
                Err(max) => {
                    // These have taken nothing yet.
                    parts[number..].iter_mut().for_each(|part| part.samples = 0);
                    let max = u32::try_from(max).unwrap_or(u32::MAX);
                    return Err(Refusal::Storage(WriteError::TooManySeries { max }));
                }
            };
            let part = &mut parts[number];
            for index in &left_out {
                part.samples -= contents.new[*index].count();
                contents.new[*index].clear();
            }
            part.account.state().allowed -= part.samples as f64;
            let Some(first) = left_out.first() else { continue };
            let first = contents.new[*first].labels.to_string();
            count_refused(&part.account.name, "series", left_out.len() as u64);
            let count = admitted.left_out.take().map_or(0, |(count, ..)| count);
            let max = part.account.limits.series_max.unwrap_or(0);
            admitted.left_out = Some((count + left_out.len(), first, max));
        }
        admitted.parts = parts;
        Ok(admitted)
    }

    /// The samples and the new series of each tenant.
    fn parts(&self, tenant: &str, contents: &Contents, storage: &Storage) -> Vec<Part> {
        let part =
            |account, samples, new| Part { account, samples, new, pending: 0, is_written: false };
        let TenantBy::Label(label) = &self.settings.by else {
            let new = (0..contents.new.len()).collect();
            return vec![part(self.account(tenant), contents.count().all(), new)];
        };
        let mut parts: HashMap<String, Part> = HashMap::new();
        let mut of = |account: Arc<Account>, samples: u64, new: Option<usize>| {
            let part =
                parts.entry(account.name.clone()).or_insert_with(|| part(account, 0, Vec::new()));
            part.samples += samples;
            part.new.extend(new);
        };
        let mut accounts =
            AccountsOfSeries { tenants: self, label, storage, known: HashMap::new() };
        for run in contents.samples.chunk_by(|(one, _), (other, _)| one == other) {
            of(accounts.of(run[0].0), run.len() as u64, None);
        }
        for (handle, _) in &contents.histograms {
            of(accounts.of(*handle), 1, None);
        }
        for (index, series) in contents.new.iter().enumerate() {
            let name = series.labels.get(label).unwrap_or_default();
            of(self.account(name), series.count(), Some(index));
        }
        parts.into_values().collect()
    }

    /// Keeps the new series of a part that are within the limit, and returns the others.
    ///
    /// # Errors
    /// More would fit if a request in flight were refused. The limit.
    fn leave_out(&self, part: &mut Part, storage: &Storage) -> Result<Vec<usize>, u64> {
        let mut state = part.account.state();
        let mut left_out = Vec::new();
        if let (Some(max), false) = (part.account.limits.series_max, part.new.is_empty()) {
            let found = match &self.settings.by {
                TenantBy::Label(label) if !Arc::ptr_eq(&part.account, &self.others) => {
                    storage.count_series(&[Matcher::equal(label, &part.account.name)])
                }
                _ => state.series,
            };
            let new = part.new.len() as u64;
            let room = max.saturating_sub(found + state.pending).min(new);
            if room < max.saturating_sub(found).min(new) {
                return Err(max);
            }
            left_out = part.new.split_off(usize::try_from(room).unwrap_or(usize::MAX));
        }
        part.pending = part.new.len() as u64;
        state.pending += part.pending;
        state.refused_series += left_out.len() as u64;
        Ok(left_out)
    }

    /// The accounts, for the status page.
    pub(crate) fn as_json(&self) -> Value {
        let accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = accounts.values().chain([&self.others]).collect();
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let shown = all.into_iter().map(|account| {
            let state = account.state();
            json!({
                "tenant": account.name,
                "samples": state.samples,
                "refused_samples": state.refused_samples,
                "refused_series": state.refused_series,
                "series_max": account.limits.series_max,
                "samples_per_second": account.limits.samples_per_second,
            })
        });
        shown.collect()
    }
}

/// Finds the accounts of known series by a label. Labels are built once per series, not per sample.
struct AccountsOfSeries<'a> {
    tenants: &'a Tenants,
    label: &'a str,
    storage: &'a Storage,
    known: HashMap<SeriesHandle, Arc<Account>>,
}

impl AccountsOfSeries<'_> {
    fn of(&mut self, series: SeriesHandle) -> Arc<Account> {
        if let Some(account) = self.known.get(&series) {
            return Arc::clone(account);
        }
        if self.known.len() >= KNOWN_SERIES_MAX {
            self.known.clear();
        }
        let labels = self.storage.labels(series).unwrap_or_default();
        let account = self.tenants.account(labels.get(self.label).unwrap_or_default());
        self.known.insert(series, Arc::clone(&account));
        account
    }
}

fn count_refused(tenant: &str, reason: &'static str, count: u64) {
    let tenant = tenant.to_owned();
    metrics::counter!("ingest_tenant_refused_total", "tenant" => tenant, "reason" => reason)
        .increment(count);
}
