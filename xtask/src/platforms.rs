//! Checks the library on other platforms, and runs tests on some of them.
//!
//! The unit tests run, and the golden files are read and written, on a 32-bit and on a
//! big-endian machine. The library's tests and `engine` run on Windows' interface, under wine.

use crate::Result;
use crate::chroot::Chroot;

/// A platform of Linux that Debian ships std for.
struct Linux {
    /// The name of its architecture in Debian.
    debian: &'static str,
    target: &'static str,
    packages: &'static str,
    /// The environment that its tests need.
    environment: &'static str,
}

const LINUX: [Linux; 2] = [
    Linux {
        debian: "i386",
        target: "i686-unknown-linux-gnu",
        packages: "libstd-rust-dev:i386 gcc-i686-linux-gnu libc6-dev-i386-cross",
        environment: "CARGO_TARGET_I686_UNKNOWN_LINUX_GNU_LINKER=i686-linux-gnu-gcc \
            LD_LIBRARY_PATH=/usr/i686-linux-gnu/lib",
    },
    Linux {
        debian: "s390x",
        target: "s390x-unknown-linux-gnu",
        packages: "libstd-rust-dev:s390x qemu-user gcc-s390x-linux-gnu libc6-dev-s390x-cross",
        environment: "CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER=s390x-linux-gnu-gcc \
            CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_RUNNER='qemu-s390x -L /usr/s390x-linux-gnu'",
    },
];

/// Platforms whose std is compiled from its source.
const OTHERS: [&str; 4] = [
    "x86_64-pc-windows-gnu",
    "aarch64-apple-darwin",
    "x86_64-unknown-freebsd",
    "aarch64-unknown-linux-gnu",
];

/// The linker wants two start objects that only rustc's own build makes. Empty ones do.
const WINDOWS_TESTS: &str = "\
    folder=$(rustc --print target-libdir --target x86_64-pc-windows-gnu); mkdir -p $folder
    for object in rsbegin rsend; do
        x86_64-w64-mingw32-gcc -c -x c /dev/null -o $folder/$object.o
    done
    export WINEDEBUG=-all CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUNNER=wine64 RUSTC_BOOTSTRAP=1
    wine64 wineboot -i
    cargo test -Zbuild-std --target x86_64-pc-windows-gnu --all-features \
        --lib --test engine --no-fail-fast";

pub(crate) fn run(arguments: &[String]) -> Result {
    let Some(mut chroot) = Chroot::open("platforms", arguments)? else { return Ok(()) };
    for Linux { debian, target, packages, environment } in LINUX {
        if !chroot.add(target, debian, packages)? {
            continue;
        }
        let check = format!("cargo check --lib --all-features --target {target}");
        chroot.step(&format!("check {target}"), &check)?;
        let test = format!("export {environment}; cargo test --all-features --target {target}");
        chroot.step(
            &format!("unit tests and golden files on {target}"),
            &format!(
                "{test} -p shardwal --lib; \
                {test} -p shardwal --test on_disk format::; \
                {test} -p shardwal-timeseries --test timeseries format::"
            ),
        )?;
    }
    for target in OTHERS {
        let check = "RUSTC_BOOTSTRAP=1 cargo check -Zbuild-std=std,panic_abort \
            --lib --all-features --target";
        chroot.step(&format!("check {target}"), &format!("{check} {target}"))?;
    }
    if chroot.add("tests under wine", "", "gcc-mingw-w64-x86-64-win32 wine64")? {
        chroot.step("tests under wine", WINDOWS_TESTS)?;
    }
    chroot.finish("platforms")
}
