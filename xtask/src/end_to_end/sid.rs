//! Packages of Debian's sid, unpacked into the part's folder. They are not installed.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::Scene;
use crate::Result;
use crate::process::succeeds;

const SOURCE: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
    http://deb.debian.org/debian sid main\n";

/// Unpacks packages. Returns their programs, or `None` if one cannot be had or does not run.
pub(super) fn programs<const N: usize>(
    scene: &Scene,
    packages: &[&str],
    programs: [&str; N],
) -> Result<Option<[PathBuf; N]>> {
    fs::create_dir_all(scene.path("lists/partial"))?;
    fs::create_dir_all(scene.path("cache/archives/partial"))?;
    fs::write(scene.path("sid.list"), SOURCE)?;
    let apt_get = || {
        let mut command = Command::new("apt-get");
        for (option, file) in [
            ("Dir::Etc::sourcelist", scene.path("sid.list")),
            ("Dir::Etc::sourceparts", scene.path("none")),
            ("Dir::State::lists", scene.path("lists")),
            ("Dir::Cache", scene.path("cache")),
        ] {
            command.arg("-o").arg(format!("{option}={}", file.display()));
        }
        command.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none", "-qq"]);
        command.current_dir(scene.path("."));
        command
    };
    if !succeeds(apt_get().arg("update")) || !succeeds(apt_get().arg("download").args(packages)) {
        return Ok(None);
    }
    let folder = fs::read_dir(scene.path("."))?.filter_map(|entry| Some(entry.ok()?.path()));
    let packages =
        folder.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
    for package in packages {
        let into = scene.path("package");
        if !succeeds(Command::new("dpkg-deb").arg("-x").arg(package).arg(into)) {
            return Ok(None);
        }
    }
    let programs = programs.map(|name| scene.path(&format!("package/usr/bin/{name}")));
    let run = programs.iter().all(|program| succeeds(Command::new(program).arg("--version")));
    Ok(run.then_some(programs))
}
