//! A scenario: a machine, how its dump kernel is armed, how it dies, what the dump kernel looks at; and the outcome.

use crate::bmc::{self, OpenIpmi};
use crate::cpio::Archive;
use crate::initramfs::{self, Base};
use crate::kernels::{Kernel, Release};
use crate::qemu::{Firmware, Line, Machine, Vm};
use crate::sel::Record;
use crate::vmbmc::{Manner, Request, VmBmc};
use crate::vmcore::Notes;
use crate::{lastwords, packages, process};
use anyhow::{Context, Result, anyhow, bail};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What both kernels are told: a serial console, and to leave out what costs an emulated CPU time and has no part
/// in a crash. Address randomization stays on.
const QUICK: &str =
    "console=ttyS0 quiet mitigations=off nmi_watchdog=0 no_timer_check tsc=reliable cryptomgr.notests";

/// What a dump kernel is told besides (Linux `Documentation/admin-guide/kdump/kdump.rst`).
const DUMP_KERNEL: &str = "nr_cpus=1 reset_devices";

/// Which system call loads the dump kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// kexec_file_load(2): `kexec -s`.
    FileLoad,
    /// kexec_load(2): `kexec -c`.
    Load,
}

impl Call {
    fn option(self) -> &'static str {
        match self {
            Self::FileLoad => "-s",
            Self::Load => "-c",
        }
    }
}

/// How the dump kernel is armed.
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

/// The machine's BMC.
#[derive(Default)]
pub enum Bmc {
    /// None: nobody answers at the ports.
    None,
    /// QEMU's simulator.
    #[default]
    Simulator,
    /// OpenIPMI's ipmi_sim, reachable over the LAN too.
    OpenIpmi,
    /// One of our own, which remembers what it is asked.
    Ours(Manner),
}

/// What the first kernel is.
enum Boots {
    /// Debian's as it is.
    Stock,
    /// Wrapped with these options.
    Wrapped(String),
    /// A file.
    File(PathBuf),
}

/// What happens to one machine.
pub struct Scenario {
    release: Release,
    cpus: u32,
    topology: String,
    cpu: String,
    memory: u32,
    firmware: Firmware,
    bmc: Bmc,
    options: Vec<String>,
    first_append: String,
    boots: Boots,
    arm: Arm,
    lastwords_at_hand: bool,
    append: String,
    before: String,
    death: String,
    dump: String,
    limit: Duration,
}

impl Scenario {
    /// A machine with two CPUs and QEMU's BMC, whose dump kernel is Debian's own, loaded by kexec-tools; CPU 0
    /// panics, and the dump kernel looks at everything.
    #[must_use]
    pub fn new(release: Release) -> Self {
        Self {
            release,
            cpus: 2,
            topology: String::new(),
            // Slow to emulate: five-level page tables, and the byte-wise copy that a real CPU is fast at.
            cpu: "max,la57=off,erms=off".to_owned(),
            memory: 1024,
            firmware: Firmware::Bios,
            bmc: Bmc::Simulator,
            options: Vec::new(),
            first_append: "crashkernel=256M".to_owned(),
            boots: Boots::Stock,
            arm: Arm::Stock(Call::FileLoad),
            lastwords_at_hand: false,
            append: String::new(),
            before: String::new(),
            death: "panic_on 0".to_owned(),
            dump: "collect_bmc\ncollect_vmcore\ncollect_dump".to_owned(),
            limit: Duration::from_secs(300),
        }
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

    /// More options for QEMU.
    #[must_use]
    pub fn qemu<const N: usize>(mut self, options: [&str; N]) -> Self {
        self.options.extend(options.map(str::to_owned));
        self
    }

    /// What the first kernel's command line has besides the console: at first, `crashkernel=256M`.
    #[must_use]
    pub fn first_append(mut self, append: &str) -> Self {
        append.clone_into(&mut self.first_append);
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

    /// How the dump kernel is armed.
    #[must_use]
    pub fn arm(mut self, arm: Arm) -> Self {
        self.arm = arm;
        self
    }

    /// The scripts for both kernels may call `lastwords`, whichever way the dump kernel is armed or not; for the first
    /// one Debian's kernel is in `/boot/vmlinuz` and an initial RAM disk in `/boot/initrd`.
    #[must_use]
    pub fn lastwords_at_hand(mut self) -> Self {
        self.lastwords_at_hand = true;
        self
    }

    /// What the dump kernel's command line has at its end.
    #[must_use]
    pub fn append(mut self, append: &str) -> Self {
        append.clone_into(&mut self.append);
        self
    }

    /// A script for the first kernel, run before the dump kernel is armed.
    #[must_use]
    pub fn before(mut self, script: &str) -> Self {
        script.clone_into(&mut self.before);
        self
    }

    /// A script for the first kernel, run when the dump kernel is armed: by it the machine dies. At first,
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

    /// Runs it, and prints the console's end, which cargo shows when the test fails.
    ///
    /// # Errors
    /// When the bench cannot do it, or the machine hangs.
    pub fn run(self) -> Result<Outcome> {
        let outcome = self.watch(|_, _| Ok(()))?;
        println!("{outcome}");
        Ok(outcome)
    }

    /// Runs it and shows each line of the console to `watcher`, which may also do something to the machine.
    ///
    /// # Errors
    /// As [`Self::run`], and when `watcher` fails.
    pub fn watch(mut self, mut watcher: impl FnMut(&Vm, &Line) -> Result<()>) -> Result<Outcome> {
        packages::install()?;
        // In /tmp: a socket's path must be short.
        let folder = tempfile::Builder::new().prefix("lastwords-vm-").tempdir()?;
        let kernel = Kernel::get(self.release)?;
        let running = match std::mem::take(&mut self.bmc) {
            Bmc::None => Running::Other,
            Bmc::Simulator => {
                self.options.extend(bmc::simulator());
                Running::Other
            }
            Bmc::OpenIpmi => {
                let bmc = OpenIpmi::start(folder.path())?;
                self.options.extend(bmc.options());
                Running::OpenIpmi(bmc)
            }
            Bmc::Ours(manner) => {
                let bmc = VmBmc::start(folder.path(), manner)?;
                self.options.extend(bmc.options());
                Running::Ours(bmc)
            }
        };
        let machine = self.machine(&kernel, folder.path())?;
        let mut console = Vec::new();
        let started = Instant::now();
        let mut vm = Vm::start(&machine, folder.path())?;
        loop {
            match vm.next_line() {
                Ok(Some(line)) => {
                    watcher(&vm, &line)?;
                    console.push(line);
                }
                Ok(None) => break,
                Err(error) => return Err(error.context(tail(&console))),
            }
        }
        let sections = sections(&fs::read_to_string(folder.path().join("ttyS1")).unwrap_or_default())?;
        Ok(Outcome { kernel, started, console, sections, bmc: running, folder })
    }

    fn machine(&self, kernel: &Kernel, folder: &Path) -> Result<Machine> {
        let base = Base::get(kernel)?;
        let first = match &self.boots {
            Boots::Stock => kernel.image.clone(),
            Boots::File(file) => file.clone(),
            Boots::Wrapped(options) => {
                let image = folder.join("first");
                lastwords::wrap(&kernel.image, &image, options)?;
                image
            }
        };
        let initrd = folder.join("initrd");
        let mut bytes = fs::read(&base.plain)?;
        bytes.extend(self.first_root(kernel, &base, folder)?);
        fs::write(&initrd, bytes)?;
        Ok(Machine {
            cpu: self.cpu.clone(),
            smp: [self.cpus.to_string().as_str(), self.topology.as_str()]
                .join(",")
                .trim_end_matches(',')
                .to_owned(),
            memory: self.memory,
            firmware: self.firmware,
            kernel: first,
            initrd,
            append: format!("{QUICK} panic=-1 {}", self.first_append),
            options: self.options.clone(),
            limit: self.limit,
        })
    }

    /// What the first kernel's root has besides the base.
    fn first_root(&self, kernel: &Kernel, base: &Base, folder: &Path) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.file("scenario", 0o644, self.first_script().as_bytes());
        if self.arm != Arm::Not || self.lastwords_at_hand {
            let image = match &self.arm {
                Arm::Wrapped(_, options) => {
                    let image = folder.join("wrapped");
                    lastwords::wrap(&kernel.image, &image, options)?;
                    fs::read(image)?
                }
                _ => fs::read(&kernel.image)?,
            };
            archive.file("boot/vmlinuz", 0o644, &image);
            let mut initrd = fs::read(&base.compressed)?;
            initrd.extend(self.dump_root(folder)?);
            archive.file("boot/initrd", 0o644, &initrd);
        }
        if matches!(self.arm, Arm::Lastwords(_)) || self.lastwords_at_hand {
            add_lastwords(&mut archive, folder)?;
        }
        Ok(archive.finish())
    }

    fn first_script(&self) -> String {
        let append = format!("{QUICK} {DUMP_KERNEL} {}", self.append);
        let load = format!("--initrd=/boot/initrd --append=\"{}\"", append.trim_end());
        let arm = match &self.arm {
            Arm::Not => None,
            Arm::Stock(call) | Arm::Wrapped(call, _) => {
                Some(format!("kexec {} -p /boot/vmlinuz {load}", call.option()))
            }
            Arm::Lastwords(options) => Some(format!("lastwords load /boot/vmlinuz {load} {options}")),
        };
        let mut script = format!("step the first kernel is up\n{}\n", self.before);
        if let Some(arm) = arm {
            let _ = writeln!(
                script,
                "section arm {arm} || {{ step not armed: status $?; poweroff -f; }}\nstep the dump kernel is armed"
            );
        }
        let _ = writeln!(script, "{}", self.death);
        script
    }

    fn dump_root(&self, folder: &Path) -> Result<Vec<u8>> {
        // The ELF header and the notes: a page each, and room for the CPUs' notes.
        let head = 2 * 4096 + (4096 + self.cpus * 512).next_multiple_of(4096);
        let mut archive = Archive::default();
        let script = format!(
            "VMCORE_HEAD={head}\nstep the dump kernel is up\n{}\nsection end true\nstep the end\n",
            self.dump
        );
        archive.file("scenario", 0o644, script.as_bytes());
        if self.lastwords_at_hand {
            add_lastwords(&mut archive, folder)?;
        }
        Ok(archive.finish())
    }
}

/// Puts `lastwords` into a root.
fn add_lastwords(archive: &mut Archive, folder: &Path) -> Result<()> {
    let program = lastwords::program()?;
    // Without its debugging symbols, which are most of it.
    let stripped = folder.join("lastwords");
    process::output(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
    initramfs::add_program(archive, &stripped)?;
    for library in initramfs::libraries(&[program])? {
        initramfs::add_library(archive, &library)?;
    }
    Ok(())
}

/// A BMC that may still be asked.
enum Running {
    Other,
    OpenIpmi(OpenIpmi),
    Ours(VmBmc),
}

/// What came of a scenario.
pub struct Outcome {
    /// The kernel that ran.
    pub kernel: Kernel,
    /// When the machine was started.
    pub started: Instant,
    /// The console.
    pub console: Vec<Line>,
    sections: BTreeMap<String, Section>,
    bmc: Running,
    #[expect(dead_code, reason = "holds the folder of the BMC that may still run")]
    folder: TempDir,
}

/// What a command in a guest printed.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its exit status.
    pub status: i32,
    /// What it printed, errors included.
    pub text: String,
}

impl Outcome {
    /// Did the dump kernel come to its script's end?
    #[must_use]
    pub fn dumped(&self) -> bool {
        self.sections.contains_key("end")
    }

    /// What a command in a guest printed, if it was run at all.
    ///
    /// # Errors
    /// When it was not run.
    pub fn section(&self, name: &str) -> Result<&Section> {
        self.sections.get(name).with_context(|| format!("no section {name}; {}", tail(&self.console)))
    }

    /// What a command in a guest printed when it succeeded.
    ///
    /// # Errors
    /// When it was not run or failed.
    pub fn text(&self, name: &str) -> Result<&str> {
        let section = self.section(name)?;
        if section.status != 0 {
            bail!("{name} failed with status {}: {}", section.status, section.text.trim());
        }
        Ok(&section.text)
    }

    /// What a command in a guest printed in base64.
    ///
    /// # Errors
    /// When it was not run, failed or printed something else.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        base64(self.text(name)?).with_context(|| format!("{name} is not base64"))
    }

    /// The SEL's records as the dump kernel read them.
    ///
    /// # Errors
    /// When it did not.
    pub fn sel(&self) -> Result<Vec<Record>> {
        Record::split(&self.bytes("sel-raw")?)
    }

    /// The crash notes in /proc/vmcore.
    ///
    /// # Errors
    /// When the dump kernel did not read them.
    pub fn notes(&self) -> Result<Notes> {
        Notes::parse(&self.bytes("vmcore-head")?)
    }

    /// The console's lines from the panic to the dump kernel's own first words.
    #[must_use]
    pub fn last_words(&self) -> &[Line] {
        let position = |from: usize, text: &str| {
            let found = self.console[from..].iter().position(|line| line.text.contains(text));
            found.map_or(self.console.len(), |found| from + found)
        };
        let panic = position(0, "bench: panic on ");
        let dump = position(panic, "bench: the dump kernel is up");
        &self.console[panic..dump]
    }

    /// When the first line with this text came.
    #[must_use]
    pub fn when(&self, text: &str) -> Option<Duration> {
        self.console.iter().find(|line| line.text.contains(text)).map(|line| line.at)
    }

    /// What ipmitool prints for a command, asked over the LAN.
    ///
    /// # Errors
    /// When the BMC has no LAN side or does not answer.
    pub fn ipmitool(&self, arguments: &[&str]) -> Result<String> {
        match &self.bmc {
            Running::OpenIpmi(bmc) => bmc.ipmitool(arguments),
            _ => bail!("only ipmi_sim has a LAN side"),
        }
    }

    /// The UDP port of the BMC's LAN side.
    ///
    /// # Errors
    /// When it has none.
    pub fn lan_port(&self) -> Result<u16> {
        match &self.bmc {
            Running::OpenIpmi(bmc) => Ok(bmc.lan_port()),
            _ => bail!("only ipmi_sim has a LAN side"),
        }
    }

    /// What our own BMC was asked.
    ///
    /// # Errors
    /// When the machine had another one.
    pub fn requests(&self) -> Result<Vec<Request>> {
        match &self.bmc {
            Running::Ours(bmc) => Ok(bmc.requests()),
            _ => bail!("only our own BMC remembers what it is asked"),
        }
    }
}

/// How it ended, for whoever looks for what went wrong: the console's last lines, and what arming said.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(arm) = self.sections.get("arm") {
            writeln!(f, "arming ended with status {}: {}", arm.status, arm.text.trim())?;
        }
        f.write_str(&tail(&self.console))
    }
}

/// The last lines of a console, for an error.
fn tail(console: &[Line]) -> String {
    let mut text = String::from("the console's last lines:");
    for line in &console[console.len().saturating_sub(60)..] {
        let _ = write!(text, "\n{:8.3} {}", line.at.as_secs_f64(), line.text);
    }
    text
}

/// Takes ttyS1's output apart (see `section` in `guest/guest.sh`). A section that does not end is left out: the
/// machine died in it.
fn sections(output: &str) -> Result<BTreeMap<String, Section>> {
    let mut sections = BTreeMap::new();
    let mut rest = output;
    while let Some((_, begun)) = rest.split_once("== begin ") {
        let (name, body) = begun.split_once('\n').unwrap_or((begun, ""));
        let Some((text, ended)) = body.split_once(&format!("\n== end {name} ")) else { break };
        let (status, after) = ended.split_once('\n').unwrap_or((ended, ""));
        let status = status.parse().map_err(|_| anyhow!("section {name} ends with status {status:?}"))?;
        sections.insert(name.to_owned(), Section { status, text: text.to_owned() });
        rest = after;
    }
    Ok(sections)
}

/// Decodes base64 (RFC 4648), lines or not. `None` when it is something else.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{base64, sections};

    #[test]
    fn sections_have_a_name_a_text_and_a_status() {
        let output = "noise\n== begin a\nline\n\n== end a 0\n== begin b\n\n== end b 3\n== begin c\ncut o";
        let sections = sections(output).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!((sections["a"].text.as_str(), sections["a"].status), ("line\n", 0));
        assert_eq!((sections["b"].text.as_str(), sections["b"].status), ("", 3));
    }

    #[test]
    fn base64_is_decoded() {
        assert_eq!(base64("").unwrap(), b"");
        assert_eq!(base64("bGFzdA==").unwrap(), b"last");
        assert_eq!(base64("bGFz\ndHdv\ncmRz\n").unwrap(), b"lastwords");
        assert_eq!(base64("what?"), None);
    }
}
