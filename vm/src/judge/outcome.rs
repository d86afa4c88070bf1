//! What came of a scenario: the console, what the dump kernel found, and the BMC.

use crate::judge::sections::{Section, base64};
use crate::judge::sel::Record;
use crate::judge::vmcore::Notes;
use crate::machine::bmc::Running;
use crate::machine::bmc::recording::Request;
use crate::machine::console::{Line, tail};
use crate::machine::kernels::Kernel;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What came of a scenario.
pub struct Outcome {
    /// The kernel that ran.
    pub kernel: Kernel,
    /// When the machine was started.
    pub started: Instant,
    /// The console.
    pub console: Vec<Line>,
    /// What the guests' commands printed.
    pub sections: BTreeMap<String, Section>,
    /// The BMC, which may still run.
    pub bmc: Running,
    /// The folder of its files.
    pub folder: TempDir,
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

    /// The kernel's numbers of the CPUs that have notes in /proc/vmcore, in their order: those that were online, where the
    /// section `online` has them as /sys/devices/system/cpu/online does; else all from 0 on.
    ///
    /// # Errors
    /// When there are not as many as notes.
    pub fn cpu_numbers(&self) -> Result<Vec<usize>> {
        let count = self.notes()?.cpus.len();
        let Ok(online) = self.text("online") else { return Ok((0..count).collect()) };
        let mut numbers = Vec::new();
        for run in online.trim().split(',') {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            numbers.extend(first.parse::<usize>()?..=last.parse()?);
        }
        ensure!(numbers.len() == count, "CPUs {numbers:?} were online, and {count} have notes");
        Ok(numbers)
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
        self.bmc.on_the_lan()?.ipmitool(arguments)
    }

    /// The UDP port of the BMC's LAN side.
    ///
    /// # Errors
    /// When it has none.
    pub fn lan_port(&self) -> Result<u16> {
        Ok(self.bmc.on_the_lan()?.lan_port())
    }

    /// What our own BMC was asked.
    ///
    /// # Errors
    /// When the machine had another one.
    pub fn requests(&self) -> Result<Vec<Request>> {
        self.bmc.requests()
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
