//! A failed sync: what is lost, and what later syncs say.

use super::*;

/// `/a` holds a kilobyte of 1. Its first sector was overwritten with 2, and the
/// sync of that failed.
fn disk_with_a_failed_sync() -> (SimFileSystem, Box<dyn FileHandle>) {
    let fs = disk_with(&[1; 1024]);
    let mut file = open(&fs, "/a");
    file.write_at(&[2; 512], 0).expect("a write");
    fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
    let error = file.sync_data().expect_err("the planned error");
    assert_is(&error, EIO);
    (fs, file)
}

fn first_byte(fs: &SimFileSystem) -> u8 {
    fs.read_file("/a").expect("the file")[0]
}

#[test]
fn the_next_sync_lies_and_the_cache_shows_what_is_lost() {
    let (fs, mut file) = disk_with_a_failed_sync();
    assert_eq!(fs.unsynced(), 0);
    file.sync_data().unwrap();
    assert_eq!(first_byte(&fs), 2);
    assert_eq!(first_byte(&keep_all(&fs)), 1);
}

#[test]
fn the_next_process_is_fooled_as_well_until_it_drops_the_cache() {
    let (fs, _file) = disk_with_a_failed_sync();
    let after = fs.kill();
    assert_eq!(first_byte(&after), 2);
    let mut file = open(&after, "/a");
    file.sync_data().unwrap();
    let reader = after.open(path("/a"), OpenMode::Read).unwrap();
    reader.drop_cache();
    assert_eq!(after.read_file("/a").unwrap(), [1; 1024]);
}

#[test]
fn dropping_the_cache_leaves_dirty_sectors_alone() {
    let (fs, mut file) = disk_with_a_failed_sync();
    file.write_at(&[3; 512], 512).unwrap();
    file.drop_cache();
    let bytes = fs.read_file("/a").unwrap();
    assert_eq!((bytes[0], bytes[512]), (1, 3));
}

#[test]
fn a_sector_written_again_is_saved_by_the_next_sync() {
    let (fs, mut file) = disk_with_a_failed_sync();
    file.write_at(&[2; 512], 0).unwrap();
    assert_eq!(fs.unsynced(), 1);
    file.sync_data().unwrap();
    file.drop_cache();
    assert_eq!(first_byte(&fs), 2);
    assert_eq!(first_byte(&lose_all(&fs)), 2);
}

#[test]
fn another_sector_of_the_page_does_not_save_the_lost_one() {
    let (fs, mut file) = disk_with_a_failed_sync();
    file.write_at(&[3; 512], 512).unwrap();
    file.sync_data().unwrap();
    let bytes = lose_all(&fs).read_file("/a").unwrap();
    assert_eq!((bytes[0], bytes[512]), (1, 3));
}

#[test]
fn a_new_length_stays_unsynced_and_then_covers_zeros() {
    let fs = disk_with(b"");
    let mut file = open(&fs, "/a");
    file.write_at(&[2; 600], 0).unwrap();
    fs.fail(Fault::new(Call::Sync, 1, FaultKind::Error(EIO)));
    file.sync_data().unwrap_err();
    assert_eq!(fs.unsynced(), 1);
    file.sync_data().unwrap();
    assert_eq!(fs.read_file("/a").unwrap(), [2; 600]);
    file.drop_cache();
    assert_eq!(fs.read_file("/a").unwrap(), [0; 600]);
    assert_eq!(lose_all(&fs).read_file("/a").unwrap(), [0; 600]);
}

#[test]
fn a_cut_of_lost_sectors_is_a_cut() {
    let (fs, mut file) = disk_with_a_failed_sync();
    file.set_len(100).unwrap();
    file.drop_cache();
    file.set_len(1024).unwrap();
    let bytes = fs.read_file("/a").unwrap();
    assert_eq!(bytes[100..], [0; 924]);
    file.sync_data().unwrap();
    assert_eq!(lose_all(&fs).read_file("/a").unwrap(), bytes);
}

#[test]
fn a_failed_sync_of_a_directory_keeps_its_names_unsynced() {
    let fs = SimFileSystem::new();
    create(&fs, "/a");
    fs.fail(Fault::new(Call::SyncDir, 1, FaultKind::Error(EIO)));
    fs.sync_dir(path("/")).unwrap_err();
    assert_eq!(fs.unsynced(), 1);
}
