//! The child: the process that ingests and is killed.
//!
//! It opens the log, replays it to find the next record of each series, and continues there.
//! Several client threads append, each for its own share of the series, with many records in
//! flight. The child uses the log's public API only. It does not know when it will be killed.

use std::collections::VecDeque;
use std::io;
use std::thread;
use std::time::Instant;

use shardwal::{Completion, ReplayOptions, ShardedWal};

use super::Arguments;
use super::acknowledgement::{Acknowledgement, Reporter};
use super::check::Census;
use super::workload::{RecordId, Workload};
use crate::Failure;

/// Maximum records in flight per client thread.
const IN_FLIGHT_RECORDS_MAX: usize = 256;

/// Logs the part of the workload that the log does not hold yet. Returns a report.
///
/// # Errors
/// The log or the pipe to the parent fails, or the log does not hold a prefix of the workload.
pub(crate) fn ingest(arguments: &Arguments, workload: &Workload) -> Result<String, Failure> {
    let directory = arguments.dir.as_deref().ok_or("a child needs --dir")?;
    let log = ShardedWal::open(arguments.log.config(directory))?;
    let census = Census::new(workload);
    let options = ReplayOptions::default().threads(arguments.threads.get());
    log.replay(options, |record| census.take(record.key(), record.payload()))?;

    let start = Instant::now();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..arguments.threads.get())
            .map(|share| {
                let client = Client::new(&log, workload);
                let (census, threads) = (&census, arguments.threads.get());
                scope.spawn(move || {
                    let mine = |id: &RecordId| id.series % threads == share;
                    let to_do = workload.in_order().filter(mine);
                    client.log_all(to_do.filter(|id| id.ordinal >= census.records_of(id.series)))
                })
            })
            .collect();
        clients.into_iter().try_for_each(|client| {
            client.join().unwrap_or_else(|_| Err("a client thread panicked".into()))
        })
    })?;
    let seconds = start.elapsed().as_secs_f64();
    log.close()?;

    let records = workload.record_count() - census.record_count();
    let samples = workload.sample_count() - census.sample_count();
    Ok(format!(
        "{samples} samples in {records} records in {seconds:.2} s: {:.0} samples/s, {:.0} records/s\n{}",
        samples as f64 / seconds,
        records as f64 / seconds,
        log.stats()
    ))
}

/// One client thread.
struct Client<'log> {
    log: &'log ShardedWal,
    workload: &'log Workload,
    /// Records that were appended and are not known to be acknowledged, oldest first.
    in_flight: VecDeque<(Acknowledgement, Completion<'log>)>,
    /// `Stdout` locks, so that writes of other threads do not split a write.
    reporter: Reporter<io::Stdout>,
}

impl<'log> Client<'log> {
    fn new(log: &'log ShardedWal, workload: &'log Workload) -> Self {
        Self {
            log,
            workload,
            in_flight: VecDeque::with_capacity(IN_FLIGHT_RECORDS_MAX),
            reporter: Reporter::new(io::stdout()),
        }
    }

    /// Logs the records. Blocks until all are acknowledged and reported.
    fn log_all(mut self, records: impl Iterator<Item = RecordId>) -> Result<(), Failure> {
        for id in records {
            if self.in_flight.len() == IN_FLIGHT_RECORDS_MAX {
                self.wait_for_oldest()?;
            }
            let acknowledgement =
                Acknowledgement { key: self.workload.key(id.series), ordinal: id.ordinal as u64 };
            let payload = self.workload.record(id).encode();
            let completion = self.log.append(acknowledgement.key, payload);
            self.in_flight.push_back((acknowledgement, completion));
        }
        while !self.in_flight.is_empty() {
            self.wait_for_oldest()?;
        }
        self.reporter.flush()?;
        Ok(())
    }

    /// Blocks until the oldest record in flight is acknowledged, and reports it.
    fn wait_for_oldest(&mut self) -> Result<(), Failure> {
        if let Some((acknowledgement, completion)) = self.in_flight.pop_front() {
            if !completion.is_done() {
                self.reporter.flush()?;
            }
            completion.wait()?;
            self.reporter.report(acknowledgement)?;
        }
        Ok(())
    }
}
