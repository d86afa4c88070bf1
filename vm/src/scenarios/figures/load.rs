//! What it takes to load a dump kernel: instructions of the whole command, the kernel's and its own, and memory.
//!
//! Memory is what a memory cgroup of the command's own is charged at most: anonymous memory, page tables and files that it
//! writes, but not files that it reads, which others have written. A sampler misses the peak, and ru_maxrss has files that
//! are only mapped. The kernel counts charges in batches: it can be 0.25 MiB too much.

use crate::machine::count::Counter;
use crate::machine::kernels::Release;
use crate::scenarios::{Arm, Scenario};
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// A way to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// `kexec -p -c`.
    KexecLoad,
    /// `kexec -p -s`.
    KexecFileLoad,
    /// `lastwords load`, for the first time: the kernel's symbols are saved.
    First,
    /// Once more: they are there.
    Again,
    /// Once more, with a dump kernel loaded: it is tried whether the new one can be loaded.
    Over,
    /// `lastwords load --no-symbols`.
    NoSymbols,
}

impl Loader {
    /// All, in the order in which they are run.
    pub const ALL: [Self; 6] =
        [Self::KexecLoad, Self::KexecFileLoad, Self::First, Self::Again, Self::Over, Self::NoSymbols];

    fn command(self) -> &'static str {
        match self {
            Self::KexecLoad => "/bin/kexec -p -c",
            Self::KexecFileLoad => "/bin/kexec -p -s",
            Self::First | Self::Again | Self::Over => "/bin/lastwords load --via purgatory",
            Self::NoSymbols => "/bin/lastwords load --via purgatory --no-symbols",
        }
    }
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KexecLoad => "kexec -p -c",
            Self::KexecFileLoad => "kexec -p -s",
            Self::First => "lastwords, first",
            Self::Again => "lastwords, again",
            Self::Over => "lastwords, over another",
            Self::NoSymbols => "lastwords --no-symbols",
        })
    }
}

/// What it takes.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Guest instructions.
    pub instructions: u64,
    /// Bytes of memory at most.
    pub memory: u64,
}

/// What each of [`Loader::ALL`] takes with an initial RAM disk of `mib` MiB, in turn in one machine; at last a program that
/// does nothing.
///
/// # Errors
/// When one of them does not load.
pub fn loads(program: &Path, mib: u64) -> Result<Vec<Load>> {
    let counter = Counter::new()?;
    let arguments = "/boot/vmlinuz --initrd=/boot/initrd --append='nr_cpus=1 reset_devices'";
    let mut script = format!("grow {mib}\ncgroups\n");
    for loader in Loader::ALL {
        if loader != Loader::Over {
            script += "kexec -p -u\n";
        }
        let _ = writeln!(script, "measured {loader:?} {} {arguments}", loader.command());
    }
    script += "measured Idle /bin/idle\nsection end true\n";
    let outcome = Scenario::new(Release::V6_1)
        .qemu(["-icount", "shift=0,sleep=off"])
        .cpus(1)
        .memory(2048)
        .first_append("crashkernel=640M")
        .beside(&counter.options())
        .arm(Arm::Not)
        .lastwords_at_hand()
        .program(program)
        .limit(Duration::from_secs(900))
        .before(&script)
        .death("poweroff -f")
        .run()?;
    let counts = counter.marked()?;
    ensure!(counts.len() == Loader::ALL.len() + 1, "{counts:?}");
    let names = Loader::ALL.iter().map(|loader| format!("{loader:?}")).chain(["Idle".to_owned()]);
    names
        .zip(counts)
        .map(|(name, instructions)| {
            outcome.text(&name)?;
            let memory = outcome.text(&format!("{name}-memory"))?.trim();
            let memory = memory.parse().with_context(|| format!("{name}: no peak of memory: {memory}"))?;
            Ok(Load { instructions, memory })
        })
        .collect()
}
