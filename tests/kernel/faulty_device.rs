//! A disk that fails below the file system. The kernel accepts the write, `fdatasync`
//! returns EIO once, and the page cache keeps clean pages with bytes that the disk
//! never got. The next `fdatasync` succeeds. A process that reopens the log must not
//! trust the cache.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::child;
use crate::mounts::{FaultyDevice, scratch};
use crate::transcript::Transcript;

const CYCLES: u64 = 12;

/// A child process with a dialog over pipes, line by line.
pub(crate) struct Dialog {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Dialog {
    pub(crate) fn start(dir: &Path) -> Self {
        let mut command = child::command(dir, &[]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = piped.spawn().expect("the child starts");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, input, output }
    }

    /// Sends a line and reads until a line begins with one of these words. Returns that
    /// line.
    pub(crate) fn ask(
        &mut self,
        transcript: &mut Transcript,
        line: &str,
        until: &[&str],
    ) -> String {
        self.input.write_all(format!("{line}\n").as_bytes()).expect("the child listens");
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("the child answers");
            assert!(read > 0, "the child has ended");
            transcript.hear(line.trim_end());
            let said = line.strip_prefix(child::MARK).unwrap_or_default();
            if until.iter().any(|word| said.starts_with(word)) {
                return said.trim_end().to_owned();
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn append(&mut self, transcript: &mut Transcript, record: (u64, u64)) -> String {
        let line = format!("append 1500 {}:{}", record.0, record.1);
        self.ask(transcript, &line, &["answer"])
    }
}

impl Drop for Dialog {
    /// `kill -9`: the process does nothing more.
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Keys of shards 0 and 1 of two.
const BAD: u64 = 1;
const GOOD: u64 = 2;

/// Appends, fails one sync, and kills the child. `next` holds the next index of each
/// key.
fn fail_one_sync(device: &FaultyDevice, transcript: &mut Transcript, next: &mut [u64; 2]) {
    let mut dialog = Dialog::start(&device.dir());
    let opened = dialog.ask(transcript, "open 2 1048576", &["opened", "refused"]);
    assert!(opened.starts_with("opened"), "{opened}");
    let mut append = |dialog: &mut Dialog, transcript: &mut Transcript, key: u64| {
        let at = usize::from(key == GOOD);
        next[at] += 1;
        dialog.append(transcript, (key, next[at] - 1))
    };
    for key in [BAD, GOOD, BAD, GOOD, BAD] {
        let answer = append(&mut dialog, transcript, key);
        assert!(answer.starts_with("answer kept"), "{answer}");
    }
    device.set_failing(true);
    let answer = append(&mut dialog, transcript, BAD);
    device.set_failing(false);
    assert!(answer.starts_with("answer open 0"), "a failed sync leaves it open: {answer}");
    assert!(answer.contains("out of service"), "{answer}");
    // The device works again, and the shard stays out of service.
    for _ in 0..2 {
        let answer = append(&mut dialog, transcript, BAD);
        assert!(answer.starts_with("answer gone 0"), "{answer}");
    }
    let answer = append(&mut dialog, transcript, GOOD);
    assert!(answer.starts_with("answer kept 1"), "other shards go on: {answer}");
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn records_replayed_after_a_failed_sync_are_on_the_disk() {
    let name = "faulty_device::records_replayed_after_a_failed_sync_are_on_the_disk";
    if !FaultyDevice::is_ready(name) {
        return;
    }
    let scratch = scratch();
    let mut device = FaultyDevice::new(scratch.path());
    let (mut transcript, mut next) = (Transcript::default(), [0; 2]);
    let mut replayed = 0;
    for _ in 0..CYCLES {
        fail_one_sync(&device, &mut transcript, &mut next);
        let found = transcript.check_log(&device.dir());
        device.mount_again();
        // The first replay made these records certain, so the ledger requires them.
        let again = transcript.check_log(&device.dir());
        assert_eq!(found.by_key(), again.by_key(), "a replayed record was not on the disk");
        replayed += again.records.len();
    }
    println!("FIGURE syncs failed below the file system: {CYCLES} kills and remounts");
    println!(
        "FIGURE records acknowledged around them, none lost: {} records",
        transcript.acknowledged
    );
    assert_eq!(transcript.indeterminate, CYCLES);
    assert!(transcript.acknowledged >= 6 * CYCLES && replayed > 0);
}
