//! Runs the fault suite: the tests that take minutes, or need root or a tool.

use std::time::Instant;

use crate::process::{cargo, tee};
use crate::programs::Programs;
use crate::{Result, report, tree};

/// All packages and features, as in the test command of README.md: another choice would build
/// everything once more.
const SUITE: &[&str] =
    &["test", "--workspace", "--all-features", "--test", "faults", "--test", "kernel"];

pub(crate) fn run(arguments: &[String]) -> Result {
    let began = Instant::now();
    let output =
        tee(cargo(SUITE).args(["--", "--include-ignored", "--nocapture"]).args(arguments))?;
    if arguments.is_empty() {
        let programs = Programs::read(&tree::root())?;
        let min = programs.count("test faults") + programs.count("test kernel");
        report::require_tests(&output, min)?;
    }
    report::summary(&output, began);
    Ok(())
}
