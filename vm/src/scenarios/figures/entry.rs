//! How long it is from the first instruction in the reserved memory to the dump kernel's first: what runs
//! there is the crashed kernel's jump, a hundred instructions that are the same for all, and then the
//! purgatory.

use super::table::number;
use super::{Aim, Most, Page, SIZES, apart, millions, two_at_a_time};
use crate::judge::segments::Segments;
use crate::machine::count::Counter;
use crate::scenarios::kept::crash_kernel;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::path::Path;

/// How the dump kernel is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `kexec -p -c`.
    KexecLoad,
    /// `kexec -p -s`.
    KexecFileLoad,
    /// A kernel that `lastwords wrap` has wrapped, by `kexec -p -s`, with nothing to say.
    Wrap,
    /// The same with everything.
    WrapWords,
    /// `lastwords load`, with nothing to say.
    Purgatory,
    /// The same with everything.
    PurgatoryWords,
}

/// What is asked for.
const WORDS: &str = "--ipmi-handle-panic --output-cpu-ip --ipmi-watchdog start=120 --console-serial";

impl Way {
    /// All.
    pub const ALL: [Self; 6] = [
        Self::KexecLoad,
        Self::KexecFileLoad,
        Self::Wrap,
        Self::WrapWords,
        Self::Purgatory,
        Self::PurgatoryWords,
    ];

    fn wraps(self) -> bool {
        matches!(self, Self::Wrap | Self::WrapWords)
    }

    /// The commands that load.
    fn script(self) -> String {
        let words = if matches!(self, Self::WrapWords | Self::PurgatoryWords) { WORDS } else { "" };
        let initrd = "--initrd=/boot/initrd --append='console=ttyS0 quiet nr_cpus=1'";
        match self {
            Self::KexecLoad => format!("kexec -p -c -d /boot/vmlinuz {initrd}"),
            Self::KexecFileLoad => format!("kexec -p -s /boot/vmlinuz {initrd}"),
            Self::Wrap | Self::WrapWords => {
                format!(
                    "lastwords wrap /boot/vmlinuz -o /boot/wrapped {words} && kexec -p -s /boot/wrapped {initrd}"
                )
            }
            Self::Purgatory | Self::PurgatoryWords => {
                format!("lastwords load --via purgatory --verbose /boot/vmlinuz {initrd} {words}")
            }
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KexecLoad => "kexec -c",
            Self::KexecFileLoad => "kexec -s",
            Self::Wrap => "wrap, no report",
            Self::WrapWords => "wrap, full report",
            Self::Purgatory => "purgatory, no report",
            Self::PurgatoryWords => "purgatory, full report",
        })
    }
}

/// Guest instructions from entry to entry, with an initial RAM disk of `mib` MiB and one CPU.
///
/// # Errors
/// When the machine does not come there.
pub fn entry_to_entry(program: &Path, way: Way, mib: u64) -> Result<u64> {
    let counter = Counter::new()?;
    // The kernel tells where it loads the other one, when it is asked.
    let script = format!(
        "grow {mib}\necho 'file kexec-bzimage64.c +p' >/proc/dynamic_debug/control\n\
         ( {} ) >/tmp/load 2>&1 || step not armed\n\
         dmesg >>/tmp/load\n\
         grep -E 'segment: |64bit kernel at 0x' /tmp/load >/dev/console\n\
         grep 'Crash kernel' /proc/iomem >/dev/console\n\
         step the dump kernel is loaded\nmark\npanic_on 0",
        way.script()
    );
    let scenario = super::machine(program, &counter).death(&script).dump("step the dump kernel is up");
    let (mut segments, mut reserved) = (Segments::default(), None);
    let outcome = scenario.watch(|_, line| {
        segments.read(&line.text);
        reserved = reserved.take().or_else(|| crash_kernel(&line.text));
        Ok(())
    })?;
    ensure!(outcome.when("the dump kernel is up").is_some(), "the dump kernel did not start: {outcome}");
    counter.to_entry(reserved.context("no memory is reserved")?, segments.entry()?, way.wraps())
}

/// The page's part, and its aims.
///
/// # Errors
/// When it cannot be measured.
pub fn report(page: &mut Page, program: &Path) -> Result<()> {
    // The longest first; one of them twice.
    let mut runs: Vec<(Way, u64)> =
        SIZES.iter().rev().flat_map(|mib| Way::ALL.map(|way| (way, *mib))).collect();
    runs.push((Way::PurgatoryWords, SIZES[0]));
    let counts = two_at_a_time(&runs, |(way, mib)| entry_to_entry(program, *way, *mib))?;
    let of = |way: Way, mib: u64| counts[runs.iter().position(|run| *run == (way, mib)).unwrap_or(0)];
    page.section(
        "From the panic to the dump kernel",
        "Million guest instructions from the crashed kernel's jump to the dump kernel's first instruction. A full report has the \
         platform event, the SEL, the console and the watchdog.",
    );
    let row = |way: &Way| {
        [way.to_string()].into_iter().chain(SIZES.map(|mib| number(millions(of(*way, mib))))).collect()
    };
    let rows: Vec<_> = Way::ALL.iter().map(row).collect();
    page.table(&["dump kernel loaded by", "16 MiB initrd", "64 MiB", "256 MiB"], &rows);
    let line = |way: &Way| (way.to_string(), SIZES.map(|mib| (mib as f64, millions(of(*way, mib)))).to_vec());
    let lines: Vec<_> = Way::ALL.iter().map(line).collect();
    let ticks = SIZES.map(|mib| mib as f64);
    let title = "From the panic to the dump kernel";
    page.plot("entry", title, ("MiB of initial RAM disk", &ticks), "million instructions", &lines)?;
    let twice = counts.last().copied().unwrap_or(0);
    page.paragraph(&format!(
        "A second run of the full report differs by {:.3} %. A dump kernel that is loaded by `kexec` is checked with SHA-256, by \
         code without SHA instructions. `wrap` leaves that check in place.",
        apart(of(Way::PurgatoryWords, SIZES[0]), twice)
    ));

    for mib in SIZES {
        page.aims.push(Aim {
            what: format!("panic to dump kernel, full report, {mib} MiB"),
            figure: millions(of(Way::PurgatoryWords, mib)),
            unit: "M instructions",
            most: Most::Part(50.0, "kexec -c", millions(of(Way::KexecLoad, mib))),
        });
    }
    page.aims.push(Aim {
        what: "full report of a typical panic".to_owned(),
        figure: millions(of(Way::PurgatoryWords, SIZES[0]).saturating_sub(of(Way::Purgatory, SIZES[0]))),
        unit: "M instructions",
        most: Most::Is(2.0),
    });
    page.aims.push(Aim {
        what: "panic to dump kernel, no report, 256 MiB".to_owned(),
        figure: millions(of(Way::Purgatory, 256)),
        unit: "M instructions",
        most: Most::Times(4.4, "64 MiB", millions(of(Way::Purgatory, 64))),
    });
    Ok(())
}
