//! The names in one simulated directory, and the way from a path to names.
//! Knows no bytes of files and no other directory.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::path::{Component, Path};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(u64),
    Directory(u64),
}

/// One directory. A name is live at once and on the disk after a sync.
#[derive(Clone, Default)]
pub(super) struct Directory {
    live: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    /// What became of a name since the last sync, oldest first; `None` is its
    /// removal. By name, so that the order of a crash's choices does not hang
    /// on which thread came first.
    unsynced: BTreeMap<String, Vec<Option<Node>>>,
}

impl Directory {
    pub(super) fn get(&self, name: &str) -> Option<Node> {
        self.live.get(name).copied()
    }

    pub(super) fn live(&self) -> &BTreeMap<String, Node> {
        &self.live
    }

    /// All that the disk may show under some name after a power loss.
    pub(super) fn possible(&self) -> impl Iterator<Item = Node> {
        let unsynced = self.unsynced.values().flatten().flatten();
        self.durable.values().chain(unsynced).copied()
    }

    /// Gives the name to `node`, or removes it; returns what it stood for.
    pub(super) fn set(&mut self, name: &str, node: Option<Node>) -> Option<Node> {
        self.unsynced.entry(name.to_owned()).or_default().push(node);
        replace(&mut self.live, name, node)
    }

    /// As [`Directory::set`], and on the disk at once.
    pub(super) fn set_durably(&mut self, name: &str, node: Option<Node>) -> Option<Node> {
        self.unsynced.remove(name);
        replace(&mut self.durable, name, node);
        replace(&mut self.live, name, node)
    }

    pub(super) fn is_settled(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// How many changes a power loss may keep or lose.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.values().map(Vec::len).sum()
    }

    pub(super) fn sync(&mut self) {
        self.keep(&mut || true);
    }

    /// Loses the power: each change survives by `choice`, which is called
    /// [`Directory::unsynced`] times. The last that survives holds.
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

/// The names on the way from the root to `path`. A relative path starts at the
/// root as well.
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

/// The names of the directory that holds `path`, and the last name.
pub(super) fn parent_and_name(path: &Path) -> io::Result<(Vec<&str>, &str)> {
    let mut names = names_of(path)?;
    let name = names.pop().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((names, name))
}
