//! What sort of crash it was: a closed list, for programs that count and route crashes. Only readers need it.

/// A sort of crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The kernel accessed an address near 0.
    NullPointer,
    /// It accessed another address that is not mapped, or not so.
    PageFault,
    /// A general protection fault.
    ProtectionFault,
    /// A fault while the CPU entered the handler of another one.
    DoubleFault,
    /// A kernel stack was too small.
    StackOverflow,
    /// A check in the kernel's code failed: BUG(), scheduling or sleeping where it must not.
    Bug,
    /// Another exception in the kernel: divide error, invalid opcode, ...
    Oops,
    /// A check in the kernel's code failed that it would survive, with `panic_on_warn`.
    Warning,
    /// A sanitizer found a wrong access: KASAN, KCSAN, KFENCE, KMSAN, UBSAN.
    Sanitizer,
    /// Data of the kernel is not what it must be: a list, a reference count, a page, an object of the allocator, a stack.
    Corruption,
    /// Code in Rust panicked.
    RustPanic,
    /// A CPU ran in the kernel without scheduling.
    SoftLockup,
    /// A CPU ran in the kernel without taking interrupts.
    HardLockup,
    /// A CPU or task kept RCU's grace period from ending.
    RcuStall,
    /// A task waited too long without interruption.
    HungTask,
    /// No memory, with `panic_on_oom`, or nothing left to kill.
    OutOfMemory,
    /// The CPU reported an error of the hardware.
    MachineCheck,
    /// The firmware reported an error of the hardware.
    HardwareError,
    /// A non-maskable interrupt, by a button or a BMC for example.
    Nmi,
    /// A watchdog of the machine was about to reset it.
    Watchdog,
    /// init died, or there was none.
    InitKilled,
    /// The root file system could not be mounted.
    RootNotMounted,
    /// Somebody asked for it: sysrq.
    Sysrq,
    /// A text that is none of these.
    Other,
    /// No text is known.
    Unknown,
}

/// What the texts of a class contain; the first one counts.
const TEXTS: &[(&str, Class)] = &[
    ("NULL deref", Class::NullPointer),
    ("NULL pointer dereference", Class::NullPointer),
    ("KASAN", Class::Sanitizer),
    ("KCSAN", Class::Sanitizer),
    ("KFENCE", Class::Sanitizer),
    ("KMSAN", Class::Sanitizer),
    ("UBSAN", Class::Sanitizer),
    ("double fault", Class::DoubleFault),
    ("stack overflow", Class::StackOverflow),
    ("stack guard page", Class::StackOverflow),
    ("page fault", Class::PageFault),
    ("paging request", Class::PageFault),
    ("GP fault", Class::ProtectionFault),
    ("general protection", Class::ProtectionFault),
    ("corrupt", Class::Corruption),
    ("refcount_t", Class::Corruption),
    ("Bad page", Class::Corruption),
    ("bad page", Class::Corruption),
    ("Bad rss", Class::Corruption),
    ("overwritten", Class::Corruption),
    ("panicked at", Class::RustPanic),
    ("rust_kernel", Class::RustPanic),
    ("soft lockup", Class::SoftLockup),
    ("softlockup", Class::SoftLockup),
    ("ard LOCKUP", Class::HardLockup),
    ("RCU Stall", Class::RcuStall),
    ("detected stall", Class::RcuStall),
    ("self-detected", Class::RcuStall),
    ("rcu_", Class::RcuStall),
    ("hung_task", Class::HungTask),
    ("hung task", Class::HungTask),
    ("task ", Class::HungTask),
    ("oom-killer", Class::OutOfMemory),
    ("ut of memory", Class::OutOfMemory),
    ("deadlocked on memory", Class::OutOfMemory),
    ("achine check", Class::MachineCheck),
    ("Machine Check", Class::MachineCheck),
    ("ardware error", Class::HardwareError),
    ("Hardware Error", Class::HardwareError),
    ("NMI", Class::Nmi),
    ("WARNING", Class::Warning),
    ("panic_on_warn", Class::Warning),
    ("sysrq", Class::Sysrq),
    ("kill init", Class::InitKilled),
    ("init found", Class::InitKilled),
    ("mount root", Class::RootNotMounted),
    ("open root device", Class::RootNotMounted),
    ("atchdog", Class::Watchdog),
    ("BUG", Class::Bug),
    ("atomic", Class::Bug),
    ("sleeping function", Class::Bug),
    ("Oops", Class::Oops),
    ("atal exception", Class::Oops),
    ("divide error", Class::Oops),
    ("invalid opcode", Class::Oops),
    ("[#", Class::Oops),
];

impl Class {
    /// All of them.
    pub const ALL: [Self; 25] = [
        Self::NullPointer,
        Self::PageFault,
        Self::ProtectionFault,
        Self::DoubleFault,
        Self::StackOverflow,
        Self::Bug,
        Self::Oops,
        Self::Warning,
        Self::Sanitizer,
        Self::Corruption,
        Self::RustPanic,
        Self::SoftLockup,
        Self::HardLockup,
        Self::RcuStall,
        Self::HungTask,
        Self::OutOfMemory,
        Self::MachineCheck,
        Self::HardwareError,
        Self::Nmi,
        Self::Watchdog,
        Self::InitKilled,
        Self::RootNotMounted,
        Self::Sysrq,
        Self::Other,
        Self::Unknown,
    ];

    /// Of a crash with this cause and reason, each as far as it is known, whole or not.
    #[must_use]
    pub fn of(cause: Option<&str>, reason: Option<&str>) -> Self {
        let find = |text: &str| TEXTS.iter().find(|(part, _)| text.contains(part)).map(|(_, class)| *class);
        let mut texts = [cause, reason].into_iter().flatten().filter(|text| !text.is_empty()).peekable();
        let none = if texts.peek().is_none() { Self::Unknown } else { Self::Other };
        texts.find_map(find).unwrap_or(none)
    }

    /// Its name, for programs: a promise.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NullPointer => "null-pointer",
            Self::PageFault => "page-fault",
            Self::ProtectionFault => "protection-fault",
            Self::DoubleFault => "double-fault",
            Self::StackOverflow => "stack-overflow",
            Self::Bug => "bug",
            Self::Oops => "oops",
            Self::Warning => "warning",
            Self::Sanitizer => "sanitizer",
            Self::Corruption => "corruption",
            Self::RustPanic => "rust-panic",
            Self::SoftLockup => "soft-lockup",
            Self::HardLockup => "hard-lockup",
            Self::RcuStall => "rcu-stall",
            Self::HungTask => "hung-task",
            Self::OutOfMemory => "out-of-memory",
            Self::MachineCheck => "machine-check",
            Self::HardwareError => "hardware-error",
            Self::Nmi => "nmi",
            Self::Watchdog => "watchdog",
            Self::InitKilled => "init-killed",
            Self::RootNotMounted => "root-not-mounted",
            Self::Sysrq => "sysrq",
            Self::Other => "other",
            Self::Unknown => "unknown",
        }
    }
}
