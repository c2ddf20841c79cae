//! What takes minutes: `cargo faults` runs all of it, optimised, `cargo test`
//! the little that is not ignored. The kernel's faults are in `kernel/`.

#[path = "../raw/mod.rs"]
mod raw;
#[path = "../second_opinion/mod.rs"]
mod second_opinion;
#[path = "../support/mod.rs"]
mod support;

mod every_bit;
mod explorer;
mod killed_process;
mod nth_call;
mod soak;
