//! Faults: what can go wrong around a panic, made to happen to a machine, beside the ways there are to get over it.
//!
//! Here they have their names; `setup` has their machines, `bmc` the BMCs that fall ill, `run` what is done to a
//! machine and how it ended.

mod bmc;
mod run;
mod setup;

pub use run::{End, Run, Taken, run_all};

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
    /// NMIs come one after the other from the BMC's first request on, until the dump kernel starts.
    NmiStorm,
    /// A machine check comes as soon as the CPU has left the crashed kernel.
    CheckAfterTheKernel,
    /// A machine check comes at the BMC's first request.
    CheckInReport,
    /// One at the BMC's first request, and one at the third.
    ChecksInReport,
    /// A machine check comes to both CPUs at the BMC's first request.
    CheckOfAllCpus,
    /// One bit of the command line's address in boot_params has changed since they were loaded.
    DamagedBootParams,
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
    /// The same, of a BMC behind BT.
    Bt(&'static Fault),
    /// The same, of a BMC behind SSIF.
    Ssif(&'static Fault),
    /// The same, where there is no dump kernel: the machine is to be reset.
    Alone(&'static Fault),
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
/// Without a dump kernel: a watchdog would outlive the reset.
pub const OPTIONS_ALONE: &str = "--ipmi-handle-panic --output-cpu-ip";

impl Fault {
    /// Every fault, in the order of the table.
    pub const ALL: [Self; 47] = [
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
        Self::NmiStorm,
        Self::CheckAfterTheKernel,
        Self::CheckInReport,
        Self::ChecksInReport,
        Self::CheckOfAllCpus,
        Self::DamagedBootParams,
        Self::PanicInNmi,
        Self::HardLockup,
        Self::PanicInInterrupt,
        Self::TwoPanics,
        Self::PanicInPanic,
        Self::Bt(&Self::Stuck(0x80)),
        Self::Bt(&Self::Mute),
        Self::Bt(&Self::Slow),
        Self::Bt(&Self::Garbage),
        Self::Ssif(&Self::Mute),
        Self::Ssif(&Self::Slow),
        Self::Ssif(&Self::Garbage),
        Self::Ssif(&Self::ToAnother),
        Self::Alone(&Self::Nothing),
        Self::Alone(&Self::Mute),
        Self::Alone(&Self::Slow),
        Self::Alone(&Self::Garbage),
        Self::Alone(&Self::NmiStorm),
        Self::Alone(&Self::CheckInReport),
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
            Self::NmiAfterTheKernel => "an NMI right after the crashed kernel",
            Self::NmiStorm => "NMIs all through the report",
            Self::CheckAfterTheKernel => "a machine check right after the crashed kernel",
            Self::CheckInReport => "a machine check in the report",
            Self::ChecksInReport => "two machine checks in the report",
            Self::CheckOfAllCpus => "a machine check on both CPUs in the report",
            Self::DamagedBootParams => "a flipped bit in boot_params",
            Self::PanicInNmi => "panic in an NMI",
            Self::HardLockup => "panic in the NMI of a hard lockup",
            Self::PanicInInterrupt => "panic in an interrupt",
            Self::TwoPanics => "two CPUs panic at the same time",
            Self::PanicInPanic => "a panic notifier panics",
            Self::Bt(Self::Stuck(_)) => "BT: BT_CTRL always 0x80 (B_BUSY)",
            Self::Bt(Self::Mute) => "BT: BMC mute",
            Self::Bt(Self::Slow) => "BT: BMC takes 2 s for each answer",
            Self::Bt(_) => "BT: answers are garbage",
            Self::Ssif(Self::Mute) => "SSIF: BMC mute",
            Self::Ssif(Self::Slow) => "SSIF: BMC takes 2 s for each answer",
            Self::Ssif(Self::ToAnother) => "SSIF: answers to another command",
            Self::Ssif(_) => "SSIF: answers are garbage",
            Self::Alone(Self::Nothing) => "no dump kernel: a good BMC",
            Self::Alone(Self::Mute) => "no dump kernel: BMC mute",
            Self::Alone(Self::Slow) => "no dump kernel: BMC takes 2 s for each answer",
            Self::Alone(Self::NmiStorm) => "no dump kernel: NMIs all through the report",
            Self::Alone(Self::CheckInReport) => "no dump kernel: a machine check in the report",
            Self::Alone(_) => "no dump kernel: answers are garbage",
        }
    }

    /// Is it the BMC's alone, or does it come with its requests? Then whoever asks no BMC is none the worse.
    #[must_use]
    pub fn is_bmc_only(self) -> bool {
        !matches!(
            self,
            Self::Nothing
                | Self::Traffic
                | Self::NmiAfterTheKernel
                | Self::CheckAfterTheKernel
                | Self::DamagedBootParams
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
            Self::Traffic | Self::HardLockup | Self::TwoPanics | Self::CheckOfAllCpus => 2,
            _ => 1,
        }
    }
}
