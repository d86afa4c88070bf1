//! What the words cost: a whole report on core's simulated machine (`core/examples/cost.rs`), with the
//! image's own code, built as the image is. Real machines with so many CPUs, and rings so large, QEMU cannot
//! show. The simulated machine's own instructions are counted, too.

use super::table::number;
use super::{Aim, Most, Page, image_example, millions, two_at_a_time};
use crate::machine::callgrind;
use anyhow::{Context, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// How dear the crash is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All CPUs but one idle in one place, and the log of a real crash.
    Typical,
    /// Each CPU in a place of its own, and a log that is as dear as can be.
    Worst,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Typical => "typical",
            Self::Worst => "worst",
        })
    }
}

/// What was counted.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Instructions.
    pub instructions: u64,
    /// Bytes that the console gets.
    pub console: u64,
    /// Reads of the real-time clock, in each second of the simulated time.
    pub rtc_reads: f64,
    /// Records that the BMC has in the end, the platform event's among them.
    pub records: u64,
}

/// Builds the program that makes the report.
///
/// # Errors
/// When it does not build.
pub fn cost() -> Result<PathBuf> {
    image_example("lastwords-core", "cost", &[])
}

/// A report of a crash with so many CPUs and so many KiB of log, by the program that [`cost`] has built; with
/// more parameters.
///
/// # Errors
/// When it cannot be counted.
pub fn words(cost: &Path, cpus: u32, log_kib: u32, kind: Kind, more: &[&str]) -> Result<Words> {
    let [cpus, log, kind] = [cpus.to_string(), log_kib.to_string(), kind.to_string()];
    let arguments = [&[&*cpus, &*log, "0", &*kind], more].concat();
    let counted = callgrind::count(cost, &arguments, Some("*cost::words*"))?;
    let printed = |name: &str| {
        let value = counted.text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        value.with_context(|| format!("no {name}: {}", counted.text))
    };
    Ok(Words {
        instructions: counted.instructions,
        console: printed("console_bytes ")?,
        rtc_reads: printed("rtc_reads ")? as f64 * 1e6 / printed("microseconds ")? as f64,
        records: printed("sel_records ")?,
    })
}

/// Numbers of CPUs, and the log that they have.
const CPUS: [u32; 6] = [1, 64, 512, 1024, 2048, 8192];
const A_LOG: u32 = 256;
/// Sizes of the log in KiB, with one CPU.
const LOGS: [u32; 6] = [4, 64, 256, 1024, 8192, 65536];

/// The page's part, and its aims.
///
/// # Errors
/// When it cannot be measured.
pub fn report(page: &mut Page) -> Result<()> {
    let cost = cost()?;
    let both = [Kind::Typical, Kind::Worst];
    let mut runs: Vec<(u32, u32, Kind)> = Vec::new();
    runs.extend(LOGS.iter().rev().flat_map(|log| both.map(|kind| (1, *log, kind))));
    runs.extend(CPUS.iter().rev().flat_map(|cpus| both.map(|kind| (*cpus, A_LOG, kind))));
    let counts = two_at_a_time(&runs, |(cpus, log, kind)| words(&cost, *cpus, *log, *kind, &[]))?;
    let of = |cpus: u32, log: u32, kind: Kind| {
        counts[runs.iter().position(|run| *run == (cpus, log, kind)).unwrap_or(0)]
    };
    page.section(
        "The report: CPUs and log",
        "Million instructions of a full report, in a simulated machine that runs the image's code, its own instructions included. \
         *Typical*: all CPUs but one idle, and the log of a real panic. *Worst*: each CPU at a location of its own, and a log in \
         which each line is as slow to search as can be. Seconds are the console's bytes at 115200 baud.",
    );
    let seconds = |bytes: u64| bytes as f64 * 10.0 / 115_200.0;
    let cells = |cpus: u32, log: u32| {
        let [typical, worst] = both.map(|kind| of(cpus, log, kind));
        [
            millions(typical.instructions),
            millions(worst.instructions),
            seconds(typical.console),
            seconds(worst.console),
        ]
        .map(number)
    };
    let head = |first| [first, "typical", "worst", "console, s: typical", "worst"];
    let rows = CPUS.map(|cpus| [number(cpus.into())].into_iter().chain(cells(cpus, A_LOG)).collect());
    page.table(&head("CPUs, 256 KiB of log"), &rows);
    let line = |kind: Kind| {
        let point = |cpus: u32| (f64::from(cpus), millions(of(cpus, A_LOG, kind).instructions));
        (kind.to_string(), CPUS.map(point).to_vec())
    };
    page.plot(
        "cpus",
        "A full report",
        ("CPUs", &CPUS.map(f64::from)),
        "million instructions",
        &both.map(line),
    )?;
    let rows = LOGS.map(|log| [number(log.into())].into_iter().chain(cells(1, log)).collect());
    page.table(&head("KiB of log, 1 CPU"), &rows);
    let slow = |seconds: f64| {
        words(
            &cost,
            1,
            A_LOG,
            Kind::Typical,
            &[&format!("answer_us={}", seconds * 1e6), "lastwords.budget=10"],
        )
    };
    let answers = [0.1, 0.3, 1.0, 2.0, 3.0, 4.0];
    let slow = two_at_a_time(&answers, |seconds| slow(*seconds))?;
    page.paragraph(
        "What a slow BMC has in the end, with a total time limit of 10 s: SEL records, the platform event's among them. While it \
         is waited for, the real-time clock is read so many times a second.",
    );
    let row = |(seconds, words): (f64, &Words)| {
        vec![number(seconds), number(words.records as f64), number(words.rtc_reads.round())]
    };
    let rows: Vec<_> = answers.into_iter().zip(&slow).map(row).collect();
    page.table(&["s for each response", "records", "reads of the clock"], &rows);
    let waits = slow.iter().map(|words| words.rtc_reads).fold(0.0, f64::max);

    let worst = LOGS.map(|log| of(1, log, Kind::Worst).instructions).into_iter().max().unwrap_or(0);
    let aim = |what: &str, figure: f64, unit, most| Aim { what: what.to_owned(), figure, unit, most };
    page.aims.push(aim("the worst log of any size", millions(worst), "M instructions", Most::Is(25.0)));
    let console = seconds(of(1024, A_LOG, Kind::Typical).console);
    page.aims.push(aim("1,024 idle CPUs on the console", console, "s at 115200 baud", Most::Is(0.1)));
    page.aims.push(aim("real-time clock, reads", waits, "a second", Most::Is(500.0)));
    for kind in both {
        let cpus = |cpus| millions(of(cpus, A_LOG, kind).instructions);
        let log = |log| millions(of(1, log, kind).instructions);
        let what = format!("report of 8,192 CPUs, {kind}");
        page.aims.push(aim(&what, cpus(8192), "M instructions", Most::Times(4.4, "2,048", cpus(2048))));
        let what = format!("report with 256 KiB of log, {kind}");
        page.aims.push(aim(&what, log(256), "M instructions", Most::Times(4.4, "64 KiB", log(64))));
    }
    Ok(())
}
