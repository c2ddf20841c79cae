//! Runs the test command that README.md shows.

use std::process::Command;

use crate::process::run as run_program;
use crate::{Result, tree};

pub(crate) fn run(arguments: &[String]) -> Result {
    let root = tree::root();
    let readme = tree::read(&root.join("README.md"))?;
    let line = test_command(&readme)?;
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    run_program(command.args(words).args(arguments).current_dir(root))
}

/// The only line of a page that begins with `cargo test`.
fn test_command(page: &str) -> Result<&str> {
    let mut lines = page.lines().filter(|line| line.starts_with("cargo test"));
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line),
        (None, _) => Err("README.md has no line that begins with `cargo test`".into()),
        (Some(_), Some(_)) => {
            Err("README.md has several lines that begin with `cargo test`".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::test_command;

    #[test]
    fn the_test_command_is_the_only_line_that_begins_so() {
        let page = "Run `cargo test`:\n```sh\ncargo test --workspace\n```\n";
        assert_eq!(test_command(page).unwrap(), "cargo test --workspace");
        assert!(test_command("nothing").is_err());
        assert!(test_command("cargo test\ncargo test\n").is_err());
    }
}
