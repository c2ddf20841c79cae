//! The state of one simulated machine: its tree of names, its files and its free space.
//!
//! This file knows no lock. Of handles it knows the number. [`super::SimFileSystem`] keeps
//! the machine behind a mutex.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::content::{Content, PAGE_BYTES, SECTOR_BYTES};
use super::faults::Faults;
use super::names::{Directory, Node, names_of, parent_and_name};

pub(super) const ROOT: u64 = 0;
/// Where the clock begins: on 2001-09-09.
const CLOCK_START: Duration = Duration::from_secs(1_000_000_000);

/// The settings, which survive a restart.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub(super) capacity_bytes: Option<u64>,
    pub(super) sync_latency: Duration,
    pub(super) copy_on_write: bool,
    pub(super) copies_need_room: bool,
    pub(super) counts_links: bool,
    pub(super) direct_io_alignment: Option<usize>,
    /// The clock: time since 1970.
    pub(super) clock: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            capacity_bytes: None,
            sync_latency: Duration::ZERO,
            copy_on_write: false,
            copies_need_room: false,
            counts_links: true,
            direct_io_alignment: Some(SECTOR_BYTES),
            clock: CLOCK_START,
        }
    }
}

/// A simulated machine.
pub(super) struct Machine {
    pub(super) settings: Settings,
    pub(super) faults: Faults,
    /// Set once, by a power loss or the death of the process. Every later call fails.
    /// The state remains, so that a test can derive any number of crashes from it.
    pub(super) dead: bool,
    pub(super) directories: BTreeMap<u64, Arc<Directory>>,
    /// Number of handles of each open directory. It exists while it has one, even
    /// without a name.
    pub(super) open_directories: BTreeMap<u64, usize>,
    pub(super) files: BTreeMap<u64, File>,
    pub(super) next_id: u64,
}

/// A file, with or without a name.
#[derive(Clone, Default)]
pub(super) struct File {
    content: Arc<Content>,
    /// When its content was last changed. A power loss keeps it.
    pub(super) modified: Duration,
    /// Number of its live names. A crash that kept half of a rename leaves two.
    pub(super) names: usize,
    pub(super) handles: usize,
    pub(super) locked: bool,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self {
            settings: Settings::default(),
            faults: Faults::default(),
            dead: false,
            directories: BTreeMap::from([(ROOT, Arc::default())]),
            open_directories: BTreeMap::new(),
            files: BTreeMap::new(),
            next_id: ROOT + 1,
        }
    }

    /// The target of `path`, resolved from the directory `base`.
    pub(super) fn find(&self, base: u64, path: &Path) -> io::Result<Node> {
        self.find_names(base, &names_of(path)?)
    }

    fn find_names(&self, base: u64, names: &[&str]) -> io::Result<Node> {
        let mut node = Node::Directory(base);
        for name in names {
            let next = self.get(as_directory(node)?, name);
            node = next.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    pub(super) fn find_file(&self, base: u64, path: &Path) -> io::Result<u64> {
        match self.find(base, path)? {
            Node::File(id) => Ok(id),
            Node::Directory(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn find_directory(&self, base: u64, path: &Path) -> io::Result<u64> {
        as_directory(self.find(base, path)?)
    }

    /// The parent directory of `path`, and the last component. `path` itself need not
    /// exist.
    pub(super) fn find_parent<'path>(
        &self,
        base: u64,
        path: &'path Path,
    ) -> io::Result<(u64, &'path str)> {
        let (parents, name) = parent_and_name(path)?;
        let parent = self.find_names(base, &parents)?;
        Ok((as_directory(parent)?, name))
    }

    pub(super) fn get(&self, directory: u64, name: &str) -> Option<Node> {
        self.directories[&directory].get(name)
    }

    pub(super) fn set(&mut self, directory: u64, name: &str, node: Option<Node>) {
        let before = self.directory_mut(directory).set(name, node);
        self.count_names(before, node);
    }

    pub(super) fn set_durably(&mut self, directory: u64, name: &str, node: Option<Node>) {
        let before = self.directory_mut(directory).set_durably(name, node);
        self.count_names(before, node);
    }

    fn count_names(&mut self, before: Option<Node>, after: Option<Node>) {
        if let Some(Node::File(id)) = after {
            self.file_mut(id).names += 1;
        }
        if let Some(Node::File(id)) = before {
            self.file_mut(id).names -= 1;
        }
    }

    pub(super) fn new_file(&mut self) -> Node {
        let id = self.new_id();
        self.files.insert(id, File { modified: self.settings.clock, ..File::default() });
        Node::File(id)
    }

    pub(super) fn new_directory(&mut self) -> Node {
        let id = self.new_id();
        self.directories.insert(id, Arc::default());
        Node::Directory(id)
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    pub(super) fn directory(&self, id: u64) -> &Directory {
        &self.directories[&id]
    }

    pub(super) fn directory_mut(&mut self, id: u64) -> &mut Directory {
        let directory = self.directories.get_mut(&id);
        Arc::make_mut(directory.expect("a directory that a path leads to"))
    }

    pub(super) fn file_mut(&mut self, id: u64) -> &mut File {
        let file = self.files.get_mut(&id);
        file.expect("a file that has a name or a handle")
    }

    pub(super) fn content(&self, file: u64) -> &Content {
        &self.files[&file].content
    }

    /// The content of a file, to change it now.
    pub(super) fn changed_content(&mut self, file: u64) -> &mut Content {
        self.file_mut(file).modified = self.settings.clock;
        self.content_mut(file)
    }

    pub(super) fn content_mut(&mut self, file: u64) -> &mut Content {
        Arc::make_mut(&mut self.file_mut(file).content)
    }
}

/// Handles and space.
impl Machine {
    /// Adds a handle to the file, with the lock if `lock` is true.
    pub(super) fn add_handle(&mut self, file: u64, lock: bool) -> io::Result<()> {
        let file = self.file_mut(file);
        if lock && file.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        file.locked |= lock;
        file.handles += 1;
        Ok(())
    }

    pub(super) fn remove_handle(&mut self, file: u64, lock: bool) {
        let file = self.file_mut(file);
        file.locked &= !lock;
        file.handles -= 1;
        if file.handles == 0 && file.names == 0 {
            self.forget_unreachable();
        }
    }

    /// Adds a handle to a directory.
    pub(super) fn open_directory(&mut self, id: u64) {
        *self.open_directories.entry(id).or_default() += 1;
    }

    pub(super) fn close_directory(&mut self, id: u64) {
        let handles = self.open_directories.entry(id).or_default();
        *handles -= 1;
        if *handles == 0 {
            self.open_directories.remove(&id);
            self.forget_unreachable();
        }
    }

    /// The number of live names of the target of `path`; 0 or 1 for a directory.
    pub(super) fn links(&self, base: u64, path: &Path) -> io::Result<u64> {
        Ok(match self.find(base, path)? {
            Node::File(id) => self.names_of_file(id) as u64,
            Node::Directory(id) => u64::from(self.is_named(id)),
        })
    }

    /// The number of live names of an open file.
    pub(super) fn names_of_file(&self, file: u64) -> usize {
        self.files[&file].names
    }

    fn is_named(&self, directory: u64) -> bool {
        let node = Node::Directory(directory);
        let mut parents = self.directories.iter();
        directory == ROOT || parents.any(|(_, parent)| parent.live().values().any(|it| *it == node))
    }

    /// Fails if the directory was removed: no name can be made in it.
    pub(super) fn check_named(&self, directory: u64) -> io::Result<()> {
        if self.is_named(directory) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Number of free pages. A file without a name occupies its pages until its last
    /// handle is closed.
    pub(super) fn free_pages(&self) -> u64 {
        let Some(capacity_bytes) = self.settings.capacity_bytes else {
            return u64::MAX;
        };
        let held = self.files.values().filter(|f| f.names + f.handles > 0);
        let allocated: u64 = held.map(|file| file.content.allocated()).sum();
        (capacity_bytes / PAGE_BYTES as u64).saturating_sub(allocated)
    }
}

pub(super) fn as_directory(node: Node) -> io::Result<u64> {
    match node {
        Node::Directory(id) => Ok(id),
        Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
    }
}
