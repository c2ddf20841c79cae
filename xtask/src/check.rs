//! What needs no run: formatting, lints, documentation, other targets, dependencies.

use std::path::Path;
use std::process::Command;

use crate::process::{cargo, is_installed, output, run as run_program};
use crate::{Result, report};

/// Packages that compile the library once more. Their lints would repeat.
const COPIES: [&str; 4] = ["--exclude", "shardwal-loom", "--exclude", "shardwal-shuttle"];
/// The library is compiled, not run, for these.
const TARGETS: [&str; 2] = ["x86_64-pc-windows-gnu", "aarch64-apple-darwin"];

pub(crate) fn run(arguments: &[String]) -> Result {
    if let Some(argument) = arguments.first() {
        return Err(format!("unexpected argument {argument}").into());
    }
    run_program(&mut cargo(["fmt", "--all", "--check"]))?;
    // clippy::incompatible_msrv checks standard library calls against the stated MSRV,
    // because only one toolchain is installed.
    let deny = ["--", "-D", "warnings"];
    run_program(cargo(["clippy", "--lib"]).args(deny))?;
    let all = ["clippy", "--workspace", "--all-targets", "--all-features"];
    run_program(cargo(all).args(COPIES).args(deny))?;
    let doc = ["doc", "--workspace", "--no-deps", "--all-features"];
    run_program(cargo(doc).args(COPIES).env("RUSTDOCFLAGS", "-D warnings"))?;
    check_targets()?;
    if is_installed("cargo-deny") {
        run_program(&mut cargo(["deny", "--workspace", "check"]))
    } else {
        report::skip("licences and advisories of dependencies", "cargo-deny is not installed");
        Ok(())
    }
}

fn check_targets() -> Result {
    for target in TARGETS {
        let library =
            output(Command::new("rustc").args(["--print", "target-libdir", "--target", target]))?;
        if Path::new(library.trim()).is_dir() {
            run_program(&mut cargo(["check", "--target", target]))?;
        } else {
            report::skip(
                &format!("cargo check for {target}"),
                "its standard library is not installed",
            );
        }
    }
    Ok(())
}
