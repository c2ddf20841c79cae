//! Tests that take minutes. `cargo xtask faults` runs all of them, optimized; `cargo test`
//! runs the few that are not ignored. Tests with kernel faults are in `kernel/`.

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
