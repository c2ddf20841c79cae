//! Runs the models: races in every order under loom, the whole engine under shuttle.
//!
//! A flag of the compiler selects loom or shuttle in place of the standard library. It changes
//! every crate, so that both have a target folder of their own. Both are optimised, because they
//! run many thousands of schedules. Neither package has a target that `cargo test --workspace`
//! would build.

use std::time::Instant;

use crate::process::{cargo, tee};
use crate::programs::Programs;
use crate::{Result, report, tree};

/// The arguments of cargo that run the models in `loom-tests/`.
pub(crate) const LOOM: &[&str] = &[
    "test",
    "--config=build.rustflags=['--cfg','loom']",
    "--package=shardwal-loom",
    "--lib",
    "--release",
    "--target-dir=target/loom",
];
/// The arguments of cargo that run the scenarios in `shuttle-tests/`.
pub(crate) const SHUTTLE: &[&str] = &[
    "test",
    "--config=build.rustflags=['--cfg','shuttle']",
    "--package=shardwal-shuttle",
    "--test=engine",
    "--release",
    "--target-dir=target/shuttle",
];

/// `cargo xtask models`: every order of a few threads.
pub(crate) fn loom(arguments: &[String]) -> Result {
    run("loom", LOOM, &["loom_tests", "--nocapture"], arguments)
}

/// `cargo xtask shuttle`: random orders of the whole engine.
pub(crate) fn shuttle(arguments: &[String]) -> Result {
    run("shuttle", SHUTTLE, &["--nocapture"], arguments)
}

/// Runs all tests, or those whose names contain an argument. `--no-run` only builds.
fn run(kind: &str, cargo_arguments: &[&str], all: &[&str], arguments: &[String]) -> Result {
    if arguments == ["--no-run"] {
        return crate::process::run(cargo(cargo_arguments).arg("--no-run"));
    }
    let began = Instant::now();
    let command = &mut cargo(cargo_arguments);
    command.arg("--");
    if arguments.is_empty() {
        let output = tee(command.args(all))?;
        let passed = report::require_tests(&output, Programs::read(&tree::root())?.count(kind))?;
        report::summary(&format!("{output}FIGURE {kind} tests: {passed} tests\n"), began);
        Ok(())
    } else {
        tee(command.arg("--nocapture").args(arguments)).map(drop)
    }
}
