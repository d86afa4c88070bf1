//! Faults: what can go wrong around a panic, made to happen to a machine, beside the ways there are to get over it.
//!
//! The BMC's faults set in a second before the panic: one that had been ill since boot would have no driver in the dead
//! kernel, and Linux's own way would have nothing to lose.

use crate::crash_kinds::Kind;
use crate::kernels::Release;
use crate::qemu::{Line, Vm};
use crate::scenario::{Arm, Bmc, Call, Outcome, Scenario};
use crate::vmbmc::{Answer, Manner, Request, netfn, obedient};
use anyhow::{Context, Result, ensure};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing but the panic.
    Nothing,
    /// Nobody at the BMC's ports.
    NoBmc,
    /// The status register always reads this, the data register 0.
    Stuck(u8),
    /// The BMC never answers. QEMU does so for it after 4 s, with 0xC3, timeout.
    Mute,
    /// Each answer takes 2 s.
    Slow,
    /// Every answer is this completion code: 0xC0 busy, 0xC1 unknown command.
    Refuses(u8),
    /// Add SEL Entry alone is answered with this: 0xD4 forbidden, 0xC4 full.
    RefusesRecords(u8),
    /// Answers of any length, with any bytes, to any command.
    Garbage,
    /// The answer is good, and to another command.
    ToAnother,
    /// An answer without so much as a completion code.
    Short,
    /// Answers with 200 bytes too many.
    Long,
    /// Never answers from the third command on.
    SilentFromThird,
    /// Loses its connection in the third command, and is back a second later.
    HangsUp,
    /// The BMC is mute, and the RTC stands still.
    MuteAndRtcStopped,
    /// Four processes ask the BMC, which takes 50 ms for an answer, while the kernel panics.
    Traffic,
    /// An NMI comes at each of the BMC's first five requests.
    NmisAtRequests,
    /// An NMI comes as soon as the CPU has left the dead kernel.
    NmiAfterTheKernel,
    /// The kernel panics in an NMI.
    PanicInNmi,
    /// The kernel panics in the NMI that finds a CPU stuck.
    HardLockup,
    /// The kernel panics in the keyboard's interrupt.
    PanicInInterrupt,
    /// Two CPUs panic at the same time.
    TwoPanics,
    /// A panic notifier panics.
    PanicInPanic,
}

/// What is there for a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `lastwords load --via purgatory`.
    Purgatory,
    /// `lastwords wrap` and `kexec -s`.
    Wrap,
    /// The IPMI driver's `panic_op=string` with `crash_kexec_post_notifiers`, and `kexec -s`.
    Linux,
    /// `kexec -s`.
    Kexec,
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Purgatory, Self::Wrap, Self::Linux, Self::Kexec];
}

/// What lastwords is asked for.
pub const OPTIONS: &str = "--ipmi-handle-panic --output-cpu-ip --ipmi-watchdog start=300";

/// The dump kernel's first line, before it is decompressed, and what makes it write that.
const FIRST_LINE: &str = "KASLR disabled: 'nokaslr' on cmdline";
const FIRST_LINE_PARAMETERS: &str = "nokaslr earlyprintk=serial,ttyS0,115200";

/// What the BMC took after the fault set in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Platform events.
    pub events: usize,
    /// SEL records.
    pub records: usize,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// The dump kernel came to its script's end; so long after the panic it wrote its first line. What it takes from
    /// there on is its own affair, and long where CPUs are emulated.
    Up(Duration),
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

/// The state that the BMC shares with who watches the machine.
#[derive(Default)]
struct Shared {
    ill: AtomicBool,
    events: AtomicUsize,
    records: AtomicUsize,
}

impl Fault {
    /// Every fault, in the order of the table.
    pub const ALL: [Self; 27] = [
        Self::Nothing,
        Self::NoBmc,
        Self::Stuck(0x00),
        Self::Stuck(0x01),
        Self::Stuck(0x02),
        Self::Stuck(0xc0),
        Self::Mute,
        Self::Slow,
        Self::Refuses(0xc0),
        Self::Refuses(0xc1),
        Self::RefusesRecords(0xd4),
        Self::RefusesRecords(0xc4),
        Self::Garbage,
        Self::ToAnother,
        Self::Short,
        Self::Long,
        Self::SilentFromThird,
        Self::HangsUp,
        Self::MuteAndRtcStopped,
        Self::Traffic,
        Self::NmisAtRequests,
        Self::NmiAfterTheKernel,
        Self::PanicInNmi,
        Self::HardLockup,
        Self::PanicInInterrupt,
        Self::TwoPanics,
        Self::PanicInPanic,
    ];

    /// As the table has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none: a good BMC",
            Self::NoBmc => "no BMC at the ports",
            Self::Stuck(0x00) => "status register always 0x00",
            Self::Stuck(0x01) => "status register always 0x01 (OBF)",
            Self::Stuck(0x02) => "status register always 0x02 (IBF)",
            Self::Stuck(_) => "status register always 0xc0 (error state)",
            Self::Mute => "BMC mute",
            Self::Slow => "BMC takes 2 s for each answer",
            Self::Refuses(0xc0) => "BMC busy for ever (0xC0)",
            Self::Refuses(_) => "BMC refuses everything (0xC1)",
            Self::RefusesRecords(0xc4) => "SEL full (0xC4)",
            Self::RefusesRecords(_) => "Add SEL Entry forbidden (0xD4)",
            Self::Garbage => "answers are garbage",
            Self::ToAnother => "answers to another command",
            Self::Short => "answers are empty",
            Self::Long => "answers are too long",
            Self::SilentFromThird => "BMC mute from the third command on",
            Self::HangsUp => "BMC lost in the third command, back 1 s later",
            Self::MuteAndRtcStopped => "BMC mute and RTC stopped",
            Self::Traffic => "panic amid IPMI traffic of four processes",
            Self::NmisAtRequests => "NMIs at the BMC's first five requests",
            Self::NmiAfterTheKernel => "an NMI right after the dead kernel",
            Self::PanicInNmi => "panic in an NMI",
            Self::HardLockup => "panic in the NMI of a hard lockup",
            Self::PanicInInterrupt => "panic in an interrupt",
            Self::TwoPanics => "two CPUs panic at the same time",
            Self::PanicInPanic => "a panic notifier panics",
        }
    }

    /// Is it the BMC's alone? Then whoever asks no BMC is none the worse.
    #[must_use]
    pub fn is_bmc_only(self) -> bool {
        !matches!(
            self,
            Self::Nothing
                | Self::Traffic
                | Self::NmisAtRequests
                | Self::NmiAfterTheKernel
                | Self::PanicInNmi
                | Self::HardLockup
                | Self::PanicInInterrupt
                | Self::TwoPanics
                | Self::PanicInPanic
        )
    }

    /// CPUs of the machine.
    #[must_use]
    pub fn cpus(self) -> usize {
        match self {
            Self::Traffic | Self::HardLockup | Self::TwoPanics => 2,
            _ => 1,
        }
    }

    /// Makes it happen. `dump` is the dump kernel's script.
    ///
    /// # Errors
    /// When the bench fails; not when the machine does.
    pub fn run(self, way: Way, dump: &str) -> Result<Run> {
        let shared = Arc::new(Shared::default());
        let (tell, request) = channel();
        let scenario = self.scenario(way, &shared, tell).dump(dump);
        let mut console = Vec::new();
        let mut nmis = 0;
        // A kernel that panics in an NMI has no time left to write it to the console.
        let mut struck = None;
        let result = scenario.watch(|vm, line| {
            console.push(line.clone());
            self.act(vm, line, &shared, &request, &mut nmis)?;
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
                at("bench: the dump kernel is armed").with_context(|| format!("not armed; {outcome}"))?;
                (End::Reset, Some(outcome))
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
            events: shared.events.load(Ordering::SeqCst),
            records: shared.records.load(Ordering::SeqCst),
        };
        Ok(Run { end, taken, nmis, console, outcome })
    }

    fn scenario(self, way: Way, shared: &Arc<Shared>, tell: Sender<()>) -> Scenario {
        let arm = match way {
            Way::Purgatory => Arm::Lastwords(format!("--via purgatory {OPTIONS}")),
            Way::Wrap => Arm::Wrapped(Call::FileLoad, OPTIONS.to_owned()),
            Way::Linux | Way::Kexec => Arm::Stock(Call::FileLoad),
        };
        let (append, panic_op) = match way {
            Way::Linux => ("crash_kexec_post_notifiers", "panic_op=string"),
            _ => ("", ""),
        };
        // The driver looks for minutes at a register that is stuck, and takes none of these for a BMC.
        let (bmc, options, driver) = match self {
            Self::NoBmc => (Bmc::None, Vec::new(), ""),
            Self::Stuck(status) => (Bmc::None, stuck(status), ""),
            _ => (Bmc::Ours(self.manner(Arc::clone(shared), tell)), Vec::new(), "ipmi"),
        };
        let mut scenario = Scenario::new(Release::V6_1)
            .cpus(self.cpus() as u32)
            .bmc(bmc)
            .arm(arm)
            .append(FIRST_LINE_PARAMETERS)
            .first_append(&format!("crashkernel=256M {append}"))
            .before(&format!("insmod /modules/ipmi_msghandler.ko {panic_op}\n{driver}"))
            .death(&format!("step the fault sets in\nsleep 1\n{}", self.death()))
            .limit(Duration::from_secs(150));
        if matches!(self, Self::NmisAtRequests | Self::NmiAfterTheKernel) {
            // Without an APIC nobody can mask an NMI.
            scenario = scenario.cpu("max,la57=off,erms=off,-apic");
        }
        for [option, value] in options {
            scenario = scenario.qemu([option.as_str(), value.as_str()]);
        }
        scenario
    }

    /// The script by which the kernel dies.
    fn death(self) -> String {
        match self {
            Self::Traffic => {
                "for turn in 1 2 3 4; do while :; do ipmitool raw 6 1 >/dev/null 2>&1; done & done\n\
                              sleep 3\npanic_on 0"
                    .to_owned()
            }
            Self::PanicInNmi => Kind::Nmi.death(),
            Self::HardLockup => Kind::HardLockup.death(),
            Self::PanicInInterrupt => {
                "kernel kernel/sysrq 1\nstep panic in an interrupt\nsleep 60".to_owned()
            }
            Self::TwoPanics => "step panic on both CPUs\n\
                                on_cpu 1 sh -c 'echo c >/proc/sysrq-trigger' &\n\
                                on_cpu 0 sh -c 'echo c >/proc/sysrq-trigger'"
                .to_owned(),
            Self::PanicInPanic => "oops 0 double_panic".to_owned(),
            _ => "panic_on 0".to_owned(),
        }
    }

    /// The BMC: good until it falls ill, and counts what it takes from then on.
    fn manner(self, shared: Arc<Shared>, tell: Sender<()>) -> Manner {
        let mut good = obedient();
        let mut asked = 0u32;
        Box::new(move |request: &Request| {
            if !shared.ill.load(Ordering::SeqCst) {
                return good(request);
            }
            asked += 1;
            // Nobody listens where there is no NMI to send.
            let _ = tell.send(());
            let answer = self.answer(asked, request, &mut good);
            let taken = match &answer {
                Answer::Say(said) | Answer::Late(_, said) | Answer::ToAnother(_, _, said) => {
                    said.first() == Some(&0) && self != Self::Garbage
                }
                Answer::Silence | Answer::HangUp => false,
            };
            match (request.netfn, request.command) {
                (netfn::SENSOR, 0x02) if taken => shared.events.fetch_add(1, Ordering::SeqCst),
                (netfn::STORAGE, 0x44) if taken => shared.records.fetch_add(1, Ordering::SeqCst),
                _ => 0,
            };
            answer
        })
    }

    /// The answer to the `asked`-th request since the BMC fell ill.
    fn answer(self, asked: u32, request: &Request, good: &mut Manner) -> Answer {
        let what = (request.netfn, request.command);
        match self {
            Self::Mute | Self::MuteAndRtcStopped => return Answer::Silence,
            Self::SilentFromThird if asked >= 3 => return Answer::Silence,
            Self::HangsUp if asked == 3 => return Answer::HangUp,
            Self::Refuses(code) => return Answer::Say(vec![code]),
            Self::RefusesRecords(code) if what == (netfn::STORAGE, 0x44) => return Answer::Say(vec![code]),
            Self::Short => return Answer::Say(Vec::new()),
            Self::Garbage => {
                // A linear congruential generator (Knuth): the same garbage in each run.
                let mut state = u64::from(asked);
                let mut byte = || {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 56) as u8
                };
                let (netfn, command, len) = (byte() >> 2, byte(), byte() % 40);
                return Answer::ToAnother(netfn, command, (0..len).map(|_| byte()).collect());
            }
            _ => {}
        }
        let Answer::Say(mut said) = good(request) else { return Answer::Silence };
        match self {
            Self::Slow => Answer::Late(Duration::from_secs(2), said),
            Self::Traffic => Answer::Late(Duration::from_millis(50), said),
            Self::ToAnother => Answer::ToAnother(request.netfn, request.command ^ 0x10, said),
            Self::Long => {
                said.resize(said.len() + 200, 0);
                Answer::Say(said)
            }
            // No room.
            Self::RefusesRecords(0xc4) if what == (netfn::STORAGE, 0x40) => {
                said[4] = 0;
                said[5] = 0;
                Answer::Say(said)
            }
            _ => Answer::Say(said),
        }
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
            Self::NmiAfterTheKernel if line.text.contains("Kernel panic") => {
                let mut monitor = vm.monitor()?;
                let began = Instant::now();
                while began.elapsed() < Duration::from_secs(60) {
                    if monitor.human("info registers")?.contains("RIP=00000000") {
                        monitor.nmi()?;
                        *nmis += 1;
                        break;
                    }
                    sleep(Duration::from_millis(1));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// QEMU's options for a status register that always reads the same.
fn stuck(status: u8) -> Vec<[String; 2]> {
    let port = |port: u16, value: u8| {
        [
            ["-chardev".to_owned(), format!("null,id=port{port:x}")],
            [
                "-device".to_owned(),
                format!("isa-debugcon,iobase={port:#x},readback={value:#x},chardev=port{port:x}"),
            ],
        ]
    };
    [port(0xca2, 0), port(0xca3, status)].concat()
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
