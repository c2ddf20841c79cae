//! File systems of a test, mounted in a mount namespace of its own. So none outlives
//! the test. Each is taken down in order when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::logged_device::{BTRFS, EXT4, FileSystem, XFS};
use crate::strace::is_there;

/// Set if the test runs in its own namespace.
const INSIDE: &str = "SHARDWAL_TEST_KERNEL_INSIDE";
/// Longer than any step of mounting takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// The rights that a test needs besides a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rights {
    /// To mount a tmpfs: anybody may do that in a user namespace.
    Tmpfs,
    /// To mount a block device.
    Root,
}

fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

/// Returns true inside the namespace. Outside, runs the test again in a namespace and
/// asserts that it succeeds, or skips it.
pub(crate) fn inside(test: &str, rights: Rights) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let flags: &[&str] = match (is_root(), rights) {
        (true, _) => &["-m"],
        (false, Rights::Tmpfs) => &["-Urm"],
        (false, Rights::Root) => {
            println!("SKIPPED: {test}: only root may mount a block device");
            return false;
        }
    };
    let tried = Command::new("unshare").args(flags).arg("true").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        println!("SKIPPED: {test}: unshare {} is refused", flags[0]);
        return false;
    }
    let program = std::env::current_exe().expect("a test has a program");
    let ended = Command::new("unshare")
        .args(flags)
        .arg(program)
        .args(["--exact", test, "--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(ended.expect("unshare runs").success(), "{test} failed in its namespace");
    false
}

/// Runs a command, which must succeed. Returns its output.
pub(crate) fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Retries a command until it succeeds, because a device may be busy for a moment.
pub(crate) fn insist(command: &[&str]) {
    let began = Instant::now();
    loop {
        let output = Command::new(command[0]).args(&command[1..]).output();
        if output.is_ok_and(|output| output.status.success()) {
            return;
        }
        // No panic in a drop: the end of the namespace cleans up.
        if began.elapsed() > LIMIT {
            return println!("{command:?} does not succeed");
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("scratch paths are text")
}

/// A directory for one test's images and mount points.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("there is room")
}

/// Runs `life` on a new mount of ext4, XFS and btrfs. Prints SKIPPED for each file
/// system that this machine cannot mount. Returns the number of runs.
pub(crate) fn on_each_file_system(name: &str, mut life: impl FnMut(FileSystem, &Path)) -> usize {
    let mut lived = 0;
    for system in [EXT4, XFS, BTRFS] {
        let scratch = scratch();
        let mount = Mount::of_image(scratch.path(), system.make, system.mib, "rw");
        let Some(mount) = mount else {
            println!("SKIPPED: {name}: no loop device or no {}", system.make[0]);
            continue;
        };
        life(system, mount.dir());
        lived += 1;
    }
    lived
}

/// A mount point.
#[derive(Debug)]
pub(crate) struct Mount {
    dir: PathBuf,
}

impl Mount {
    /// A tmpfs of `kib` KiB and `inodes` names.
    pub(crate) fn tmpfs(scratch: &Path, kib: u64, inodes: u64) -> Self {
        let mount = Self::at(scratch);
        let size = format!("size={kib}k,nr_inodes={inodes}");
        run(&["mount", "-t", "tmpfs", "-o", &size, "none", text(&mount.dir)]);
        mount
    }

    /// A file system in a file of `mib` MiB, mounted with these options; `None` without
    /// a loop device or without the command.
    pub(crate) fn of_image(scratch: &Path, make: &[&str], mib: u64, options: &str) -> Option<Self> {
        let is_there = |command: &[&str]| Command::new(command[0]).args(&command[1..]).output();
        if !is_there(&["losetup", "-f"]).is_ok_and(|free| free.status.success())
            || is_there(&[make[0], "-V"]).is_err()
        {
            return None;
        }
        let image = scratch.join("image");
        let file = fs::File::create(&image).expect("the scratch directory is ours");
        file.set_len(mib << 20).expect("there is room");
        run(&[make, &[text(&image)]].concat());
        let mount = Self::at(scratch);
        run(&["mount", "-o", &format!("loop,{options}"), text(&image), text(&mount.dir)]);
        Some(mount)
    }

    /// An overlay on a directory of the scratch directory.
    pub(crate) fn overlay(scratch: &Path, options: &str) -> Self {
        let mount = Self::at(scratch);
        let dir = |name: &str| {
            let dir = scratch.join(name);
            fs::create_dir_all(&dir).expect("the scratch directory is ours");
            dir
        };
        let (lower, upper, work) = (dir("lower"), dir("upper"), dir("work"));
        let dirs = format!(
            "lowerdir={},upperdir={},workdir={}{options}",
            text(&lower),
            text(&upper),
            text(&work)
        );
        run(&["mount", "-t", "overlay", "-o", &dirs, "none", text(&mount.dir)]);
        mount
    }

    fn at(scratch: &Path) -> Self {
        let dir = scratch.join("mount");
        fs::create_dir_all(&dir).expect("the scratch directory is ours");
        Self { dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        insist(&["umount", text(&self.dir)]);
    }
}

/// An ext4 on a device whose writes fail while a marker file exists. nbdkit serves the
/// device, and nbdfuse shows it as a file.
#[derive(Debug)]
pub(crate) struct FaultyDevice {
    scratch: PathBuf,
    /// Dropped first: the mount, the loop device, then the process behind them.
    mount: Option<Mount>,
    device: String,
    nbdfuse: Child,
}

impl FaultyDevice {
    /// The missing tools.
    fn missing() -> Vec<&'static str> {
        let tools = ["nbdkit", "nbdfuse", "fusermount3", "mkfs.ext4", "losetup"];
        let is_missing = |tool: &&str| match *tool {
            "mkfs.ext4" => Command::new(tool).arg("-V").output().is_err(),
            tool => !is_there(tool),
        };
        let mut missing: Vec<_> = tools.into_iter().filter(is_missing).collect();
        missing.extend((!Path::new("/dev/fuse").exists()).then_some("/dev/fuse"));
        missing
    }

    /// Whether the test `name` is to go on: the tools are there, and it runs in a mount
    /// namespace of its own ([`inside`]).
    pub(crate) fn is_ready(name: &str) -> bool {
        let missing = Self::missing();
        if !missing.is_empty() {
            println!("SKIPPED: {name}: missing {missing:?}");
            return false;
        }
        inside(name, Rights::Root)
    }

    pub(crate) fn new(scratch: &Path) -> Self {
        let file = scratch.join("device");
        fs::write(&file, b"").expect("the scratch directory is ours");
        let inject = format!("error-pwrite-file={}", text(&scratch.join("INJECT")));
        let nbdfuse = Command::new("nbdfuse")
            .arg(&file)
            .args(["--command", "nbdkit", "-s", "--exit-with-parent", "--filter=error"])
            .args(["memory", "64M", "error-pwrite=EIO", "error-pwrite-rate=100%", &inject])
            // It reports each injected error.
            .stderr(Stdio::null())
            .spawn()
            .expect("nbdfuse starts");
        let scratch = scratch.to_path_buf();
        let device = String::new();
        let mut faulty = Self { scratch, mount: None, device, nbdfuse };
        let began = Instant::now();
        while fs::metadata(&file).expect("it is there").len() == 0 {
            assert!(began.elapsed() < LIMIT, "nbdfuse shows no device");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        run(&["mkfs.ext4", "-q", "-F", text(&file)]);
        faulty.device = run(&["losetup", "-f", "--show", text(&file)]);
        faulty.mount();
        faulty
    }

    fn mount(&mut self) {
        let mount = Mount::at(&self.scratch);
        run(&["mount", &self.device, text(mount.dir())]);
        self.mount = Some(mount);
    }

    /// Remounts, so that the page cache holds nothing of the file system.
    pub(crate) fn mount_again(&mut self) {
        self.mount = None;
        self.mount();
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.mount.as_ref().expect("it is mounted").dir().join("log")
    }

    /// Makes writes to the device fail from now on, or succeed.
    pub(crate) fn set_failing(&self, failing: bool) {
        let file = self.scratch.join("INJECT");
        let done = if failing { fs::write(file, b"") } else { fs::remove_file(file) };
        done.expect("the scratch directory is ours");
    }
}

impl Drop for FaultyDevice {
    fn drop(&mut self) {
        fs::remove_file(self.scratch.join("INJECT")).ok();
        self.mount = None;
        if !self.device.is_empty() {
            insist(&["losetup", "-d", &self.device]);
        }
        insist(&["fusermount3", "-u", text(&self.scratch.join("device"))]);
        self.nbdfuse.wait().ok();
    }
}
