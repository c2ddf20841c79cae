//! Fails every system call that a trace of the child shows, with every plausible error,
//! at every occurrence, once and permanently. Afterwards the log keeps every promise.
//!
//! `strace` counts occurrences per thread: `when=3` fails the third call of every
//! thread that makes three. So each call fails up to the count of the busiest thread.
//! Calls of a writer also fail in the files of one shard alone, so that only its writer
//! fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::strace::{Bench, Traced, is_there};
use crate::syscall_trace;
use crate::transcript::Transcript;
use crate::workload::{Files, SCRIPT};

/// CI has two processors, and a run mostly waits for the disk.
const BENCHES: usize = 4;
const RUNS_MIN: usize = 2000;
const CLEAN_RUNS: usize = 20;
/// The number of failures where a permanent error would make the standard library retry
/// forever.
const BURST: usize = 9;

/// The errors of each call. `fcntl` comes from the standard library's own check of
/// descriptors. The standard library panics if `close` of a directory returns an error
/// other than EINTR.
const ERRORS: [(&str, &[&str]); 20] = [
    ("open", &["EIO", "EINTR", "EMFILE", "EACCES", "ENOMEM"]),
    ("openat", &["EIO", "ENOSPC", "EDQUOT", "EINTR", "EMFILE", "EROFS", "EACCES", "ENOMEM"]),
    ("pwrite64", &["EIO", "ENOSPC", "EDQUOT", "EINTR", "EFBIG", "EROFS", "ENOMEM"]),
    ("fdatasync", &["EIO", "ENOSPC", "EDQUOT", "EINTR", "EROFS", "ENOMEM"]),
    ("fsync", &["EIO", "ENOSPC", "EDQUOT", "EINTR", "EROFS"]),
    ("pread64", &["EIO", "EINTR", "ENOMEM"]),
    ("renameat", &["EIO", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "ENOMEM"]),
    ("renameat2", &["EIO", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "ENOMEM"]),
    ("unlinkat", &["EIO", "EINTR", "EROFS", "EACCES", "ENOMEM"]),
    ("mkdir", &["EIO", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "ENOMEM"]),
    ("mkdirat", &["EIO", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "ENOMEM"]),
    ("getdents64", &["EIO", "EINTR", "ENOMEM"]),
    ("flock", &["EIO", "EINTR", "ENOMEM"]),
    ("statx", &["EIO", "EACCES", "ENOMEM"]),
    ("newfstatat", &["EIO", "EACCES", "ENOMEM"]),
    ("fstatfs", &["EIO", "EINTR", "ENOMEM"]),
    ("lseek", &["EIO", "EINVAL"]),
    ("ftruncate", &["EIO", "EINTR", "EROFS", "ENOMEM"]),
    ("fadvise64", &["EIO", "ENOMEM"]),
    ("close", &["EINTR"]),
];
const NOT_FAILED: [&str; 1] = ["fcntl"];
/// Calls of a writer, also failed for one shard alone.
pub(crate) const OF_A_WRITER: [&str; 3] = ["pwrite64", "fdatasync", "fsync"];

/// Calls that are retried after an interruption.
const CARRIED_ON: [&str; 4] = ["pwrite64", "pread64", "fdatasync", "fsync"];

/// The fault of one run.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) call: &'static str,
    pub(crate) how: String,
    /// `3`, `3+` or `3..12`.
    pub(crate) when: String,
    pub(crate) files: Files,
    /// Whether every clean run made that many calls in one thread.
    pub(crate) must_hit: bool,
    /// Another call that fails first.
    pub(crate) first: Option<String>,
}

impl Fault {
    pub(crate) fn options(&self, dir: &Path) -> Vec<String> {
        let Self { call, how, when, .. } = self;
        let mut calls = (*call).to_owned();
        let mut options = self.files.options(dir);
        if how.starts_with("error") {
            // Stops at no other call. With a signal, strace 6.1 then miscounts.
            options.push("--seccomp-bpf".into());
        }
        if let Some(first) = &self.first {
            calls.push_str(",pwrite64");
            options.extend(["-e".to_owned(), format!("inject={first}")]);
        }
        options.extend(["-e".to_owned(), format!("inject={call}:{how}:when={when}")]);
        if *call == "fdatasync" {
            // Separates the syncs of an open from those of a writer.
            calls.push_str(",openat");
            options.push("-y".into());
        }
        options.extend(["-e".to_owned(), format!("trace={calls}")]);
        options
    }

    /// Strace marks each injected call. For `first`, another call may have failed
    /// before.
    fn is_hit(&self, traced: &Traced) -> bool {
        let failed = |line: &str| line.contains(self.call) && line.contains("(INJECTED)");
        traced.trace.lines().any(failed)
    }
}

/// Per call, the count of the busiest thread: minimum and maximum over the clean runs.
pub(crate) type Occurrences = BTreeMap<String, (usize, usize)>;

/// Runs the child without faults. Every call on the log's files must be in the tables
/// above.
pub(crate) fn occurrences(bench: &Bench, files: Files) -> Occurrences {
    let mut found = Occurrences::new();
    for run in 0..CLEAN_RUNS {
        let traced = bench.run(SCRIPT, &files.options(&bench.dir()));
        assert!(traced.output.status.success(), "{traced:?}");
        for (call, threads) in traced.counts() {
            let busiest = threads.values().max().copied().unwrap_or(0);
            let known = ERRORS.iter().any(|(known, _)| *known == call);
            assert!(known || NOT_FAILED.contains(&&*call), "no run fails {call}");
            if run == 0 && files == Files::All {
                let all: usize = threads.values().sum();
                println!("{call}: {all} calls in {} threads, {busiest} in one", threads.len());
            }
            let range = found.entry(call).or_insert((busiest, busiest));
            *range = (range.0.min(busiest), range.1.max(busiest));
        }
    }
    found
}

/// Every fault of one call.
fn plan_call(
    plan: &mut Vec<Fault>,
    call: &'static str,
    errors: &[&str],
    files: Files,
    range: (usize, usize),
) {
    for nth in 1..=range.1 {
        for error in errors {
            let lasts =
                !call.starts_with("open") || ["EIO", "EINTR", "EMFILE", "EROFS"].contains(error);
            let lasting = if *error == "EINTR" {
                // The standard library retries until it gets another error.
                format!("{nth}..{}", nth + BURST)
            } else {
                format!("{nth}+")
            };
            for when in [Some(nth.to_string()), lasts.then_some(lasting)].into_iter().flatten() {
                let how = format!("error={error}");
                let must_hit = nth <= range.0;
                plan.push(Fault { call, how, when, files, must_hit, first: None });
            }
        }
        if call == "pwrite64" {
            // A write that takes no bytes. (A larger `retval` would be a device that
            // lies, which no promise covers.)
            let (how, when) = ("retval=0".to_owned(), nth.to_string());
            plan.push(Fault { call, how, when, files, must_hit: nth <= range.0, first: None });
        }
    }
}

fn plan(bench: &Bench) -> Vec<Fault> {
    let mut plan = Vec::new();
    for files in [Files::All, Files::FirstShard] {
        let occurrences = occurrences(bench, files);
        for (call, errors) in ERRORS {
            if files == Files::FirstShard && !OF_A_WRITER.contains(&call) {
                continue;
            }
            let range = occurrences.get(call).copied().unwrap_or_default();
            plan_call(&mut plan, call, errors, files, range);
        }
        // A commit without room is cut off the file, and this cut fails.
        let writes = occurrences.get("pwrite64").map_or(0, |range| range.1);
        for (nth, error) in (1..=writes).flat_map(|nth| ["EIO", "EINTR", "EROFS"].map(|e| (nth, e)))
        {
            plan.push(Fault {
                call: "ftruncate",
                how: format!("error={error}"),
                when: "1".into(),
                files,
                // Zeros without room are not cut off.
                must_hit: false,
                first: Some(format!("pwrite64:error=ENOSPC:when={nth}")),
            });
        }
    }
    plan
}

/// Counts over the runs so far.
#[derive(Debug, Default)]
struct Tally {
    runs: usize,
    hit: BTreeMap<&'static str, usize>,
    /// Runs whose threads did not make that many calls, as in some clean runs, or whose
    /// commit took no room, so that nothing was cut.
    not_reached: usize,
    /// Runs that met another order of the threads and were repeated.
    repeated: usize,
    acknowledged: u64,
    not_written: u64,
    indeterminate: u64,
    refused: u64,
}

impl Tally {
    fn add(&mut self, fault: &Fault, hit: bool, transcript: &Transcript) {
        self.runs += 1;
        *self.hit.entry(fault.call).or_default() += usize::from(hit);
        self.not_reached += usize::from(!hit && !fault.must_hit);
        self.repeated += usize::from(!hit && fault.must_hit);
        self.acknowledged += transcript.acknowledged;
        self.not_written += transcript.not_written;
        self.indeterminate += transcript.indeterminate;
        self.refused += transcript.refused;
    }
}

/// In memory if there is such a file system. The injected errors do not come from the
/// file system, and thousands of real syncs would take minutes.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")))
        .expect("a scratch directory")
}

/// Runs each item, on several benches in parallel.
pub(crate) fn on_benches<T: Sync>(items: &[T], run: impl Fn(&Bench, &T) + Sync) {
    let scratch = scratch();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (run, next, scratch) = (&run, &next, scratch.path());
        let work = move |number| {
            let bench = Bench::new(scratch, number);
            while let Some(item) = items.get(next.fetch_add(1, Relaxed)) {
                run(&bench, item);
            }
        };
        let threads: Vec<_> = (0..BENCHES).map(|n| scope.spawn(move || work(n))).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

fn transcript_of(traced: &Traced, fault: &Fault) -> Transcript {
    let mut transcript = Transcript::default();
    transcript.hear_all(&traced.reported());
    let status = traced.output.status;
    assert!(
        status.success() && transcript.ended,
        "the child crashed, {status}: {fault:?} {traced:?}"
    );
    syscall_trace::failed_syncs_are_final(&traced.trace);
    if fault.how == "error=EINTR" && CARRIED_ON.contains(&fault.call) {
        let failures = transcript.not_written + transcript.indeterminate + transcript.refused;
        assert_eq!(failures, 0, "an interruption was reported as a failure: {fault:?}");
    }
    transcript
}

/// Runs the fault, and repeats the run until the fault hits if it must. Another order
/// of the threads may have spread the calls differently.
fn fail(bench: &Bench, fault: &Fault, tally: &Mutex<Tally>) {
    const ATTEMPTS: usize = 25;
    for attempt in 1..=ATTEMPTS {
        let traced = bench.run(SCRIPT, &fault.options(&bench.dir()));
        let hit = fault.is_hit(&traced);
        let mut transcript = transcript_of(&traced, fault);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            transcript.check_log(&bench.dir());
        }));
        if let Err(panic) = found {
            println!("{fault:?} {}\n{}", traced.trace, traced.reported());
            std::panic::resume_unwind(panic);
        }
        tally.lock().expect("no run panicked").add(fault, hit, &transcript);
        if hit || !fault.must_hit {
            return;
        }
        assert!(attempt < ATTEMPTS, "strace injected nothing: {fault:?}");
    }
}

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn every_call_that_a_trace_shows_may_fail_at_every_occurrence() {
    if !is_there("strace") {
        return println!("SKIPPED: strace -e inject: there is no strace");
    }
    let scratch = scratch();
    let plan = plan(&Bench::new(scratch.path(), 0));
    let began = std::time::Instant::now();
    let tally = Mutex::new(Tally::default());
    on_benches(&plan, |bench, fault| fail(bench, fault, &tally));
    let tally = tally.into_inner().unwrap();
    println!("{tally:?}");
    for (call, _) in ERRORS {
        assert!(tally.hit.get(call).is_some_and(|hit| *hit > 0), "{call} was never failed");
    }
    let injected: usize = tally.hit.values().sum();
    println!("FIGURE runs under strace -e inject: {} runs", tally.runs);
    println!("FIGURE of which saw their call fail (INJECTED): {injected} runs");
    println!("FIGURE seconds of them: {:.1} s", began.elapsed().as_secs_f64());
    assert!(tally.runs >= RUNS_MIN && injected >= RUNS_MIN, "{tally:?}");
    assert!(tally.repeated * 20 < tally.runs && tally.not_reached * 10 < tally.runs, "{tally:?}");
    assert!(tally.hit["ftruncate"] >= 10, "cuts that fail: {tally:?}");
    assert!(tally.acknowledged > 10 * tally.runs as u64, "{tally:?}");
    assert!(tally.not_written > 0 && tally.indeterminate > 0 && tally.refused > 0, "{tally:?}");
}
