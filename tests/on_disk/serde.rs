//! With the feature `serde`, the types that callers store and display round-trip.
#![cfg(feature = "serde")]

use std::time::Duration;

use crate::raw;
use serde_json::{Value, from_value, json, to_value};
use shardwal::fs::sim::SimFileSystem;
use shardwal::{Checkpoint, Config, Durability, OnCorruption, Position, ReplayOptions, ShardedWal};

#[test]
fn a_durability_serializes_as_its_text_form() {
    let cases = [
        (Durability::Sync, json!("sync"), "sync"),
        (Durability::Buffered, json!("buffered"), "buffered"),
        (Durability::Interval(Duration::from_millis(10)), json!("interval:10ms"), "interval:10ms"),
    ];
    for (durability, value, text) in cases {
        assert_eq!(to_value(durability).unwrap(), value);
        assert_eq!(from_value::<Durability>(value).unwrap(), durability);
        assert_eq!(durability.to_string(), text);
        assert_eq!(text.parse::<Durability>().unwrap(), durability);
    }
    // The name of earlier versions.
    assert_eq!(from_value::<Durability>(json!("os")).unwrap(), Durability::Buffered);
    assert_eq!("os".parse::<Durability>().unwrap(), Durability::Buffered);
    for wrong in [json!("fast"), json!("interval:10"), json!({"interval": "10ms"}), json!(10)] {
        assert!(from_value::<Durability>(wrong.clone()).is_err(), "{wrong}");
    }
    for wrong in ["", "interval", "interval:", "interval:soon", "Sync"] {
        let error = wrong.parse::<Durability>().unwrap_err().to_string();
        assert!(error.starts_with("config: durability `"), "{error}");
    }
}

#[test]
fn a_config_needs_only_its_directory_and_round_trips() {
    let sparse: Config = from_value(json!({"dir": "/log"})).unwrap();
    assert_eq!(to_value(&sparse).unwrap(), to_value(Config::new("/log")).unwrap());
    let config = Config::new("/log")
        .shards(7)
        .queue_capacity(9)
        .queue_bytes(11)
        .segment_bytes(13)
        .recycled_segments_max(25)
        .preallocated_segments(23)
        .max_commit_records(15)
        .max_commit_bytes(17)
        .durability(Durability::Interval(Duration::from_micros(1500)))
        .on_corruption(OnCorruption::Quarantine)
        .free_space_min_bytes(19)
        .free_space_low_bytes(21);
    let value = to_value(&config).unwrap();
    assert_eq!(
        value,
        json!({
            "dir": "/log", "shards": 7, "queue_capacity": 9, "queue_bytes": "11B",
            "segment_bytes": "13B", "recycled_segments_max": 25, "preallocated_segments": 23,
            "max_commit_records": 15, "max_commit_bytes": "17B", "durability": "interval:1500us",
            "free_space_low_bytes": "21B", "free_space_min_bytes": "19B",
            "on_corruption": "quarantine",
        })
    );
    let back: Config = from_value(value.clone()).unwrap();
    assert_eq!(to_value(&back).unwrap(), value);
    assert_eq!(back.dir(), config.dir());
    assert_eq!(
        (back.get_shards(), back.get_queue_capacity(), back.get_queue_bytes()),
        (Some(7), 9, 11)
    );
    assert_eq!((back.get_segment_bytes(), back.get_recycled_segments_max()), (13, 25));
    assert_eq!((back.get_preallocated_segments(), back.get_max_commit_records()), (23, 15));
    assert_eq!(back.get_max_commit_bytes(), 17);
    assert_eq!(back.get_durability(), config.get_durability());
    assert_eq!(back.get_on_corruption(), OnCorruption::Quarantine);
    assert_eq!((back.get_free_space_min_bytes(), back.get_free_space_low_bytes()), (19, 21));
    assert_eq!(back.keep_shards().get_shards(), None);
}

#[test]
fn sizes_have_units_and_whatever_is_no_setting_is_refused() {
    let config: Config = from_value(json!({
        "dir": "/log", "segment_bytes": "8MiB", "queue_bytes": 4096, "max_commit_bytes": "1MiB",
        "free_space_low_bytes": "2GiB", "free_space_min_bytes": "1GiB",
    }))
    .unwrap();
    assert_eq!((config.get_segment_bytes(), config.get_queue_bytes()), (8 << 20, 4096));
    assert_eq!(config.get_max_commit_bytes(), 1 << 20);
    assert_eq!(
        (config.get_free_space_low_bytes(), config.get_free_space_min_bytes()),
        (2 << 30, 1 << 30)
    );
    config.validate().unwrap();
    for (wrong, said) in [
        (json!({"dir": "/log", "shard": 4}), "unknown field `shard`"),
        (json!({"dir": "/log", "segment_bytes": "8MB"}), "`8MB` is not a size"),
        (json!({"dir": "/log", "queue_bytes": -1}), "not negative"),
        (json!({"dir": "/log", "queue_bytes": 1.5}), "such as `64MiB`"),
        (json!({"dir": "/log", "durability": "interval:10"}), "`10` is not a duration"),
    ] {
        let error = from_value::<Config>(wrong).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let wrong: Config = from_value(json!({"dir": "/log", "segment_bytes": "1KiB"})).unwrap();
    let error = wrong.validate().unwrap_err().to_string();
    assert!(error.contains("segment_bytes is 1024; it must be 4096 to 4294967296"), "{error}");
}

#[test]
fn checkpoints_and_positions_round_trip() {
    let checkpoint = Checkpoint::new(3, [0, 1 << 60, u64::MAX]);
    let value = to_value(&checkpoint).unwrap();
    assert_eq!(from_value::<Checkpoint>(value).unwrap(), checkpoint);
    let id = "0123456789abcdeffedcba9876543210";
    let of_log = checkpoint.clone().of_log(id.parse().unwrap());
    let value = to_value(&of_log).unwrap();
    assert_eq!(value, json!({"log": id, "generation": 3, "below": [0, 1_u64 << 60, u64::MAX]}));
    assert_eq!(from_value::<Checkpoint>(value).unwrap(), of_log);
    // As an earlier version stored it, without the id of a log.
    let before = json!({"generation": 3, "below": [0, 1_u64 << 60, u64::MAX]});
    assert_eq!(from_value::<Checkpoint>(before).unwrap(), checkpoint);
    let position = Position { generation: 1, shard: 2, sequence: u64::MAX };
    assert_eq!(from_value::<Position>(to_value(position).unwrap()).unwrap(), position);
}

#[test]
fn reports_and_stats_serialize_with_their_field_names() {
    let fs = SimFileSystem::with_dir("/log");
    let log = ShardedWal::open(raw::config(&fs, 2)).unwrap();
    log.append(1, "one").wait().unwrap();
    let stats = to_value(log.stats()).unwrap();
    assert_eq!(stats["total"]["records"], 1);
    assert_eq!(stats["shards"].as_array().map(Vec::len), Some(2));
    let replayed = log.replay(ReplayOptions::default(), |_| Ok::<_, std::io::Error>(())).unwrap();
    assert_eq!(to_value(replayed).unwrap(), json!({"records": 1, "payload_bytes": 3}));
    let truncated = log.truncate_before(&log.durable_checkpoint()).unwrap();
    assert_eq!(to_value(truncated).unwrap()["segments"], 0);
    log.close().unwrap();

    let segment = raw::segment_path(1, 1, 1);
    fs.remove_file(&segment);
    let (_, report) = raw::read(&fs).unwrap();
    let report = to_value(report).unwrap();
    assert_eq!(report["shards"][0]["corruption"], Value::Null);
    assert_eq!(report["shards"][1]["corruption"]["file"], json!(segment));
}

/// A mistyped setting must not silently mean its default.
#[test]
fn a_config_refuses_an_unknown_setting() {
    let error = from_value::<Config>(json!({"dir": "/log", "durabilty": "os"})).unwrap_err();
    assert!(error.to_string().contains("durabilty"), "{error}");
    for extra in ["segment_byte", "Shards", "disk"] {
        let value = json!({"dir": "/log", extra: 1});
        assert!(from_value::<Config>(value).is_err(), "{extra}");
    }
}
