//! The integration tests that drive the engine and its unsafe code, in one
//! program: building each by itself under AddressSanitizer takes minutes.

#[path = "../tests/backpressure.rs"]
mod backpressure;
#[path = "../tests/batches.rs"]
mod batches;
#[path = "../tests/close.rs"]
mod close;
#[path = "../tests/disk_failure.rs"]
mod disk_failure;
#[path = "../tests/disk_full.rs"]
mod disk_full;
#[path = "../tests/durability.rs"]
mod durability;
#[path = "../tests/generations.rs"]
mod generations;
#[path = "../tests/order.rs"]
mod order;
#[path = "../tests/replay.rs"]
mod replay;
#[path = "../tests/storage.rs"]
mod storage;
#[path = "../tests/truncation.rs"]
mod truncation;
