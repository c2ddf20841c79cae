//! Runs the programs of `examples/`.

#[path = "../examples/append_and_replay.rs"]
mod append_and_replay;
#[path = "../examples/applied.rs"]
mod applied;
#[path = "../examples/snapshots.rs"]
mod snapshots;

#[test]
fn append_and_replay_runs() {
    append_and_replay::main().expect("the example succeeds");
}

#[test]
fn applied_runs() {
    applied::main().expect("the example succeeds");
}

#[test]
fn snapshots_runs() {
    snapshots::main().expect("the example succeeds");
}
