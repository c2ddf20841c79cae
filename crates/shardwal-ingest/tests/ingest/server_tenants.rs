//! Limits per tenant: by a header or by a label, on samples per second and on series.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::server_support::client::Answer;
use crate::server_support::{
    Label, SNAPPY, Server, WriteRequest, block, program, request, text, wait_until,
};

const BY_HEADER: [&str; 2] = ["--tenant-header", "X-Scope-OrgID"];
const BY_LABEL: [&str; 2] = ["--tenant-label", "team"];

fn server(directory: &std::path::Path, options: &[&[&str]]) -> Server {
    Server::start(directory, &options.concat())
}

/// Writes samples of these series as a tenant that the header names.
fn write_as(server: &Server, tenant: &str, names: &[&str], samples: i64) -> Answer {
    let samples: Vec<_> = (0..samples).map(|at| (at, 1.0)).collect();
    let headers = format!("{SNAPPY}X-Scope-OrgID: {tenant}\r\n");
    server.send("POST", "/api/v1/write", &headers, &block(&request(names, &samples)))
}

/// A sample of each series, which are of these tenants.
fn of_teams(series: &[(&str, &str)], at: i64) -> WriteRequest {
    let names: Vec<&str> = series.iter().map(|(name, _)| *name).collect();
    let mut sent = request(&names, &[(at, 1.0)]);
    for (sent, (_, team)) in sent.timeseries.iter_mut().zip(series) {
        sent.labels.push(Label { name: "team".into(), value: (*team).into() });
    }
    sent
}

fn retry_after(answer: &Answer) -> u64 {
    let seconds = answer.header("retry-after").expect("it is there");
    seconds.parse().expect("it is a number")
}

#[test]
fn a_tenant_beyond_its_rate_is_answered_429_and_no_other_is() {
    let directory = tempfile::tempdir().unwrap();
    let rate = ["--tenant-samples-per-second", "100"];
    let server = server(directory.path(), &[&BY_HEADER, &rate]);
    // A request of any size passes, and the next one waits for it.
    assert_eq!(write_as(&server, "a", &["m"], 250).status, 204);
    let began = Instant::now();
    let refused = write_as(&server, "a", &["m"], 10);
    assert_eq!(refused.status, 429, "{}", text(&refused));
    assert_eq!(
        text(&refused),
        "tenant \"a\" is beyond --tenant-samples-per-second, 100; try again in 2 s\n"
    );
    assert_eq!(retry_after(&refused), 2);
    for tenant in ["b", ""] {
        assert_eq!(write_as(&server, tenant, &["m"], 10).status, 204, "{tenant}");
    }
    wait_until("the tenant may write again", || write_as(&server, "a", &["m"], 1).status == 204);
    assert!(began.elapsed() > Duration::from_millis(1200), "{:?}", began.elapsed());
    let status = server.get_json("/status.json");
    let tenants = &status["tenants"];
    assert_eq!((&tenants[0]["tenant"], &tenants[0]["samples"]), (&"".into(), &10.into()));
    assert_eq!(
        (&tenants[2]["tenant"], &tenants[2]["samples"]),
        (&"a".into(), &251.into()),
        "{tenants}"
    );
    assert!(tenants[2]["refused_samples"].as_u64() >= Some(10), "{tenants}");
    assert!(status["refusals"]["tenant_rate"].as_u64() >= Some(1));
    let metrics = text(&server.get("/metrics"));
    for line in [
        "ingest_tenant_samples_total{tenant=\"a\"} 251",
        "ingest_tenant_refused_total{tenant=\"a\",reason=\"rate\"} ",
    ] {
        assert!(metrics.lines().any(|found| found.starts_with(line)), "{line}: {metrics}");
    }
}

#[test]
fn a_refused_or_failed_request_costs_no_samples() {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--tenant-samples-per-second", "10", "--samples-max", "5"];
    let server = server(directory.path(), &[&BY_HEADER, &options]);
    assert_eq!(write_as(&server, "a", &["m"], 4).status, 204);
    for _ in 0..10 {
        let answer = write_as(&server, "a", &["n"], 3);
        assert_eq!(answer.status, 503, "memory is full: {}", text(&answer));
    }
    assert_eq!(server.get_json("/status.json")["tenants"][1]["samples"], 4);
}

#[test]
fn a_label_names_the_tenant_of_each_series() {
    let directory = tempfile::tempdir().unwrap();
    let options = ["--tenant-limits", "a:samples-per-second=1", "--tenant-limits", "b:series=2"];
    let started = server(directory.path(), &[&BY_LABEL, &options]);
    let both = |at| of_teams(&[("m", "a"), ("n", "a"), ("o", "a"), ("m", "b")], at);
    assert_eq!(started.write(&both(1)).status, 204);
    let refused = started.write(&both(2));
    assert_eq!(refused.status, 429, "one tenant is beyond its rate: {}", text(&refused));
    assert!(text(&refused).contains("tenant \"a\""), "{}", text(&refused));
    assert_eq!(started.count("{team=\"b\"}"), 1, "nothing of the request is written");
    assert_eq!(started.write(&of_teams(&[("m", "b"), ("m", "c")], 2)).status, 204);

    // The limit on series counts what is stored, also after a restart.
    started.kill();
    let started = server(directory.path(), &[&BY_LABEL, &options]);
    let more = [("m", "b"), ("n", "b"), ("o", "b"), ("p", "b"), ("x", "c"), ("y", "c")];
    let answer = started.write(&of_teams(&more, 3));
    assert_eq!(answer.status, 400);
    let said = text(&answer);
    assert!(said.starts_with("2 new series left out, the other series written"), "{said}");
    assert!(said.contains("--tenant-series-max allows at most 2 series"), "{said}");
    assert!(said.contains("name__=\"o\""), "{said}");
    assert_eq!(started.count("{team=\"b\"}"), 4);
    assert_eq!(started.count("{team=\"c\"}"), 3);
    let known = of_teams(&[("m", "b"), ("n", "b")], 4);
    assert_eq!(started.write(&known).status, 204, "known series are written");
}

#[test]
fn new_series_beyond_the_limit_of_a_header_s_tenant_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        ["--tenant-series-max", "2", "--tenant-limits", "big:series=100", "--series-max", "8"];
    let server = server(directory.path(), &[&BY_HEADER, &options]);
    assert_eq!(write_as(&server, "a", &["a1"], 1).status, 204);
    let answer = write_as(&server, "a", &["a1", "a2", "a3"], 1);
    assert_eq!(answer.status, 400, "{}", text(&answer));
    assert!(text(&answer).starts_with("1 new series left out"), "{}", text(&answer));
    assert_eq!(server.get_json("/status.json")["series"], 2);
    // All or none.
    let headers = "X-Scope-OrgID: a\r\n";
    let path = "/api/v3/write_lp?accept_partial=false";
    let answer = server.send("POST", path, headers, b"z f=1");
    assert_eq!(answer.status, 400, "{}", text(&answer));
    // Both limits: of the tenant, and of the server.
    assert_eq!(
        write_as(&server, "big", &["b1", "b2", "b3", "b4", "b5", "b6", "b7"], 1).status,
        400
    );
    assert!(server.get_json("/status.json")["series"].as_u64() <= Some(8));
    assert_eq!(write_as(&server, "b", &["a1", "a2"], 1).status, 204, "they are known");
}

/// A client chooses the names of tenants, and with them their number.
#[test]
fn tenants_beyond_the_maximum_share_one_account() {
    let directory = tempfile::tempdir().unwrap();
    let options = [
        "--tenants-max",
        "2",
        "--tenant-samples-per-second",
        "1",
        "--tenant-limits",
        "own:series=9",
    ];
    let server = server(directory.path(), &[&BY_HEADER, &options]);
    let long = "x".repeat(200);
    for (tenant, status) in
        [("a", 204), ("b", 204), ("c", 204), ("d", 429), (&long, 429), ("own", 204), ("own", 204)]
    {
        assert_eq!(write_as(&server, tenant, &["m"], 50).status, status, "{tenant}");
    }
    assert_eq!(server.get_json("/status.json")["tenants"].as_array().map(Vec::len), Some(4));
}

#[test]
fn settings_of_tenants_that_contradict_each_other_are_refused() {
    for (options, expected) in [
        (&["--tenant-header", "a", "--tenant-label", "b"][..], "exclude each other"),
        (&["--tenant-series-max", "5"], "give --tenant-header or --tenant-label"),
        (&["--tenant-limits", "a:series=5"], "give --tenant-header or --tenant-label"),
        (
            &[
                "--tenant-header",
                "a",
                "--tenant-limits",
                "a:series=5",
                "--tenant-limits",
                "a:series=6",
            ],
            "twice",
        ),
        (&["--tenant-header", "a b"], "--tenant-header"),
        (&["--tenant-label", "a", "--tenant-limits", "a:rows=5"], "write NAME:series=N"),
    ] {
        let mut command = Command::new(program());
        let ended = command.args(["serve", "--dir", "d"]).args(options).output().unwrap();
        let error = String::from_utf8(ended.stderr).unwrap();
        assert!(!ended.status.success(), "{options:?}");
        assert!(error.contains(expected), "{options:?}: {error}");
    }
}

/// Regression: series that the storage left out counted as the tenant's, again with each request.
#[test]
fn series_beyond_the_storages_limit_do_not_count_as_the_tenants() {
    let directory = tempfile::tempdir().unwrap();
    let limits = ["--tenant-series-max", "10", "--series-max", "2"];
    let server = server(directory.path(), &[&BY_HEADER, &limits]);
    for _ in 0..8 {
        let answer = write_as(&server, "a", &["m0", "m1", "m2", "m3", "m4", "m5"], 1);
        assert_eq!(answer.status, 400, "{}", text(&answer));
        let said = text(&answer);
        assert!(said.contains(" --series-max allows at most 2"), "{said}");
    }
}

/// Regression: the labels of a series were built for each change of the series in a request.
#[test]
fn samples_of_alternating_series_count_for_their_tenants() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(directory.path(), &[&BY_LABEL]);
    let series = [("m", "red"), ("n", "blue"), ("o", "red")];
    assert_eq!(server.write(&of_teams(&series, 1)).status, 204);
    let mut sent = WriteRequest::default();
    for at in 2..102 {
        sent.timeseries.extend(of_teams(&series, at).timeseries);
    }
    assert_eq!(server.write(&sent).status, 204);
    let status = server.get_json("/status.json");
    let samples = |name: &str| {
        let tenants = status["tenants"].as_array().expect("it is a list");
        let found = tenants.iter().find(|tenant| tenant["tenant"] == name);
        found.map(|tenant| tenant["samples"].clone())
    };
    assert_eq!((samples("red"), samples("blue")), (Some(202.into()), Some(101.into())));
}
