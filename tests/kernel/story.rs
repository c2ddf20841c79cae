//! What a child told, as a ledger of what its log owes.

use std::path::Path;

use bytes::Bytes;
use shardwal::{AppendError, BatchError, Cause, Config, FailedPart, Position, ShardedWal};

use crate::child::MARK;
use crate::support::ledger::{Ledger, Parts};
use crate::support::{Found, payload, replayed};

/// Enters a child's lines as they come, and checks each of its replays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    ledger: Ledger,
    /// The parts of the batch that is under way.
    parts: Parts,
    /// What a truncation under way gives up.
    below: Vec<(u64, u64)>,
    pub(crate) acknowledged: u64,
    pub(crate) not_written: u64,
    pub(crate) indeterminate: u64,
    /// Opens that were refused.
    pub(crate) refused: u64,
    /// Whether the child came to its end.
    pub(crate) ended: bool,
}

impl Story {
    /// All of a child's output.
    pub(crate) fn hear_all(&mut self, output: &str) {
        output.lines().for_each(|line| self.hear(line));
    }

    /// One line.
    pub(crate) fn hear(&mut self, line: &str) {
        let Some(line) = line.strip_prefix(MARK) else { return };
        let words: Vec<_> = line.split(' ').collect();
        match words[0] {
            "opening" => self.ended = false,
            "opened" => self.check(&found(words[1..].iter().map(|word| numbers(word)))),
            "refused" => {
                // Whatever failed was refused by the system: nothing is damaged, but
                // for what a read never gets.
                let known = line.contains("Io {") || line.contains("the disk cannot read");
                assert!(known, "a fault was taken for something else: {line}");
                self.refused += 1;
            }
            "append" => words[1..].iter().for_each(|word| self.begin(numbers(word))),
            "answer" => self.answered(numbers(words[3]), words[1]),
            "batch" => self.batch(&words[1..]),
            "batched" => self.batch_answered(&words[1..]),
            "truncate" => {
                self.below = words[1..].iter().map(|word| numbers(word)).collect();
                self.ledger.perhaps_give_up(&found(self.below.iter().copied()));
            }
            "truncated" if words[1] == "ok" => {
                self.ledger.give_up(&found(self.below.iter().copied()));
            }
            "flushed" | "closed" if words[1] == "ok" => self.ledger.flushed(),
            "truncated" | "unread" | "flushed" | "closed" => {}
            "end" => self.ended = true,
            other => panic!("a child says `{other}`"),
        }
    }

    /// The next record of a key. Those that a child without a log left out were
    /// never appended.
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
            FailedPart { shard, records: Vec::new(), error: error(fate) }
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
            other => panic!("`{other}` is no fate"),
        } += records;
    }

    /// The log acknowledges before it syncs: a power cut may take such records.
    pub(crate) fn acknowledges_unsynced(&mut self) {
        self.ledger.acknowledges_unsynced();
    }

    /// The power was cut after all that was heard.
    pub(crate) fn lose_power(&mut self) {
        self.ledger.lose_power();
    }

    /// Compares with a replay after an open; from then on what it found is
    /// certain.
    pub(crate) fn check(&mut self, found: &Found) {
        self.ledger.check(found);
    }

    /// Opens the log, without a fault, and holds it to all that was told.
    pub(crate) fn check_log(&mut self, dir: &Path) -> Found {
        let log = ShardedWal::open(Config::new(dir).segment_bytes(4096));
        let log = log.unwrap_or_else(|error| panic!("without a fault the log opens: {error}"));
        let found = replayed(&log);
        self.check(&found);
        found
    }
}

/// `KEY:INDEX`.
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
