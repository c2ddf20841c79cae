//! A chroot of Debian's newest suite.
//!
//! It has a rustc, a clang, a linker per platform and the source of std, all of one
//! version. That is enough for other platforms and for ThreadSanitizer. The tasks need
//! root, debootstrap and the mirror that apt uses; without them they print `SKIPPED`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::process::{Ended, Interrupt, is_installed, output_within};
use crate::{Result, report, tree};

const SUITE: &str = "sid";
const PACKAGES: &str = "rustc cargo rust-src gcc libc6-dev ca-certificates python3-minimal patch";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The first build of std, and a test under an emulator, take long.
const STEP_SECONDS_MAX: u32 = 2 * 3600;
const LINES_SHOWN: usize = 60;
/// What the present step writes.
const OUTPUT: &str = "output";

/// The chroot, with a copy of the tree in `/project`.
pub(crate) struct Chroot {
    folder: PathBuf,
    /// Deletes the folder, unless the caller keeps it.
    _scratch: Option<tree::Scratch>,
    interrupt: Interrupt,
    failed: usize,
    skipped: usize,
}

impl Chroot {
    /// Builds the chroot. `None` if this machine cannot: it then prints `SKIPPED`.
    ///
    /// The only argument is `--chroot FOLDER`: use the chroot in this folder, or build it
    /// there, and keep it.
    pub(crate) fn open(task: &str, arguments: &[String]) -> Result<Option<Self>> {
        let kept = match arguments {
            [] => None,
            [option, folder] if option == "--chroot" => Some(std::path::absolute(folder)?),
            _ => return Err("the only option is --chroot FOLDER".into()),
        };
        let interrupt = Interrupt::listen()?;
        if let Some(reason) = missing_tool() {
            report::skip(task, &reason);
            return Ok(None);
        }
        let (folder, scratch) = match kept {
            Some(folder) => (folder, None),
            None => {
                let scratch = tree::Scratch::new(&std::env::temp_dir(), "shardwal-chroot")?;
                (scratch.path().to_path_buf(), Some(scratch))
            }
        };
        let mut chroot = Self { folder, _scratch: scratch, interrupt, failed: 0, skipped: 0 };
        if let Some(reason) = chroot.install()? {
            report::skip(task, &reason);
            return Ok(None);
        }
        chroot.copy_project()?;
        Ok(Some(chroot))
    }

    /// Makes the suite and its compiler. Returns why that failed.
    fn install(&mut self) -> Result<Option<String>> {
        if !self.folder.join("usr/bin/apt-get").exists() {
            let Some(mirror) = mirror() else { return Ok(Some("apt names no mirror".into())) };
            fs::create_dir_all(&self.folder)?;
            let mut debootstrap =
                private("exec debootstrap --variant=minbase \"$2\" \"$1\" \"$3\"");
            debootstrap.arg(&self.folder).args([SUITE, &mirror]);
            if let (false, text) = self.output(&mut debootstrap)? {
                return Ok(Some(format!("debootstrap fails\n{text}")));
            }
        }
        for name in ["resolv.conf", "hosts"] {
            // The chroot may need neither.
            _ = fs::copy(Path::new("/etc").join(name), self.folder.join("etc").join(name));
        }
        // The mirror may be a snapshot whose release file has expired.
        let options = "Acquire::Check-Valid-Until \"false\";\nAPT::Install-Recommends \"0\";\n";
        fs::write(self.folder.join("etc/apt/apt.conf.d/99shardwal"), options)?;
        let prepare = format!("apt-get update -qq; apt-get install -y -qq {PACKAGES}");
        if let (false, text) = self.script(&prepare)? {
            return Ok(Some(format!("its packages cannot be installed\n{text}")));
        }
        if Path::new(CERTIFICATES).exists() {
            fs::copy(CERTIFICATES, self.folder.join(&CERTIFICATES[1..]))?;
        }
        Ok(None)
    }

    /// Copies the tree anew. What was built stays, and so does the time of a file that has
    /// not changed: cargo builds only what has.
    pub(crate) fn copy_project(&self) -> Result {
        tree::update(&tree::root(), &self.project(), &["target"])
    }

    /// The copy of the tree, as a path outside the chroot.
    pub(crate) fn project(&self) -> PathBuf {
        self.folder.join("project")
    }

    /// Installs packages. Returns false, and prints `SKIPPED`, if there are none.
    pub(crate) fn add(&mut self, what: &str, architecture: &str, packages: &str) -> Result<bool> {
        let mut script = String::new();
        if !architecture.is_empty() {
            script = format!("dpkg --add-architecture {architecture}; apt-get update -qq; ");
        }
        script += &format!("apt-get install -y -qq {packages}");
        let (installed, text) = self.script(&script)?;
        if !installed {
            report::skip(what, &format!("{packages} cannot be installed\n{text}"));
            self.skipped += 1;
        }
        Ok(installed)
    }

    /// Runs a step in the project and prints how it ended.
    pub(crate) fn step(&mut self, name: &str, script: &str) -> Result {
        let began = Instant::now();
        let (passed, text) = self.script(script)?;
        let (word, seconds) = (if passed { "ok" } else { "FAILED" }, began.elapsed().as_secs());
        println!("{word:6}  {name} ({seconds} s)");
        let results = text.lines().filter(|line| line.starts_with("test result"));
        results.for_each(|line| println!("        {line}"));
        if !passed {
            println!("{text}");
            self.failed += 1;
        }
        Ok(())
    }

    /// Runs a shell script in the project. Returns whether it succeeded, and the last
    /// lines of its output. While it runs, all lines are in the chroot's file [`OUTPUT`].
    pub(crate) fn script(&self, script: &str) -> Result<(bool, String)> {
        let proxies = ["http_proxy", "https_proxy", "no_proxy"];
        let proxies = proxies.iter().filter_map(|name| Some((name, std::env::var(name).ok()?)));
        let variables = proxies.map(|(name, value)| format!("{name}={value}"));
        let mut command = private(
            "mount -t proc proc \"$1/proc\"; mount --rbind /dev \"$1/dev\"; exec chroot \"$@\"",
        );
        command.arg(&self.folder).args(["/usr/bin/env", "-i"]).args(variables).args([
            "HOME=/root",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "DEBIAN_FRONTEND=noninteractive",
            "CARGO_INCREMENTAL=0",
            "CARGO_PROFILE_DEV_DEBUG=none",
            "SHARDWAL_TEST_SLOWDOWN=10",
            "CARGO_TERM_COLOR=never",
            "nice",
            "sh",
            "-ec",
        ]);
        // One file for both streams: an error stays beside the lines that explain it.
        let output = self.folder.join(OUTPUT);
        command.arg(format!("exec >/{OUTPUT} 2>&1; mkdir -p /project; cd /project; {script}"));
        let (passed, text) = self.output(&mut command)?;
        let written = fs::read(output).unwrap_or_default();
        Ok((passed, last_lines(&format!("{}{text}", String::from_utf8_lossy(&written)))))
    }

    fn output(&self, command: &mut Command) -> Result<(bool, String)> {
        match output_within(command, STEP_SECONDS_MAX, &self.interrupt)? {
            Ended::Output { success, text } => Ok((success, last_lines(&text))),
            Ended::Late => Ok((false, format!("it ran for more than {STEP_SECONDS_MAX} s"))),
        }
    }

    /// Counts a fault that the caller has printed.
    pub(crate) fn fail(&mut self) {
        self.failed += 1;
    }

    /// Prints the sum. An error if a step failed.
    pub(crate) fn finish(self, task: &str) -> Result {
        println!("FIGURE {task}: {} failed, {} skipped", self.failed, self.skipped);
        if self.failed > 0 { Err(format!("{} steps failed", self.failed).into()) } else { Ok(()) }
    }
}

/// A shell in a mount namespace of its own: what it mounts ends with it, so that the
/// folder can be deleted at any time. Its arguments begin at `$1`.
fn private(script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]);
    command
}

fn missing_tool() -> Option<String> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|it| it.stdout == b"0\n");
    if !is_root {
        return Some("it needs root, for a chroot".into());
    }
    let missing = ["debootstrap", "unshare"].into_iter().find(|tool| !is_installed(tool))?;
    Some(format!("{missing} is not installed"))
}

/// The Debian mirror in apt's lists.
fn mirror() -> Option<String> {
    let lists = Path::new("/etc/apt/sources.list.d");
    let mut files = tree::entries(lists).unwrap_or_default();
    files.insert(0, lists.with_file_name("sources.list"));
    let texts: Vec<String> =
        files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    mirror_in(&texts.concat()).map(str::to_owned)
}

/// The first archive of Debian in a list of apt, of either format.
fn mirror_in(list: &str) -> Option<&str> {
    let used = list.lines().filter(|line| !line.trim_start().starts_with('#'));
    let is_archive =
        |word: &&str| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian");
    used.flat_map(str::split_whitespace).find(is_archive)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The results of tests are kept wherever they stand.
    let shown = lines.len().saturating_sub(LINES_SHOWN);
    let results = lines[..shown].iter().filter(|line| line.starts_with("test result"));
    results.chain(&lines[shown..]).copied().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_either_format() {
        let lines =
            "# http://old.example/debian\ndeb [trusted=yes] http://a.example/debian/ sid main";
        assert_eq!(mirror_in(lines), Some("http://a.example/debian/"));
        let fields = "Types: deb\nURIs: http://b.example/debian-security\n\nURIs: https://c.example/debian\n";
        assert_eq!(mirror_in(fields), Some("https://c.example/debian"));
        assert_eq!(mirror_in("deb https://packages.example/apt stable main"), None);
    }

    #[test]
    fn the_last_lines_keep_all_results() {
        let text = format!("test result: ok\n{}", "noise\n".repeat(100));
        let kept = last_lines(&text);
        assert!(kept.starts_with("test result: ok\nnoise"));
        assert_eq!(kept.lines().count(), LINES_SHOWN + 1);
    }
}
