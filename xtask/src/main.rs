//! The project's tasks: `cargo xtask help` lists them.
//!
//! Each task is a module. A task prints what it measured as lines that begin with `FIGURE`,
//! and what this machine cannot run as lines that begin with `SKIPPED`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod mutants;
mod process;
mod tree;

use std::error::Error;
use std::process::ExitCode;

/// What a task returns. Every error ends the program, so that only its text matters.
type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const HELP: &str = "\
cargo xtask mutants [--check] [WORD ...]
    Applies each patch of mutants/ to a copy of the tree and reports which test catches it.
    With --check, only checks that each patch applies and that each named test exists.
    With words, only patches whose path or title contains one of them.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = match arguments.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", &[][..]),
    };
    let done = match task {
        "mutants" => mutants::run(rest),
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
