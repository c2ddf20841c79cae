//! What `prometheus` does, with Prometheus 3 from Debian's sid, native histograms, remote write 2.0
//! and streamed chunks.

use super::prometheus::{Peer, run_with};
use super::{Done, Scene, sid};
use crate::Result;

/// The packages, each with a program of its name.
const PACKAGES: [&str; 2] = ["prometheus", "promtool"];

pub(super) fn run(scene: &Scene) -> Result<Done> {
    let Some([prometheus, promtool]) = sid::programs(scene, &PACKAGES, PACKAGES)? else {
        let why = "there is no Prometheus 3: its packages cannot be taken from Debian's sid";
        return Ok(Done::Skipped(why.into()));
    };
    let peer = Peer {
        prometheus,
        promtool,
        flags: &["--enable-feature=native-histograms"],
        // The queries want the buckets of classic histograms too.
        global: ", always_scrape_classic_histograms: true",
        remote_write: "  protobuf_message: io.prometheus.write.v2.Request\n  \
                       send_native_histograms: true\n",
        has_native_histograms: true,
    };
    run_with(scene, &peer)
}
