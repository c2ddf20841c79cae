//! The names in one simulated directory, and the parsing of paths.
//!
//! This file does not know the bytes of files, nor other directories.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::path::{Component, Path};

/// The target of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(u64),
    Directory(u64),
}

/// One directory. A change of a name is live at once, and durable after a sync.
#[derive(Clone, Default)]
pub(super) struct Directory {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    /// The changes of each name since the last sync, oldest first; `None` is a removal.
    /// Sorted by name, so that the order of a crash's choices does not depend on the
    /// threads' order.
    unsynced: BTreeMap<String, Vec<Option<Node>>>,
}

impl Directory {
    pub(super) fn get(&self, name: &str) -> Option<Node> {
        self.live.get(name).copied()
    }

    pub(super) fn live(&self) -> &BTreeMap<String, Node> {
        &self.live
    }

    /// Every target that a name may have after a power loss.
    pub(super) fn possible(&self) -> impl Iterator<Item = Node> {
        let unsynced = self.unsynced.values().flatten().flatten();
        self.durable.values().chain(unsynced).copied()
    }

    /// Points the name to `node`, or removes it. Returns its earlier target.
    pub(super) fn set(&mut self, name: &str, node: Option<Node>) -> Option<Node> {
        self.unsynced.entry(name.to_owned()).or_default().push(node);
        replace(&mut self.live, name, node)
    }

    /// Changes the name like [`Directory::set`], durably.
    pub(super) fn set_durably(&mut self, name: &str, node: Option<Node>) -> Option<Node> {
        self.unsynced.remove(name);
        replace(&mut self.durable, name, node);
        replace(&mut self.live, name, node)
    }

    pub(super) fn is_durable(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Number of changes that a power loss may keep or lose.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.values().map(Vec::len).sum()
    }

    pub(super) fn sync(&mut self) {
        self.keep(&mut || true);
    }

    /// Loses the power. Each change survives if `choice` says so, which is called
    /// [`Directory::unsynced`] times. The last surviving change of a name holds.
    pub(super) fn lose_power(&mut self, choice: &mut dyn FnMut() -> bool) {
        self.keep(choice);
        self.live.clone_from(&self.durable);
    }

    fn keep(&mut self, choice: &mut dyn FnMut() -> bool) {
        for (name, changes) in mem::take(&mut self.unsynced) {
            for change in changes {
                if choice() {
                    replace(&mut self.durable, &name, change);
                }
            }
        }
    }
}

fn replace(names: &mut BTreeMap<String, Node>, name: &str, node: Option<Node>) -> Option<Node> {
    match node {
        Some(node) => names.insert(name.to_owned(), node),
        None => names.remove(name),
    }
}

/// The components of `path`. A relative path starts at the root too.
pub(super) fn names_of(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?);
            }
            Component::ParentDir => return Err(io::ErrorKind::InvalidInput.into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    Ok(names)
}

/// The components of the parent of `path`, and the last one.
pub(super) fn parent_and_name(path: &Path) -> io::Result<(Vec<&str>, &str)> {
    let mut names = names_of(path)?;
    let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((names, name))
}
