//! Reads, writes and lengths of one file.

use super::*;

#[test]
fn a_write_is_read_back_and_lengthens_the_file() {
    let fs = SimFileSystem::new();
    let mut file = create(&fs, "/a");
    assert!(file.is_empty().unwrap());
    assert_eq!(file.write_at(b"hello", 5000).unwrap(), 5);
    assert_eq!(file.len().unwrap(), 5005);
    let mut bytes = [9; 16];
    assert_eq!(file.read_at(&mut bytes, 4995).unwrap(), 10);
    assert_eq!(&bytes[..10], b"\0\0\0\0\0hello");
    assert_eq!(file.read_at(&mut bytes, 5005).unwrap(), 0);
    assert_eq!(file.read_at(&mut bytes, u64::MAX).unwrap(), 0);
    assert_eq!(file.write_at(b"", 9000).unwrap(), 0);
    assert_eq!(file.len().unwrap(), 5005);
    assert_eq!(kind(file.write_at(b"ab", u64::MAX)), ErrorKind::FileTooLarge);
}

#[test]
fn each_open_mode_finds_or_creates_its_file() {
    let fs = SimFileSystem::with_dir("/wal");
    let at = path("/wal/a");
    assert_eq!(kind(fs.open(at, OpenMode::Read)), ErrorKind::NotFound);
    assert_eq!(kind(fs.open(at, OpenMode::Write)), ErrorKind::NotFound);
    create(&fs, "/wal/a").write_at(b"x", 0).unwrap();
    let again = fs.open(at, OpenMode::CreateNew);
    assert_eq!(kind(again), ErrorKind::AlreadyExists);
    let lost = fs.open(path("/no/a"), OpenMode::CreateNew);
    assert_eq!(kind(lost), ErrorKind::NotFound);
    let through = fs.open(path("/wal/a/b"), OpenMode::CreateNew);
    assert_eq!(kind(through), ErrorKind::NotADirectory);
    let directory = fs.open(path("/wal"), OpenMode::Read);
    assert_eq!(kind(directory), ErrorKind::IsADirectory);
    let directory = fs.open(path("/wal"), OpenMode::CreateNew);
    assert_eq!(kind(directory), ErrorKind::AlreadyExists);
    let above = fs.open(path("/wal/../a"), OpenMode::Read);
    assert_eq!(kind(above), ErrorKind::InvalidInput);
}

#[test]
fn a_file_opened_for_reading_cannot_be_changed() {
    let fs = disk_with(b"x");
    let mut file = fs.open(path("/a"), OpenMode::Read).unwrap();
    assert_eq!(kind(file.write_at(b"y", 0)), ErrorKind::PermissionDenied);
    assert_eq!(kind(file.set_len(0)), ErrorKind::PermissionDenied);
    file.sync_data().unwrap();
    assert_eq!(fs.read_file("/a").unwrap(), b"x");
}

#[test]
fn a_file_cut_and_lengthened_reads_zeros() {
    let fs = disk_with(&[7; 9000]);
    let mut file = open(&fs, "/a");
    file.set_len(700).unwrap();
    file.set_len(9000).unwrap();
    let mut expected = vec![7; 700];
    expected.resize(9000, 0);
    assert_eq!(fs.read_file("/a").unwrap(), expected);
    file.sync_data().unwrap();
    assert_eq!(lose_all(&fs).read_file("/a").unwrap(), expected);
}

#[test]
fn an_unlinked_file_is_usable_until_its_handles_are_gone() {
    let fs = disk_with(b"old");
    let mut file = open(&fs, "/a");
    fs.unlink(path("/a")).unwrap();
    fs.sync_dir(path("/")).unwrap();
    file.write_at(b"new", 0).unwrap();
    let mut bytes = [0; 3];
    file.read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"new");
    assert_eq!(fs.unsynced(), 0, "nothing can name the file");
    create(&fs, "/a").write_at(b"other", 0).unwrap();
    assert_eq!(file.len().unwrap(), 3);
}

#[test]
fn two_handles_see_one_file_even_after_a_rename() {
    let fs = disk_with(b"old");
    let reader = open(&fs, "/a");
    fs.rename(path("/a"), path("/b")).unwrap();
    open(&fs, "/b").write_at(b"new", 0).unwrap();
    let mut bytes = [0; 3];
    reader.read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"new");
}
