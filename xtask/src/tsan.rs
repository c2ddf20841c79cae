//! Runs the library's tests and `engine` under ThreadSanitizer, with an instrumented std.
//!
//! An uninstrumented std would hide the order that its locks and channels make, and so
//! give false alarms. A race planted in the queue must be reported: else the run proves
//! nothing.

use crate::Result;
use crate::chroot::Chroot;

/// The race, and the tests that meet it.
const PLANTED: &str = "mutants/queue/value-published-relaxed.patch";
const RACING_TESTS: &str = "backpressure order batches";
const REPORT: &str = "WARNING: ThreadSanitizer";
/// The exit code of a program in which a race was seen.
const RACE: &str = "66";

pub(crate) fn run(arguments: &[String]) -> Result {
    let Some(mut chroot) = Chroot::open("tsan", arguments)? else { return Ok(()) };
    // The runtime must be of rustc's own LLVM.
    let asked = chroot.script("rustc -vV | sed -n 's/^LLVM version: \\([0-9]*\\).*/\\1/p'")?.1;
    let llvm = asked.trim();
    let packages = format!("clang-{llvm} libclang-rt-{llvm}-dev llvm-{llvm}");
    if !chroot.add("tsan", "", &packages)? {
        return chroot.finish("tsan");
    }
    let test = format!(
        "export RUSTFLAGS='-Zsanitizer=thread -Zexternal-clangrt -Clinker=clang-{llvm} \
            -Clink-arg=-fsanitize=thread -Cunsafe-allow-abi-mismatch=sanitizer'
        export TSAN_OPTIONS='exitcode={RACE} external_symbolizer_path=/usr/bin/llvm-symbolizer-{llvm}'
        # Its reports name lines.
        export RUSTC_BOOTSTRAP=1 CARGO_PROFILE_DEV_DEBUG=line-tables-only
        cargo test -Zbuild-std --target x86_64-unknown-linux-gnu --all-features"
    );
    chroot.step("the library's tests and engine", &format!("{test} --lib --test engine"))?;
    let planted = format!("patch -p1 <{PLANTED}; {test} --test engine -- {RACING_TESTS} 2>&1 |
        tee /tmp/planted | grep -c '{REPORT}: data race'; grep -q 'exit status: {RACE}' /tmp/planted");
    let (is_seen, text) = chroot.script(&planted)?;
    if is_seen {
        println!(
            "ok      the planted race is reported: {} reports",
            text.lines().last().unwrap_or("0")
        );
    } else {
        println!("FAILED  the planted race is not reported\n{text}");
        chroot.fail();
    }
    chroot.copy_project()?;
    chroot.finish("tsan")
}

#[cfg(test)]
mod tests {
    use crate::tree;

    #[test]
    fn the_planted_race_and_the_tests_that_meet_it_exist() {
        assert!(tree::root().join(super::PLANTED).is_file());
        for module in super::RACING_TESTS.split(' ') {
            assert!(tree::root().join(format!("tests/engine/{module}.rs")).is_file(), "{module}");
        }
    }
}
