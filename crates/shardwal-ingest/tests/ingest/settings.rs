//! The settings of `serve`: from the command line, from a file, and printed.

use std::path::Path;
use std::process::{Command, Output};

use crate::server_support::{Server, program, request};

/// The example in the repository.
const EXAMPLE: &str = include_str!("../../packaging/shardwal-ingest.toml");

fn serve(arguments: &[&str]) -> Output {
    Command::new(program()).arg("serve").args(arguments).output().expect("the program starts")
}

/// The settings in effect.
fn printed(arguments: &[&str]) -> String {
    let ended = serve(&[arguments, &["--print-config"]].concat());
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).expect("it is UTF-8")
}

/// The settings that differ from their defaults.
fn set(printed: &str) -> Vec<&str> {
    printed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

fn file(directory: &Path, text: &str) -> String {
    let file = directory.join("settings.toml");
    std::fs::write(&file, text).expect("the folder exists");
    file.to_str().expect("it is UTF-8").to_owned()
}

/// `--help`, the example and the keys of a file have one definition. If this fails, write what
/// `serve --dir /var/lib/shardwal-ingest --print-config` prints to the example.
#[test]
fn the_example_has_every_setting_and_its_default() {
    assert_eq!(printed(&["--dir", "/var/lib/shardwal-ingest"]), EXAMPLE);
    assert_eq!(set(EXAMPLE), ["dir = \"/var/lib/shardwal-ingest\""]);
    let help = String::from_utf8(serve(&["--help"]).stdout).unwrap();
    let names = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let names = names.map(|name| name.split([' ', '=']).next().unwrap_or_default());
    let settings: Vec<&str> =
        names.filter(|name| !["config", "print-config"].contains(name)).collect();
    assert!(settings.len() > 15, "{help}");
    for name in settings {
        let is_key = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{name} = "));
        assert!(EXAMPLE.lines().any(is_key), "{name}");
    }
}

#[test]
fn printed_settings_read_back_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let token = file(directory.path(), "secret");
    let options = [
        ["--dir", "a \"quoted\\ name"],
        ["--listen", "[::1]:80"],
        ["--shards", "3"],
        ["--durability", "interval:10ms"],
        ["--free-space-min-bytes", "1"],
        ["--free-space-low-bytes", "2"],
        ["--connections-max", "7"],
        ["--series-max", "9"],
        ["--token-file", &token],
        ["--allowed-host", "a"],
        ["--allowed-host", "12"],
    ];
    let options: Vec<&str> = options.concat();
    let first = printed(&options);
    for expected in [
        "shards = 3",
        "durability = \"interval:10ms\"",
        "allowed-host = [\"a\", \"12\"]",
        "listen = \"[::1]:80\"",
    ] {
        assert!(set(&first).contains(&expected), "{expected}: {first}");
    }
    assert_eq!(set(&first).len(), 10, "{first}");
    let copy = directory.path().join("copy.toml");
    std::fs::write(&copy, &first).unwrap();
    assert_eq!(printed(&["--config", copy.to_str().unwrap()]), first);
}

#[test]
fn an_option_on_the_command_line_overrides_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let settings = "dir = 'd'\nshards = 2\nallowed-host = ['a', 'b']\nsamples-max = 1_000\n";
    let settings = file(directory.path(), settings);
    let found = printed(&["--config", &settings, "--allowed-host", "c", "--shards=5"]);
    let expected = ["dir = \"d\"", "shards = 5", "allowed-host = [\"c\"]", "samples-max = 1000"];
    let mut found = set(&found);
    found.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_bad_file_is_refused_with_line_key_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    for (text, expected) in [
        (
            "dir = 'd'\n\nconections-max = 5",
            &[":3: conections-max: unknown key", "did you mean connections-max?", "--help"][..],
        ),
        ("dir = 'd'\nconfig = 'x'", &[":2: config: unknown key"]),
        ("[server]\ndir = 'd'", &[":1: server: unknown key"]),
        ("\nconnections-max = 0\ndir = 'd'", &[":2: connections-max: invalid value '0'", "zero"]),
        ("dir = 'd'\nsamples-max = 'many'", &[":2: samples-max: invalid value 'many'", "digit"]),
        ("dir = 'd'\nsamples-max = -1", &[":2: samples-max: invalid value '-1'"]),
        (
            "dir = 'd'\ndurability = true",
            &[":2: durability: it is a boolean; write a string or an integer"],
        ),
        ("dir = ['d', 'e']", &[":1: dir: it is a array"]),
        ("dir = 'd'\nallowed-host = [1.5]", &[":2: allowed-host: it is a float"]),
        ("dir = 'd'\ndir = 'e'", &[":2: ", "duplicate"]),
        ("dir = 'd'\nshards 5", &[":2: "]),
        ("shards = 5", &["--dir is missing", "`dir`"]),
        ("dir = 'd'\ntls-cert = 'c'", &["--tls-cert and --tls-key need each other"]),
        ("dir = 'd'\nlisten = '0.0.0.0:80'", &["give --token-file, or --allowed-host"]),
    ] {
        let name = file(directory.path(), text);
        let ended = serve(&["--config", &name]);
        let error = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(1), "{text}: {error}");
        for part in expected {
            assert!(error.contains(part), "{text}: {part} is not in {error}");
        }
        assert!(error.starts_with("--") || error.starts_with(&name), "{error}");
    }
    let missing = serve(&["--config", "there-is-none"]);
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.starts_with("--config there-is-none: "), "{error}");
}

#[test]
fn a_server_runs_on_a_file_of_settings() {
    let directory = tempfile::tempdir().unwrap();
    let settings = file(directory.path(), "series-max = 2\nfree-space-min-bytes = 0");
    let server = Server::start(&directory.path().join("log"), &["--config", &settings]);
    assert_eq!(server.write(&request(&["a", "b"], &[(1, 1.0)])).status, 204);
    assert_eq!(server.write(&request(&["c"], &[(1, 1.0)])).status, 400, "the limit is the file's");
}
