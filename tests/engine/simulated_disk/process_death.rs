//! What a killed process leaves.

use super::*;

#[test]
fn a_killed_process_leaves_its_writes_in_the_cache() {
    let fs = SimFileSystem::new();
    let mut file = create(&fs, "/a");
    file.write_at(b"x", 0).unwrap();
    let unsynced = fs.unsynced();
    let after = fs.kill();
    assert_dead(file.write_at(b"y", 0));
    assert_dead(fs.list(path("/")));
    assert_eq!(after.read_file("/a").unwrap(), b"x");
    assert_eq!(after.unsynced(), unsynced);
    open(&after, "/a").sync_data().unwrap();
    after.sync_dir(path("/")).unwrap();
    assert_eq!(lose_all(&after).read_file("/a").unwrap(), b"x");
}

#[test]
fn a_killed_process_leaves_a_removal_unsynced() {
    let fs = disk_with(b"x");
    let _file = open(&fs, "/a");
    fs.unlink(path("/a")).unwrap();
    let after = fs.kill();
    assert!(after.files().is_empty());
    assert_eq!(lose_all(&after).read_file("/a").unwrap(), b"x");
}

#[test]
fn a_lock_is_exclusive_and_ends_with_its_file_the_process_or_the_power() {
    let fs = SimFileSystem::with_dir("/w");
    let at = path("/w/lock");
    assert_eq!(kind(fs.lock(path("/x/lock"))), ErrorKind::NotFound);
    assert_eq!(kind(fs.lock(path("/w"))), ErrorKind::IsADirectory);
    let mut lock = fs.lock(at).unwrap();
    lock.write_at(b"pid", 0).unwrap();
    assert_eq!(kind(fs.clone().lock(at)), ErrorKind::WouldBlock);
    drop(open(&fs, "/w/lock"));
    assert_eq!(kind(fs.lock(at)), ErrorKind::WouldBlock);
    drop(lock);
    let lock = fs.lock(at).unwrap();
    assert_eq!(lock.len().unwrap(), 3, "a lock keeps the file's bytes");

    let after = fs.kill();
    let _lock = after.lock(at).unwrap();
    assert_eq!(kind(after.lock(at)), ErrorKind::WouldBlock);
    drop(lock);
    assert_eq!(kind(after.lock(at)), ErrorKind::WouldBlock);
    let after = keep_all(&after);
    let _lock = after.lock(at).unwrap();
    assert!(lose_all(&fs).files().is_empty());
}
