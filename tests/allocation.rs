//! The append path allocates nothing per record in the steady state.
//!
//! The counter covers the whole process: the caller, the writer thread and the
//! housekeeping thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use shardwal::{Config, Durability, ShardedWal};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system allocator with unchanged arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // ORDERING: Relaxed; a count that is read after the fact.
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller upholds the contract of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of this call.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const RECORDS: u64 = 20_000;

fn append(log: &ShardedWal, payload: &Bytes) {
    for key in 0..RECORDS {
        let completion = log.append(key, payload.clone());
        if key % 500 == 0 {
            completion.wait().expect("it is acknowledged");
        }
    }
    log.flush().wait().expect("all is synced");
}

#[test]
fn appending_allocates_nothing_per_record_in_the_steady_state() {
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let payload = Bytes::from_static(&[7; 256]);
    for durability in [Durability::Sync, Durability::Buffered] {
        let dir = scratch.path().join(format!("{durability:?}"));
        let config = Config::new(dir).shards(2).durability(durability);
        let log = ShardedWal::open(config).unwrap();
        append(&log, &payload);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        append(&log, &payload);
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        println!("{durability:?}: {allocations} allocations for {RECORDS} records");
        // Zeroed windows and rolls allocate once per thousands of records, a waiter now
        // and then, and the queue for each of its records if it holds more than ever before: at
        // most about 1,000 here. One allocation per record would be 20,000.
        assert!(allocations < RECORDS / 10, "{durability:?}: {allocations} allocations");
    }
}
