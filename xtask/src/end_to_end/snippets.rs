//! The snippets of `docs/ingest.md` against a server with a token, as a reader would run them.

use std::path::Path;
use std::process::Command;

use super::clients::Program;
use super::server::Server;
use super::{Scene, http};
use crate::process::{is_installed, succeeds};
use crate::{Result, report, tree};

const PAGE: &str = "docs/ingest.md";
const ADDRESS: &str = "127.0.0.1:9291";
const TOKEN: &str = "TOKEN";

/// Runs the snippets of each language that has a program, and checks that their samples are stored.
pub(super) fn run(
    scene: &Scene,
    ingest: &Path,
    python: Option<&Program>,
    node: Option<&Program>,
) -> Result {
    let page = tree::read(&tree::root().join(PAGE))?;
    check_prometheus(scene, &page)?;
    let token = scene.path("token");
    std::fs::write(&token, TOKEN)?;
    let options = ["--shards", "2", "--token-file", token.to_str().ok_or("it is not UTF-8")?];
    let server = Server::start(scene, &mut Command::new(ingest), "127.0.0.1:0", &options)?;
    scene.wait_for("the server to be ready", 60, || {
        Ok(http::get(&server.address, "/ready").is_ok_and(|answer| answer.contains("\"ready\"")))
    })?;
    let mut expected: Vec<&str> = Vec::new();
    for (program, language, series) in
        [(python, "python", &["m_value", "orders"][..]), (node, "js", &["m_value"])]
    {
        let Some(program) = program else { continue };
        for (number, snippet) in blocks(&page, language).iter().enumerate() {
            let (_, port) = server.address.rsplit_once(':').ok_or("it is no address")?;
            let snippet = snippet.replace(ADDRESS, &server.address);
            // One client takes the port by itself.
            let snippet = snippet.replace(" 9291,", &format!(" {port},"));
            let file = program.folder.join(format!("snippet-{number}.{language}"));
            std::fs::write(&file, &snippet)?;
            let mut command = Command::new(&program.program);
            if !succeeds(command.arg(&file).current_dir(&program.folder)) {
                return Err(format!("a snippet of {PAGE} fails:\n{snippet}").into());
            }
            println!("{PAGE}: snippet {number} of {language} works");
        }
        expected.extend(series);
    }
    server.stop()?;
    let server =
        Server::start(scene, &mut Command::new(ingest), "127.0.0.1:0", &["--shards", "2"])?;
    server.wait_ready(scene)?;
    for series in expected {
        let export = http::get(&server.address, &format!("/api/v1/export?match%5B%5D={series}"))?;
        if !export.contains("\"values\"") {
            return Err(format!("{series} of a snippet of {PAGE} is not stored").into());
        }
    }
    server.stop()
}

/// Checks the configuration of Prometheus.
fn check_prometheus(scene: &Scene, page: &str) -> Result {
    if !is_installed("promtool") {
        report::skip("end to end, the configuration of Prometheus", "there is no promtool");
        return Ok(());
    }
    let blocks = blocks(page, "yaml");
    let of_prometheus = blocks.iter().find(|block| block.starts_with("# prometheus.yml"));
    let file = scene.path("prometheus.yml");
    std::fs::write(&file, of_prometheus.ok_or("there is no configuration of Prometheus")?)?;
    match succeeds(Command::new("promtool").args(["check", "config"]).arg(&file)) {
        true => Ok(()),
        false => Err(format!("promtool refuses the configuration in {PAGE}").into()),
    }
}

/// The code blocks of a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let blocks = page.split(&begin).skip(1);
    blocks.filter_map(|rest| rest.split_once("```")).map(|(block, _)| block.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::blocks;

    #[test]
    fn blocks_of_a_language_are_found() {
        let page = "a\n```js\none\n```\n```python\ntwo\n```\n```js\nthree\n```\n";
        assert_eq!(blocks(page, "js"), ["one\n", "three\n"]);
        assert_eq!(blocks(page, "yaml"), Vec::<String>::new());
    }
}
