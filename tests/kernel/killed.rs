//! Sends `SIGKILL` at every call that changes a file. No acknowledged record is lost,
//! whichever two calls the kill separates.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::inject::{Fault, OF_A_WRITER, occurrences, on_benches, scratch};
use crate::strace::{Bench, is_there};
use crate::transcript::Transcript;
use crate::workload::{Files, SCRIPT};

/// Calls that change the disk or open a file.
const CALLS: [&str; 9] = [
    "pwrite64",
    "fdatasync",
    "fsync",
    "renameat",
    "renameat2",
    "unlinkat",
    "openat",
    "mkdir",
    "mkdirat",
];

#[test]
#[ignore = "in the fault suite: cargo xtask faults"]
fn a_kill_at_any_call_loses_no_acknowledged_record() {
    if !is_there("strace") {
        return println!("SKIPPED: strace -e inject=..:signal=KILL: there is no strace");
    }
    let scratch = scratch();
    let bench = Bench::new(scratch.path(), 0);
    let mut plan = Vec::new();
    for files in [Files::All, Files::FirstShard] {
        let occurrences = occurrences(&bench, files);
        for call in CALLS {
            if files == Files::FirstShard && !OF_A_WRITER.contains(&call) {
                continue;
            }
            let range = occurrences.get(call).copied().unwrap_or_default();
            plan.extend((1..=range.1).map(|nth| Fault {
                call,
                how: "signal=KILL".into(),
                when: nth.to_string(),
                files,
                must_hit: nth <= range.0,
                first: None,
            }));
        }
    }
    let killed = AtomicUsize::new(0);
    on_benches(&plan, |bench, fault| kill(bench, fault, &killed));
    let killed = killed.into_inner();
    println!("FIGURE processes killed at a system call: {killed} kills");
    assert!(killed >= 150 && killed * 10 > plan.len() * 9, "{killed} of {}", plan.len());
}

/// A signal leaves no mark in the trace; the exit of the child shows it.
fn kill(bench: &Bench, fault: &Fault, killed: &AtomicUsize) {
    const SIGKILL: i32 = 9;
    for _ in 0..3 {
        let traced = bench.run(SCRIPT, &fault.options(&bench.dir()));
        let mut transcript = Transcript::default();
        transcript.hear_all(&traced.reported());
        transcript.check_log(&bench.dir());
        if traced.output.status.signal() == Some(SIGKILL) {
            assert!(!transcript.ended, "the child ended before the kill: {fault:?}");
            killed.fetch_add(1, Relaxed);
            return;
        }
        assert!(traced.output.status.success() && transcript.ended, "{fault:?} {traced:?}");
    }
    assert!(!fault.must_hit, "the child was not killed: {fault:?}");
}
