//! `shardwal-ingest serve`: the settings of the server. The server itself is in `server`.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, FromArgMatches};
use shardwal_timeseries::{LABELS_BYTES_MAX, LABELS_MAX, LabelLimits};
use tracing::level_filters::LevelFilter;

use crate::Failure;
use crate::diagnostics::{LogFormat, say, start_log};
use crate::log_arguments::LogArguments;
use crate::server::{self, Access, ConnectionLimits, ServerLimits, TlsFiles};
use crate::settings::Settings;
use crate::tenant_arguments::TenantArguments;

/// The default minimum of free space: 64 MiB. Snapshots may use them.
const FREE_SPACE_MIN_BYTES: u64 = 64 << 20;

/// The default maximum number of series per shard.
const SERIES_PER_SHARD_MAX: u64 = 1_000_000;

/// Upper bound on the default for low free space: 4 GiB.
const FREE_SPACE_LOW_BYTES_MAX: u64 = 4 << 30;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Read settings from this TOML file. Its keys are the options below, without the dashes; an
    /// option on the command line overrides the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the settings in effect, as such a file, and do not serve
    #[arg(long)]
    print_config: bool,

    /// Address to listen at
    #[arg(long, default_value = "127.0.0.1:9291")]
    listen: SocketAddr,

    /// Directory for the log and its snapshots
    #[arg(long, required_unless_present = "config")]
    dir: Option<PathBuf>,

    #[command(flatten)]
    log: LogArguments,

    /// Maximum bytes of a request, before and after decompression
    #[arg(long, value_name = "BYTES", default_value = "33554432")]
    request_bytes_max: usize,

    /// Maximum bytes of all requests in flight
    #[arg(long, value_name = "BYTES", default_value = "134217728")]
    in_flight_bytes_max: usize,

    /// Maximum number of connections at once; beyond it, the longest idle one is closed
    #[arg(long, default_value = "512")]
    connections_max: NonZero<u16>,

    /// Close a connection whose client reads nothing for this time
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    write_time_max: NonZero<u32>,

    /// Break off a read after this time
    #[arg(long, value_name = "SECONDS", default_value = "300")]
    read_time_max: NonZero<u32>,

    /// Answer only requests for this host; may be repeated
    #[arg(long, value_name = "HOST")]
    allowed_host: Vec<String>,

    /// Answer only requests with the token in this file, as `Authorization: Bearer TOKEN`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Serve TLS with the certificates in this PEM file, the server's own first
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The private key of the server's certificate, a PEM file
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Maximum samples in memory, about 3 bytes each; the server refuses more
    #[arg(long, default_value = "500000000")]
    samples_max: u64,

    /// Maximum number of series; new ones beyond are left out [default: 1 million per shard]
    #[arg(long)]
    series_max: Option<NonZero<u64>>,

    /// Keep samples for this time, such as 12h or 30d [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = retention)]
    retention: Option<Duration>,

    /// Maximum number of labels of a series, at most 1024
    #[arg(long, value_name = "LABELS", default_value = "64")]
    labels_max: NonZero<usize>,

    /// Maximum bytes of a series' labels, at most 1048576
    #[arg(long, value_name = "BYTES", default_value = "65536")]
    labels_bytes_max: NonZero<usize>,

    /// Take a snapshot and truncate the log after this number of samples
    #[arg(long, default_value = "50000000")]
    snapshot_samples: NonZero<u64>,

    #[command(flatten)]
    tenants: TenantArguments,

    /// Form of the log's lines on the standard output
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// Least severe level of the log: off, error, warn, info, debug or trace; debug has a line per
    /// request
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LevelFilter,

    /// The replay waits while this file exists; for tests
    #[arg(long, hide = true)]
    replay_hold: Option<PathBuf>,
}

/// Serves until SIGTERM, SIGINT or SIGHUP. Blocks.
///
/// # Errors
/// The settings are invalid or contradict each other, the address is in use, or the log cannot be
/// opened or closed.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let command = Arguments::augment_args(clap::Command::new("shardwal-ingest serve"));
    // The name of the program and that of the command come first.
    let given: Vec<_> = std::env::args_os().skip(2).collect();
    let settings = Settings::load(command, &given, arguments.config.as_deref())?;
    let arguments = Arguments::from_arg_matches(&settings.matches)?;
    let directory = check(&arguments)?;
    if arguments.print_config {
        say!("{}", settings.as_toml());
        return Ok(());
    }
    make_files_private();
    start_log(arguments.log_format, arguments.log_level);
    server::serve(options(&arguments, directory)?)
}

/// The options of the server in `directory`.
fn options<'a>(arguments: &'a Arguments, directory: &Path) -> Result<server::Options<'a>, Failure> {
    let log = &arguments.log;
    let min = log.free_space_min_bytes.unwrap_or(FREE_SPACE_MIN_BYTES);
    let low = min.saturating_mul(4).min(FREE_SPACE_LOW_BYTES_MAX).max(min);
    let low = log.free_space_low_bytes.unwrap_or(low);
    let config = log.config(directory);
    let shards = log.shards.get() as u64;
    let series_max = arguments.series_max.map_or(shards * SERIES_PER_SHARD_MAX, NonZero::get);
    let series_per_shard_max = u32::try_from(series_max.div_ceil(shards)).unwrap_or(u32::MAX);
    Ok(server::Options {
        address: arguments.listen,
        config: config.free_space_low_bytes(low).free_space_min_bytes(min),
        free_space_min_bytes: min,
        series_per_shard_max,
        snapshot_samples: arguments.snapshot_samples.get(),
        retention: arguments.retention,
        limits: ServerLimits {
            request_bytes_max: arguments.request_bytes_max,
            in_flight_bytes_max: arguments.in_flight_bytes_max,
            samples_max: arguments.samples_max,
            series_max,
            labels: LabelLimits {
                labels_max: arguments.labels_max.get(),
                bytes_max: arguments.labels_bytes_max.get(),
            },
            read_time_max: Duration::from_secs(arguments.read_time_max.get().into()),
        },
        tenants: arguments.tenants.settings()?,
        connections: ConnectionLimits {
            connections_max: arguments.connections_max.get().into(),
            write_time_max: Duration::from_secs(arguments.write_time_max.get().into()),
        },
        access: Access { token: token(arguments)?, hosts: arguments.allowed_host.clone() },
        tls: arguments
            .tls_cert
            .clone()
            .zip(arguments.tls_key.clone())
            .map(|(certificates, key)| TlsFiles { certificates, key }),
        replay_hold: arguments.replay_hold.as_deref(),
    })
}

/// Checks what would make every request fail, or let anybody send one. Returns the directory.
fn check(arguments: &Arguments) -> Result<&Path, Failure> {
    let Arguments { request_bytes_max, in_flight_bytes_max, .. } = arguments;
    let Some(directory) = &arguments.dir else {
        return Err("--dir is missing: give it, or set `dir` in the file of --config".into());
    };
    if arguments.tls_cert.is_some() != arguments.tls_key.is_some() {
        return Err("--tls-cert and --tls-key need each other: give both, or none".into());
    }
    if *request_bytes_max == 0 || arguments.samples_max == 0 {
        return Err(
            "--request-bytes-max and --samples-max must be above 0: no write would fit".into()
        );
    }
    if in_flight_bytes_max < request_bytes_max {
        let why = "a request of the maximum size would never fit";
        let limits =
            format!("{in_flight_bytes_max} is below --request-bytes-max {request_bytes_max}");
        return Err(format!("--in-flight-bytes-max {limits}: {why}").into());
    }
    let label_limits = [
        ("--labels-max", arguments.labels_max.get(), LABELS_MAX),
        ("--labels-bytes-max", arguments.labels_bytes_max.get(), LABELS_BYTES_MAX),
    ];
    if let Some((option, found, max)) = label_limits.into_iter().find(|(_, found, max)| found > max)
    {
        return Err(format!("{option} {found}: the log holds at most {max}").into());
    }
    arguments.tenants.settings()?;
    let is_open = arguments.allowed_host.is_empty() && arguments.token_file.is_none();
    if !arguments.listen.ip().is_loopback() && is_open {
        let listen = arguments.listen;
        let options = "give --token-file, or --allowed-host";
        return Err(format!("--listen {listen} lets any page or host write: {options}").into());
    }
    let (low, min) = (arguments.log.free_space_low_bytes, arguments.log.free_space_min_bytes);
    let min = min.unwrap_or(FREE_SPACE_MIN_BYTES);
    match low {
        Some(low) if low > 0 && low < min => {
            let why = "the log would be truncated only after writes are refused";
            Err(format!("--free-space-low-bytes {low} is below the minimum of {min}: {why}").into())
        }
        _ => Ok(directory),
    }
}

/// Parses a retention: a number of seconds, minutes, hours, days or weeks.
fn retention(text: &str) -> Result<Duration, String> {
    let unit_at = text.len() - text.chars().next_back().map_or(0, char::len_utf8);
    let seconds = match &text[unit_at..] {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(24 * 3600),
        "w" => Some(7 * 24 * 3600),
        _ => None,
    };
    let number = text[..unit_at].parse::<u64>().ok().filter(|number| *number > 0);
    let total = number.zip(seconds).and_then(|(number, seconds)| number.checked_mul(seconds));
    total.map(Duration::from_secs).ok_or_else(|| "write it like 90m, 12h or 30d".to_owned())
}

/// Reads the token, without the white space around it.
fn token(arguments: &Arguments) -> Result<Option<String>, Failure> {
    let Some(file) = &arguments.token_file else { return Ok(None) };
    let token = std::fs::read_to_string(file);
    let token = token.map_err(|error| format!("--token-file {}: {error}", file.display()))?;
    match token.trim() {
        "" => Err(format!("--token-file {} is empty", file.display()).into()),
        token => Ok(Some(token.to_owned())),
    }
}

/// Lets nobody but the owner write the files that this process makes, and only the group read them:
/// modes 0640 and 0750.
fn make_files_private() {
    // SAFETY: the call has no preconditions. No other thread makes files yet.
    unsafe {
        let before = libc::umask(0o027);
        libc::umask(before | 0o027);
    }
}
