#!/usr/bin/env bash
# Guess: a loom model explores both outcomes of `try_recv` beside a `send` of another
# thread, as it does for a mutex around an `Option`.
# Behaviour: loom 0.7.3 explores one execution, in which `try_recv` finds nothing.
# `mpsc::Receiver::try_recv` on an empty channel is no point at which loom switches
# threads. A model that polls a channel therefore misses every race with its sender.
# The same model with a `Mutex<Option<_>>` has four executions, two of which find the
# value.
# Seen with loom 0.7.3, rustc 1.95.0: the two lines under "expected" below.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/src"
cat >"$dir/Cargo.toml" <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"

[dependencies]
loom = "=0.7.3"

[workspace]
TOML
cat >"$dir/src/main.rs" <<'RUST'
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;

static RUNS: AtomicUsize = AtomicUsize::new(0);
static FOUND: AtomicUsize = AtomicUsize::new(0);

fn explore(what: &str, model: impl Fn() -> bool + Send + Sync + 'static) {
    loom::model(move || {
        RUNS.fetch_add(1, Relaxed);
        FOUND.fetch_add(usize::from(model()), Relaxed);
    });
    println!("{what}: {} executions, {} found the value", RUNS.swap(0, Relaxed), FOUND.swap(0, Relaxed));
}

fn main() {
    explore("channel", || {
        let (sender, receiver) = loom::sync::mpsc::channel();
        let other = loom::thread::spawn(move || sender.send(7).unwrap());
        let found = receiver.try_recv().is_ok();
        other.join().unwrap();
        found
    });
    explore("mutex", || {
        let slot = Arc::new(loom::sync::Mutex::new(None));
        let theirs = slot.clone();
        let other = loom::thread::spawn(move || *theirs.lock().unwrap() = Some(7));
        let found = slot.lock().unwrap().take().is_some();
        other.join().unwrap();
        found
    });
}
RUST
seen=$(cd "$dir" && CARGO_TARGET_DIR="$dir/target" cargo run --quiet)
rustc --version
echo "$seen"
expected='channel: 1 executions, 0 found the value
mutex: 4 executions, 2 found the value'
[ "$seen" = "$expected" ]
