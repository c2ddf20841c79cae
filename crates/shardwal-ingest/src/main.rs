//! `shardwal-ingest`: a server for Prometheus remote write and InfluxDB's line protocol, its load
//! generator, and a demonstration that nothing acknowledged is lost.
//!
//! ```text
//! cargo run --release -p shardwal-ingest
//! cargo run --release -p shardwal-ingest -- serve --listen 127.0.0.1:9291 --dir data
//! cargo run --release -p shardwal-ingest -- load --to 127.0.0.1:9291 --repeat 50
//! cargo run --release -p shardwal-ingest -- dump data
//! ```
//!
//! Each subcommand is a module with its own `Arguments` and `run`. This file only chooses one.

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use diagnostics::{say, say_error};

mod demo;
mod diagnostics;
mod dump;
mod go_float;
mod load;
mod log_arguments;
mod notify;
mod progress;
mod serve;
mod server;
mod settings;
mod stream;
mod tenant_arguments;

/// An error that ends the program. It is printed, not handled.
type Failure = Box<dyn Error + Send + Sync>;

/// The recording in the repository.
const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/node_exporter.remote_write");

/// Receives Prometheus remote write and InfluxDB's line protocol, on a write-ahead log. Without a
/// command it runs the demonstration
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    demo: demo::Arguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive writes over HTTP, and acknowledge each when it is durable
    Serve(Box<serve::Arguments>),
    /// Send the recorded remote-write stream to a server
    Load(load::Arguments),
    /// Print every sample of a server's log, as `promtool tsdb dump` does
    Dump(dump::Arguments),
    /// Log the recorded stream, get killed part-way, recover, and check every sample
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    let CommandLine { command, demo } = CommandLine::parse();
    let command = command.unwrap_or(Command::Demo(demo));
    // The verdict of a demonstration is its output, good or bad.
    let shows_verdict = matches!(&command, Command::Demo(demo) if !demo.child);
    let ended = match command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Dump(arguments) => dump::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
    };
    if let Err(failure) = &ended {
        let failure = with_causes(&**failure);
        if shows_verdict {
            say!("FAILED: {failure}");
        } else {
            say_error!("{failure}");
        }
    }
    diagnostics::finish();
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Formats an error and its causes in one line.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
