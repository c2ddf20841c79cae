//! Free space and slow calls.

use super::*;

#[test]
fn a_full_disk_takes_what_fits_and_then_nothing() {
    let fs = SimFileSystem::new();
    fs.set_capacity(Some(3 * 4096));
    let mut a = create(&fs, "/a");
    let mut b = create(&fs, "/b");
    assert_eq!(a.write_at(&[1; 10], 0).unwrap(), 10);
    assert_eq!(b.write_at(&[1; 10_000], 100).unwrap(), 8092);
    let full = b.write_at(&[1; 10], 8192);
    assert_eq!(kind(full), ErrorKind::StorageFull);
    assert_eq!(a.write_at(&[2; 4096], 0).unwrap(), 4096);
    assert_eq!(b.write_at(&[2; 8192], 0).unwrap(), 8192);
    assert_eq!(a.len().unwrap(), 4096);
    assert_eq!(b.len().unwrap(), 8192);
}

#[test]
fn holes_take_no_space_and_cuts_and_removals_give_it_back() {
    let fs = SimFileSystem::new();
    fs.set_capacity(Some(2 * 4096));
    let mut a = create(&fs, "/a");
    a.set_len(1 << 40).unwrap();
    assert_eq!(a.write_at(&[1; 8192], 1 << 30).unwrap(), 8192);
    assert_eq!(kind(a.write_at(&[1], 0)), ErrorKind::StorageFull);
    a.set_len((1 << 30) + 4096).unwrap();
    assert_eq!(a.write_at(&[1], 0).unwrap(), 1);

    let mut b = create(&fs, "/b");
    assert_eq!(kind(b.write_at(&[1], 0)), ErrorKind::StorageFull);
    fs.unlink(path("/a")).unwrap();
    let held = b.write_at(&[1], 0);
    assert_eq!(kind(held), ErrorKind::StorageFull, "a handle holds it");
    drop(a);
    assert_eq!(b.write_at(&[1; 8192], 0).unwrap(), 8192);
    assert_eq!(kind(b.write_at(&[1], 8192)), ErrorKind::StorageFull);
    fs.write_file("/b", b"small");
    assert_eq!(b.write_at(&[1], 4096).unwrap(), 1);
    fs.set_capacity(None);
    assert_eq!(b.write_at(&[1; 99_999], 0).unwrap(), 99_999);
}

#[test]
fn a_crash_counts_the_space_anew() {
    let fs = disk_with(&[1; 4096]);
    fs.set_capacity(Some(2 * 4096));
    let mut file = open(&fs, "/a");
    file.write_at(&[1; 4096], 4096).unwrap();
    let after = lose_all(&fs);
    let mut file = open(&after, "/a");
    assert_eq!(file.write_at(&[2; 9000], 4096).unwrap(), 4096);
}

#[test]
fn syncs_of_two_files_take_their_time_side_by_side() {
    const LATENCY: Duration = Duration::from_millis(200);
    let fs = SimFileSystem::new();
    fs.set_sync_latency(LATENCY);
    let begun = Instant::now();
    thread::scope(|scope| {
        for at in ["/a", "/b", "/c", "/d"] {
            let mut file = create(&fs, at);
            scope.spawn(move || file.sync_data().unwrap());
        }
    });
    assert!(begun.elapsed() >= LATENCY);
    assert!(begun.elapsed() < 4 * LATENCY, "{:?}", begun.elapsed());
}

#[test]
fn a_sync_that_the_power_overtakes_fails() {
    let fs = disk_with(b"old");
    fs.set_sync_latency(Duration::from_millis(200));
    let mut file = open(&fs, "/a");
    file.write_at(b"new", 0).unwrap();
    let after = thread::scope(|scope| {
        let sync = scope.spawn(move || file.sync_data());
        while fs.calls(Call::Sync) == 0 {
            thread::yield_now();
        }
        let after = lose_all(&fs);
        assert_dead(sync.join().unwrap());
        after
    });
    assert_eq!(after.read_file("/a").unwrap(), b"old");
}
