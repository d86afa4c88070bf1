//! A scenario's run: machine and BMC are started, the console is watched, and the outcome is collected.

use crate::judge::outcome::Outcome;
use crate::judge::sections::sections;
use crate::machine::console::{Line, tail};
use crate::machine::initramfs::Base;
use crate::machine::kernels::Kernel;
use crate::machine::qemu::{Connections, Machine, Vm};
use crate::machine::{lastwords, orders, packages, snapshot};
use crate::scenarios::guest::QUICK;
use crate::scenarios::scenario::{Boots, Scenario};
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::time::Instant;

impl Scenario {
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
        let base = Base::get(&kernel)?;
        let machine = self.machine(&kernel, &base, folder.path())?;
        let connections = Connections {
            orders: orders::write(folder.path(), &self.orders(&kernel, &base, folder.path())?)?,
            snapshot: if self.can_go_on() { Some(snapshot::get(&machine)?) } else { None },
            console: None,
            options: std::mem::take(&mut self.host_options),
            debugger: self.debugger.take(),
            limit: self.limit,
            folder: folder.path().to_owned(),
            bmc: None,
        };
        let bmc = std::mem::take(&mut self.bmc).start(folder.path())?;
        let started = Instant::now();
        let mut vm = Vm::start(&machine, &Connections { bmc: bmc.socket(), ..connections })?;
        let mut console = Vec::new();
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
        Ok(Outcome { kernel, started, console, sections, bmc, folder })
    }

    /// Can it go on from a snapshot? Not where the boot is what is looked at.
    fn can_go_on(&self) -> bool {
        matches!(self.boots, Boots::Stock) && std::env::var_os("LASTWORDS_VM_BOOT").is_none()
    }

    /// The machine that it happens to.
    pub(super) fn machine(&self, kernel: &Kernel, base: &Base, folder: &Path) -> Result<Machine> {
        let first = match &self.boots {
            Boots::Stock | Boots::Watched => kernel.image.clone(),
            Boots::File(file) => file.clone(),
            Boots::Wrapped(options) => {
                let image = folder.join("first");
                lastwords::wrap(&kernel.image, &image, options)?;
                image
            }
        };
        let mut options = self.bmc.devices(&self.bmc_device);
        options.extend(self.options.iter().cloned());
        Ok(Machine {
            kind: self.kind.clone(),
            cpu: self.cpu.clone(),
            smp: [self.cpus.to_string().as_str(), self.topology.as_str()]
                .join(",")
                .trim_end_matches(',')
                .to_owned(),
            memory: self.memory,
            firmware: self.firmware,
            kernel: first,
            initrd: base.plain.clone(),
            append: format!("{QUICK} panic=-1 {}", self.first_append).trim_end().to_owned(),
            options,
        })
    }
}
