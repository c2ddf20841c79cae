//! What stands on the disk, byte by byte: the format, damage to it, what reads
//! it, what repairs it.

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
