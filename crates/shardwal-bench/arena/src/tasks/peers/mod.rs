//! The logs that tasks append to, one file each.

pub mod camus;
pub mod channels;
pub mod mutex_wakers;
pub mod shardwal;
pub mod upkeep;
pub mod writeahead;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file of a design without segments: a zero-filled file, written from its beginning.
struct ZeroedFile {
    file: File,
    end: u64,
}

impl ZeroedFile {
    fn create(dir: &Path, zeroed: u64) -> Self {
        let file = File::create_new(dir.join("log")).expect("a new file in the scratch directory");
        let zeros = vec![0; 1 << 20];
        for at in (0..zeroed).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).expect("the scratch disk takes a write");
        }
        file.sync_all().expect("the scratch disk syncs");
        Self { file, end: 0 }
    }

    /// Writes and syncs the bytes after those of the last call.
    fn append(&mut self, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.end).expect("the scratch disk takes a write");
        self.file.sync_data().expect("the scratch disk syncs");
        self.end += bytes.len() as u64;
    }
}
