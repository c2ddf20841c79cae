//! Runs a child under `strace`, which fails its system calls or kills it at one of
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::child;

/// Longer than any sound run takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A directory in which children run one after the other.
#[derive(Debug)]
pub(crate) struct Bench {
    root: PathBuf,
    processor: String,
}

/// The output of a child, and the kernel's trace of it.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) output: Output,
    /// One line per call.
    pub(crate) trace: String,
}

/// The processors that this process may use.
fn processors() -> Vec<usize> {
    let status = fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let ranges = list.expect("Linux says which").trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |word: &str| word.parse::<usize>().expect("a processor's number");
        number(first)..=number(last)
    });
    ranges.flatten().collect()
}

/// Whether a tool is installed and prints its version.
pub(crate) fn is_there(tool: &str) -> bool {
    let said = Command::new(tool).arg("--version").output();
    said.is_ok_and(|output| output.status.success())
}

impl Bench {
    /// The `number`-th bench in a directory. Its paths are equal in each run.
    pub(crate) fn new(scratch: &Path, number: usize) -> Self {
        let root = scratch.join(format!("bench-{number}"));
        fs::create_dir(&root).expect("the scratch directory is ours");
        let root = root.canonicalize().expect("it was just made");
        let processors = processors();
        Self { root, processor: processors[number % processors.len()].to_string() }
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Runs a child with a new log under strace with these options. A child that hangs
    /// fails the test.
    pub(crate) fn run(&self, script: &str, options: &[String]) -> Traced {
        if self.dir().exists() {
            fs::remove_dir_all(self.dir()).expect("no child uses it");
        }
        let trace = self.root.join("trace");
        let log = trace.to_string_lossy().into_owned();
        let mut before = vec!["taskset", "-c", &self.processor];
        before.extend(["strace", "-f", "-qq", "-o", &log]);
        before.extend(options.iter().map(String::as_str));
        let output = finish(child::command(&self.dir(), &before), script);
        Traced { output, trace: fs::read_to_string(trace).expect("strace wrote it") }
    }
}

/// Gives a child all of its input and waits for its end.
pub(crate) fn finish(mut command: Command, script: &str) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A process group of its own, so that a tracer and its child end together.
    let mut child = pipes.process_group(0).spawn().expect("the child starts");
    send(&mut child, script);
    let group = format!("-{}", child.id());
    let (done, ended) = channel();
    let waiter = std::thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(LIMIT) else {
        Command::new("kill").args(["-KILL", "--", &group]).status().ok();
        waiter.join().ok();
        panic!("a child hangs");
    };
    output.expect("its output is read")
}

fn send(child: &mut Child, script: &str) {
    use std::io::Write as _;
    let mut input = child.stdin.take().expect("its input is piped");
    // A child that was killed at once reads nothing.
    input.write_all(script.as_bytes()).ok();
}

impl Traced {
    /// The number of calls per thread and per call name.
    pub(crate) fn counts(&self) -> BTreeMap<String, BTreeMap<String, usize>> {
        let mut counts: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for line in self.trace.lines() {
            // Lines of resumed calls were counted when they began.
            let Some((thread, call)) = line.split_once(' ') else { continue };
            let Some((call, _)) = call.trim_start().split_once('(') else { continue };
            if call.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                let of_call = counts.entry(call.to_owned()).or_default();
                *of_call.entry(thread.to_owned()).or_default() += 1;
            }
        }
        counts
    }

    /// The output of a child, which must not have panicked.
    pub(crate) fn reported(&self) -> String {
        let problems = String::from_utf8_lossy(&self.output.stderr);
        assert!(!problems.contains("panicked at"), "a child panicked: {problems}");
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }
}
