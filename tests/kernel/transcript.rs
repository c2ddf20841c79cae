//! Turns the output of a child into a ledger of the log's promises.

use std::path::Path;

use bytes::Bytes;
use shardwal::{AppendError, BatchError, Cause, Config, FailedShard, Position, ShardedWal};

use crate::child::MARK;
use crate::support::ledger::{Ledger, Parts};
use crate::support::{Found, payload, replayed};

/// Reads a child's lines as they come, and checks each of its replays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript {
    ledger: Ledger,
    /// The parts of the batch under way.
    parts: Parts,
    /// The records that a truncation under way removes.
    below: Vec<(u64, u64)>,
    pub(crate) acknowledged: u64,
    pub(crate) not_written: u64,
    pub(crate) indeterminate: u64,
    /// Refused opens.
    pub(crate) refused: u64,
    /// Whether the child reached its end.
    pub(crate) ended: bool,
}

impl Transcript {
    /// Reads all of a child's output.
    pub(crate) fn hear_all(&mut self, output: &str) {
        output.lines().for_each(|line| self.hear(line));
    }

    /// Reads one line.
    pub(crate) fn hear(&mut self, line: &str) {
        let Some(line) = line.strip_prefix(MARK) else { return };
        let words: Vec<_> = line.split(' ').collect();
        match words[0] {
            "opening" => self.ended = false,
            "opened" => self.check(&found(words[1..].iter().map(|word| numbers(word)))),
            "refused" => {
                // A failure must be an error of the system. It is not corruption,
                // except for bytes that can never be read.
                let known = line.contains("Io {") || line.contains("the disk cannot read");
                assert!(known, "a fault was reported as another error: {line}");
                self.refused += 1;
            }
            "append" => words[1..].iter().for_each(|word| self.begin(numbers(word))),
            "answer" => self.answered(numbers(words[3]), words[1]),
            "batch" => self.batch(&words[1..]),
            "batched" => self.batch_answered(&words[1..]),
            "truncate" => {
                self.below = words[1..].iter().map(|word| numbers(word)).collect();
                self.ledger.maybe_truncated(&found(self.below.iter().copied()));
            }
            "truncated" if words[1] == "ok" => {
                self.ledger.truncated(&found(self.below.iter().copied()));
            }
            "flushed" | "closed" if words[1] == "ok" => self.ledger.flushed(),
            "truncated" | "unread" | "flushed" | "closed" => {}
            "end" => self.ended = true,
            other => panic!("unknown line `{other}`"),
        }
    }

    /// The next record of a key. A child without a log never appended the skipped ones.
    fn begin(&mut self, (key, index): (u64, u64)) {
        while self.ledger.len(key) < index {
            let left_out = self.ledger.len(key);
            self.ledger.next(key, 0);
            self.ledger.answered(key, left_out, &Err(error("gone")));
        }
        self.ledger.next(key, 0);
    }

    fn answered(&mut self, (key, index): (u64, u64), fate: &str) {
        let answer = if fate == "kept" { Ok(()) } else { Err(error(fate)) };
        self.ledger.answered(key, index, &answer);
        self.count(fate, 1);
    }

    fn batch(&mut self, words: &[&str]) {
        self.parts.clear();
        for word in words {
            let (shard, record) = word.split_once(':').expect("a shard and a record");
            self.begin(numbers(record));
            let shard = shard.parse().expect("a shard");
            self.parts.entry(shard).or_default().push(numbers(record));
        }
        self.ledger.enter_parts(&self.parts);
    }

    fn batch_answered(&mut self, words: &[&str]) {
        let failed = |word: &&str| {
            let (shard, fate) = word.split_once('=').expect("a shard and a fate");
            let shard = shard.parse().expect("a shard");
            FailedShard { shard, records: Vec::new(), error: error(fate) }
        };
        let error = BatchError { failed: words.iter().map(failed).collect() };
        self.ledger.batch_answered(&self.parts, Some(&error));
        for (shard, records) in std::mem::take(&mut self.parts) {
            let failed = error.failed.iter().find(|part| part.shard == shard);
            let fate = match failed.map(|part| part.error.is_not_written()) {
                None => "kept",
                Some(true) => "gone",
                Some(false) => "open",
            };
            self.count(fate, records.len() as u64);
        }
    }

    fn count(&mut self, fate: &str, records: u64) {
        *match fate {
            "kept" => &mut self.acknowledged,
            "gone" => &mut self.not_written,
            "open" => &mut self.indeterminate,
            other => panic!("unknown fate `{other}`"),
        } += records;
    }

    /// The log acknowledges before it syncs, so a power cut may take such records.
    pub(crate) fn acknowledges_unsynced(&mut self) {
        self.ledger.acknowledges_unsynced();
    }

    /// The power was cut after all lines so far.
    pub(crate) fn lose_power(&mut self) {
        self.ledger.lose_power();
    }

    /// Compares with a replay after an open. From then on its records are certain.
    pub(crate) fn check(&mut self, found: &Found) {
        self.ledger.check(found);
    }

    /// Opens the log without a fault, and checks it against all promises.
    pub(crate) fn check_log(&mut self, dir: &Path) -> Found {
        let log = ShardedWal::open(Config::new(dir).segment_bytes(4096));
        let log = log.unwrap_or_else(|error| panic!("without a fault the log opens: {error}"));
        let found = replayed(&log);
        self.check(&found);
        found
    }
}

/// Parses `KEY:INDEX`.
fn numbers(word: &str) -> (u64, u64) {
    let (key, index) = word.split_once(':').expect("a key and an index");
    (key.parse().expect("a key"), index.parse().expect("an index"))
}

fn error(fate: &str) -> AppendError {
    let position = Position { generation: 0, shard: 0, sequence: 0 };
    match fate {
        "gone" => AppendError::NotWritten { position: None, cause: Cause::Closed },
        _ => AppendError::Indeterminate { position, cause: Cause::Closed },
    }
}

fn found(records: impl Iterator<Item = (u64, u64)>) -> Found {
    let record = |(key, index)| {
        let position = Position { generation: 0, shard: 0, sequence: 0 };
        (position, key, Bytes::clone(&payload(key, index, 0)))
    };
    Found { records: records.map(record).collect() }
}
