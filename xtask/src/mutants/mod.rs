//! Applies each mutant to a copy of the tree and runs the tests that must catch it.

mod patch;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::models::{LOOM, SHUTTLE};
use crate::process::{Ended, Interrupt, output_within};
use crate::programs::Programs;
use crate::{Result, tree};
use patch::{Fate, Mutant, TestName};

/// A mutant may make its test hang, which counts as caught.
const TEST_SECONDS_MAX: u32 = 300;
const BUILD_SECONDS_MAX: u32 = 3600;

pub(crate) fn run(arguments: &[String]) -> Result {
    let (options, words): (Vec<_>, Vec<_>) =
        arguments.iter().map(String::as_str).partition(|argument| argument.starts_with('-'));
    if let Some(option) = options.iter().find(|option| **option != "--check") {
        return Err(format!("no option is named {option}").into());
    }
    let root = tree::root();
    let chosen = mutants(&root, &words)?;
    if chosen.is_empty() {
        return Err("no mutant has such a name or title".into());
    }
    let programs = Programs::read(&root)?;
    if options.is_empty() {
        run_all(&root, &chosen, &programs)
    } else {
        check(&root, &chosen, &programs)
    }
}

fn mutants(root: &Path, words: &[&str]) -> Result<Vec<Mutant>> {
    let folder = root.join("mutants");
    let mut mutants = Vec::new();
    for file in tree::files_below(&folder, "patch")? {
        let name = file.strip_prefix(&folder)?.with_extension("").to_string_lossy().into_owned();
        let mutant = Mutant::read(&file, name.clone());
        mutants.push(mutant.map_err(|error| format!("mutants/{name}.patch: {error}"))?);
    }
    mutants.retain(|mutant| words.is_empty() || words.iter().any(|word| mutant.matches(word)));
    Ok(mutants)
}

/// Checks that each mutant applies and that its tests exist. Reports every fault.
fn check(root: &Path, mutants: &[Mutant], programs: &Programs) -> Result {
    let mut faults = 0;
    for mutant in mutants {
        let mut report = |error: Box<dyn std::error::Error>| {
            eprintln!("mutants/{}.patch: {error}", mutant.name);
            faults += 1;
        };
        match mutant.apply(root) {
            Ok(files) if files.values().any(|(text, changed)| text == changed) => {
                report("it changes nothing".into());
            }
            Ok(_) => {}
            Err(error) => report(error),
        }
        if let Fate::CaughtBy(tests) = &mutant.fate {
            for TestName { kind, path } in tests {
                if let Err(error) = programs.find(kind, path) {
                    report(error);
                }
            }
        }
    }
    if faults > 0 {
        return Err(format!("{faults} faults in {} mutants", mutants.len()).into());
    }
    println!("{} mutants apply, and the tests that they name exist", mutants.len());
    Ok(())
}

fn run_all(root: &Path, mutants: &[Mutant], programs: &Programs) -> Result {
    let interrupt = Interrupt::listen()?;
    // Outside the tree, or cargo would merge the two `.cargo/config.toml`.
    let copy = tree::Scratch::new(&std::env::temp_dir(), "shardwal-mutants")?;
    tree::copy(root, copy.path())?;
    let mut missed = 0;
    for mutant in mutants {
        missed += run_one(copy.path(), mutant, programs, &interrupt)
            .map_err(|error| format!("mutants/{}.patch: {error}", mutant.name))?;
    }
    println!("{} mutants, {missed} missed", mutants.len());
    if missed > 0 { Err("a mutant was not caught".into()) } else { Ok(()) }
}

/// Applies one mutant, then reverts it. Returns how many of its tests still pass.
fn run_one(
    copy: &Path,
    mutant: &Mutant,
    programs: &Programs,
    interrupt: &Interrupt,
) -> Result<usize> {
    let tests = match &mutant.fate {
        Fate::CaughtBy(tests) => tests,
        Fate::Survives(reason) => {
            println!("SURVIVES  {}: {reason}", mutant.name);
            return Ok(0);
        }
    };
    let files = mutant.apply(copy)?;
    for (path, (_, changed)) in &files {
        fs::write(path, changed)?;
    }
    let mut missed = 0;
    for test in tests {
        let failure = failure_of(copy, test, programs, interrupt)?;
        missed += usize::from(failure.is_none());
        let (word, how) = match failure {
            Some(how) => ("caught", how),
            None => ("MISSED", "it passes".to_owned()),
        };
        println!("{word}    {}: {}: {}: {how}", mutant.name, test.kind, test.path);
    }
    for (path, (text, _)) in &files {
        fs::write(path, text)?;
    }
    Ok(missed)
}

/// How a test fails in the copy; `None` if it passes.
fn failure_of(
    copy: &Path,
    test: &TestName,
    programs: &Programs,
    interrupt: &Interrupt,
) -> Result<Option<String>> {
    let (program, path) = programs.find(&test.kind, &test.path)?;
    // All packages where a name selects the program: other choices would build everything again.
    let lib = ["test", "--all-features", "--package", &program.package, "--lib"];
    let named = ["test", "--all-features", "--workspace", "--test"];
    let selected: Vec<&str> = match (test.kind.as_str(), &program.target) {
        ("loom", _) => LOOM.to_vec(),
        ("shuttle", _) => SHUTTLE.to_vec(),
        (_, None) => lib.to_vec(),
        (_, Some(target)) => [&named[..], &[target]].concat(),
    };
    let cargo = |more: &[&str], seconds| {
        let mut command = Command::new("cargo");
        command.args(&selected).args(more).current_dir(copy);
        output_within(&mut command, seconds, interrupt)
    };
    // Build first: a slow build is not a hanging test.
    match cargo(&["--no-run"], BUILD_SECONDS_MAX)? {
        Ended::Output { success: true, .. } => {}
        Ended::Output { text, .. } => return Err(format!("it does not compile\n{text}").into()),
        Ended::Late => return Err("its build does not end".into()),
    }
    let Ended::Output { success, text } =
        cargo(&["--", "--include-ignored", "--exact", path], TEST_SECONDS_MAX)?
    else {
        return Ok(Some("hangs".to_owned()));
    };
    if success {
        let ran = text.contains("test result: ok. 1 passed");
        return if ran { Ok(None) } else { Err(format!("{path} did not run\n{text}").into()) };
    }
    Ok(Some(reason(&text)))
}

/// The panic message of a failed test, or else the line that says how it ended.
fn reason(output: &str) -> String {
    let mut lines = output.lines();
    // The message stands in the line after the place, which for a model is loom's scheduler.
    let panicked = lines.find(|line| line.contains("panicked at ")).and_then(|_| lines.next());
    let ended = |line: &&str| line.contains("SIG") || line.contains("fatal runtime error");
    let said = panicked.or_else(|| output.lines().find(ended));
    said.unwrap_or("fails").to_owned()
}
