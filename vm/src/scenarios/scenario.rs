//! A scenario: a machine, how its dump kernel is armed, how it dies, what the dump kernel looks at.

use crate::machine::bmc::Bmc;
use crate::machine::gdb::Debugger;
use crate::machine::kernels::Release;
use crate::machine::qemu::Firmware;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Which system call loads the dump kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// kexec_file_load(2): `kexec -s`.
    FileLoad,
    /// kexec_load(2): `kexec -c`.
    Load,
}

/// How the dump kernel is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Not at all.
    Not,
    /// Debian's kernel as it is, by kexec-tools.
    Stock(Call),
    /// An image made by `lastwords wrap` with these options, by kexec-tools.
    Wrapped(Call, String),
    /// `lastwords load` with these options.
    Lastwords(String),
}

/// What the first kernel is.
pub(super) enum Boots {
    /// Debian's as it is. Its boot is the bench's, not the scenario's: it may be shared with others.
    Stock,
    /// The same, booted by the scenario.
    Watched,
    /// Wrapped with these options.
    Wrapped(String),
    /// A file.
    File(PathBuf),
}

/// What happens to one machine.
pub struct Scenario {
    pub(super) release: Release,
    pub(super) kind: String,
    pub(super) cpus: u32,
    pub(super) topology: String,
    pub(super) cpu: String,
    pub(super) memory: u32,
    pub(super) firmware: Firmware,
    pub(super) bmc: Bmc,
    pub(super) bmc_device: String,
    pub(super) options: Vec<String>,
    pub(super) host_options: Vec<String>,
    pub(super) debugger: Option<PathBuf>,
    pub(super) first_append: String,
    pub(super) boots: Boots,
    pub(super) arm: Arm,
    pub(super) lastwords_at_hand: bool,
    pub(super) program: Option<PathBuf>,
    pub(super) log_at_hand: bool,
    pub(super) payload: bool,
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) append: String,
    pub(super) before: String,
    pub(super) death: String,
    pub(super) dump: String,
    pub(super) limit: Duration,
}

impl Scenario {
    /// A machine with two CPUs and QEMU's BMC, whose dump kernel is Debian's own, loaded by kexec-tools; CPU 0
    /// panics, and the dump kernel looks at everything.
    #[must_use]
    pub fn new(release: Release) -> Self {
        Self {
            release,
            kind: "q35".to_owned(),
            cpus: 2,
            topology: String::new(),
            // Slow to emulate: five-level page tables, and the byte-wise copy that a real CPU is fast at.
            cpu: "max,la57=off,erms=off".to_owned(),
            memory: 1024,
            firmware: Firmware::Bios,
            bmc: Bmc::Simulator,
            bmc_device: "isa-ipmi-kcs,bmc=bmc0".to_owned(),
            options: Vec::new(),
            host_options: Vec::new(),
            debugger: None,
            first_append: "crashkernel=256M".to_owned(),
            boots: Boots::Stock,
            arm: Arm::Stock(Call::FileLoad),
            lastwords_at_hand: false,
            program: None,
            log_at_hand: false,
            payload: false,
            files: Vec::new(),
            append: String::new(),
            before: String::new(),
            death: "panic_on 0".to_owned(),
            dump: "collect_bmc\ncollect_vmcore\ncollect_dump".to_owned(),
            limit: Duration::from_secs(300),
        }
    }

    /// The kind of machine, as QEMU's `-machine` has it.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.kind);
        self
    }

    /// The number of CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// How the CPUs sit in sockets and cores, as QEMU's `-smp` has it: `sockets=2,cores=3`.
    #[must_use]
    pub fn topology(mut self, topology: &str) -> Self {
        topology.clone_into(&mut self.topology);
        self
    }

    /// The kind of CPU, as QEMU's `-cpu` has it.
    #[must_use]
    pub fn cpu(mut self, cpu: &str) -> Self {
        cpu.clone_into(&mut self.cpu);
        self
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory(mut self, memory: u32) -> Self {
        self.memory = memory;
        self
    }

    /// What starts the first kernel.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// The BMC.
    #[must_use]
    pub fn bmc(mut self, bmc: Bmc) -> Self {
        self.bmc = bmc;
        self
    }

    /// QEMU's device by which the BMC, `bmc0`, is reached: at first, KCS at 0xca2 and 0xca3.
    #[must_use]
    pub fn bmc_device(mut self, device: &str) -> Self {
        device.clone_into(&mut self.bmc_device);
        self
    }

    /// More options for QEMU.
    #[must_use]
    pub fn qemu<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.options.extend(options.map(str::to_owned));
        self
    }

    /// More options for QEMU, which have no part in what the guest sees.
    #[must_use]
    pub fn beside(mut self, options: &[String]) -> Self {
        self.host_options.extend(options.iter().cloned());
        self
    }

    /// QEMU's debugger stub listens for this debugger.
    #[must_use]
    pub fn debugger(mut self, debugger: &Debugger) -> Self {
        self.debugger = Some(debugger.socket());
        self
    }

    /// What the first kernel's command line has besides the console: at first, `crashkernel=256M`.
    #[must_use]
    pub fn first_append(mut self, append: &str) -> Self {
        append.clone_into(&mut self.first_append);
        self
    }

    /// The first kernel is booted before the watcher's eyes, and not gone on with from a snapshot: for times from the
    /// machine's start on, and for clocks that cannot be kept.
    #[must_use]
    pub fn boots_here(mut self) -> Self {
        self.boots = Boots::Watched;
        self
    }

    /// The *first* kernel is an image made by `lastwords wrap` with these options.
    #[must_use]
    pub fn boots_wrapped(mut self, options: &str) -> Self {
        self.boots = Boots::Wrapped(options.to_owned());
        self
    }

    /// The *first* kernel is this file.
    #[must_use]
    pub fn boots(mut self, file: &Path) -> Self {
        self.boots = Boots::File(file.to_owned());
        self
    }

    /// How the dump kernel is loaded.
    #[must_use]
    pub fn arm(mut self, arm: Arm) -> Self {
        self.arm = arm;
        self
    }

    /// The scripts for both kernels may call `lastwords`, whichever way the dump kernel is loaded or not; for the first
    /// one Debian's kernel is in `/boot/vmlinuz` and an initial RAM disk in `/boot/initrd`.
    #[must_use]
    pub fn lastwords_at_hand(mut self) -> Self {
        self.lastwords_at_hand = true;
        self
    }

    /// `lastwords` is this program, and not the one that tests have.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// The dump kernel's script may call `vmcore-log`.
    #[must_use]
    pub fn log_at_hand(mut self) -> Self {
        self.log_at_hand = true;
        self
    }

    /// The dump kernel is `guest/payload.s`, which prints a line and switches the machine off, without an initial RAM
    /// disk.
    #[must_use]
    pub fn payload(mut self) -> Self {
        self.payload = true;
        self
    }

    /// The first kernel's script finds this file in `/boot`.
    #[must_use]
    pub fn file(mut self, name: &str, bytes: Vec<u8>) -> Self {
        self.files.push((name.to_owned(), bytes));
        self
    }

    /// What the dump kernel's command line has at its end.
    #[must_use]
    pub fn append(mut self, append: &str) -> Self {
        append.clone_into(&mut self.append);
        self
    }

    /// A script for the first kernel, run before the dump kernel is loaded.
    #[must_use]
    pub fn before(mut self, script: &str) -> Self {
        script.clone_into(&mut self.before);
        self
    }

    /// A script for the first kernel, run when the dump kernel is loaded: by it the machine dies. At first,
    /// `panic_on 0`.
    #[must_use]
    pub fn death(mut self, script: &str) -> Self {
        script.clone_into(&mut self.death);
        self
    }

    /// A script for the dump kernel. At first, everything: `collect_bmc`, `collect_vmcore`, `collect_dump`.
    #[must_use]
    pub fn dump(mut self, script: &str) -> Self {
        script.clone_into(&mut self.dump);
        self
    }

    /// When the machine is ended, whatever it does.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}
