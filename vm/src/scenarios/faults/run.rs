//! A fault's run: what the host does to the machine, how it ended, and what the BMC took.

use super::bmc::Shared;
use super::{Fault, Way};
use crate::judge::loaded::{CMD_LINE_PTR, Loaded, Region};
use crate::judge::outcome::Outcome;
use crate::machine::console::Line;
use crate::machine::gdb::Debugger;
use crate::machine::kernels::{Kernel, Release};
use crate::machine::qemu::Vm;
use crate::scenarios::crash_kinds::Kind;
use crate::scenarios::inject::Event;
use crate::scenarios::kept;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The dump kernel's first line, before it is decompressed, and what makes it write that.
const FIRST_LINE: &str = "KASLR disabled: 'nokaslr' on cmdline";
pub(super) const FIRST_LINE_PARAMETERS: &str = "nokaslr earlyprintk=serial,ttyS0,115200";

/// What the BMC took after the fault set in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The characters of each platform event.
    pub events: Vec<[u8; 3]>,
    /// SEL records.
    pub records: usize,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// The dump kernel came to its script's end; so long after the panic it wrote its first line. What it takes from
    /// there on is its own affair, and long where CPUs are emulated.
    Up(Duration),
    /// The machine was reset so long after the panic, as it was to be.
    Back(Duration),
    /// The machine was reset, or switched itself off, without a dump.
    Reset,
    /// It did nothing any more until the limit.
    Hung,
}

/// A run of a fault.
pub struct Run {
    /// How it ended.
    pub end: End,
    /// What the BMC took.
    pub taken: Taken,
    /// How often an NMI was injected.
    pub nmis: usize,
    /// The console.
    pub console: Vec<Line>,
    /// All the rest, unless it hung.
    pub outcome: Option<Outcome>,
}

impl Run {
    /// Did lastwords tell the console of a CPU?
    #[must_use]
    pub fn console_has_cpus(&self) -> bool {
        self.console.iter().any(|line| line.text.starts_with("lastwords: CPU "))
    }

    /// The outcome, for tests.
    ///
    /// # Errors
    /// When it hung.
    pub fn outcome(&self) -> Result<&Outcome> {
        self.outcome.as_ref().context("the machine hung")
    }
}

impl Fault {
    /// Makes it happen. `dump` is the dump kernel's script.
    ///
    /// # Errors
    /// When the bench fails; not when the machine does.
    pub fn run(self, way: Way, dump: &str) -> Result<Run> {
        let shared = Arc::new(Shared::default());
        let (tell, request) = channel();
        let debugger = Debugger::new()?;
        let scenario = self.scenario(way, &shared, tell).dump(dump).debugger(&debugger);
        let mut console = Vec::new();
        let mut nmis = 0;
        // A kernel that panics in an NMI has no time left to write it to the console.
        let mut struck = None;
        let result = scenario.watch(|vm, line| {
            console.push(line.clone());
            self.act(vm, line, &shared, &request, &mut nmis)?;
            if self == Self::DamagedBootParams && line.text.contains("bench: a bit is to change") {
                flip(vm, &debugger, &console)?;
            }
            if line.text.starts_with("bench: panic on ") {
                struck = Some(vm.elapsed());
            }
            Ok(())
        });
        let at = |text: &str| console.iter().find(|line| line.text.contains(text)).map(|line| line.at);
        let (end, outcome) = match result {
            Ok(outcome) if outcome.dumped() => {
                let panic = at("Kernel panic")
                    .or(struck)
                    .with_context(|| format!("a dump, but no panic; {outcome}"))?;
                let first = at(FIRST_LINE).with_context(|| format!("a silent dump kernel; {outcome}"))?;
                (End::Up(first.saturating_sub(panic)), Some(outcome))
            }
            Ok(outcome) => {
                let ended = outcome.started.elapsed();
                at("bench: the dump kernel is loaded").with_context(|| format!("not armed; {outcome}"))?;
                let panic = at("Kernel panic").or(struck).filter(|_| matches!(self, Self::Alone(_)));
                let end = panic.map_or(End::Reset, |panic| End::Back(ended.saturating_sub(panic)));
                (end, Some(outcome))
            }
            Err(error) if format!("{error:#}").contains("the machine was still running") => {
                // One that panics in an NMI and hangs before it says so is taken for this, too.
                let panicked =
                    ["Kernel panic", "lastwords: ", FIRST_LINE].iter().any(|text| at(text).is_some());
                ensure!(panicked, "the kernel did not panic, or said nothing of it; {error:#}");
                (End::Hung, None)
            }
            Err(error) => return Err(error),
        };
        let taken = Taken {
            events: shared.events.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            records: shared.records.load(Ordering::SeqCst),
        };
        Ok(Run { end, taken, nmis, console, outcome })
    }

    /// What the host does at a line of the console.
    fn act(
        self,
        vm: &Vm,
        line: &Line,
        shared: &Shared,
        request: &Receiver<()>,
        nmis: &mut usize,
    ) -> Result<()> {
        if let Self::Alone(fault) = self {
            return fault.act(vm, line, shared, request, nmis);
        }
        if line.text.contains("bench: the fault sets in") {
            shared.ill.store(true, Ordering::SeqCst);
            if self == Self::MuteAndRtcStopped {
                // Register B: SET, which stops the updates; 24 hours.
                let mut monitor = vm.monitor()?;
                monitor.human("o /b 0x70 0x0b")?;
                monitor.human("o /b 0x71 0x82")?;
            }
        }
        match self {
            Self::PanicInNmi => Kind::Nmi.act(vm, line)?,
            Self::HardLockup => Kind::HardLockup.act(vm, line)?,
            Self::PanicInInterrupt if line.text.contains("bench: panic in ") => {
                vm.monitor()?.human("sendkey alt-sysrq-c")?;
            }
            Self::NmisAtRequests if line.text.contains("Kernel panic") => {
                // The driver's own requests of before.
                while request.try_recv().is_ok() {}
                while *nmis < 5 && request.recv_timeout(Duration::from_secs(5)).is_ok() {
                    vm.monitor()?.nmi()?;
                    *nmis += 1;
                }
            }
            Self::NmiAfterTheKernel | Self::CheckAfterTheKernel if line.text.contains("Kernel panic") => {
                let mut monitor = vm.monitor()?;
                let began = Instant::now();
                while began.elapsed() < Duration::from_secs(60) {
                    if monitor.human("info registers")?.contains("RIP=00000000") {
                        if self == Self::NmiAfterTheKernel {
                            monitor.nmi()?;
                            *nmis += 1;
                        } else {
                            monitor.human(&Event::Fatal.machine_check())?;
                        }
                        break;
                    }
                    sleep(Duration::from_millis(1));
                }
            }
            Self::NmiStorm if line.text.contains("Kernel panic") => {
                while request.try_recv().is_ok() {}
                if request.recv_timeout(Duration::from_secs(5)).is_ok() {
                    let mut monitor = vm.monitor()?;
                    // The last request is long ago: the report is over.
                    while *nmis < 10 || request.recv_timeout(Duration::from_millis(20)).is_ok() {
                        monitor.nmi()?;
                        *nmis += 1;
                    }
                }
            }
            Self::CheckInReport | Self::ChecksInReport | Self::CheckOfAllCpus
                if line.text.contains("Kernel panic") =>
            {
                while request.try_recv().is_ok() {}
                let event = if self == Self::CheckOfAllCpus { Event::Broadcast } else { Event::Fatal };
                let at: &[usize] = if self == Self::ChecksInReport { &[0, 2] } else { &[0] };
                for number in 0..3 {
                    if request.recv_timeout(Duration::from_secs(5)).is_ok() && at.contains(&number) {
                        vm.monitor()?.human(&event.machine_check())?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Changes a bit of the command line's address in boot_params, wherever they are loaded.
fn flip(vm: &Vm, debugger: &Debugger, console: &[Line]) -> Result<()> {
    let reserved =
        console.iter().find_map(|line| kept::crash_kernel(&line.text)).context("nothing is reserved")?;
    let mut gdb = debugger.connect()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("memory");
    let len = reserved.end - reserved.start;
    vm.monitor()?.order(&format!("pmemsave {:#x} {len:#x} \"{}\"", reserved.start, file.display()))?;
    let kernel = fs::read(Kernel::get(Release::V6_1)?.image)?;
    let loaded = Loaded { start: reserved.start, memory: &fs::read(&file)?, kernel: &kernel };
    let byte = loaded.find(Region::BootParams)?.start + CMD_LINE_PTR as u64 + 2;
    let old = *gdb.read(byte, 1)?.first().context("nothing was read")?;
    gdb.write(byte, &[old ^ 0x10])?;
    gdb.detach()
}

/// Runs every fault in every way, two machines at a time, and hands over each result. `kexec` alone asks no BMC, and is
/// left out where the fault is the BMC's only.
pub fn run_all(faults: &[Fault], ways: &[Way], done: impl Fn(usize, usize, Result<Run>) + Sync) {
    let mut jobs: Vec<(usize, usize)> =
        (0..faults.len()).flat_map(|fault| (0..ways.len()).map(move |way| (fault, way))).collect();
    jobs.retain(|(fault, way)| ways[*way] != Way::Kexec || !faults[*fault].is_bmc_only());
    let next = Mutex::new(jobs.into_iter());
    let work = || {
        while let Some((fault, way)) = next.lock().ok().and_then(|mut jobs| jobs.next()) {
            done(fault, way, faults[fault].run(ways[way], "true"));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}
