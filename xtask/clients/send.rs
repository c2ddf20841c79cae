//! Sends numbered points with the OpenTelemetry SDK of Rust, each batch until it is acknowledged.
//!
//!     send CLIENT URL POINTS [MODE]
//!
//! The server may be killed at any time. The modes, and the lines it prints, are those of
//! `send.py`. The SDK chooses the timestamps: one per batch, whose points are series of their own.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_otlp::{MetricExporter, WithExportConfig as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};

const BATCH: u64 = 50;
const PAUSE: Duration = Duration::from_millis(20);
const RETRY: Duration = Duration::from_secs(60);

/// The label of a point that the server leaves out.
const BAD: &str = "bad";

/// Exports each batch until it is acknowledged, and prints its points then.
struct Repeating(MetricExporter);

impl PushMetricExporter for Repeating {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        let end = Instant::now() + RETRY;
        while let Err(error) = self.0.export(metrics).await {
            println!("error {error}");
            if Instant::now() > end {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(100));
        }
        show_stored(metrics);
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.0.temporality()
    }
}

fn show_stored(metrics: &ResourceMetrics) {
    for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
        let AggregatedMetrics::F64(MetricData::Gauge(gauge)) = metric.data() else { continue };
        let since_1970 = gauge.time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for point in gauge.data_points() {
            if point.attributes().all(|attribute| attribute.key.as_str() != BAD) {
                println!("stored {} {}", point.value(), since_1970.as_millis());
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_ansi(false).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [client, url, points, rest @ ..] = arguments.as_slice() else {
        return Err("send CLIENT URL POINTS [MODE]".into());
    };
    let mode = rest.first().map_or("again", String::as_str);
    let seconds = if mode == "own" { 60 } else { 5 };
    let exporter = MetricExporter::builder()
        .with_http()
        .with_endpoint(format!("{url}/v1/metrics"))
        .with_timeout(Duration::from_secs(seconds))
        .build()?;
    // Each flush collects and exports. Nothing else does within the hour.
    let reader = PeriodicReader::builder(Repeating(exporter));
    let reader = reader.with_interval(Duration::from_secs(3600)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let gauge = provider.meter("send.rs").f64_gauge("points_value").build();
    let labels = |index: u64| {
        vec![KeyValue::new("sender", client.clone()), KeyValue::new("point", index.to_string())]
    };
    if mode == "partial" {
        let mut bad: Vec<_> = (0..70).map(|n| KeyValue::new(format!("l{n}"), "a")).collect();
        bad.push(KeyValue::new(BAD, "a"));
        gauge.record(1.0, &bad);
    }
    let points: u64 = points.parse()?;
    for begin in (0..points).step_by(BATCH as usize) {
        for number in begin..points.min(begin + BATCH) {
            gauge.record(number as f64 + 0.5, &labels(number - begin));
        }
        provider.force_flush()?;
        thread::sleep(PAUSE);
    }
    // A shutdown would export the last batch again.
    std::process::exit(0)
}
