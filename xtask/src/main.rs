//! The project's tasks: `cargo xtask help` lists them.
//!
//! Each task is a module. A task prints what it measured as lines that begin with `FIGURE`,
//! and what this machine cannot run as lines that begin with `SKIPPED`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod bench;
mod check;
mod chroot;
mod end_to_end;
mod faults;
mod fuzz;
mod models;
mod mutants;
mod platforms;
mod process;
mod programs;
mod report;
mod sanitizer;
mod setup;
mod test;
mod tree;
mod tsan;

use std::error::Error;
use std::process::ExitCode;

/// What a task returns. Every error ends the program, so that only its text matters.
type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const HELP: &str = "\
cargo xtask TASK

setup [tests|end-to-end]    installs the Debian packages that the other tasks use, with apt-get
check                       formatting, clippy, rustdoc, other targets, cargo deny
test [ARGUMENT ...]         the test command that README.md shows
models [NAME ...]           the models in loom-tests/: every order of a few threads
shuttle [NAME ...]          the scenarios in shuttle-tests/: random orders of the whole engine
faults [NAME ...]           the fault suite: a million crashes, every flipped bit, the real kernel
fuzz [SECONDS] [TARGET ...] the fuzz targets, under AddressSanitizer, 60 s each
    --keep                  writes fuzz/corpus.tar.gz again, with the inputs that reach new code
asan [NAME ...]             the tests under AddressSanitizer, with leak detection
end-to-end [PART ...]       the ingest server beside other programs: prometheus, clients,
                            status-page. Others must be named: prometheus-3, overload, hostile,
                            and senders, a table of senders by what may go wrong
bench [NAME [ARGUMENT ...]] one benchmark; without a name, lists them
mutants [WORD ...]          applies each patch of mutants/ to a copy of the tree and runs the
                            tests that must catch it; with words, only patches whose path or
                            title contains one of them
    --check                 only checks that each patch applies and that its tests exist
platforms                   checks Windows, macOS, FreeBSD, and Linux on aarch64, i686 and s390x;
                            lib and golden files on i686 and s390x; lib and engine under wine
tsan                        lib and engine under ThreadSanitizer, and a planted race that it
                            must report
    --chroot FOLDER         platforms, tsan: keeps their chroot of Debian sid in a folder, and
                            uses it again; they need root, debootstrap and a mirror

With --no-run, `models`, `shuttle`, `fuzz` and `asan` only build.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", &[][..]),
    };
    let done = match task {
        "setup" => setup::run(rest),
        "check" => check::run(rest),
        "test" => test::run(rest),
        "models" => models::loom(rest),
        "shuttle" => models::shuttle(rest),
        "faults" => faults::run(rest),
        "fuzz" => fuzz::run(rest),
        "asan" => sanitizer::test(rest),
        "end-to-end" => end_to_end::run(rest),
        "bench" => bench::run(rest),
        "mutants" => mutants::run(rest),
        "platforms" => platforms::run(rest),
        "tsan" => tsan::run(rest),
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(format!("no task is named {task}; `cargo xtask help` lists the tasks").into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {task}: {error}");
            ExitCode::FAILURE
        }
    }
}
