//! One bit of what was loaded changes before the crash, as a stray write or a bad memory cell changes it: what comes of
//! it, with a dump kernel loaded in each way. The same bits for the same files.

use crate::judge::loaded::{Loaded, Region};
use crate::machine::gdb::Stop;
use crate::machine::kept::Kept;
use crate::machine::kernels::{Kernel, Release};
use crate::scenarios::inject::Code;
use crate::scenarios::kept::{DEATH, KeptState, keep};
use crate::scenarios::{Arm, Call, Scenario};
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Who has loaded the dump kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// `lastwords load --via purgatory`.
    Purgatory,
    /// `lastwords wrap` and `kexec -p -s`.
    Wrap,
    /// `kexec -p -c`.
    Load,
    /// `kexec -p -s`.
    FileLoad,
}

impl Way {
    /// Every way, ours first.
    pub const ALL: [Self; 4] = [Self::Purgatory, Self::Wrap, Self::Load, Self::FileLoad];

    /// Has it an image of ours?
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Purgatory | Self::Wrap)
    }

    fn scenario(self) -> Scenario {
        const OPTIONS: &str = "--ipmi-handle-panic --output-cpu-ip --ipmi-watchdog start=300";
        let arm = match self {
            Self::Purgatory => Arm::Lastwords(format!("--via purgatory {OPTIONS}")),
            Self::Wrap => Arm::Wrapped(Call::FileLoad, OPTIONS.to_owned()),
            Self::Load => Arm::Stock(Call::Load),
            Self::FileLoad => Arm::Stock(Call::FileLoad),
        };
        Scenario::new(Release::V6_1)
            .cpus(1)
            .memory(512)
            .first_append("crashkernel=192M init_on_free=1")
            .arm(arm)
            .dump("section dmesg sh -c 'vmcore-dmesg /proc/vmcore | tail -n 1'")
            .death(DEATH)
    }
}

/// As files and the table name it.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Purgatory => "lastwords, purgatory",
            Self::Wrap => "lastwords, wrap",
            Self::Load => "kexec -c",
            Self::FileLoad => "kexec -s",
        })
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The dump kernel ran its script to the end.
    Dump,
    /// The machine was reset, and what was damaged is reported.
    Report,
    /// The machine was reset.
    Reset,
    /// It stood still.
    Hang,
}

/// One bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Where it is.
    pub region: Region,
    /// Which one of the region's.
    pub number: u64,
}

/// The cases of a way, so many in each region.
#[must_use]
pub fn cases(way: Way, count: u64) -> Vec<Case> {
    let ours = if way.is_ours() { &Region::IMAGE[..] } else { &[] };
    let regions = ours.iter().chain(&Region::OTHERS);
    regions.flat_map(|region| (0..count).map(|number| Case { region: *region, number })).collect()
}

/// A machine with a dump kernel, at the beginning of its panic().
struct Bench {
    machine: Kept,
    start: u64,
    memory: Vec<u8>,
    kernel: Vec<u8>,
    code: Option<Code>,
}

/// How long a machine takes at most that does not stand still: an emulated boot on a busy host.
const LIMIT: Duration = Duration::from_secs(240);
/// It is looked at so often; so many looks at the same instruction, and it stands still. Nobody sleeps on the way to the
/// dump and in it.
const LOOK: Duration = Duration::from_millis(1500);
const LOOKS: usize = 5;

impl Bench {
    fn start(way: Way, state: &KeptState) -> Result<Self> {
        let mut machine = Kept::start(&state.machine, &state.file)?;
        machine.put_back()?;
        let [start, end] = state.note[..] else { bail!("{:?} is no place of memory", state.note) };
        let file = machine.folder.path().join("memory");
        machine.monitor.order(&format!("pmemsave {start:#x} {:#x} \"{}\"", end - start, file.display()))?;
        let memory = fs::read(&file)?;
        let kernel = fs::read(Kernel::get(Release::V6_1)?.image)?;
        let code = if way.is_ours() { Some(Code::get()?) } else { None };
        Ok(Self { machine, start, memory, kernel, code })
    }

    /// Physical addresses of a region.
    fn find(&self, region: Region) -> Result<Range<u64>> {
        let loaded = Loaded { start: self.start, memory: &self.memory, kernel: &self.kernel };
        let Some(code) = self.code.as_ref().filter(|_| Region::IMAGE.contains(&region)) else {
            return loaded.find(region);
        };
        let image = self.start + loaded.image()? as u64;
        let (entry, text, data, end) = (
            code.symbol("lastwords_purgatory_entry")?,
            code.symbol("lastwords_guarded")?,
            code.data(),
            code.file_end(),
        );
        let handoff = crate::judge::image::HANDOFF;
        let range = match region {
            Region::Header => 0..handoff,
            Region::Handoff => handoff..entry,
            Region::Entry => entry..text,
            Region::Code => text..data,
            _ => data..end,
        };
        ensure!(range.start < range.end, "{region} has no place: {range:x?}");
        Ok(image + range.start..image + range.end)
    }

    /// What comes of a flipped bit.
    fn run(&mut self, case: Case) -> Result<End> {
        let range = self.find(case.region)?;
        // Knuth's multiplicative hash, twice: the same bits in each way, where a region has the same bytes in each.
        let hash = |value: u64| value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
        let number = hash(case.number + 1);
        let address = range.start + number % (range.end - range.start);
        self.machine.put_back()?;
        let byte = *self.machine.gdb.read(address, 1)?.first().context("nothing was read")?;
        self.machine.gdb.write(address, &[byte ^ 1 << (hash(number) % 8)])?;
        self.end()
    }

    /// Lets it go on.
    fn end(&mut self) -> Result<End> {
        let mut places = Vec::new();
        let mut waited = Duration::ZERO;
        let stop = loop {
            let stop = self.machine.gdb.go_on(LOOK)?;
            waited += LOOK;
            places.push(self.machine.gdb.rip()?);
            let last = &places[places.len().saturating_sub(LOOKS)..];
            let stands_still = last.len() == LOOKS && last.iter().all(|place| *place == last[0]);
            if stop != Stop::Limit || stands_still || waited > LIMIT {
                break stop;
            }
        };
        let console = self.machine.console()?;
        let has = |text: &str| console.contains(text);
        Ok(match stop {
            Stop::There => bail!("the machine stopped where it was not to"),
            Stop::Limit => End::Hang,
            Stop::Off if has("bench: the end") => End::Dump,
            Stop::Off if has("lastwords: dump kernel corrupt") => End::Report,
            Stop::Off => End::Reset,
        })
    }
}

/// Runs the cases of a way with so many machines at a time; `done` hears of each.
///
/// # Errors
/// When QEMU fails.
pub fn run(
    way: Way,
    count: u64,
    machines: usize,
    done: impl Fn(Case, End) + Sync,
) -> Result<Vec<(Case, End)>> {
    let name = format!("panic-{way}").replace([' ', ','], "");
    let state = keep(&name, way.scenario(), |ready| {
        Ok((ready.panic, vec![ready.reserved.start, ready.reserved.end]))
    })?;
    let cases = cases(way, count);
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        let mut bench = Bench::start(way, &state)?;
        let end = bench.end()?;
        ensure!(end == End::Dump, "{way}: with no damage at all: {end:?}");
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let end = bench.run(*case).with_context(|| format!("{way}: {case:?}"))?;
            done(*case, end);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((*case, end));
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..machines).map(|_| scope.spawn(work)).collect();
        let mut worked = vec![work()];
        worked.extend(others.into_iter().map(|other| {
            other.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a machine's thread has panicked")))
        }));
        worked.into_iter().collect::<Result<()>>()
    })?;
    Ok(results.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Cases in which stock comes to the dump and we do not: for people.
#[must_use]
pub fn worse(results: &[(Way, Vec<(Case, End)>)]) -> Vec<String> {
    let mut worse = Vec::new();
    for (way, ours) in results.iter().filter(|(way, _)| way.is_ours()) {
        for (case, end) in ours.iter().filter(|(_, end)| *end != End::Dump) {
            for (stock, theirs) in results.iter().filter(|(way, _)| !way.is_ours()) {
                if theirs.contains(&(*case, End::Dump)) {
                    worse.push(format!(
                        "{way}: {} {}: {end:?}, and a dump with {stock}",
                        case.region, case.number
                    ));
                }
            }
        }
    }
    worse
}
