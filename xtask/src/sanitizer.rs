//! AddressSanitizer: the flags that cargo-fuzz passes, for the stable compiler.
//!
//! The fuzz targets and the tests are built with one set of flags, so that they share a build.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::process::{cargo, output, run as run_program, tee};
use crate::tree::{self, Scratch};
use crate::{Result, report};

/// The number of tests at least, in the library and in `fuzz/asan.rs`.
const TESTS_MIN: usize = 120;

const FLAGS: &str = "--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// A use after free. The sanitizer must report it.
const FAULTY: &str = "fn main() { let p = Box::into_raw(Box::new(1)); \
    unsafe { drop(Box::from_raw(p)); std::process::exit(*p) } }";

/// A compiler that can build with AddressSanitizer.
pub(crate) struct Sanitizer {
    target: String,
}

impl Sanitizer {
    /// Builds and runs a program with an error. `Err` inside says why the sanitizer cannot be used.
    pub(crate) fn find() -> Result<std::result::Result<Self, String>> {
        let version = output(Command::new("rustc").arg("-vV"))?;
        let target = version.lines().find_map(|line| line.strip_prefix("host: "));
        let target = target.ok_or("rustc names no host")?.to_owned();
        let scratch = Scratch::new(&std::env::temp_dir(), "shardwal-sanitizer")?;
        let [source, program] = ["main.rs", "main"].map(|name| scratch.path().join(name));
        fs::write(&source, FAULTY)?;
        let built = Command::new("rustc")
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["-Zsanitizer=address", "--target", &target, "-o"])
            .args([&program, &source])
            .output()?;
        let mut said = built.stderr;
        if built.status.success() {
            said.extend(Command::new(&program).output()?.stderr);
        }
        let said = String::from_utf8_lossy(&said);
        if said.contains("AddressSanitizer: heap-use-after-free") {
            return Ok(Ok(Self { target }));
        }
        let last = said.lines().last().unwrap_or("the program reported nothing").to_owned();
        Ok(Err(format!("the compiler cannot build with AddressSanitizer: {last}")))
    }

    /// A command of cargo in the package `fuzz/`.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = cargo([subcommand, "--quiet", "--release"]);
        command
            .args(["--manifest-path", "fuzz/Cargo.toml", "--target", &self.target])
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only")
            .env("CARGO_TARGET_DIR", target_folder())
            .env("RUSTFLAGS", FLAGS);
        command
    }

    /// The folder of the programs that were built.
    pub(crate) fn programs(&self) -> PathBuf {
        target_folder().join(&self.target).join("release")
    }
}

fn target_folder() -> PathBuf {
    tree::root().join("target/sanitized")
}

/// `cargo xtask asan`: the unit tests of the library, and the integration tests that drive its
/// unsafe code (queue, waiters) and the engine, with leak detection.
pub(crate) fn test(arguments: &[String]) -> Result {
    let sanitizer = match Sanitizer::find()? {
        Ok(sanitizer) => sanitizer,
        Err(why) => {
            report::skip("tests under AddressSanitizer", &why);
            return Ok(());
        }
    };
    let mut command = sanitizer.cargo("test");
    command.args(["--lib", "--tests"]);
    if arguments == ["--no-run"] {
        return run_program(command.arg("--no-run"));
    }
    let began = Instant::now();
    command.env("ASAN_OPTIONS", "detect_leaks=1:halt_on_error=1");
    let output = tee(command.arg("--").args(arguments))?;
    if arguments.is_empty() {
        let passed = report::require_tests(&output, TESTS_MIN)?;
        report::summary(&format!("{output}FIGURE asan tests: {passed} tests\n"), began);
    }
    Ok(())
}
