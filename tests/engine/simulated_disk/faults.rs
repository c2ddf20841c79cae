//! Planned faults of calls.

use super::*;

#[test]
fn every_call_can_fail_and_then_does_nothing() {
    let fs = SimFileSystem::with_dir("/w");
    let mut file = create(&fs, "/w/a");
    file.write_at(b"x", 0).unwrap();
    let mut armed = 0;
    let mut arm = |call| {
        armed += 1;
        fs.fail(Fault::new(call, 1, FaultKind::Error(EIO)));
    };
    macro_rules! fails {
        ($call:ident, $act:expr) => {
            arm(Call::$call);
            assert_is(&$act.err().unwrap(), EIO);
        };
    }
    fails!(Open, fs.open(path("/w/b"), OpenMode::CreateNew));
    fails!(CreateDir, fs.create_dir(path("/x")));
    fails!(List, fs.list(path("/w")));
    fails!(SyncDir, fs.sync_dir(path("/w")));
    fails!(Rename, fs.rename(path("/w/a"), path("/w/b")));
    fails!(Unlink, fs.unlink(path("/w/a")));
    fails!(RemoveDir, fs.remove_dir(path("/w")));
    fails!(Lock, fs.lock(path("/w/lock")));
    fails!(Read, file.read_at(&mut [0], 0));
    fails!(Write, file.write_at(b"y", 0));
    fails!(Sync, file.sync_data());
    fails!(SetLen, file.set_len(0));
    fails!(Len, file.len());
    fails!(Any, file.len());
    assert_eq!(fs.fired(), armed);
    assert_eq!(fs.list(path("/")).unwrap(), ["w"]);
    assert_eq!(fs.files(), [PathBuf::from("/w/a")]);
    assert_eq!(fs.read_file("/w/a").unwrap(), b"x");
}

#[test]
fn a_fault_waits_for_its_call_its_path_and_its_turn() {
    let fs = disk_with(b"x");
    fs.write_file("/b", b"y");
    fs.fail(Fault {
        path_contains: Some("b".into()),
        ..Fault::new(Call::Len, 2, FaultKind::Error(EIO))
    });
    let (a, b) = (open(&fs, "/a"), open(&fs, "/b"));
    b.len().unwrap();
    a.len().unwrap();
    a.len().unwrap();
    b.read_at(&mut [0], 0).unwrap();
    assert_eq!(fs.fired(), 0);
    b.len().unwrap_err();
    b.len().unwrap();
    assert_eq!(fs.fired(), 1);

    fs.fail(Fault {
        path_contains: Some("/c".into()),
        ..Fault::new(Call::Rename, 1, FaultKind::Error(EIO))
    });
    fs.rename(path("/a"), path("/c")).unwrap_err();
}

#[test]
fn a_sticky_fault_fires_until_it_is_cleared() {
    let fs = disk_with(b"x");
    let file = open(&fs, "/a");
    fs.fail(Fault { sticky: true, ..Fault::new(Call::Len, 2, FaultKind::Error(EIO)) });
    file.len().unwrap();
    file.len().unwrap_err();
    file.len().unwrap_err();
    fs.clear_faults();
    file.len().unwrap();
    assert_eq!(fs.fired(), 2);
    assert_eq!(fs.calls(Call::Len), 4);
    assert_eq!(fs.calls(Call::Open), 1);
    assert_eq!(fs.calls(Call::Any), 5);
}

#[test]
fn two_faults_due_at_one_call_fire_one_after_the_other() {
    let fs = disk_with(b"x");
    let file = open(&fs, "/a");
    for errno in [EIO, 28] {
        fs.fail(Fault::new(Call::Len, 1, FaultKind::Error(errno)));
    }
    assert_is(&file.len().unwrap_err(), EIO);
    assert_is(&file.len().unwrap_err(), ENOSPC);
    file.len().unwrap();
}

#[test]
fn a_short_transfer_moves_about_half_and_never_nothing() {
    let fs = disk_with(b"");
    let mut file = open(&fs, "/a");
    fs.fail(Fault { sticky: true, ..Fault::new(Call::Any, 1, FaultKind::Short) });
    assert_eq!(file.len().unwrap(), 0, "only reads and writes match");
    assert_eq!(fs.fired(), 0);
    assert_eq!(file.write_at(&[1; 100], 0).unwrap(), 50);
    assert_eq!(file.write_at(&[1; 2], 0).unwrap(), 1);
    assert_eq!(file.write_at(&[1; 1], 0).unwrap(), 1);
    assert_eq!(file.read_at(&mut [0; 20], 0).unwrap(), 10);
    assert_eq!(fs.fired(), 4);
    assert_eq!(fs.read_file("/a").unwrap(), [1; 50]);
}

#[test]
fn a_power_cut_comes_before_the_call_takes_effect() {
    let fs = disk_with(b"old");
    let mut file = open(&fs, "/a");
    fs.fail(Fault::new(Call::Write, 1, FaultKind::PowerCut));
    assert_dead(file.write_at(b"new", 0));
    assert_dead(file.len());
    assert_dead(fs.list(path("/")));
    assert_eq!(fs.calls(Call::Any), 2, "a dead machine counts no calls");
    assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"old");

    let fs = disk_with(b"old");
    let mut file = open(&fs, "/a");
    file.write_at(b"new", 0).unwrap();
    fs.fail(Fault::new(Call::Sync, 1, FaultKind::PowerCut));
    assert_dead(file.sync_data());
    assert_eq!(lose_all(&fs).read_file("/a").unwrap(), b"old");
    assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"new");
    assert_eq!(fs.kill().read_file("/a").unwrap(), b"new");
}

#[test]
fn a_torn_power_cut_leaves_half_of_the_write_in_the_cache() {
    let fs = disk_with(b"");
    let mut file = open(&fs, "/a");
    fs.fail(Fault::new(Call::Any, 1, FaultKind::TornPowerCut));
    assert_dead(file.write_at(&[1; 2048], 0));
    assert_dead(file.len());
    assert_eq!(keep_all(&fs).read_file("/a").unwrap(), [1; 1024]);
    assert_eq!(lose_all(&fs).read_file("/a").unwrap(), b"");

    let fs = disk_with(b"x");
    fs.fail(Fault::new(Call::Any, 1, FaultKind::TornPowerCut));
    assert_dead(fs.unlink(path("/a")));
    assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"x");
}

#[test]
fn a_planned_panic_leaves_the_disk_usable() {
    let fs = disk_with(b"x");
    let mut file = open(&fs, "/a");
    fs.fail(Fault::new(Call::Write, 1, FaultKind::Panic));
    let write = AssertUnwindSafe(|| file.write_at(b"y", 0));
    assert!(panic::catch_unwind(write).is_err());
    assert_eq!(fs.read_file("/a").unwrap(), b"x");
    assert_eq!(fs.fired(), 1);
    file.write_at(b"y", 0).unwrap();
}

#[test]
fn a_write_back_makes_all_durable_before_the_call() {
    let fs = disk_with(b"");
    let mut file = open(&fs, "/a");
    file.write_at(b"rolled back", 0).unwrap();
    create(&fs, "/b");
    fs.fail(Fault::new(Call::SetLen, 1, FaultKind::WriteBack));
    file.set_len(0).unwrap();
    let after = lose_all(&fs);
    assert_eq!(after.read_file("/a").unwrap(), b"rolled back");
    assert_eq!(after.read_file("/b").unwrap(), b"");
    assert_eq!(keep_all(&fs).read_file("/a").unwrap(), b"");
}

#[test]
fn the_next_machine_starts_without_faults_and_counts() {
    let fs = disk_with(b"x");
    fs.set_capacity(Some(4096));
    fs.fail(Fault::new(Call::Open, 1, FaultKind::Error(EIO)));
    fs.open(path("/a"), OpenMode::Read).unwrap_err();
    fs.fail(Fault::new(Call::Open, 1, FaultKind::Error(EIO)));
    for after in [fs.kill(), keep_all(&fs)] {
        assert_eq!((after.fired(), after.calls(Call::Any)), (0, 0));
        let mut file = open(&after, "/a");
        let full = file.write_at(&[1; 10], 4096);
        assert_eq!(kind(full), ErrorKind::StorageFull);
    }
}
