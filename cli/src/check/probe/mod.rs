//! `lastwords probe`: what BMC is this, what does it keep, and with which options should a dump kernel be loaded?

mod report;
mod write_test;

use crate::bmc::{self, Connection, Local, discovery};
use anyhow::{Context, Result, bail};
use clap::Args;
use lastwords_core::ipmi::commands::{GetDeviceId, GetSelInfo, GetWatchdogTimer, SelInfo};
use report::Report;
use std::{
    io::{self, Write},
    path::Path,
};
use write_test::WriteTest;

/// Finds the BMC, asks what it is and how full its log is, and says which options to use
///
/// It is asked through /dev/ipmi0 when the kernel's driver is there, else through its I/O ports. Nothing is changed
/// without --write-test.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Example:
  lastwords load /boot/vmlinuz --initrd INITRD --ipmi-handle-panic $(lastwords probe --write-test --print-options)

Exit status: 0 done, 1 no BMC answers, 2 wrong usage.")]
pub struct Probe {
    #[command(flatten)]
    local: Local,

    /// Add a record of each kind to the SEL, read it back and delete it: what does this BMC keep?
    ///
    /// They are an OEM record with the text "only a test", and twice the event "OS Boot: boot completed", by Add SEL
    /// Entry and by a platform event. A BMC that forwards events may forward these; one that cannot delete single
    /// records keeps them.
    #[arg(long)]
    write_test: bool,

    /// Print only the options for `lastwords load` and `lastwords wrap`
    #[arg(long, conflicts_with = "json")]
    print_options: bool,

    /// Print everything as JSON (docs/probe.md)
    #[arg(long)]
    json: bool,
}

impl Probe {
    /// Does it.
    pub fn run(&self, root: &Path) -> Result<()> {
        let interfaces = discovery::interfaces(root);
        let found = discovery::best(&interfaces).and_then(discovery::Interface::ports);
        let ports = self.local.ipmi_kcs_ports.or(found);
        let mut bmc = Connection::local(root, ports)?;
        let device = bmc.send(&GetDeviceId)?;
        let sel = known(bmc.send(&GetSelInfo))?;
        let watchdog = known(bmc.send(&GetWatchdogTimer))?;
        let write_test = if self.write_test {
            if sel.and_then(SelInfo::free_records).is_some_and(|free| free < WriteTest::RECORDS) {
                bail!(
                    "the SEL is full, a test could push out what is in it: save it, then clear it (ipmitool sel clear)"
                );
            }
            Some(WriteTest::run(&mut bmc))
        } else {
            None
        };
        // Ports that have just answered are right, also when nobody has named them.
        let ports = ports.or(bmc.ports());
        let report = Report::new(&interfaces, bmc.way(), ports, device, sel, watchdog, write_test);
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, &report)
                .map_err(io::Error::from)
                .and_then(|()| writeln!(out))
        } else if self.print_options {
            writeln!(out, "{}", report.options.join(" "))
        } else {
            write!(out, "{report}")
        }
        .context("standard output")?;
        Ok(())
    }
}

/// A BMC may refuse one question and answer the next.
fn known<T>(answer: Result<T, bmc::Error>) -> Result<Option<T>, bmc::Error> {
    match answer {
        Err(error) if error.code().is_some() => Ok(None),
        answer => answer.map(Some),
    }
}
