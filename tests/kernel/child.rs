//! The process that is traced, failed and killed: a second instance of this test
//! program. It has its own log and runs commands from its input, one per line. It
//! reports each action before it starts and each answer after it. So the reader knows
//! every promise at the moment of a kill.
//!
//! | command | action |
//! |---|---|
//! | `open SHARDS SEGMENT_BYTES [DURABILITY]` | opens the log and replays it |
//! | `append LENGTH KEY:INDEX` | appends a record and waits |
//! | `queue LENGTH KEY:INDEX ..` | appends records, then waits for all |
//! | `batch LENGTH KEY:INDEX ..` | appends the records as one batch |
//! | `flush`, `close`, `drop` | calls the method |
//! | `truncate` | truncates all replayed records |

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use shardwal::{AppendError, Config, ShardedWal};

use crate::support::{Found, key_and_index, payload, try_replayed};

/// Names the log's directory to the child.
const CHILD: &str = "SHARDWAL_TEST_KERNEL_CHILD";
/// The prefix of the child's own lines; the test runner prints lines too.
pub(crate) const MARK: &str = "> ";

/// Does nothing in an ordinary run.
#[test]
fn child_runs_the_commands_of_its_input() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let mut client = Client { dir: dir.into(), log: None };
    for line in std::io::stdin().lines() {
        client.obey(&line.unwrap());
    }
    drop(client.log);
    say("end");
    exit(0);
}

/// This program as a child with a log in `dir`, on one processor. So the calls of an
/// open come in order, and the traced process and its tracer need not wake each other
/// across processors.
pub(crate) fn command(dir: &Path, before: &[&str]) -> Command {
    let program = std::env::current_exe().expect("a test has a program");
    let name = "child::child_runs_the_commands_of_its_input";
    let mut command = match before {
        [] => Command::new(&program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(&program);
            command
        }
    };
    command.args(["--exact", name, "--nocapture", "--quiet", "--test-threads=1"]).env(CHILD, dir);
    command
}

/// Writes one line in one call, so that a kill leaves no half line.
fn say(words: &str) {
    let line = format!("{MARK}{words}\n");
    std::io::stdout().write_all(line.as_bytes()).expect("the parent listens");
    std::io::stdout().flush().expect("the parent listens");
}

/// The certain fate of a record after its answer, in a word.
fn fate(error: Option<&AppendError>) -> &'static str {
    match error {
        None => "kept",
        Some(error) if error.is_not_written() => "gone",
        Some(_) => "open",
    }
}

struct Client {
    dir: PathBuf,
    log: Option<ShardedWal>,
}

/// Parses `KEY:INDEX`.
fn record(word: &str) -> (u64, u64) {
    let (key, index) = word.split_once(':').expect("a key and an index");
    (key.parse().expect("a key"), index.parse().expect("an index"))
}

impl Client {
    /// Ignores commands if the log did not open.
    fn obey(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().expect("a number");
        match (words[0], &self.log) {
            ("open", _) => self.open(number(1), number(2) as u64, words.get(3).unwrap_or(&"sync")),
            ("drop", _) => self.log = None,
            (_, None) => {}
            ("append" | "queue", Some(log)) => queue(log, number(1), &words[2..]),
            ("batch", Some(log)) => batch(log, number(1), &words[2..]),
            ("flush", Some(log)) => match log.flush().wait() {
                Ok(()) => say("flushed ok"),
                Err(error) => say(&format!("flushed {} {error}", fate(Some(&error)))),
            },
            ("truncate", Some(log)) => truncate(log),
            ("close", Some(log)) => {
                match log.close() {
                    Ok(()) => say("closed ok"),
                    Err(error) => say(&format!("closed err {error}")),
                }
                self.log = None;
            }
            (other, _) => panic!("unknown command `{other}`"),
        }
    }

    fn open(&mut self, shards: usize, segment_bytes: u64, durability: &str) {
        self.log = None;
        say("opening");
        let config = Config::new(&self.dir).shards(shards).segment_bytes(segment_bytes);
        let config = config.durability(durability.parse().expect("a durability"));
        let log = match ShardedWal::open(config) {
            Ok(log) => log,
            Err(error) => return say(&format!("refused {error:?}")),
        };
        match try_replayed(&log) {
            Ok(found) => {
                say(&format!("opened{}", list(&found)));
                self.log = Some(log);
            }
            Err(error) => say(&format!("refused {error:?}")),
        }
    }
}

fn list(found: &Found) -> String {
    let name = |(_, _, payload): &(_, _, bytes::Bytes)| {
        let (key, index) = key_and_index(payload);
        format!(" {key}:{index}")
    };
    found.records.iter().map(name).collect()
}

fn queue(log: &ShardedWal, length: usize, words: &[&str]) {
    say(&format!("append {}", words.join(" ")));
    let records = words.iter().map(|word| record(word));
    let append = |(key, index)| (key, index, log.append(key, payload(key, index, length)));
    let queued: Vec<_> = records.map(append).collect();
    for (key, index, completion) in queued {
        let answer = completion.wait().map(drop);
        let reason = answer.as_ref().err().map(|error| format!(" {error}")).unwrap_or_default();
        let fate = fate(answer.as_ref().err());
        say(&format!("answer {fate} {} {key}:{index}{reason}", log.shard_of(key)));
    }
}

fn batch(log: &ShardedWal, length: usize, words: &[&str]) {
    let records = words.iter().map(|word| record(word));
    let of = |(key, index)| format!(" {}:{key}:{index}", log.shard_of(key));
    say(&format!("batch{}", records.clone().map(of).collect::<String>()));
    let records = records.map(|(key, index)| (key, payload(key, index, length)));
    let answer = log.append_batch(records.collect::<Vec<_>>()).wait();
    let failed = answer.as_ref().err().map_or(&[][..], |error| &error.failed);
    let of = |part: &shardwal::FailedShard| format!(" {}={}", part.shard, fate(Some(&part.error)));
    say(&format!("batched{}", failed.iter().map(of).collect::<String>()));
}

fn truncate(log: &ShardedWal) {
    let Ok(found) = try_replayed(log) else { return say("unread") };
    let checkpoint = log.durable_checkpoint();
    say(&format!("truncate{}", list(&found.below(&checkpoint))));
    match log.truncate_before(&checkpoint) {
        Ok(_) => say("truncated ok"),
        Err(error) => say(&format!("truncated err {error}")),
    }
}
