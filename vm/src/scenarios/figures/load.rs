//! What it takes to load a dump kernel: instructions of the whole command, the kernel's and its own, and
//! memory.
//!
//! Memory is what a memory cgroup of the command's own is charged at most: anonymous memory, page tables and
//! files that it writes, but not files that it reads, which others have written. A sampler misses the peak,
//! and ru_maxrss has files that are only mapped. The kernel counts charges in batches: it can be 0.25 MiB too
//! much.

use super::table::number;
use super::{Aim, Most, Page, SIZES, apart, millions, two_at_a_time};
use crate::machine::count::Counter;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::fmt::Write as _;
use std::path::Path;

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

/// What each of [`Loader::ALL`] takes with an initial RAM disk of `mib` MiB, in turn in one machine; at last
/// a program that does nothing.
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
    let outcome = super::machine(program, &counter).before(&script).death("poweroff -f").run()?;
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

/// The page's part, and its aims.
///
/// # Errors
/// When it cannot be measured.
pub fn report(page: &mut Page, program: &Path) -> Result<()> {
    let [first, .., last] = SIZES;
    // The largest first, and the smallest twice.
    let runs = two_at_a_time(&[last, SIZES[1], first, first], |mib| loads(program, *mib))?;
    let [large, middle, small, again] = &runs[..] else { unreachable!("four runs") };
    let of =
        |loader: Loader, run: &[Load]| run[Loader::ALL.iter().position(|one| *one == loader).unwrap_or(0)];
    page.section(
        "Loading a dump kernel",
        "Million guest instructions of the whole command, of the program and of the kernel. *First*: the symbols of the running \
         kernel are not saved yet. *Again*: they are. *Over another*: a dump kernel is loaded already.",
    );
    let sizes = [small, middle, large];
    let table = |figure: &dyn Fn(&Load) -> String| {
        let row = |loader: &Loader| {
            [loader.to_string()].into_iter().chain(sizes.map(|run| figure(&of(*loader, run)))).collect()
        };
        Loader::ALL.iter().map(row).collect::<Vec<Vec<String>>>()
    };
    let head = ["command", "16 MiB initrd", "64 MiB", "256 MiB"];
    page.table(&head, &table(&|load| number(millions(load.instructions))));
    let line = |loader: &Loader| {
        let point = |(mib, run): (u64, &Vec<Load>)| (mib as f64, millions(of(*loader, run).instructions));
        (loader.to_string(), SIZES.into_iter().zip(sizes).map(point).collect())
    };
    let ticks = SIZES.map(|mib| mib as f64);
    let lines: Vec<_> = Loader::ALL.iter().map(line).collect();
    page.plot(
        "load",
        "Loading a dump kernel",
        ("MiB of initial RAM disk", &ticks),
        "million instructions",
        &lines,
    )?;
    page.paragraph(
        "Peak memory of the command in MB. A memory cgroup of its own is charged with it: anonymous memory, page tables, and \
         files that it writes. Files that it only reads do not count.",
    );
    page.table(&head, &table(&|load| number(load.memory as f64 / 1e6)));
    let idle = small.last().map_or(0, |load| load.instructions);
    let pairs = || small.iter().zip(again).take(Loader::ALL.len());
    let spread = pairs().map(|(one, other)| apart(one.instructions, other.instructions)).fold(0.0, f64::max);
    page.paragraph(&format!(
        "A second run at 16 MiB differs by {spread:.2} % at most. A program that does nothing takes {} million instructions.",
        number(millions(idle))
    ));

    let stock = millions(of(Loader::KexecLoad, middle).instructions);
    for (loader, divisor) in [(Loader::First, 8.0), (Loader::Again, 10.0), (Loader::Over, 10.0)] {
        page.aims.push(Aim {
            what: format!("{loader}, 64 MiB"),
            figure: millions(of(loader, middle).instructions),
            unit: "M instructions",
            most: Most::Part(divisor, "kexec -p -c", stock),
        });
    }
    let ours = |run: &[Load]| Loader::ALL.iter().skip(2).map(|loader| of(*loader, run).memory).max();
    page.aims.push(Aim {
        what: "lastwords load: memory at any size".to_owned(),
        figure: sizes.iter().filter_map(|run| ours(run)).max().unwrap_or(0) as f64 / 1e6,
        unit: "MB",
        most: Most::Is(20.0),
    });
    page.aims.push(Aim {
        what: "loading again, 256 MiB".to_owned(),
        figure: millions(of(Loader::Again, large).instructions),
        unit: "M instructions",
        most: Most::Times(4.4, "64 MiB", millions(of(Loader::Again, middle).instructions)),
    });
    Ok(())
}
