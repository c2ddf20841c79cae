//! `shardwal-ingest`, end to end and in parts.
//!
//! The program that `cargo test` built is run as a user runs it. The modules that read the
//! recording and write payloads are included here.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::process::{Command, Output};

use crate::record::{NotARecord, SeriesRecord, series_key};
use crate::stream::{self, Corruption, Label, Request, Sample, Series, StreamError};
use crate::workload::{RecordId, Workload, WorkloadError};

const RECORDING: &str = "data/node_exporter.remote_write";

fn recorded_requests() -> Vec<Request> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(RECORDING);
    stream::read(&path).expect("the recording is in the repository")
}

fn label(name: &str, value: &str) -> Label {
    Label { name: name.to_owned(), value: value.to_owned() }
}

/// A series as in a request, with one sample per timestamp.
fn series(name: &str, timestamps: &[i64]) -> Series {
    let sample = |&timestamp| Sample { timestamp, value: 0.5 };
    Series {
        labels: vec![label("__name__", name)],
        samples: timestamps.iter().map(sample).collect(),
    }
}

/// A body with its length, as in a recording.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a body of a test is small");
    [&length.to_le_bytes(), body].concat()
}

fn ingest(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_shardwal-ingest");
    Command::new(program).args(arguments).output().expect("the program starts")
}

#[test]
fn the_demo_survives_its_own_kill_and_finds_all_samples() {
    for durability in ["sync", "buffered", "interval:10ms"] {
        // Without a subcommand.
        let arguments = ["--durability", durability, "--threads=3", "--shards=2"];
        let output = ingest(&arguments);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{durability}: {stdout}");
        assert!(stdout.contains("killed the child"), "{stdout}");
        assert!(stdout.contains("\nOK: all 334000 samples are present and equal"), "{stdout}");
    }
}

#[test]
fn a_repeated_stream_is_logged_as_often_and_stays_in_the_given_directory() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("log");
    let path = directory.to_str().unwrap();
    let arguments = ["demo", "--durability", "buffered", "--repeat", "2", "--dir", path];
    let output = ingest(&arguments);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}");
    assert!(stdout.contains("\nOK: all 668000 samples"), "{stdout}");
    assert!(directory.read_dir().unwrap().next().is_some());

    let again = ingest(&arguments);
    let stdout = String::from_utf8_lossy(&again.stdout);
    assert_eq!(again.status.code(), Some(1), "{stdout}");
    assert!(stdout.contains("\nFAILED: "), "{stdout}");
    assert!(stdout.contains("is not empty"), "{stdout}");
}

#[test]
fn the_recording_is_what_prometheus_sent() {
    let requests = recorded_requests();
    assert_eq!(requests.len(), 168);
    let all = || requests.iter().flat_map(|request| &request.series);
    let keys: HashSet<u64> = all().map(|series| series_key(&series.labels)).collect();
    let names: BTreeSet<&[Label]> = all().map(|series| series.labels.as_slice()).collect();
    assert_eq!((keys.len(), names.len()), (5_120, 5_120));
    let samples: usize = all().map(|series| series.samples.len()).sum();
    assert_eq!(samples, 334_000);
}

#[test]
fn the_workload_has_each_sample_of_each_round_once() {
    let workload = Workload::new(recorded_requests(), 2).unwrap();
    assert_eq!(workload.series_count(), 5_120);
    assert_eq!(workload.sample_count(), 668_000);

    let mut next = vec![0; workload.series_count()];
    let mut records = 0;
    let mut samples = HashSet::new();
    for id in workload.in_order() {
        assert_eq!(id.ordinal, next[id.series], "records come in order");
        next[id.series] += 1;
        records += 1;
        let record = workload.record(id);
        assert_eq!(record.samples.len() as u64, workload.samples_in(id));
        assert_eq!(record.labels.is_empty(), id.ordinal > 0);
        samples.extend(record.samples.iter().map(|s| (id.series, s.timestamp)));
    }
    assert_eq!(records, workload.record_count());
    assert_eq!(samples.len(), 668_000);
    for (series, count) in next.into_iter().enumerate() {
        assert_eq!(workload.records_of(series), count);
        let key = workload.key(series);
        assert_eq!(workload.series_with_key(key), Some(series));
    }
}

#[test]
fn a_series_that_comes_twice_in_a_request_is_one_record() {
    let twice = Request { series: vec![series("a", &[1]), series("b", &[1]), series("a", &[2])] };
    let workload = Workload::new(vec![twice], 2).unwrap();
    let order: Vec<RecordId> = workload.in_order().collect();
    let named = |series, ordinal| RecordId { series, ordinal };
    assert_eq!(order, [named(0, 0), named(1, 0), named(0, 1), named(1, 1)]);
    let second = workload.record(order[2]);
    assert_eq!((second.request, second.ordinal), (1, 1));
    assert_eq!(second.samples, series("a", &[3, 4]).samples);
}

#[test]
fn what_cannot_be_dated_or_holds_nothing_is_refused() {
    let refusal = |timestamps: &[i64], rounds| {
        let request = Request { series: vec![series("a", timestamps)] };
        Workload::new(vec![request], rounds).unwrap_err()
    };
    assert_eq!(refusal(&[], 1), WorkloadError::Empty);
    let extremes = [i64::MIN, i64::MAX];
    assert_eq!(refusal(&extremes, 1), WorkloadError::TooManyRounds);
    assert_eq!(refusal(&[i64::MAX], 2), WorkloadError::TooManyRounds);
}

#[test]
fn a_corrupted_recording_is_refused_with_its_place() {
    let compressed = |message: &[u8]| snap::raw::Encoder::new().compress_vec(message).unwrap();
    let whole = framed(&compressed(b""));
    assert_eq!(stream::decode(&whole).unwrap().len(), 1);

    let corruption_of = |tail: &[u8]| match stream::decode(&[&whole, tail].concat()) {
        Err(StreamError::Corrupted { request: 1, offset, corruption }) if offset == whole.len() => {
            corruption
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(corruption_of(&[1, 0]), Corruption::Truncated));
    assert!(matches!(corruption_of(&[255; 6]), Corruption::Truncated));
    let claims_4_gib = framed(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0]);
    assert!(matches!(corruption_of(&claims_4_gib), Corruption::TooLarge(0xFFFF_FFFF)));
    assert!(matches!(corruption_of(&framed(&[9, 0, 0])), Corruption::Snappy(_)));
    let no_message = framed(&compressed(b"hello"));
    assert!(matches!(corruption_of(&no_message), Corruption::Protobuf(_)));
}

#[test]
fn a_payload_gives_back_its_record_bit_by_bit_and_no_other_length_does() {
    let stale = f64::from_bits(0x7ff0_0000_0000_0002);
    let sample = |timestamp, value| Sample { timestamp, value };
    let record = SeriesRecord {
        request: 7,
        ordinal: 0,
        labels: vec![label("__name__", "up"), label("job", "")],
        samples: vec![sample(-1, stale), sample(i64::MAX, -0.0)],
    };
    let mut payload = record.encode();
    assert_eq!(SeriesRecord::decode(&payload).as_ref(), Ok(&record));
    for length in 0..payload.len() {
        assert_eq!(SeriesRecord::decode(&payload[..length]), Err(NotARecord));
    }
    payload.push(0);
    assert_eq!(SeriesRecord::decode(&payload), Err(NotARecord));
    assert_eq!(SeriesRecord::decode(&[0xFF; 64]), Err(NotARecord));

    let mut other = record.clone();
    other.samples[0].value = f64::NAN;
    assert_ne!(other, record, "two NaNs of different bits are two values");
}

#[test]
fn the_key_of_a_series_is_the_same_for_ever() {
    // Computed independently, from the published constants of FNV-1a.
    assert_eq!(series_key(&[]), 0xcbf2_9ce4_8422_2325);
    assert_eq!(series_key(&[label("a", "bc")]), 0xa0a3_542c_19b9_00ab);
    assert_ne!(series_key(&[label("ab", "c")]), 0xa0a3_542c_19b9_00ab);
}
