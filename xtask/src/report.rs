//! What a task reports: figures, skipped parts, numbers of tests.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::Result;

/// Prints the `FIGURE` and `SKIPPED` lines of an output once more, sorted.
pub(crate) fn summary(output: &str, began: Instant) {
    let lines = |word| output.lines().filter_map(move |line| Some(&line[line.find(word)?..]));
    println!("\n-- figures, in {} s", began.elapsed().as_secs());
    for line in lines("FIGURE ").chain(lines("SKIPPED")).collect::<BTreeSet<_>>() {
        println!("{line}");
    }
}

/// Prints that a part of the tasks cannot run on this machine. `.ci/run` counts these lines.
pub(crate) fn skip(what: &str, why: &str) {
    println!("SKIPPED: {what}: {why}");
}

/// The number of tests that passed, by the output of `cargo test`.
pub(crate) fn tests_passed(output: &str) -> usize {
    let results = output.lines().filter_map(|line| line.strip_prefix("test result: ok. "));
    results.filter_map(|rest| rest.split(' ').next()?.parse::<usize>().ok()).sum()
}

/// An error if fewer tests than `min` passed: then a filter or a name selects too few.
pub(crate) fn require_tests(output: &str, min: usize) -> Result<usize> {
    let passed = tests_passed(output);
    if passed < min {
        Err(format!("{passed} tests ran, and {min} were expected").into())
    } else {
        Ok(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_summed_over_programs() {
        let output =
            "test result: ok. 12 passed; 0 failed\nnoise\ntest result: ok. 3 passed; 0 failed\n";
        assert_eq!(tests_passed(output), 15);
        assert!(require_tests(output, 15).is_ok());
        assert!(require_tests(output, 16).is_err());
    }
}
