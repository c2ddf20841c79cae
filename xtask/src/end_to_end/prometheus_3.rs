//! What `prometheus` does, with Prometheus 3 from Debian's sid, native histograms, remote write 2.0
//! and streamed chunks. The packages are unpacked into the part's folder, and not installed.

use std::fs;
use std::process::Command;

use super::prometheus::{Peer, run_with};
use super::{Done, Scene};
use crate::Result;
use crate::process::succeeds;

const SOURCE: &str = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] \
    http://deb.debian.org/debian sid main\n";

/// The packages, each with a program of its name.
const PACKAGES: [&str; 2] = ["prometheus", "promtool"];

pub(super) fn run(scene: &Scene) -> Result<Done> {
    if !unpack(scene)? {
        let why = "there is no Prometheus 3: its packages cannot be taken from Debian's sid";
        return Ok(Done::Skipped(why.into()));
    }
    let [prometheus, promtool] =
        PACKAGES.map(|name| scene.path(&format!("package/usr/bin/{name}")));
    let peer = Peer {
        prometheus,
        promtool,
        flags: &["--enable-feature=native-histograms"],
        // The queries want the buckets of classic histograms too.
        global: ", always_scrape_classic_histograms: true",
        remote_write: "  protobuf_message: io.prometheus.write.v2.Request\n  \
                       send_native_histograms: true\n",
        has_native_histograms: true,
    };
    run_with(scene, &peer)
}

/// Unpacks the packages into the folder `package`. False if that fails, or a program does not run.
fn unpack(scene: &Scene) -> Result<bool> {
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
    if !succeeds(apt_get().arg("update")) || !succeeds(apt_get().arg("download").args(PACKAGES)) {
        return Ok(false);
    }
    let folder = fs::read_dir(scene.path("."))?.filter_map(|entry| Some(entry.ok()?.path()));
    let packages =
        folder.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
    for package in packages {
        let into = scene.path("package");
        if !succeeds(Command::new("dpkg-deb").arg("-x").arg(package).arg(into)) {
            return Ok(false);
        }
    }
    let runs = |name: &str| {
        let program = scene.path(&format!("package/usr/bin/{name}"));
        succeeds(Command::new(program).arg("--version"))
    };
    Ok(PACKAGES.into_iter().all(runs))
}
