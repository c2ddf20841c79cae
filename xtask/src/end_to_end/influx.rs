//! influxdb-client from PyPI writes points to the server, which must have them all.

use std::process::Command;

use super::server::Server;
use super::{Done, Scene, build, http, missing};
use crate::process::{run as run_program, succeeds};
use crate::{Result, tree};

const POINTS: usize = 100_000;

pub(super) fn run(scene: &Scene) -> Result<Done> {
    if let Some(done) = missing(&["python3"]) {
        return Ok(done);
    }
    let venv = scene.path("venv");
    let [pip, python] = ["bin/pip", "bin/python"].map(|name| venv.join(name));
    let client = ["install", "--quiet", "influxdb-client"];
    if !succeeds(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        || !succeeds(Command::new(pip).args(client))
    {
        return Ok(Done::Skipped("PyPI's influxdb-client cannot be installed".into()));
    }
    let ingest = build()?.join("shardwal-ingest");
    let server =
        Server::start(scene, &mut Command::new(ingest), "127.0.0.1:0", &["--shards", "2"])?;
    server.wait_ready(scene)?;
    let url = format!("http://{}", server.address);
    let script = tree::root().join("xtask/influx_points.py");
    run_program(Command::new(python).arg(script).args([&url, &POINTS.to_string()]))?;
    let export = http::get(&server.address, "/api/v1/export?match%5B%5D=points_value")?;
    server.stop()?;
    let counted: usize = export.lines().map(values).sum();
    println!("{counted} of {POINTS} points of influxdb-client are in the log");
    if counted == POINTS { Ok(Done::Passed) } else { Err("points are missing".into()) }
}

/// The number of values in a line of the export.
fn values(line: &str) -> usize {
    let list = line.split("\"values\":[").nth(1).and_then(|rest| rest.split(']').next());
    list.map_or(0, |list| list.split(',').filter(|value| !value.is_empty()).count())
}

#[cfg(test)]
mod tests {
    use super::values;

    #[test]
    fn values_are_counted() {
        let line = r#"{"metric":{"host":"a"},"values":[1.5,2,3],"timestamps":[1,2,3]}"#;
        assert_eq!(values(line), 3);
        assert_eq!(values(r#"{"values":[]}"#), 0);
    }
}
