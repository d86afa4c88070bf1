//! The figures of `make bench`, each beside the stock tool's of the same run. What is counted (instructions,
//! bytes) is the same on a busy host; times are shown, and no aim is a time.

// A figure has no more than twelve digits.
#![allow(clippy::cast_precision_loss)]

pub mod digest;
pub mod entry;
pub mod load;
mod page;
mod plot;
pub mod read;
pub mod size;
mod table;
pub mod words;

use crate::machine::count::Counter;
use crate::machine::kernels::Release;
use crate::machine::{cache, process};
use crate::scenarios::{Arm, Scenario};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

pub use page::Page;
pub use table::{Aim, Most};

/// The machine that it is counted in: one CPU, whose clock goes by instructions, so that timer ticks are as
/// many on a busy host; and no debugger, since the clock leaps when one stops the machine.
fn machine(program: &Path, counter: &Counter) -> Scenario {
    Scenario::new(Release::V6_1)
        .cpus(1)
        .memory(2048)
        .first_append("crashkernel=640M")
        .qemu(["-icount", "shift=0,sleep=off"])
        .beside(&counter.options())
        .arm(Arm::Not)
        .lastwords_at_hand()
        .program(program)
        .limit(Duration::from_secs(900))
}

/// Builds an example of a package as cli/build.rs builds the image, with more flags.
fn image_example(package: &str, example: &str, more: &[&str]) -> Result<PathBuf> {
    // Other flags in the same folder would build all of it anew, each time.
    let folder = format!("{example}{}", if more.is_empty() { "" } else { "-more" });
    let target = cache::target()?.join("vm").join(folder);
    let flags = [
        "-Cno-redzone=yes",
        "-Crelocation-model=pic",
        "-Cllvm-args=--inline-threshold=15",
        "-Cllvm-args=--enable-pre=false",
        "-Cllvm-args=--x86-cmov-converter=false",
        "--cfg=sha2_backend_soft=\"compact\"",
    ];
    let flags = [&flags, more].concat().join("\x1f");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--profile", "purgatory", "-p", package, "--example", example]);
    cargo.arg("--manifest-path").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    cargo.arg("--target-dir").arg(&target).env("CARGO_ENCODED_RUSTFLAGS", flags);
    process::output(&mut cargo)?;
    Ok(target.join("purgatory/examples").join(example))
}

/// Sizes of the initial RAM disk, in MiB.
pub const SIZES: [u64; 3] = [16, 64, 256];

/// Work on these things, two at a time, which is how many cores there may be. Counts do not depend on it.
///
/// # Errors
/// The first that one of them has.
pub fn two_at_a_time<T: Sync, R: Send>(
    things: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        while let Some((at, thing)) = things.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((at, work(thing)));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    });
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Millions, as the tables have them.
fn millions(count: u64) -> f64 {
    count as f64 / 1e6
}

/// How far apart two counts of the same are, in percent.
fn apart(one: u64, other: u64) -> f64 {
    100.0 * one.abs_diff(other) as f64 / one.min(other) as f64
}
