//! Measures the memory of the server at ten times its sustainable load.
//!
//! First measures the sustainable rate from 16 connections: of new samples, and of samples that
//! are sent a second time, which the storage accepts more slowly. Then offers repeated samples
//! from 400 connections at ten times that rate. The load generator runs on this machine: the
//! server gets the first core, the generator the second.
//!
//! Settings: `SECONDS_OVERLOADED` (60), `LIMIT_MIB` (0, no limit on the resident memory).

use std::process::Command;

use super::server::Server;
use super::{Done, Scene, http, of_json, setting};
use crate::process::{cargo, run as run_program, tee};
use crate::{Result, tree};

pub(super) fn run(scene: &Scene) -> Result<Done> {
    let seconds = setting("SECONDS_OVERLOADED", 60)?.to_string();
    let limit_mib = setting("LIMIT_MIB", 0)?;
    run_program(&mut cargo(["build", "--release", "--package", "shardwal-ingest"]))?;
    let ingest = tree::root().join("target/release/shardwal-ingest");
    let on_core = |core: &str| {
        let mut command = Command::new("taskset");
        command.args(["-c", core]).arg(&ingest);
        command
    };
    let bytes = "8388608";
    let limits = ["--shards", "2", "--request-bytes-max", bytes, "--in-flight-bytes-max", bytes];
    let server = Server::start(scene, &mut on_core("0"), "127.0.0.1:0", &limits)?;
    server.wait_ready(scene)?;
    let id = server.id().to_string();
    let load = |arguments: &[&str]| {
        let common = ["load", "--to", &server.address, "--pid", &id, "--repeat", "15"];
        tee(on_core("1").args(common).args(arguments))
    };

    println!("-- sustained");
    load(&["--connections", "16"])?;
    let sustained = load(&["--connections", "16"])?;
    let sustained = number_before(&sustained, " samples/s").ok_or("the load printed no rate")?;
    let rate = format!("{:.0}", sustained * 10.0);
    println!("-- ten times that: {rate} samples/s offered for {seconds} s");
    let overload = load(&["--connections", "400", "--rate", &rate, "--seconds", &seconds])?;
    let status = http::get(&server.address, "/status.json")?;
    let refusals = "{reason: count for reason, count in it['refusals'].items() if count}";
    println!("refusals: {}", of_json(&status, refusals)?);
    server.stop()?;
    let memory = number_before(&overload, " MiB").ok_or("the load printed no memory")?;
    if limit_mib > 0 && memory > limit_mib as f64 {
        return Err(format!("{memory} MiB, above {limit_mib} MiB").into());
    }
    Ok(Done::Passed)
}

/// The number before the first place of a text.
fn number_before(output: &str, text: &str) -> Option<f64> {
    output.split_once(text)?.0.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number_before;

    #[test]
    fn the_number_before_a_text_is_read() {
        let line = "9 acknowledged in 1.00 s: 250 samples/s; offered 9/s\nmemory was 12.5 MiB";
        assert_eq!(number_before(line, " samples/s"), Some(250.0));
        assert_eq!(number_before(line, " MiB"), Some(12.5));
        assert_eq!(number_before("none", " MiB"), None);
    }
}
