//! QEMU: a machine's command line, and the machine when it runs: its console line by line with the time of each, and a
//! limit after which a hung one is ended.
//!
//! The CPUs are emulated (no KVM), so that every machine that can build lastwords can test it. One thread emulates
//! them all: with a thread for each, a kernel that patches its own code now and then meets a half-patched place on
//! another CPU, which no real CPU shows. It costs little, since the tests run side by side.

use crate::machine::bmc;
use crate::machine::console::{Line, plain};
use crate::machine::monitor::Monitor;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// The firmware that starts the first kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF: UEFI.
    Uefi,
    /// OVMF with Secure Boot, and the test key that Debian's package has enrolled as PK, KEK and db. QEMU has no signature
    /// of `-kernel` checked; the kernel finds Secure Boot on all the same.
    SecureBoot,
}

impl Firmware {
    /// OVMF's code and variables.
    fn ovmf(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Bios => None,
            Self::Uefi => Some(["/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"]),
            Self::SecureBoot => {
                Some(["/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd"])
            }
        }
    }
}

/// QEMU's command line, without options.
#[must_use]
pub fn command() -> Command {
    // Whoever ends the bench ends the machines: one that is alone would run for ever.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", PROGRAM]);
    qemu
}

/// A machine to be: what the guest sees of it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// `-machine`.
    pub kind: String,
    /// `-cpu`.
    pub cpu: String,
    /// `-smp`.
    pub smp: String,
    /// Memory, in MiB.
    pub memory: u32,
    /// What starts the kernel.
    pub firmware: Firmware,
    /// The first kernel.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: PathBuf,
    /// Its command line.
    pub append: String,
    /// More options: the BMC's devices, and whatever a test wants.
    pub options: Vec<String>,
}

impl Machine {
    /// QEMU's options for it, but for files and sockets that are another run's in each run.
    #[must_use]
    pub fn options(&self) -> Vec<String> {
        let mut options: Vec<String> =
            ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"].map(str::to_owned).to_vec();
        let mut add = |name: &str, value: &str| options.extend([name.to_owned(), value.to_owned()]);
        add("-machine", &self.kind);
        if !self.options.iter().any(|option| option == "-accel") {
            add("-accel", "tcg,thread=single");
        }
        add("-cpu", &self.cpu);
        add("-smp", &self.smp);
        add("-m", &format!("{}M", self.memory));
        add("-kernel", &self.kernel.display().to_string());
        add("-initrd", &self.initrd.display().to_string());
        add("-append", &self.append);
        add("-device", "virtio-blk-pci,drive=orders");
        if let Some([code, _]) = self.firmware.ovmf() {
            add("-drive", &format!("if=pflash,format=raw,file={code},readonly=on"));
            add("-drive", "if=pflash,format=raw,file=vars.fd");
        }
        if self.firmware == Firmware::SecureBoot {
            add("-machine", "smm=on");
            add("-global", "driver=cfi.pflash01,property=secure,value=on");
        }
        options.extend(self.options.iter().cloned());
        options
    }
}

/// Files and sockets that a run has for itself.
#[derive(Clone, Debug)]
pub struct Connections {
    /// Where it keeps its files.
    pub folder: PathBuf,
    /// The disk that the first kernel's orders come on.
    pub orders: PathBuf,
    /// The BMC's socket, if it has one, as `-chardev socket` has it.
    pub bmc: Option<String>,
    /// The debugger's socket.
    pub debugger: Option<PathBuf>,
    /// The state to go on from, in the place of a boot.
    pub snapshot: Option<PathBuf>,
    /// The file that the console goes to, in the place of [`Vm::next_line`].
    pub console: Option<PathBuf>,
    /// More options, which have no part in what the guest sees.
    pub options: Vec<String>,
    /// When the machine is ended, whatever it does. For machines that hang; no test is about this time.
    pub limit: Duration,
}

/// A running machine. It ends when this is dropped.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    lines: Receiver<Line>,
    started: Instant,
    limit: Duration,
    folder: PathBuf,
}

impl Vm {
    /// Starts a machine.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start(machine: &Machine, connections: &Connections) -> Result<Self> {
        let Connections { folder, orders, bmc, debugger, snapshot, console, options, limit } = connections;
        let console =
            console.as_ref().map_or_else(|| "stdio".to_owned(), |file| format!("file:{}", file.display()));
        let mut qemu = command();
        // UEFI's variables have a relative path.
        qemu.current_dir(folder)
            .args(machine.options())
            .args(options)
            .args(["-serial", &console, "-serial", "file:ttyS1", "-qmp", "unix:qmp,server=on,wait=off"])
            .arg("-drive")
            .arg(format!("if=none,id=orders,format=raw,read-only=on,file={}", orders.display()));
        if let Some([_, vars]) = machine.firmware.ovmf() {
            fs::copy(vars, folder.join("vars.fd")).with_context(|| format!("no {vars}"))?;
        }
        if let Some(socket) = bmc {
            qemu.args(bmc::connection(socket));
        }
        if let Some(socket) = debugger {
            qemu.arg("-gdb").arg(format!("unix:{},server=on,wait=off", socket.display()));
        }
        if let Some(snapshot) = snapshot {
            qemu.arg("-incoming").arg(format!("exec:cat '{}'", snapshot.display()));
        }
        Self::run(qemu, folder, *limit)
    }

    /// Starts QEMU, whose console is its standard output and whose files are in this folder.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn run(mut qemu: Command, folder: &Path, limit: Duration) -> Result<Self> {
        let errors = fs::File::create(folder.join("stderr"))?;
        let started = Instant::now();
        let mut child = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context("cannot start qemu-system-x86_64: is qemu-system-x86 installed?")?;
        let console = child.stdout.take().context("QEMU has no console")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut console = BufReader::new(console);
            let mut bytes = Vec::new();
            while console.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
                let line = Line { at: started.elapsed(), text: plain(&bytes) };
                if sender.send(line).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        Ok(Self { child, lines, started, limit, folder: folder.to_owned() })
    }

    /// Waits for the next line of the console; `None` when the machine is off.
    ///
    /// # Errors
    /// When it is still running at its limit, or QEMU itself failed.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        let rest = self.limit.saturating_sub(self.started.elapsed());
        match self.lines.recv_timeout(rest) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => {
                bail!("the machine was still running after {} s", self.limit.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.ended()?;
                Ok(None)
            }
        }
    }

    /// The next line of the console, if one comes within this time.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn line_within(&mut self, wait: Duration) -> Result<Option<Line>> {
        match self.lines.recv_timeout(wait) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => {
                self.ended()?;
                bail!("the machine is off")
            }
        }
    }

    /// Was it the machine that ended?
    fn ended(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            let errors = fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
            bail!("QEMU failed ({status}): {}", errors.trim());
        }
        Ok(())
    }

    /// Time from the machine's start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// QEMU's monitor: to inject an NMI, stop CPUs, read or write memory.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn monitor(&self) -> Result<Monitor> {
        Monitor::connect(&self.folder.join("qmp"))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
