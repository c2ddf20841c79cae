//! A sharded, group-committed write-ahead log for time-series ingest.

pub mod disk;
