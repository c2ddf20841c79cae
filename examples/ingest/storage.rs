//! What the server writes to and reads from: a stand-in until
//! `shardwal::timeseries::Storage` is there.
//!
//! It answers to the same words. Every sample is a line of text with all its
//! labels in a record of the log; nothing here is meant to be small or fast.

use std::collections::HashMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use shardwal::timeseries::{Labels, Sample, TimeSeries};
use shardwal::{Cause, Config, ReplayOptions, ReplayProgress, ShardedWal, WalStats};

use crate::Failure;

#[derive(Clone, Copy, Debug)]
pub(crate) struct SeriesHandle(usize);

#[derive(Clone, Debug)]
pub(crate) enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

#[derive(Clone, Debug)]
pub(crate) struct Matcher {
    name: String,
    negated: bool,
    regex: regex::Regex,
}

impl Matcher {
    pub(crate) fn new(op: MatchOp, name: &str, value: &str) -> Result<Self, String> {
        let (negated, pattern) = match op {
            MatchOp::Equal => (false, regex::escape(value)),
            MatchOp::NotEqual => (true, regex::escape(value)),
            MatchOp::Regex => (false, value.to_owned()),
            MatchOp::NotRegex => (true, value.to_owned()),
        };
        let regex =
            regex::Regex::new(&format!("^(?s:{pattern})$")).map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), negated, regex })
    }

    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.name).unwrap_or("");
        self.regex.is_match(value) != self.negated
    }
}

type Completion<'log> = Pin<Box<dyn Future<Output = Result<(), Cause>> + Send + 'log>>;

#[derive(Debug, Default)]
struct State {
    handles: HashMap<Labels, usize>,
    series: Vec<TimeSeries>,
}

impl State {
    fn handle(&mut self, labels: &Labels) -> usize {
        if let Some(handle) = self.handles.get(labels) {
            return *handle;
        }
        self.series.push(TimeSeries { labels: labels.clone(), samples: Vec::new() });
        self.handles.insert(labels.clone(), self.series.len() - 1);
        self.series.len() - 1
    }
}

#[derive(Debug)]
pub(crate) struct Storage {
    log: ShardedWal,
    state: Mutex<State>,
}

impl Storage {
    pub(crate) fn open(
        config: Config,
        progress: Arc<dyn Fn(u64, u64) + Send + Sync>,
    ) -> Result<Self, Failure> {
        let log = ShardedWal::open(config)?;
        let state = Mutex::new(State::default());
        let options = ReplayOptions::default().progress(Arc::new(move |at: ReplayProgress| {
            progress(at.bytes_done, at.bytes_total);
        }));
        log.replay(options, |record| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            for line in std::str::from_utf8(record.payload())?.lines() {
                let mut parts: Vec<&str> = line.split('\u{1f}').collect();
                let timestamp_ms = parts.pop().ok_or("no timestamp")?.parse()?;
                let value = f64::from_bits(parts.pop().ok_or("no value")?.parse()?);
                let labels = parts.chunks(2).map(|pair| (pair[0], pair[1]));
                let labels = Labels::new(labels).map_err(|error| error.to_string())?;
                let handle = state.handle(&labels);
                state.series[handle].samples.push(Sample { timestamp_ms, value });
            }
            Ok::<_, Failure>(())
        })
        .map_err(|error| error.to_string())?;
        Ok(Self { log, state })
    }

    pub(crate) fn series_handle(&self, labels: &Labels) -> Result<SeriesHandle, Cause> {
        Ok(SeriesHandle(self.state().handle(labels)))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn try_write(
        &self,
        batch: &[(SeriesHandle, Sample)],
    ) -> Result<Completion<'_>, Cause> {
        use std::fmt::Write;
        let mut parts = vec![String::new(); self.log.shards()];
        {
            let mut state = self.state();
            for (handle, sample) in batch {
                let series = &mut state.series[handle.0];
                let shard = self.log.shard_of((handle.0 as u64).wrapping_mul(1 << 57));
                for (name, value) in series.labels.iter() {
                    write!(parts[shard], "{name}\u{1f}{value}\u{1f}").expect("a String");
                }
                let Sample { timestamp_ms, value } = sample;
                writeln!(parts[shard], "{}\u{1f}{timestamp_ms}", value.to_bits())
                    .expect("a String");
                series.samples.push(*sample);
            }
        }
        let mut completions = Vec::new();
        for (shard, part) in parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            let key = (0..=u64::MAX).step_by(1 << 50).find(|&k| self.log.shard_of(k) == shard);
            let key = key.expect("every shard has keys");
            completions.push(self.log.try_append(key, part).map_err(|refused| refused.cause)?);
        }
        Ok(Box::pin(async move {
            for completion in completions {
                completion.await.map_err(|error| error.cause().clone())?;
            }
            Ok(())
        }))
    }

    pub(crate) fn query(
        &self,
        matchers: &[Matcher],
        range: RangeInclusive<i64>,
    ) -> Vec<TimeSeries> {
        let state = self.state();
        let chosen = state.series.iter().filter(|s| matchers.iter().all(|m| m.matches(&s.labels)));
        let within = |s: &&Sample| range.contains(&s.timestamp_ms);
        chosen
            .map(|s| TimeSeries {
                labels: s.labels.clone(),
                samples: s.samples.iter().filter(within).copied().collect(),
            })
            .collect()
    }

    pub(crate) fn series(&self, matchers: &[Matcher]) -> Vec<Labels> {
        let state = self.state();
        let chosen = state.series.iter().filter(|s| matchers.iter().all(|m| m.matches(&s.labels)));
        chosen.map(|s| s.labels.clone()).collect()
    }

    pub(crate) fn stats(&self) -> WalStats {
        self.log.stats()
    }

    pub(crate) fn close(&self) -> Result<(), Failure> {
        Ok(self.log.close()?)
    }
}
