//! A process without a free descriptor on real file systems. A segment that cannot be
//! opened refuses its records for certain. The log goes on once the limit is raised.
//!
//! Holds W2 STICKY (ARCHITECTURE.md).

use std::path::Path;
use std::time::Duration;

use crate::faulty_device::Dialog;
use crate::logged_device::FileSystem;
use crate::mounts::{Rights, inside, on_each_file_system, run};
use crate::transcript::Transcript;

/// A limit below which every descriptor is in use: standard input, output and error.
const NONE_FREE: u64 = 3;
const ENOUGH: u64 = 1024;
const ROUNDS: u64 = 3;
/// Refused records per shard and round.
const REFUSALS: u64 = 3;
/// The bound on a round's records: more than the recycled segments of a shard hold.
const RECORDS_MAX: u64 = 200;

/// Sets the soft limit of a running process.
fn limit(dialog: &Dialog, descriptors: u64) {
    run(&["prlimit", "--pid", &dialog.pid().to_string(), &format!("--nofile={descriptors}:")]);
}

/// The log of one child, and the next index of keys 1 and 2, one per shard.
struct Life {
    dialog: Dialog,
    transcript: Transcript,
    next: [u64; 2],
}

impl Life {
    fn append(&mut self, key: u64) -> String {
        let index = &mut self.next[usize::from(key == 2)];
        *index += 1;
        self.dialog.append(&mut self.transcript, (key, *index - 1))
    }

    /// Appends until a shard's next segment cannot be opened, and some records more.
    fn roll_without_descriptors(&mut self, key: u64) {
        let mut refused = 0;
        for _ in 0..RECORDS_MAX {
            let answer = self.append(key);
            if !answer.starts_with("answer kept") {
                assert!(answer.starts_with("answer gone"), "it is certain: {answer}");
                assert!(answer.contains("out of file descriptors"), "{answer}");
                refused += 1;
            }
            if refused == REFUSALS {
                return;
            }
        }
        panic!("no segment of key {key} rolls");
    }

    fn ask(&mut self, line: &str, until: &[&str]) -> String {
        self.dialog.ask(&mut self.transcript, line, until)
    }
}

fn live(system: FileSystem, mode: &str, dir: &Path) -> Transcript {
    println!("no descriptor on {}, {mode}", system.name);
    let dir = dir.join(mode.split(':').next().expect("a word"));
    let dialog = Dialog::start(&dir);
    let mut life = Life { dialog, transcript: Transcript::default(), next: [0; 2] };
    let opened = life.ask(&format!("open 2 4096 {mode}"), &["opened", "refused"]);
    assert!(opened.starts_with("opened"), "{opened}");
    for round in 0..ROUNDS {
        limit(&life.dialog, NONE_FREE);
        for key in [1, 2] {
            life.roll_without_descriptors(key);
        }
        // The threads that look after the log find nothing either.
        std::thread::park_timeout(Duration::from_millis(1200));
        let truncated = life.ask("truncate", &["truncated", "unread"]);
        limit(&life.dialog, ENOUGH);
        for key in [1, 2, 1, 2, 1, 2] {
            let answer = life.append(key);
            assert!(answer.starts_with("answer kept"), "round {round}, {truncated}: {answer}");
        }
        let flushed = life.ask("flush", &["flushed"]);
        assert_eq!(flushed, "flushed ok");
        let truncated = life.ask("truncate", &["truncated", "unread"]);
        assert_eq!(truncated, "truncated ok");
    }
    // Closed without a descriptor, and opened by the next process.
    limit(&life.dialog, NONE_FREE);
    life.ask("close", &["closed"]);
    let Life { dialog, mut transcript, .. } = life;
    drop(dialog);
    transcript.check_log(&dir);
    transcript
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn a_roll_without_a_free_descriptor_is_refused_until_there_is_one() {
    let name = "descriptors::a_roll_without_a_free_descriptor_is_refused_until_there_is_one";
    if !inside(name, Rights::Root) {
        return;
    }
    let (mut refused, mut acknowledged) = (0, 0);
    let lived = on_each_file_system(name, |system, dir| {
        for mode in ["sync", "interval:20ms", "os"] {
            let transcript = live(system, mode, dir);
            assert_eq!(transcript.indeterminate, 0, "{transcript:?}");
            refused += transcript.not_written;
            acknowledged += transcript.acknowledged;
        }
    });
    println!("FIGURE no free descriptor: {lived} file systems, three modes each");
    println!("FIGURE no free descriptor, refused: {refused} records");
    println!("FIGURE no free descriptor, acknowledged, none lost: {acknowledged} records");
}
