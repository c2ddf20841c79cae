//! The integration tests that drive the engine and its unsafe code, in one
//! program: building each by itself under AddressSanitizer takes minutes.

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "../tests/engine/backpressure.rs"]
mod backpressure;
#[path = "../tests/engine/batches.rs"]
mod batches;
#[path = "../tests/engine/close.rs"]
mod close;
#[path = "../tests/engine/disk_failure.rs"]
mod disk_failure;
#[path = "../tests/engine/disk_full.rs"]
mod disk_full;
#[path = "../tests/engine/durability.rs"]
mod durability;
#[path = "../tests/engine/generations.rs"]
mod generations;
#[path = "../tests/engine/order.rs"]
mod order;
#[path = "../tests/engine/replay.rs"]
mod replay;
#[path = "../tests/engine/truncation.rs"]
mod truncation;
