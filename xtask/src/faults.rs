//! Runs the fault suite: the tests that take minutes, or need root or a tool.

use std::time::Instant;

use crate::process::{cargo, tee};
use crate::{Result, report};

/// All packages and features, as in the test command of README.md: another choice would build
/// everything once more.
const SUITE: &[&str] =
    &["test", "--workspace", "--all-features", "--test", "faults", "--test", "kernel"];
/// The number of tests at least. Each asserts a minimum for its own figure.
const TESTS_MIN: usize = 40;

pub(crate) fn run(arguments: &[String]) -> Result {
    let began = Instant::now();
    let output =
        tee(cargo(SUITE).args(["--", "--include-ignored", "--nocapture"]).args(arguments))?;
    if arguments.is_empty() {
        report::require_tests(&output, TESTS_MIN)?;
    }
    report::summary(&output, began);
    Ok(())
}
