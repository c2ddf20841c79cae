//! Corruption of a log by a disk or a person.

use super::Image;

const SECTOR: usize = 512;

impl Image {
    /// Applies one corruption to a file that is not empty: a flipped bit, a cut, a
    /// sector of zeros or of another file, another file's bytes, or deletion. `random`
    /// returns a number below its argument.
    pub(crate) fn corrupt(&mut self, random: &mut dyn FnMut(u64) -> u64) {
        let mut pick = |below: usize| usize::try_from(random(below as u64)).expect("it is below");
        let is_full = |at: &usize| !self.files[*at].1.is_empty();
        let full: Vec<_> = (0..self.files.len()).filter(is_full).collect();
        if full.is_empty() {
            return;
        }
        let (victim, other) = (full[pick(full.len())], full[pick(full.len())]);
        let donor = self.files[other].1.clone();
        let bytes = &mut self.files[victim].1;
        // Most of a file is zeros written ahead, so most positions are chosen among the
        // written bytes.
        let last = bytes.iter().rposition(|byte| *byte != 0);
        let written = last.map_or(bytes.len(), |last| last + 1);
        let reach = if pick(8) == 0 { bytes.len() } else { written };
        let at = pick(reach);
        let sector = at / SECTOR * SECTOR;
        let sector = sector..bytes.len().min(sector + SECTOR);
        match pick(7) {
            0 | 1 => bytes[at] ^= 1 << pick(8),
            2 => bytes.truncate(at),
            3 => bytes[sector].fill(0),
            4 => {
                let from = donor.len().min(sector.start)..donor.len().min(sector.end);
                let to = sector.start..sector.start + from.len();
                bytes[to].copy_from_slice(&donor[from]);
            }
            5 => *bytes = donor,
            _ => drop(self.files.remove(victim)),
        }
    }
}
