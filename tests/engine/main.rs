//! Tests of the log through its public interface, mostly on the simulated file system.
//! One program, because a program per file costs the CI minutes of build time.

#[path = "../history/mod.rs"]
mod history;
#[path = "../support/mod.rs"]
mod support;

mod background;
mod backpressure;
mod backup;
mod batches;
mod caller_code;
mod checkpoints;
mod close;
mod close_by_task;
mod committing_thread;
mod counter_examples;
mod directory;
mod disk_failure;
mod disk_full;
mod durability;
mod fairness;
mod follow;
mod follow_files;
mod free_space_limits;
mod generations;
mod holds;
mod holds_power_loss;
mod inline_commit;
mod integrity;
mod no_room_at_open;
mod no_room_to_cut;
mod order;
mod own_checkpoint;
mod owned_handles;
mod passing_errors;
mod property;
mod recycled;
mod refusals;
mod replay;
mod retired_generations;
mod sealing;
mod simulated_disk;
mod snapshots;
mod truncation;
mod unsynced_segments;
