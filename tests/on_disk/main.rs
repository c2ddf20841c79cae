//! Tests of the bytes on the disk: the format, corruption, readers and repair.

#[path = "../raw/mod.rs"]
mod raw;
#[path = "../second_opinion/mod.rs"]
mod second_opinion;
#[path = "../support/mod.rs"]
mod support;

mod forged_bytes;
mod format;
mod hard_links;
mod hostile_bytes;
mod misplaced_files;
mod reader_beside_a_writer;
mod repair;
mod repair_counter_examples;
mod repair_histories;
mod second_reader;
mod serde;
mod truncation_power_loss;
mod unreadable;
