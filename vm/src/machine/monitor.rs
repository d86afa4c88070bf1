//! QEMU's monitor (QMP): what a test does to a machine from outside.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection to the monitor. QEMU takes one at a time.
#[derive(Debug)]
pub struct Monitor {
    stream: BufReader<UnixStream>,
    events: Vec<Value>,
}

impl Monitor {
    /// Connects to the monitor's socket.
    ///
    /// # Errors
    /// When nobody answers there.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("QEMU's monitor is not there")?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut monitor = Self { stream: BufReader::new(stream), events: Vec::new() };
        monitor.read()?; // its greeting
        monitor.execute("qmp_capabilities", &json!({}))?;
        Ok(monitor)
    }

    /// Runs a command and returns its answer.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
        loop {
            let answer = self.read()?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            // Anything else is an event.
            self.events.push(answer);
        }
    }

    /// What has happened to the machine since the monitor was connected: the events by their names, with their data.
    ///
    /// # Errors
    /// When QEMU does not answer.
    pub fn events(&mut self) -> Result<Vec<(String, Value)>> {
        self.execute("query-status", &json!({}))?;
        let name = |event: &Value| event["event"].as_str().unwrap_or_default().to_owned();
        Ok(self.events.iter().map(|event| (name(event), event["data"].clone())).collect())
    }

    /// All that has happened to the machine, when it is off.
    #[must_use]
    pub fn to_the_end(mut self) -> Vec<(String, Value)> {
        while let Ok(event) = self.read() {
            self.events.push(event);
        }
        let name = |event: &Value| event["event"].as_str().unwrap_or_default().to_owned();
        self.events.iter().map(|event| (name(event), event["data"].clone())).collect()
    }

    /// Runs a command of the monitor for people (`info registers`, `xp /4gx 0x1000`) and returns what it prints.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub fn human(&mut self, command: &str) -> Result<String> {
        let printed = self.execute("human-monitor-command", &json!({ "command-line": command }))?;
        Ok(printed.as_str().unwrap_or_default().to_owned())
    }

    /// Runs a command of the monitor for people that prints nothing unless it fails.
    ///
    /// # Errors
    /// When it prints something.
    pub fn order(&mut self, command: &str) -> Result<()> {
        let said = self.human(command)?;
        ensure!(said.trim().is_empty(), "QEMU refuses {command}: {}", said.trim());
        Ok(())
    }

    /// Sends an NMI to the CPUs.
    ///
    /// # Errors
    /// When QEMU refuses it.
    pub fn nmi(&mut self) -> Result<()> {
        self.execute("inject-nmi", &json!({}))?;
        Ok(())
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("QEMU closed its monitor");
        }
        Ok(serde_json::from_str(&line)?)
    }
}
