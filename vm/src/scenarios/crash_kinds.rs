//! Kinds of crash: for each, the guest's word that brings it about (`guest/guest.sh`) and what the host adds.

use crate::machine::console::Line;
use crate::machine::kernels::Release;
use crate::machine::qemu::Vm;
use anyhow::Result;
use std::fmt;
use std::thread::sleep;
use std::time::Duration;

/// A way for a kernel to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody wrote `c` to /proc/sysrq-trigger.
    Sysrq,
    /// A write through a null pointer.
    NullPointer,
    /// The same, when an oops comes to the dump kernel by way of panic().
    FatalException,
    /// An address that is none.
    ProtectionFault,
    /// BUG().
    Bug,
    /// Recursion without end.
    StackOverflow,
    /// The first process ended.
    KilledInit,
    /// A task that waits for ever.
    HungTask,
    /// A CPU that runs one task only.
    SoftLockup,
    /// A CPU that takes no interrupts, found by an NMI of its own.
    HardLockup,
    /// The same, found by another CPU.
    RcuStall,
    /// No memory left, and told not to kill for it.
    OutOfMemory,
    /// An NMI from nowhere: the button that an administrator presses.
    Nmi,
    /// The CPU says that it is broken.
    MachineCheck,
    /// WARN(), where warnings are fatal (`panic_on_warn`).
    Warning,
    /// The same, a counter of references that the kernel found below zero.
    Refcount,
    /// The same, an index that is too large for its array. Newer kernels look for it.
    Ubsan,
    /// A list whose entries do not belong together.
    ListCorruption,
    /// A process was killed since no memory was left; then an oops.
    OomThenOops,
    /// A task waits for ever, which is only reported; then an oops.
    HungTaskThenOops,
    /// A user's process did what it may not; then an oops.
    UserFaultThenOops,
    /// The CPU corrected an error; then an oops.
    MachineCheckThenOops,
    /// An oops on a CPU while another one reports, too.
    Interleaved,
    /// A soft lockup, half a minute of traces, and the panic.
    SlowLockup,
    /// A hard lockup with all CPUs' traces.
    HardLockupEverywhere,
    /// A user's mount options look like a panic, before an oops and meanwhile.
    ForgedMount,
    /// A user's process that is named like a report dies; then an oops.
    ForgedName,
    /// The path of a user's program looks like a panic; then an oops.
    ForgedPath,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 28] = [
        Self::Sysrq,
        Self::NullPointer,
        Self::FatalException,
        Self::ProtectionFault,
        Self::Bug,
        Self::StackOverflow,
        Self::KilledInit,
        Self::HungTask,
        Self::SoftLockup,
        Self::HardLockup,
        Self::RcuStall,
        Self::OutOfMemory,
        Self::Nmi,
        Self::MachineCheck,
        Self::Warning,
        Self::Refcount,
        Self::Ubsan,
        Self::ListCorruption,
        Self::OomThenOops,
        Self::HungTaskThenOops,
        Self::UserFaultThenOops,
        Self::MachineCheckThenOops,
        Self::Interleaved,
        Self::SlowLockup,
        Self::HardLockupEverywhere,
        Self::ForgedMount,
        Self::ForgedName,
        Self::ForgedPath,
    ];

    /// Has the kernel this way to die?
    #[must_use]
    pub fn is_on(self, release: Release) -> bool {
        self != Self::Ubsan || release == Release::Newest
    }

    /// The script by which the machine dies. The NMIs come to CPU 0 alone, and so do the crashes that need them.
    #[must_use]
    pub fn death(self) -> String {
        format!("crash_{} 0", self.to_string().replace('-', "_"))
    }

    /// What the host adds when the guest says that it is about to panic. To be called with each line of the console.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub fn act(self, vm: &Vm, line: &Line) -> Result<()> {
        // A corrected one does not say so by itself, the kernel looks for it.
        if self == Self::MachineCheckThenOops && line.text == "bench: a machine check may come" {
            vm.monitor()?.human("mce 0 1 0x9400000000000135 0 0x12345000 0")?;
        }
        if !line.text.starts_with("bench: panic on ") {
            return Ok(());
        }
        match self {
            // The detector compares two looks, which must not follow each other too fast, and looks away after what it takes
            // for a sign of life: one comes after the other until the CPU has left its loop, which is in a module.
            Self::HardLockup | Self::HardLockupEverywhere => {
                let mut monitor = vm.monitor()?;
                for _ in 0..10 {
                    sleep(Duration::from_secs(2));
                    if !monitor.human("info registers")?.contains("RIP=ffffffffc") {
                        break;
                    }
                    monitor.nmi()?;
                }
            }
            Self::Nmi => vm.monitor()?.nmi()?,
            // CPU, bank, its status: valid, uncorrected, enabled, address valid, context corrupt; error code: a
            // cache's data read; the CPU's status: restartable, in progress; address, more.
            Self::MachineCheck => {
                vm.monitor()?.human("mce 0 1 0xb600000000000135 0x5 0x12345000 0")?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// As files are named after it: `null-pointer`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sysrq => "sysrq",
            Self::NullPointer => "null-pointer",
            Self::FatalException => "fatal-exception",
            Self::ProtectionFault => "protection-fault",
            Self::Bug => "bug",
            Self::StackOverflow => "stack-overflow",
            Self::KilledInit => "killed-init",
            Self::HungTask => "hung-task",
            Self::SoftLockup => "soft-lockup",
            Self::HardLockup => "hard-lockup",
            Self::RcuStall => "rcu-stall",
            Self::OutOfMemory => "out-of-memory",
            Self::Nmi => "nmi",
            Self::MachineCheck => "machine-check",
            Self::Warning => "warning",
            Self::Refcount => "refcount",
            Self::Ubsan => "ubsan",
            Self::ListCorruption => "list-corruption",
            Self::OomThenOops => "oom-then-oops",
            Self::HungTaskThenOops => "hung-task-then-oops",
            Self::UserFaultThenOops => "user-fault-then-oops",
            Self::MachineCheckThenOops => "machine-check-then-oops",
            Self::Interleaved => "interleaved",
            Self::SlowLockup => "slow-lockup",
            Self::HardLockupEverywhere => "hard-lockup-everywhere",
            Self::ForgedMount => "forged-mount",
            Self::ForgedName => "forged-name",
            Self::ForgedPath => "forged-path",
        })
    }
}
