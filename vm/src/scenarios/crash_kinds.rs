//! Kinds of crash: for each, the guest's word that brings it about (`guest/guest.sh`) and what the host adds.

use crate::machine::console::Line;
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
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 14] = [
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
    ];

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
        if !line.text.starts_with("bench: panic on ") {
            return Ok(());
        }
        match self {
            // The detector compares two looks, which must not follow each other too fast, and looks away after what it takes
            // for a sign of life: one comes after the other until the CPU has left its loop, which is in a module.
            Self::HardLockup => {
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
        })
    }
}
