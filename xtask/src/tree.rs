//! The source tree: its root, its packages, its files, and copies of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A package of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
}

/// The packages with programs of their own: the root and all of `crates/`.
pub(crate) fn packages(root: &Path) -> Result<Vec<Package>> {
    let mut folders = vec![root.to_path_buf()];
    folders.extend(entries(&root.join("crates"))?);
    folders.retain(|folder| folder.join("Cargo.toml").is_file());
    folders
        .into_iter()
        .map(|folder| {
            let manifest = read(&folder.join("Cargo.toml"))?;
            let name = manifest.lines().find_map(|line| line.strip_prefix("name = "));
            let name = name.ok_or("a manifest without a name")?.trim_matches('"').to_owned();
            Ok(Package { name, folder })
        })
        .collect()
}

/// The text of a file. An error names the file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// The paths in a folder, sorted.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// All files below a folder with this extension, sorted. Empty if there is no such folder.
pub(crate) fn files_below(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for path in entries(folder)? {
        if path.is_dir() {
            found.extend(files_below(&path, extension)?);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

/// A folder that is deleted when the value is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new, empty folder in `parent`.
    pub(crate) fn new(parent: &Path, name: &str) -> Result<Self> {
        let path = parent.join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Keeps the folder and returns its path.
    pub(crate) fn keep(self) -> PathBuf {
        let path = self.0.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

/// Copies all files that git tracks or would add, with their present content.
pub(crate) fn copy(root: &Path, to: &Path) -> Result {
    for name in files(root)? {
        copy_file(&root.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Makes `to` a copy as [`copy`] does, and deletes everything else in it but what is in its
/// folders `kept`. A file with the same content keeps its time.
pub(crate) fn update(root: &Path, to: &Path, kept: &[&str]) -> Result {
    let names = files(root)?;
    if to.is_dir() {
        let kept: Vec<PathBuf> = kept.iter().map(|folder| to.join(folder)).collect();
        delete_others(to, &names.iter().map(|name| to.join(name)).collect(), &kept)?;
    }
    for name in names {
        let (from, to) = (root.join(&name), to.join(&name));
        if fs::read(&to).ok() != Some(fs::read(&from)?) {
            copy_file(&from, &to)?;
        }
    }
    Ok(())
}

/// The files that git tracks or would add, relative to the root.
fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    if !listed.status.success() {
        return Err("git cannot list the files".into());
    }
    let mut names = Vec::new();
    for name in listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = PathBuf::from(std::str::from_utf8(name)?);
        // A file that was deleted and not yet committed is listed too.
        if root.join(&name).is_file() {
            names.push(name);
        }
    }
    Ok(names)
}

fn copy_file(from: &Path, to: &Path) -> Result {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to)?;
    Ok(())
}

/// Deletes the files in a folder and below that are not listed.
fn delete_others(folder: &Path, files: &BTreeSet<PathBuf>, kept: &[PathBuf]) -> Result {
    for path in entries(folder)?.into_iter().filter(|path| !kept.contains(path)) {
        if path.is_dir() && !path.is_symlink() {
            delete_others(&path, files, kept)?;
        } else if !files.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_rewrites_what_changed_and_deletes_what_is_gone() {
        let scratch = Scratch::new(&std::env::temp_dir(), "shardwal-update").unwrap();
        let (root, to) = (scratch.path().join("root"), scratch.path().join("to"));
        fs::create_dir_all(root.join("src")).unwrap();
        let git = Command::new("git").arg("init").arg("-q").current_dir(&root).status().unwrap();
        assert!(git.success());
        for name in ["src/same", "src/changed", "gone"] {
            fs::write(root.join(name), "before").unwrap();
        }
        update(&root, &to, &["target"]).unwrap();
        fs::create_dir_all(to.join("target")).unwrap();
        fs::write(to.join("target/built"), "built").unwrap();
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        for name in ["src/same", "src/changed"] {
            fs::File::options()
                .write(true)
                .open(to.join(name))
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
        }
        fs::write(root.join("src/changed"), "after").unwrap();
        fs::remove_file(root.join("gone")).unwrap();

        update(&root, &to, &["target"]).unwrap();
        let modified = |name| fs::metadata(to.join(name)).unwrap().modified().unwrap();
        assert_eq!(modified("src/same"), long_ago);
        assert!(modified("src/changed") > long_ago);
        assert_eq!(fs::read(to.join("src/changed")).unwrap(), b"after");
        assert!(!to.join("gone").exists() && to.join("target/built").exists());
    }
}
