//! Compares the library with the Python reader, on crash states and on crash states
//! with one corruption. Both must find the same records.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use shardwal::fs::sim::SimFileSystem;

use crate::second_opinion::{Image, Opinion, SecondOpinion};
use crate::support::{DIR, Random};

/// One state per this number is judged.
const JUDGED_ONE_IN: u64 = 80;

/// The crash images and corrupted images that both readers have judged.
#[derive(Debug)]
pub(crate) struct Opinions {
    second: SecondOpinion,
    crashes: AtomicU64,
    corrupted: AtomicU64,
}

impl Opinions {
    /// Starts the Python reader; `None` without Python.
    pub(crate) fn start() -> Option<Self> {
        let second = SecondOpinion::start()?;
        Some(Self { second, crashes: AtomicU64::new(0), corrupted: AtomicU64::new(0) })
    }

    /// Judges a state if it is in the sample. `print` is its fingerprint.
    pub(crate) fn judge(&self, after: &SimFileSystem, print: u64) {
        if !print.is_multiple_of(JUDGED_ONE_IN) {
            return;
        }
        let mut image = Image::of_sim(after, DIR);
        self.second.compare(&image, &library(after));
        self.crashes.fetch_add(1, Relaxed);
        let mut random = Random::new(print);
        image.corrupt(&mut |below| random.below(below));
        self.second.compare(&image, &library(&image.to_sim(DIR)));
        self.corrupted.fetch_add(1, Relaxed);
    }

    pub(crate) fn crashes(&self) -> u64 {
        self.crashes.load(Relaxed)
    }

    /// Prints the counts.
    pub(crate) fn print(&self) {
        let (crashes, corrupted) = (self.crashes(), self.corrupted.load(Relaxed));
        println!("FIGURE explorer, second opinion: {crashes} crash images");
        println!("FIGURE explorer, second opinion, with one corruption: {corrupted} images");
        println!("FIGURE explorer, refused by both readers: {} images", self.second.refused());
    }
}

fn library(fs: &SimFileSystem) -> Opinion {
    Opinion::of_the_library(Arc::new(fs.clone()), Path::new(DIR))
}
