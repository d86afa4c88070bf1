//! QEMU: the machine, its console line by line with the time of each, and a limit after which a hung one is ended.
//!
//! The CPUs are emulated (no KVM), so that every machine that can build lastwords can test it. One thread emulates
//! them all: with a thread for each, a kernel that patches its own code now and then meets a half-patched place on
//! another CPU, which no real CPU shows. It costs little, since the tests run side by side.

use crate::monitor::Monitor;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The firmware that starts the first kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF: UEFI.
    Uefi,
}

const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// A machine to be.
#[derive(Clone, Debug)]
pub struct Machine {
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
    /// More options: the BMC's, and whatever a test wants.
    pub options: Vec<String>,
    /// When it is ended, whatever it does. For machines that hang; no test is about this time.
    pub limit: Duration,
}

/// A line of the console.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it was complete, from the machine's start.
    pub at: Duration,
    /// The line, without escape sequences.
    pub text: String,
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
    /// Starts a machine that keeps its files in this folder.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start(machine: &Machine, folder: &Path) -> Result<Self> {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(["-machine", "q35", "-accel", "tcg,thread=single"])
            .args(["-cpu", &machine.cpu, "-smp", &machine.smp, "-m", &format!("{}M", machine.memory)])
            .args(["-serial", "stdio", "-serial"])
            .arg(format!("file:{}", folder.join("ttyS1").display()))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", folder.join("qmp").display()))
            .arg("-kernel")
            .arg(&machine.kernel)
            .arg("-initrd")
            .arg(&machine.initrd)
            .args(["-append", &machine.append])
            .args(&machine.options);
        if machine.firmware == Firmware::Uefi {
            let vars = folder.join("vars.fd");
            fs::copy(OVMF_VARS, &vars).with_context(|| format!("no {OVMF_VARS}"))?;
            for drive in [format!("{OVMF_CODE},readonly=on"), vars.display().to_string()] {
                qemu.arg("-drive").arg(format!("if=pflash,format=raw,file={drive}"));
            }
        }
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
        Ok(Self { child, lines, started, limit: machine.limit, folder: folder.to_owned() })
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
                let status = self.child.wait()?;
                if !status.success() {
                    let errors = fs::read_to_string(self.folder.join("stderr")).unwrap_or_default();
                    bail!("QEMU failed ({status}): {}", errors.trim());
                }
                Ok(None)
            }
        }
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

/// A line as a person sees it: without the terminal's escape sequences and control characters.
fn plain(bytes: &[u8]) -> String {
    let line = String::from_utf8_lossy(bytes);
    let mut text = String::new();
    let mut chars = line.trim_end_matches(['\n', '\r']).chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // CSI sequences end in a letter; others are two characters long.
            if chars.next() == Some('[') {
                chars.by_ref().find(char::is_ascii_alphabetic);
            }
        } else if char == '\t' || !char.is_control() {
            text.push(char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_line_loses_escape_sequences_and_its_end() {
        assert_eq!(plain(b"\x1b[2J\x1b[01;01Hhello \x1b=w\tx\r\n"), "hello w\tx");
        assert_eq!(plain(b"\x1b["), "");
    }
}
