//! The constants of docs/scale.md: the model's parameters on this machine, from the disk alone,
//! from waking alone, and from four loads of the log.

use crate::device::Device;
use crate::scale_model::{Costs, Machine};
use crate::wake_ups::WakeUp;
use crate::{Disk, Measured, median};

/// Assumed time between two claims of a shard's ticket by different cores: a cache line's way to
/// another core and back. Two cores cannot measure it.
const CLAIM_MICROS: f64 = 0.1;

/// The constants, and their changes on a disk that discards.
pub struct Fit {
    pub machine: Machine,
    pub costs: Costs,
    /// Duration of a commit whose sync sleeps for a millisecond.
    slept: f64,
    /// CPU time of a commit that makes no system call.
    null_commit: f64,
}

impl Fit {
    /// Derives the constants from the disk, the cost of waking, and the four cases of [`FITTED`].
    pub fn of(devices: &[Device], wake_ups: &[WakeUp], fitted: &[Measured]) -> Self {
        let [one, _, sixteen] = [0, 1, 2].map(|index| syncs_per_second(devices, index));
        let (one, sixteen) = (1e6 / one, 16e6 / sixteen);
        let [alone, waiting, pipelined, sleeping] = fitted else {
            unreachable!("four cases are fitted")
        };
        let bandwidth = devices.iter().map(Device::bytes_per_s).collect::<Vec<_>>();
        let machine = Machine {
            cores: std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64),
            sync: one,
            sync_more: (sixteen - one) / 15.0,
            bandwidth: median(&bandwidth) / 1e6,
        };
        // One caller pays for a whole commit, each of 64 callers for its share.
        let (paid, share) = (median(&sleeping.cpu), 1.0 / median(&waiting.held));
        let null_commit = ((paid - median(&waiting.cpu)) / (1.0 - share)).max(0.0);
        let per_waiting = median(&waiting.cpu) - null_commit * share;
        let costs = Costs {
            waiting: per_waiting,
            pipelined: median(&pipelined.cpu),
            commit: (median(&alone.cpu) - per_waiting).max(0.0),
            handover: (median(&alone.mean_micros) - one).max(0.0),
            writer: median(&pipelined.writer),
            wake: median(&wake_ups.iter().map(|one| one.cpu).collect::<Vec<_>>()),
            hop: median(&wake_ups.iter().map(|one| one.hop).collect::<Vec<_>>()),
            chains: machine.cores,
            claim: CLAIM_MICROS,
        };
        let slept = median(&sleeping.mean_micros);
        Self { machine, costs, slept, null_commit }
    }

    /// The machine and costs of a case's disk.
    pub fn under(&self, disk: Disk) -> (Machine, Costs) {
        match disk {
            Disk::Zeros | Disk::WrittenOver => (self.machine, self.costs),
            Disk::Null(latency) => {
                let sync = if latency.is_zero() { 0.0 } else { self.slept };
                let bandwidth = f64::INFINITY;
                let machine = Machine { sync, sync_more: 0.0, bandwidth, ..self.machine };
                let handover = if latency.is_zero() { self.null_commit } else { 0.0 };
                (machine, Costs { commit: self.null_commit, handover, ..self.costs })
            }
        }
    }

    pub fn print(&self, devices: &[Device]) {
        let Machine { cores, sync, sync_more, bandwidth } = self.machine;
        let Costs { waiting, pipelined, commit, handover, writer, wake, hop, claim, .. } =
            self.costs;
        println!("\n### The constants\n\n| constant | value | measured as |\n|---|---|---|");
        println!("| cores | {cores} | |");
        println!("| a write and its sync, alone | {sync:.0} us | 4 KiB overwritten, 1 file |");
        let four = 4e6 / syncs_per_second(devices, 1);
        let modelled = sync + 3.0 * sync_more;
        println!(
            "| each more at the same time | {sync_more:.1} us | the same in 16 files; in 4 it took {four:.0} us, \
             this says {modelled:.0} |"
        );
        println!("| bandwidth | {bandwidth:.0} MB/s | 1 MiB at a time, each synced, one file |");
        println!("| CPU, per record waited for | {waiting:.2} us | 64 callers, 1 shard, no disk |");
        println!(
            "| CPU, per record of 256 in flight | {pipelined:.2} us | 64 callers, 1 shard, no disk |"
        );
        println!("| CPU, per commit | {commit:.1} us | 1 caller, this disk, less the record's |");
        println!(
            "| a commit beside its sync | {handover:.0} us | latency of 1 caller, this disk, less the sync |"
        );
        println!(
            "| of that, without system calls | {:.1} us | 1 caller, syncs that sleep |",
            self.null_commit
        );
        println!("| CPU of the writer thread, per record | {writer:.2} us | 256 in flight |");
        println!("| CPU, to wake a thread | {wake:.2} us | 64 sleeping threads in turn, no log |");
        println!(
            "| from one wake-up to the next of a chain | {hop:.1} us | two threads to and fro, no log |"
        );
        println!("| between two claims in a shard | {claim} us | assumed |");
    }
}

/// The median over the rounds, for one number of files in parallel.
fn syncs_per_second(devices: &[Device], index: usize) -> f64 {
    median(&devices.iter().map(|device| device.syncs[index].per_s).collect::<Vec<_>>())
}
