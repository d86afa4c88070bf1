//! A machine that is put back into one state again and again, under a debugger: it stands still but when it is told to go
//! on. What it did before is as if it had not been, but for what its console has written to a file.

use crate::machine::gdb::{Debugger, Gdb};
use crate::machine::monitor::Monitor;
use crate::machine::qemu::{Connections, Machine, Vm};
use crate::machine::{orders, snapshot};
use anyhow::Result;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use tempfile::TempDir;

/// The machine.
pub struct Kept {
    /// Its debugger.
    pub gdb: Gdb,
    /// QEMU's monitor.
    pub monitor: Monitor,
    /// Where its files are.
    pub folder: TempDir,
    console: PathBuf,
    /// What the console had written before it was put back.
    written: u64,
    _debugger: Debugger,
    _vm: Vm,
}

impl Kept {
    /// Starts QEMU with a machine whose state is on this disk of states, of which it takes a copy.
    ///
    /// # Errors
    /// When QEMU does not start.
    pub fn start(machine: &Machine, states: &Path) -> Result<Self> {
        // In /tmp: a socket's path must be short.
        let folder = tempfile::Builder::new().prefix("lastwords-vm-").tempdir()?;
        let path = folder.path();
        let (disk, console) = (path.join("states"), path.join("console"));
        fs::copy(states, &disk)?;
        let debugger = Debugger::new()?;
        let mut options = snapshot::disk_options(&disk).to_vec();
        // A machine that is off or reset stays as it is, to be looked at.
        options.extend(["-S", "-action", "reboot=shutdown,shutdown=pause"].map(str::to_owned));
        let connections = Connections {
            orders: orders::none(path)?,
            bmc: None,
            debugger: Some(debugger.socket()),
            snapshot: None,
            console: Some(console.clone()),
            options,
            // Nobody waits for a line of its console.
            limit: Duration::ZERO,
            folder: path.to_owned(),
        };
        let vm = Vm::start(machine, &connections)?;
        let monitor = connect(&vm)?;
        let gdb = debugger.connect()?;
        Ok(Self { gdb, monitor, folder, console, written: 0, _debugger: debugger, _vm: vm })
    }

    /// Puts it back.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn put_back(&mut self) -> Result<()> {
        snapshot::put_back(&mut self.monitor)?;
        self.written = fs::metadata(&self.console)?.len();
        Ok(())
    }

    /// What the console has written since then.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn console(&self) -> Result<String> {
        let console = fs::read(&self.console)?;
        let new = console.get(self.written as usize..).unwrap_or_default();
        Ok(String::from_utf8_lossy(new).into_owned())
    }
}

/// The monitor, as soon as QEMU is there.
fn connect(vm: &Vm) -> Result<Monitor> {
    for _ in 0..500 {
        if let Ok(monitor) = vm.monitor() {
            return Ok(monitor);
        }
        sleep(Duration::from_millis(10));
    }
    vm.monitor()
}
