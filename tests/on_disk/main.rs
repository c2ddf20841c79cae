//! What stands on the disk, byte by byte: the format, damage to it, what reads
//! it, what repairs it.

#[path = "../raw/mod.rs"]
mod raw;

mod forged_bytes;
mod format;
mod hostile_bytes;
mod misplaced_files;
mod reader_beside_a_writer;
mod repair;
mod repair_counter_examples;
mod repair_histories;
mod serde;
mod truncation_power_loss;
mod unreadable;
