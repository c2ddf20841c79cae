//! Inline commit through the storage: a caller that writes and waits commits itself if the shard is
//! idle, as with `append_wait`. In a batch for several shards, it may commit the last part.

use std::thread;

use crate::support::gate::Gate;
use shardwal::Config;
use shardwal::fs::sim::SimFileSystem;
use shardwal_timeseries::{Labels, Sample, Storage, StorageOptions, TimeSeries};

fn series(host: u64, time: i64) -> TimeSeries {
    let labels = Labels::new([("__name__", "up"), ("host", &host.to_string())]);
    TimeSeries::new(labels.expect("they are valid"), vec![Sample::new(time, 1.0)])
}

#[test]
fn a_caller_that_waits_for_its_write_syncs_it_where_the_shard_is_idle() {
    for shards in [1, 3] {
        let (fs, gate) = (SimFileSystem::new(), Gate::default());
        let config = Config::new("/db").file_system(gate.before(&fs)).shards(shards);
        let storage = Storage::open(StorageOptions::new(config)).unwrap();
        let me = Some(thread::current().id());
        let mut times = 0..1000;
        // The shard's thread may not be parked yet. Then it commits, so try again.
        assert!(times.any(|time| {
            storage.write(&series(0, time)).unwrap();
            gate.came_last() == me
        }));
        let hosts = |time| (0..20).map(|host| series(host, time)).collect::<Vec<_>>();
        let all = times.next().unwrap();
        storage.write_batch(&hosts(all)).unwrap();
        assert_eq!(storage.samples(), all as u64 + 20, "each part is applied, by either thread");
    }
}
