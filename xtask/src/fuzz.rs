//! Runs the fuzz targets in parallel, each from its corpus.
//!
//! The corpus of a target is its named seeds in `fuzz/corpus/TARGET`, and the inputs that reached
//! new code, in the archive `fuzz/corpus.tar.gz`. The archive is unpacked to
//! `target/fuzz-corpus`, where new inputs are written too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::process::{is_installed, run as run_program};
use crate::sanitizer::Sanitizer;
use crate::tree::{self, Scratch};
use crate::{Result, report};

const TARGETS: [&str; 7] = [
    "frame_reader",
    "segment_reader",
    "manifest",
    "directory",
    "operations",
    "batch_decoder",
    "ingest_parsers",
];
const SECONDS: u32 = 60;
const EXECUTIONS_MIN: u64 = 100;
/// The number of inputs per target in the archive, the smallest first.
const KEPT_MAX: usize = 95;

/// An input is at most 4 KiB. A larger allocation means that the code trusted a claimed length.
/// An input that takes seconds counts as a hang.
const LIMITS: [&str; 6] = [
    "-malloc_limit_mb=64",
    "-rss_limit_mb=1024",
    "-timeout=10",
    "-max_len=4096",
    "-len_control=0",
    "-print_funcs=0",
];

pub(crate) fn run(arguments: &[String]) -> Result {
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut option = |name| {
        let before = words.len();
        words.retain(|word| *word != name);
        words.len() < before
    };
    let (keep, no_run) = (option("--keep"), option("--no-run"));
    let seconds = words.first().and_then(|word| word.parse().ok());
    if seconds.is_some() {
        words.remove(0);
    }
    if let Some(unknown) = words.iter().find(|word| !TARGETS.contains(word)) {
        return Err(
            format!("no fuzz target is named {unknown}; there are {}", TARGETS.join(", ")).into()
        );
    }
    let targets = if words.is_empty() { TARGETS.to_vec() } else { words };

    if !is_installed("c++") {
        report::skip("fuzzing", "there is no C++ compiler; `cargo xtask setup` installs one");
        return Ok(());
    }
    let sanitizer = match Sanitizer::find()? {
        Ok(sanitizer) => sanitizer,
        Err(why) => {
            report::skip("fuzzing", &why);
            return Ok(());
        }
    };
    let programs = targets.iter().flat_map(|name| ["--bin", name]);
    run_program(sanitizer.cargo("build").args(programs))?;
    if no_run {
        return Ok(());
    }
    let fuzzer = Fuzzer::new(&sanitizer)?;
    if keep { fuzzer.keep() } else { fuzzer.run(&targets, seconds.unwrap_or(SECONDS)) }
}

struct Fuzzer {
    programs: PathBuf,
    /// The named seeds, a folder per target.
    seeds: PathBuf,
    archive: PathBuf,
    /// The unpacked archive and new inputs, a folder per target.
    kept: PathBuf,
    /// Inputs that crash a target, a folder per target.
    artifacts: PathBuf,
}

impl Fuzzer {
    /// Unpacks the archive.
    fn new(sanitizer: &Sanitizer) -> Result<Self> {
        let root = tree::root();
        let fuzzer = Self {
            programs: sanitizer.programs(),
            seeds: root.join("fuzz/corpus"),
            archive: root.join("fuzz/corpus.tar.gz"),
            kept: root.join("target/fuzz-corpus"),
            artifacts: root.join("fuzz/artifacts"),
        };
        for name in TARGETS {
            fs::create_dir_all(fuzzer.kept.join(name))?;
            fs::create_dir_all(fuzzer.artifacts.join(name))?;
        }
        let mut tar = Command::new("tar");
        run_program(tar.arg("-xzf").arg(&fuzzer.archive).arg("-C").arg(&fuzzer.kept))?;
        Ok(fuzzer)
    }

    /// Runs the targets at once, because `seconds` is a limit per target. Waits for all.
    fn run(&self, targets: &[&str], seconds: u32) -> Result {
        let began = Instant::now();
        let ended: Vec<Result<String, String>> = thread::scope(|scope| {
            let start = |name: &'static str| {
                scope.spawn(move || self.fuzz(name, seconds).map_err(|error| error.to_string()))
            };
            let running: Vec<_> =
                TARGETS.into_iter().filter(|name| targets.contains(name)).map(start).collect();
            running
                .into_iter()
                .map(|thread| thread.join().unwrap_or(Err("panicked".into())))
                .collect()
        });
        let failed: Vec<&str> =
            ended.iter().filter_map(|it| it.as_ref().err()).map(String::as_str).collect();
        if !failed.is_empty() {
            return Err(failed.join("\n").into());
        }
        report::summary(&ended.into_iter().flatten().collect::<String>(), began);
        Ok(())
    }

    /// The program of a target. It writes new inputs to the first of its folders.
    fn program(&self, name: &str, folders: &[&Path]) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .args(folders)
            .args(LIMITS)
            .env("ASAN_OPTIONS", "quarantine_size_mb=16:malloc_context_size=8");
        command
    }

    /// Runs one target and returns its figures.
    fn fuzz(&self, name: &str, seconds: u32) -> Result<String> {
        let artifacts = self.artifacts.join(name);
        let log = self.kept.join(format!("{name}.log"));
        let output = fs::File::create(&log)?;
        let status = self
            .program(name, &[&self.kept.join(name), &self.seeds.join(name)])
            .arg(format!("-max_total_time={seconds}"))
            .arg("-print_final_stats=1")
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()?;
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if !status.success() {
            let lines: Vec<&str> = said.lines().collect();
            let end = lines[lines.len().saturating_sub(60)..].join("\n");
            let program = self.programs.join(name);
            return Err(format!(
                "{end}\nfuzz {name} failed; run it again with {} {}",
                program.display(),
                newest(&artifacts)?.display()
            )
            .into());
        }
        let executions = number_after(&said, "stat::number_of_executed_units:").unwrap_or(0);
        if executions <= EXECUTIONS_MIN {
            return Err(format!("fuzz {name}: only {executions} executions").into());
        }
        let edges = number_after(&said, " cov:").unwrap_or(0);
        Ok(format!(
            "FIGURE fuzz {name}: {executions} executions\nFIGURE fuzz {name}: {edges} edges\n"
        ))
    }

    /// Writes the archive again: the inputs that reach new code, as few and as small as possible.
    fn keep(&self) -> Result {
        let merged = Scratch::new(&tree::root().join("target"), "fuzz-merged")?;
        for name in TARGETS {
            let folder = merged.path().join(name);
            fs::create_dir_all(&folder)?;
            run_program(
                self.program(name, &[&folder, &self.seeds.join(name), &self.kept.join(name)])
                    .arg("-merge=1"),
            )?;
            let mut inputs = tree::entries(&folder)?;
            inputs.sort_by_key(|path| fs::metadata(path).map_or(0, |it| it.len()));
            for path in inputs.iter().skip(KEPT_MAX) {
                fs::remove_file(path)?;
            }
        }
        pack(merged.path(), &self.archive)
    }
}

/// Packs a folder. The same content makes the same archive.
fn pack(folder: &Path, archive: &Path) -> Result {
    let same = [
        "--sort=name",
        "--mtime=@0",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=u=rwX,go=rX",
    ];
    let mut tar = Command::new("tar");
    tar.args(same).args(["-I", "gzip -9n", "-cf"]).arg(archive).arg("-C").arg(folder).args(TARGETS);
    run_program(&mut tar)
}

/// The last number that follows a word in a text.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let rest = text.rsplit_once(word)?.1.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// The file in a folder that was written last, or the folder if it has none.
fn newest(folder: &Path) -> Result<PathBuf> {
    let written = |path: &PathBuf| fs::metadata(path).and_then(|it| it.modified()).ok();
    Ok(tree::entries(folder)?
        .into_iter()
        .max_by_key(written)
        .unwrap_or_else(|| folder.to_path_buf()))
}

#[cfg(test)]
mod tests {
    use super::number_after;

    #[test]
    fn the_last_number_after_a_word_counts() {
        let log = "#8 INITED cov: 12 ft: 3\n#9 NEW cov: 345 ft: 4\n";
        assert_eq!(number_after(log, " cov:"), Some(345));
        assert_eq!(number_after(log, "stat:"), None);
    }
}
