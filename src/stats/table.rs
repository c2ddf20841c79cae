//! Prints the stats as a table: a line per shard and a line per stage.
//!
//! It knows columns and units. It computes nothing.

use std::fmt;

use super::{Latency, ShardStats, WalStats};

impl fmt::Display for WalStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<6}{:>13}{:>11}{:>11}{:>9}{:>11}{:>7}{:>13}{:>9}{:>9}  state",
            "shard",
            "records",
            "bytes",
            "commits",
            "records",
            "syncs",
            "rolls",
            "queue/max",
            "blocked",
            "refused",
        )?;
        writeln!(f, "{:>50}", "/commit")?;
        for (number, shard) in self.shards.iter().enumerate() {
            write_shard(f, &number.to_string(), shard, usize::from(shard.poisoned))?;
        }
        write_shard(f, "total", &self.total, self.poisoned_shards())?;
        if let Some(free) = self.free_space.free_bytes {
            writeln!(f, "disk  {} free, {}", size(free), self.free_space.state)?;
        }

        if self.total.refused_appends.total() > 0 {
            writeln!(f, "refused before the queue  {}", self.total.refused_appends)?;
        }

        write_stages(f, &self.total)?;
        f.write_str("* of sampled records; percentiles are at most 3.1 % too high")
    }
}

/// The latencies and the sizes of commits, a row each.
fn write_stages(f: &mut fmt::Formatter<'_>, total: &ShardStats) -> fmt::Result {
    writeln!(
        f,
        "\n{:<15}{:>11}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "total", "count", "p50", "p90", "p99", "p99.9", "max"
    )?;
    write_stage(f, "queue wait *", &total.queue_wait)?;
    write_stage(f, "write", &total.write)?;
    write_stage(f, "sync", &total.sync)?;
    write_stage(f, "acknowledged *", &total.acknowledged)?;
    let sizes = &total.records_per_commit;
    writeln!(
        f,
        "{:<15}{:>11}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "records/commit", total.commits, sizes.p50, sizes.p90, sizes.p99, sizes.p999, sizes.max
    )
}

fn write_shard(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    shard: &ShardStats,
    poisoned: usize,
) -> fmt::Result {
    let queue = format!("{}/{}", shard.queue_depth, shard.queue_depth_max);
    write!(
        f,
        "{name:<6}{:>13}{:>11}{:>11}{:>9.1}{:>11}{:>7}{queue:>13}{:>9}{:>9}  ",
        shard.records,
        size(shard.bytes),
        shard.commits,
        shard.records_per_commit.mean,
        shard.syncs,
        shard.rolls,
        duration(shard.blocked_nanos),
        shard.refused_records,
    )?;
    match poisoned {
        0 => writeln!(f, "ok"),
        count => writeln!(f, "{count} poisoned"),
    }
}

fn write_stage(f: &mut fmt::Formatter<'_>, name: &str, stage: &Latency) -> fmt::Result {
    writeln!(
        f,
        "{name:<15}{:>11}{:>9}{:>9}{:>9}{:>9}{:>9}",
        stage.count,
        duration(stage.p50_nanos),
        duration(stage.p90_nanos),
        duration(stage.p99_nanos),
        duration(stage.p999_nanos),
        duration(stage.max_nanos),
    )
}

/// Formats nanoseconds in the largest unit in which the number is at least 1.
fn duration(nanos: u64) -> String {
    scaled(nanos, 1000.0, &["ns", "us", "ms", "s"])
}

/// Formats bytes in the largest unit in which the number is at least 1.
fn size(bytes: u64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

fn scaled(number: u64, step: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (number as f64, 0);
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(unit > 0);
    format!("{value:.digits$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;
    use crate::stats::{CommitSample, FreeSpace, FreeSpaceState, Observer, Recorder};

    #[test]
    fn numbers_are_shown_in_a_unit_that_fits() {
        assert_eq!(duration(0), "0 ns");
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(12_345), "12.3 us");
        assert_eq!(duration(7_200_000_000_000), "7200.0 s");
        assert_eq!(size(1536), "1.5 KiB");
    }

    #[test]
    fn the_table_has_a_line_for_each_shard_and_each_stage() {
        let recorders = [Recorder::new("log", 0), Recorder::new("log", 1)];
        recorders[0].committed(CommitSample {
            records: 12_000,
            bytes: 3 << 20,
            queue_depth: 900,
            write_nanos: Some(480_000),
        });
        recorders[0].acknowledged(1_500_000);
        recorders[0].blocked(2_000_000);
        recorders[0].refused_append(&Cause::QueueFull, 3);
        recorders[1].refused_append(&Cause::Closed, 1);
        recorders[1].poisoned();
        let free_space = FreeSpace { free_bytes: Some(3 << 29), state: FreeSpaceState::Low };
        let stats = WalStats::of(recorders.iter().map(|recorder| (recorder, 8)), free_space);
        let expected = "\
shard       records      bytes    commits  records      syncs  rolls    queue/max  blocked  refused  state
                                           /commit
0             12000    3.0 MiB          1  12000.0          0      0        8/900   2.0 ms        0  ok
1                 0        0 B          0      0.0          0      0          8/0     0 ns        0  1 poisoned
total         12000    3.0 MiB          1  12000.0          0      0       16/900   2.0 ms        0  1 poisoned
disk  1.5 GiB free, low
refused before the queue  queue_full 3, closed 1

total                count      p50      p90      p99    p99.9      max
queue wait *             0     0 ns     0 ns     0 ns     0 ns     0 ns
write                    1 480.0 us 480.0 us 480.0 us 480.0 us 480.0 us
sync                     0     0 ns     0 ns     0 ns     0 ns     0 ns
acknowledged *           1   1.5 ms   1.5 ms   1.5 ms   1.5 ms   1.5 ms
records/commit           1    12000    12000    12000    12000    12000
* of sampled records; percentiles are at most 3.1 % too high";
        assert_eq!(stats.to_string(), expected);
    }
}
