//! Corruption of bytes at rest.

use super::*;

#[test]
fn a_file_put_there_or_taken_away_by_hand_is_durable() {
    let fs = SimFileSystem::new();
    fs.write_file("/w/s/a", &[7; 5000]);
    assert_eq!(fs.unsynced(), 0);
    assert_eq!(fs.read_file("/w/s/a").unwrap(), [7; 5000]);
    let file = open(&fs, "/w/s/a");
    fs.write_file("/w/s/a", b"short");
    assert_eq!(file.len().unwrap(), 5);
    let after = lose_all(&fs);
    assert_eq!(after.read_file("/w/s/a").unwrap(), b"short");
    after.remove_file("/w/s/a");
    assert_eq!(after.unsynced(), 0);
    assert_eq!(after.read_file("/w/s/a"), None);
    assert!(lose_all(&after).files().is_empty());
    assert_eq!(after.calls(Call::Any), 0);
}

#[test]
fn the_disk_reports_whether_it_copies_on_write() {
    let fs = SimFileSystem::default();
    assert!(!fs.copy_on_write(path("/")));
    fs.set_copy_on_write(true);
    assert!(fs.copy_on_write(path("/")));
    assert!(format!("{fs:?} {:?}", create(&fs, "/a")).contains("/a"));
}
