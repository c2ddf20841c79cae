//! The test programs of the workspace and the tests in their sources.

use std::collections::HashMap;
use std::path::Path;

use crate::{Result, tree};

/// A test program: how cargo selects it, and which tests it has.
pub(crate) struct Program {
    pub(crate) package: String,
    /// The name in `cargo test --test NAME`; `None` is `cargo test --lib`.
    pub(crate) target: Option<String>,
    /// The full path of each test, as `cargo test -- --exact` takes it.
    tests: Vec<String>,
}

/// All test programs, by kind: `loom`, `shuttle`, `lib`, `test PROGRAM`.
pub(crate) struct Programs(HashMap<String, Vec<Program>>);

impl Programs {
    /// Finds the tests in the sources, without a build.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut programs: HashMap<String, Vec<Program>> = HashMap::new();
        let mut add = |kind: &str, package: &str, target: Option<&str>, tests| {
            let (package, target) = (package.to_owned(), target.map(str::to_owned));
            programs.entry(kind.to_owned()).or_default().push(Program { package, target, tests });
        };
        let models = tests_below(&root.join("loom-tests"), "loom_tests::")?;
        add("loom", "shardwal-loom", None, models);
        let engine = scenarios_in(&tree::read(&root.join("shuttle-tests/engine/main.rs"))?);
        add("shuttle", "shardwal-shuttle", Some("engine"), engine);
        for package in tree::packages(root)? {
            add("lib", &package.name, None, tests_below(&package.folder.join("src"), "")?);
            let tests = package.folder.join("tests");
            for path in if tests.is_dir() { tree::entries(&tests)? } else { Vec::new() } {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let found = if path.join("main.rs").is_file() {
                    tests_below(&path, "")?
                } else if path.extension().is_some_and(|it| it == "rs") {
                    tests_in(&tree::read(&path)?, "")
                } else {
                    continue;
                };
                add(&format!("test {name}"), &package.name, Some(&name), found);
            }
        }
        Ok(Self(programs))
    }

    /// The program of a test, and the test's full path. A path may leave out leading modules
    /// if only one test ends so.
    pub(crate) fn find(&self, kind: &str, path: &str) -> Result<(&Program, &str)> {
        let programs = self.0.get(kind).ok_or_else(|| format!("no test program is `{kind}`"))?;
        let ending = format!("::{path}");
        let mut found = programs.iter().flat_map(|program| {
            let named = |test: &&String| *test == path || test.ends_with(&ending);
            program.tests.iter().filter(named).map(move |test| (program, test.as_str()))
        });
        match (found.next(), found.next()) {
            (Some(test), None) => Ok(test),
            (None, _) => Err(format!("{kind}: no test is named {path}").into()),
            (Some(_), Some(_)) => Err(format!("{kind}: several tests are named {path}").into()),
        }
    }

    /// The number of tests of all programs of a kind.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.0.get(kind).into_iter().flatten().map(|program| program.tests.len()).sum()
    }
}

/// The tests of all source files below a folder, whose root module has the prefix `prefix`.
fn tests_below(folder: &Path, prefix: &str) -> Result<Vec<String>> {
    let mut tests = Vec::new();
    for file in tree::files_below(folder, "rs")? {
        let relative = file.strip_prefix(folder)?.with_extension("");
        let mut modules: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        modules.retain(|part| !["main", "mod", "lib"].contains(&part.as_ref()));
        let around: String = modules.iter().map(|part| format!("{part}::")).collect();
        tests.extend(tests_in(&tree::read(&file)?, &format!("{prefix}{around}")));
    }
    Ok(tests)
}

/// The tests in the text of one file. Modules in it are told by their indentation.
fn tests_in(text: &str, prefix: &str) -> Vec<String> {
    let mut tests = Vec::new();
    let mut modules: Vec<(usize, &str)> = Vec::new();
    let mut is_test = false;
    for line in text.lines() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        if code.starts_with("#[test]") {
            is_test = true;
            continue;
        }
        let words: Vec<&str> = code.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        let item = words.iter().position(|word| {
            !word.is_empty() && !["pub", "crate", "super", "async"].contains(word)
        });
        let Some(at) = item else { continue };
        let Some(name) = words.get(at + 1).filter(|name| !name.is_empty()) else { continue };
        if !["mod", "fn"].contains(&words[at]) || code.starts_with('/') || code.starts_with('#') {
            continue;
        }
        modules.retain(|(of_module, _)| *of_module < indent);
        if words[at] == "mod" {
            if code.ends_with('{') {
                modules.push((indent, name));
            }
        } else if std::mem::take(&mut is_test) {
            let inner: String = modules.iter().map(|(_, module)| format!("{module}::")).collect();
            tests.push(format!("{prefix}{inner}{name}"));
        }
    }
    tests
}

/// The tests that the macro `scenarios!` makes: each line of its list begins with a name.
fn scenarios_in(text: &str) -> Vec<String> {
    let list = text.split("\nscenarios! {").nth(1).and_then(|rest| rest.split("\n}").next());
    let lines = list.unwrap_or_default().lines();
    lines.filter_map(|line| Some(line.trim().split_once(':')?.0.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::{scenarios_in, tests_in};

    #[test]
    fn a_test_has_the_modules_around_it_in_its_path() {
        let text = "mod below;\n#[test]\nfn one() {}\nmod inner {\n    #[test]\n    #[ignore = \"long\"]\n    \
                    fn two() {}\n    fn helper() {}\n}\n/// fn comment\n#[test]\nfn three() {}\n";
        assert_eq!(tests_in(text, "file::"), ["file::one", "file::inner::two", "file::three"]);
    }

    #[test]
    fn a_scenario_is_a_test() {
        let text = "macro\n\nscenarios! {\n    one: [\"a: b\"],\n    two:\n        [\"c\"],\n}\n";
        assert_eq!(scenarios_in(text), ["one", "two"]);
    }
}
