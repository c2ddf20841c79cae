//! The calls of `FileSystem` on the simulated tree, and the functions by which tests inspect
//! or corrupt it.
//!
//! This file knows names and files. It knows no faults.

use std::io;
use std::path::{Path, PathBuf};

use super::content::Content;
use super::machine::{Machine, ROOT, as_directory};
use super::names::{Node, names_of, parent_and_name};

/// The calls of `FileSystem`.
impl Machine {
    pub(super) fn create_file(&mut self, base: u64, path: &Path) -> io::Result<u64> {
        let (parent, name) = self.find_parent(base, path)?;
        if self.get(parent, name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.check_named(parent)?;
        let node = self.new_file();
        self.set(parent, name, Some(node));
        self.find_file(base, path)
    }

    pub(super) fn create_dir(&mut self, base: u64, path: &Path) -> io::Result<()> {
        let (parent, name) = self.find_parent(base, path)?;
        self.check_named(parent)?;
        if self.get(parent, name).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = self.new_directory();
        self.set(parent, name, Some(node));
        Ok(())
    }

    pub(super) fn list(&self, base: u64, path: &Path) -> io::Result<Vec<String>> {
        let directory = self.directory(self.find_directory(base, path)?);
        Ok(directory.live().keys().cloned().collect())
    }

    pub(super) fn sync_dir(&mut self, base: u64, path: &Path) -> io::Result<()> {
        let id = self.find_directory(base, path)?;
        if !self.directory(id).is_durable() {
            self.directory_mut(id).sync();
            self.forget_unreachable();
        }
        Ok(())
    }

    pub(super) fn rename_new(&mut self, base: u64, from: &Path, to: &Path) -> io::Result<()> {
        if self.find(base, to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.rename(base, from, to)
    }

    pub(super) fn rename(&mut self, base: u64, from: &Path, to: &Path) -> io::Result<()> {
        let (from_parent, from_name) = self.find_parent(base, from)?;
        let (to_parent, to_name) = self.find_parent(base, to)?;
        self.check_named(to_parent)?;
        let node = self.get(from_parent, from_name);
        let node = node.ok_or(io::ErrorKind::NotFound)?;
        let target = self.get(to_parent, to_name);
        match (node, target) {
            // POSIX: if both names are one file, both stay.
            (_, Some(same)) if same == node => return Ok(()),
            (Node::File(_), Some(Node::Directory(_))) => {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            (Node::Directory(_), Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Node::Directory(_), None) if names_of(to)?.starts_with(&names_of(from)?) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            _ => {}
        }
        self.set(to_parent, to_name, Some(node));
        self.set(from_parent, from_name, None);
        Ok(())
    }

    pub(super) fn unlink(&mut self, base: u64, path: &Path) -> io::Result<()> {
        self.find_file(base, path)?;
        let (parent, name) = self.find_parent(base, path)?;
        self.set(parent, name, None);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, base: u64, path: &Path) -> io::Result<()> {
        let (parent, name) = self.find_parent(base, path)?;
        let id = self.find_directory(base, path)?;
        if !self.directory(id).live().is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.set(parent, name, None);
        Ok(())
    }
}

/// Functions for tests that inspect or corrupt the file system.
impl Machine {
    /// Every live file, by path.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let mut todo = vec![(ROOT, PathBuf::from("/"))];
        while let Some((directory, path)) = todo.pop() {
            for (name, node) in self.directory(directory).live() {
                match node {
                    Node::File(_) => paths.push(path.join(name)),
                    Node::Directory(id) => todo.push((*id, path.join(name))),
                }
            }
        }
        paths.sort();
        paths
    }

    /// Creates a directory and its parents, durably.
    pub(super) fn make_dir(&mut self, path: &Path) -> io::Result<u64> {
        self.make_dirs(&names_of(path)?)
    }

    fn make_dirs(&mut self, names: &[&str]) -> io::Result<u64> {
        let mut directory = ROOT;
        for name in names {
            let known = self.get(directory, name);
            let node = known.unwrap_or_else(|| self.new_directory());
            self.set_durably(directory, name, Some(node));
            directory = as_directory(node)?;
        }
        Ok(directory)
    }

    pub(super) fn put_file(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let (parents, name) = parent_and_name(path)?;
        let parent = self.make_dirs(&parents)?;
        let known = self.get(parent, name);
        let node = known.unwrap_or_else(|| self.new_file());
        self.set_durably(parent, name, Some(node));
        *self.content_mut(self.find_file(ROOT, path)?) = Content::durable(bytes);
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.find_file(ROOT, path)?;
        let (parent, name) = self.find_parent(ROOT, path)?;
        self.set_durably(parent, name, None);
        self.forget_unreachable();
        Ok(())
    }

    /// Renames a file or directory, durably.
    pub(super) fn move_path(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_parent, from_name) = self.find_parent(ROOT, from)?;
        let (to_parent, to_name) = self.find_parent(ROOT, to)?;
        let node = self.get(from_parent, from_name).ok_or(io::ErrorKind::NotFound)?;
        self.set_durably(from_parent, from_name, None);
        self.set_durably(to_parent, to_name, Some(node));
        self.forget_unreachable();
        Ok(())
    }

    /// Adds a name to a file, durably.
    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = Node::File(self.find_file(ROOT, from)?);
        let (parents, name) = parent_and_name(to)?;
        let parent = self.make_dirs(&parents)?;
        self.set_durably(parent, name, Some(node));
        Ok(())
    }

    /// Removes a directory and everything below it, durably.
    pub(super) fn remove_tree(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.find_parent(ROOT, path)?;
        let mut todo = vec![self.find_directory(ROOT, path)?];
        while let Some(directory) = todo.pop() {
            for (name, node) in self.directory(directory).live().clone() {
                if let Node::Directory(id) = node {
                    todo.push(id);
                }
                self.set_durably(directory, &name, None);
            }
        }
        self.set_durably(parent, name, None);
        self.forget_unreachable();
        Ok(())
    }
}
