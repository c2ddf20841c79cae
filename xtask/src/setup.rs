//! Installs the Debian packages that the other tasks use. No other task installs packages.

use std::process::Command;

use crate::process::{is_installed, succeeds};
use crate::{Result, report};

/// How to see whether a package is missing.
enum Needed {
    /// It provides this program.
    Program(&'static str),
    /// This command succeeds.
    Command(&'static [&'static str]),
}
use Needed::{Command as Succeeds, Program};

struct Package {
    name: &'static str,
    needed: Needed,
    /// Without it, a task fails. Tasks skip what needs another package.
    required: bool,
}

const fn package(name: &'static str, needed: Needed, required: bool) -> Package {
    Package { name, needed, required }
}

const TESTS: &[Package] = &[
    package("gcc", Program("cc"), true),
    package("python3", Program("python3"), true),
    package("git", Program("git"), true),
    // The fault suite: strace makes system calls fail, nbdkit is a device that fails.
    package("strace", Program("strace"), false),
    package("nbdkit", Program("nbdkit"), false),
    package("libnbd-bin", Program("nbdfuse"), false),
    package("nbdkit-plugin-python", Succeeds(&["nbdkit", "python", "--dump-plugin"]), false),
    package("fuse3", Program("fusermount3"), false),
    package("e2fsprogs", Program("mkfs.ext4"), false),
    package("xfsprogs", Program("mkfs.xfs"), false),
    package("btrfs-progs", Program("mkfs.btrfs"), false),
    package("mount", Program("losetup"), false),
    // The fuzz targets.
    package("g++", Program("c++"), false),
];

const END_TO_END: &[Package] = &[
    package("prometheus", Program("prometheus"), false),
    package("prometheus-node-exporter", Program("prometheus-node-exporter"), false),
    package("python3-venv", Succeeds(&["python3", "-c", "import ensurepip"]), false),
    package("chromium", Program("chromium"), false),
    package("fonts-dejavu-core", Succeeds(&["ls", "/usr/share/fonts/truetype/dejavu"]), false),
];

pub(crate) fn run(arguments: &[String]) -> Result {
    let packages: Vec<&Package> = match arguments {
        [] => TESTS.iter().chain(END_TO_END).collect(),
        [group] if group == "tests" => TESTS.iter().collect(),
        [group] if group == "end-to-end" => END_TO_END.iter().collect(),
        _ => return Err("the groups are `tests` and `end-to-end`".into()),
    };
    let missing: Vec<&Package> =
        packages.into_iter().filter(|package| package.is_missing()).collect();
    if missing.is_empty() {
        println!("all packages are installed");
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    println!("installing {}", names.join(" "));
    // One by one if that fails: then one missing package leaves the others.
    if !(succeeds(apt_get().args(["update", "-qq"])) && install(&names)) {
        for name in names {
            install(&[name]);
        }
    }
    let mut required = Vec::new();
    for package in missing.iter().filter(|package| package.is_missing()) {
        if package.required {
            required.push(package.name);
        } else {
            report::skip(
                &format!("what needs Debian's {}", package.name),
                "it cannot be installed",
            );
        }
    }
    if required.is_empty() {
        Ok(())
    } else {
        Err(format!("missing: {}", required.join(" ")).into())
    }
}

impl Package {
    fn is_missing(&self) -> bool {
        match &self.needed {
            Program(program) => !is_installed(program) && !is_installed_for_root(program),
            Succeeds(command) => !succeeds(Command::new(command[0]).args(&command[1..])),
        }
    }
}

/// Whether a program is in a folder that only the PATH of root has.
fn is_installed_for_root(program: &str) -> bool {
    ["/usr/sbin", "/sbin"].iter().any(|folder| std::path::Path::new(folder).join(program).is_file())
}

fn install(names: &[&str]) -> bool {
    succeeds(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(names))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
