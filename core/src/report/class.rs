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
    ("refcount ", Class::Corruption),
    ("refcount_t", Class::Corruption),
    ("slab ", Class::Corruption),
    ("Bad page", Class::Corruption),
    ("bad page", Class::Corruption),
    ("Bad rss", Class::Corruption),
    ("overwritten", Class::Corruption),
    ("Rust panic", Class::RustPanic),
    ("panicked at", Class::RustPanic),
    ("rust_kernel", Class::RustPanic),
    ("soft lockup", Class::SoftLockup),
    ("softlockup", Class::SoftLockup),
    ("ard LOCKUP", Class::HardLockup),
    ("RCU Stall", Class::RcuStall),
    ("RCU stall", Class::RcuStall),
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
    ("while atomic", Class::Bug),
    ("sleeping function", Class::Bug),
    ("usercopy", Class::Bug),
    ("buffer overflow", Class::Bug),
    ("skbuff", Class::Bug),
    ("Oops", Class::Oops),
    ("atal exception", Class::Oops),
    ("kill the idle task", Class::Oops),
    ("Aiee", Class::Oops),
    ("divide error", Class::Oops),
    ("invalid opcode", Class::Oops),
    ("[#", Class::Oops),
];

/// All classes, their names and meanings; docs/reading.md has the same.
const CLASSES: [(Class, &str, &str); 25] = [
    (Class::NullPointer, "null-pointer", "The kernel accessed an address near 0"),
    (Class::PageFault, "page-fault", "It accessed another address that is not mapped, or not so"),
    (Class::ProtectionFault, "protection-fault", "A general protection fault"),
    (Class::DoubleFault, "double-fault", "A fault while the CPU entered the handler of another one"),
    (Class::StackOverflow, "stack-overflow", "A kernel stack was too small"),
    (
        Class::Bug,
        "bug",
        "A check in the kernel's code failed: BUG(), scheduling or sleeping where it must not",
    ),
    (Class::Oops, "oops", "Another exception in the kernel: divide error, invalid opcode, "),
    (
        Class::Warning,
        "warning",
        "A check in the kernel's code failed that it would survive, with `panic_on_warn`",
    ),
    (Class::Sanitizer, "sanitizer", "A sanitizer found a wrong access: KASAN, KCSAN, KFENCE, KMSAN, UBSAN"),
    (
        Class::Corruption,
        "corruption",
        "Data of the kernel is not what it must be: a list, a reference count, a page, an object of the allocator, a stack",
    ),
    (Class::RustPanic, "rust-panic", "Code in Rust panicked"),
    (Class::SoftLockup, "soft-lockup", "A CPU ran in the kernel without scheduling"),
    (Class::HardLockup, "hard-lockup", "A CPU ran in the kernel without taking interrupts"),
    (Class::RcuStall, "rcu-stall", "A CPU or task kept RCU's grace period from ending"),
    (Class::HungTask, "hung-task", "A task waited too long without interruption"),
    (Class::OutOfMemory, "out-of-memory", "No memory, with `panic_on_oom`, or nothing left to kill"),
    (Class::MachineCheck, "machine-check", "The CPU reported an error of the hardware"),
    (Class::HardwareError, "hardware-error", "The firmware reported an error of the hardware"),
    (Class::Nmi, "nmi", "A non-maskable interrupt, by a button or a BMC for example"),
    (Class::Watchdog, "watchdog", "A watchdog of the machine was about to reset it"),
    (Class::InitKilled, "init-killed", "init died, or there was none"),
    (Class::RootNotMounted, "root-not-mounted", "The root file system could not be mounted"),
    (Class::Sysrq, "sysrq", "Somebody asked for it: sysrq"),
    (Class::Other, "other", "A text that is none of these"),
    (Class::Unknown, "unknown", "No text is known"),
];

impl Class {
    /// Of a crash with this cause and reason, each as far as it is known, whole or not.
    #[must_use]
    pub fn of(cause: Option<&str>, reason: Option<&str>) -> Self {
        let find = |text: &str| TEXTS.iter().find(|(part, _)| text.contains(part)).map(|(_, class)| *class);
        let mut texts = [cause, reason].into_iter().flatten().filter(|text| !text.is_empty()).peekable();
        let none = if texts.peek().is_none() { Self::Unknown } else { Self::Other };
        texts.find_map(find).unwrap_or(none)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        CLASSES.into_iter().map(|(class, ..)| class)
    }

    /// Its name, for programs: a promise.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What it means, for people.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (Self, &'static str, &'static str) {
        CLASSES.into_iter().find(|(class, ..)| *class == self).unwrap_or((self, "", ""))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::{fmt::Write, string::String};

    #[test]
    fn the_documents_table_is_the_list() {
        let mut table = String::new();
        for class in Class::all() {
            let _ = writeln!(table, "| `{}` | {} |", class.name(), class.meaning());
        }
        let page = include_str!("../../../docs/reading.md");
        assert!(page.contains(&std::format!("| class | meaning |\n| --- | --- |\n{table}\n")), "{table}");
    }

    #[test]
    fn every_class_but_two_is_that_of_a_text() {
        for class in Class::all() {
            let has_text = TEXTS.iter().any(|(_, of)| *of == class);
            assert_eq!(has_text, !matches!(class, Class::Other | Class::Unknown), "{class:?}");
        }
        assert_eq!(Class::of(None, None), Class::Unknown);
        assert_eq!(Class::of(Some(""), Some("disk on fire")), Class::Other);
    }

    #[test]
    fn the_cause_tells_the_class_and_where_it_does_not_the_reason() {
        for (cause, reason, class) in [
            ("NULL deref at 18", "Fatal exception", Class::NullPointer),
            ("", "NULL deref at 18", Class::NullPointer),
            ("something", "hung_task: blocked tasks", Class::HungTask),
            ("task insmod:93 blocked", "hung_task: blocked tasks", Class::HungTask),
            ("soft lockup CPU#0 stuck for 22s", "softlockup: hung tasks", Class::SoftLockup),
            ("hard LOCKUP on CPU 0", "Hard LOCKUP", Class::HardLockup),
            ("", "Hard LOCKUP", Class::HardLockup),
            ("rcu_preempt detected stalls", "RCU Stall", Class::RcuStall),
            ("KASAN: slab-out-of-bounds in f+0x1/0x2", "panic_on_warn set ...", Class::Sanitizer),
            ("list_del corruption. prev->next should be", "Fatal exception", Class::Corruption),
            ("", "stack-protector: Kernel stack is corrupted in: f+0x1/0x2", Class::Corruption),
            ("", "Attempted to kill init! exitcode=0x0000000b", Class::InitKilled),
            ("", "VFS: Unable to mount root fs on unknown-block(0,0)", Class::RootNotMounted),
            ("", "sysrq triggered crash", Class::Sysrq),
            ("", "Fatal exception in interrupt", Class::Oops),
            ("", "NMI: Not continuing", Class::Nmi),
            ("", "Out of memory: compulsory panic_on_oom is enabled", Class::OutOfMemory),
            ("machine check 5 Bank 1: b600000000000135", "Fatal local machine check", Class::MachineCheck),
            ("", "Fatal hardware error!", Class::HardwareError),
            ("", "Attempted to kill the idle task!", Class::Oops),
            ("hung task", "hung_task: blocked tasks", Class::HungTask),
            ("RCU stall", "RCU Stall", Class::RcuStall),
            ("list corruption del", "Fatal exception", Class::Corruption),
            ("refcount underflow", "kernel: panic_on_warn set ...", Class::Corruption),
            ("slab kmalloc-64 Poison overwritten", "", Class::Corruption),
            ("KASAN slab-out-of-bounds", "kernel: panic_on_warn set ...", Class::Sanitizer),
            ("WARNING at refcount.c:28", "kernel: panic_on_warn set ...", Class::Warning),
            ("", "kernel: panic_on_warn set ...", Class::Warning),
            ("Rust panic at rust_example.rs:7", "Fatal exception", Class::RustPanic),
            ("usercopy exposure", "Fatal exception", Class::Bug),
            ("hardware error memory", "Fatal hardware error!", Class::HardwareError),
            ("scheduling while atomic", "", Class::Bug),
            ("Oops divide error", "Fatal exception", Class::Oops),
            ("double fault", "Machine halted.", Class::DoubleFault),
            ("stack overflow", "Fatal exception in interrupt", Class::StackOverflow),
        ] {
            assert_eq!(Class::of(Some(cause), Some(reason)), class, "{cause}, {reason}");
        }
    }
}
