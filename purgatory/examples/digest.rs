//! How fast the image's digests are: the same code with the same flags, on a host. `make bench` runs it.

use lastwords_core::digest;
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::time::Instant;

/// As much as a dump kernel and its initial RAM disk have.
const BYTES: u32 = 64 << 20;

fn main() {
    let bytes = vec![0x5a; BYTES as usize];
    println!("{:.0}", speed(|| digest::lanes(black_box(&bytes))));
    println!("{:.0}", speed(|| Sha256::digest(black_box(&bytes)).into()));
}

/// MB/s, the best of some.
fn speed(digest: impl Fn() -> [u8; 32]) -> f64 {
    let once = || {
        let began = Instant::now();
        black_box(digest());
        began.elapsed().as_secs_f64()
    };
    f64::from(BYTES) / 1e6 / (0..24).map(|_| once()).fold(f64::INFINITY, f64::min)
}
