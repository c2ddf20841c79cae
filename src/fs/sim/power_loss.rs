//! What survives: a sync of everything, the death of the process, and a power loss.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::faults::Faults;
use super::machine::{File, Machine, ROOT};
use super::names::{Directory, Node};

/// Every target that a name has, or may have after a crash, in the order in which a
/// crash asks about them.
#[derive(Default)]
struct Reachable {
    directories: Vec<u64>,
    files: Vec<u64>,
    seen: BTreeSet<u64>,
}

impl Reachable {
    fn add(&mut self, node: Node, directories: &BTreeMap<u64, Arc<Directory>>) {
        match node {
            Node::File(id) if self.seen.insert(id) => self.files.push(id),
            Node::Directory(id) if self.seen.insert(id) => {
                self.directories.push(id);
                for node in directories[&id].possible() {
                    self.add(node, directories);
                }
            }
            Node::File(_) | Node::Directory(_) => {}
        }
    }
}

impl Machine {
    pub(super) fn unsynced(&self) -> usize {
        let reachable = self.reachable();
        let names = reachable.directories.iter();
        let files = reachable.files.iter();
        names.map(|id| self.directories[id].unsynced()).sum::<usize>()
            + files.map(|id| self.content(*id).unsynced()).sum::<usize>()
    }

    /// Makes everything durable, as the operating system may do at any time.
    pub(super) fn write_back(&mut self) {
        let reachable = self.reachable();
        for id in reachable.directories {
            self.directory_mut(id).sync();
        }
        for id in reachable.files {
            self.content_mut(id).sync();
        }
    }

    /// A copy of this machine for another process. Everything live stays live.
    pub(super) fn after_kill(&self) -> Self {
        let mut after = Self {
            settings: self.settings,
            faults: Faults::default(),
            dead: false,
            directories: self.directories.clone(),
            open_directories: BTreeMap::new(),
            files: self.files.clone(),
            next_id: self.next_id,
        };
        for file in after.files.values_mut() {
            file.handles = 0;
            file.locked = false;
        }
        after.forget_unreachable();
        after
    }

    /// Loses the power. No handle may be open. Asks about the changes of names first,
    /// per directory, then about each file's length and sectors.
    pub(super) fn lose_power(&mut self, choice: &mut dyn FnMut() -> bool) {
        let reachable = self.reachable();
        for id in reachable.directories {
            if !self.directories[&id].is_durable() {
                self.directory_mut(id).lose_power(choice);
            }
        }
        for id in reachable.files {
            if !self.content(id).is_durable() {
                self.content_mut(id).lose_power(choice);
            }
            self.file_mut(id).names = 0;
        }
        self.forget_unreachable();
        for directory in self.directories.values() {
            for node in directory.live().values() {
                if let Some(file) = file_of(&mut self.files, *node) {
                    file.names += 1;
                }
            }
        }
    }

    fn reachable(&self) -> Reachable {
        let mut reachable = Reachable::default();
        reachable.add(Node::Directory(ROOT), &self.directories);
        reachable
    }

    /// Everything that a crash can restore, or that is open.
    fn held(&self) -> Reachable {
        let mut held = self.reachable();
        for id in self.open_directories.keys() {
            held.add(Node::Directory(*id), &self.directories);
        }
        held
    }

    /// Drops everything that no handle holds and no crash can restore.
    pub(super) fn forget_unreachable(&mut self) {
        let seen = self.held().seen;
        self.directories.retain(|id, _| seen.contains(id));
        self.files.retain(|id, file| file.handles > 0 || seen.contains(id));
    }
}

fn file_of(files: &mut BTreeMap<u64, File>, node: Node) -> Option<&mut File> {
    match node {
        Node::File(id) => files.get_mut(&id),
        Node::Directory(_) => None,
    }
}
