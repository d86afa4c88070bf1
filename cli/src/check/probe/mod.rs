//! `lastwords probe`: what BMC is this, what does it store, and with which options should a dump kernel be loaded?

mod report;
mod write_test;

use crate::{
    arm::pstore::Store,
    bmc::{self, Connection, Local, discovery},
    layout::{self, Color},
    message,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use lastwords_core::ipmi::commands::{GetDeviceId, GetSelInfo, GetWatchdogTimer, SelInfo};
use report::{Report, Used};
use std::{path::Path, process::ExitCode};
use write_test::WriteTest;

/// Exit status: the BMC answers, and cannot store panic reports.
const NOT_READY: u8 = 3;

/// Find the BMC and test what it stores
///
/// Shows what BMC (baseboard management controller) this is, the state of its event log (SEL, System Event Log) and of its
/// watchdog, and the options for `lastwords load` and `lastwords wrap`. The BMC is asked through /dev/ipmi0 if it is there,
/// else through its registers at I/O ports (KCS or BT). An interface that an option names is asked itself, whatever /dev/ipmi0
/// is. Nothing is changed without --write-test.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords probe --write-test
  lastwords load /boot/vmlinuz --initrd INITRD --reuse-cmdline \\
      --ipmi-handle-panic $(lastwords probe --write-test --print-options)

Exit status:
  0  ready: panic reports can be stored, as far as is known
  1  failed, or no BMC answers
  2  wrong usage
  3  not ready

Files:
  /dev/ipmi0                   the BMC, by the kernel's driver
  /dev/port                    the BMC, without the driver
  /sys/bus/*/drivers/ipmi_*    the driver's own interface
  /sys/firmware/dmi            SMBIOS, for the BMC's interface
  /sys/firmware/acpi/tables    ACPI, for the same, and for the error store (ERST)
  /sys/bus/pci/devices         PCI, for the same")]
pub struct Probe {
    #[command(flatten)]
    local: Local,

    /// Add a record of each type to the SEL, read it back and delete it
    ///
    /// The records are an OEM record with the text "only a test", and two events "OS Boot: boot completed", one by Add SEL
    /// Entry and one by a platform event. A BMC that forwards events may forward these. A record is deleted only where its record ID
    /// is certain and the BMC reserves the SEL for it; else it stays, and the report names it.
    #[arg(long)]
    write_test: bool,

    /// Print only the options for lastwords load and wrap
    #[arg(long, conflicts_with = "json")]
    print_options: bool,

    /// Print only the same as parameters, for a kernel's command line
    #[arg(long, conflicts_with_all = ["json", "print_options"])]
    print_parameters: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    color: Color,
}

impl Probe {
    /// Asks the BMC and prints what it is.
    ///
    /// # Errors
    /// When no BMC answers, the SEL is full before a test, or standard output fails.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        let asked = self.local.interface();
        let mut interfaces = discovery::interfaces(root);
        if asked.is_none() {
            discovery::ask(root, &mut interfaces);
        }
        let pstore = Store::find(root);
        let bmc = match asked {
            Some(_) => Connection::local(root, asked),
            None => Connection::among(root, &interfaces),
        };
        // Where there is no BMC it is all that there is.
        if let (Err(_), Some(pstore), false) = (&bmc, &pstore, self.json) {
            message::output(format_args!("pstore: {}", pstore.text()));
        }
        let mut bmc = bmc?;
        let used = match asked {
            Some(interface) => Used::Asked(interface),
            None => {
                discovery::best(&interfaces).map_or(Used::None, |(at, interface)| Used::Found(at, interface))
            }
        };
        let device = bmc.send(&GetDeviceId)?;
        let sel = known(bmc.send(&GetSelInfo))?;
        let watchdog = known(bmc.send(&GetWatchdogTimer))?;
        let write_test = if self.write_test {
            if sel.and_then(SelInfo::free_records).is_some_and(|free| free < WriteTest::RECORDS) {
                bail!(
                    "the SEL is full, a test could overwrite what is in it\nhint: save it, then clear it: ipmitool sel clear"
                );
            }
            Some(WriteTest::run(&mut bmc))
        } else {
            None
        };
        let mut report = Report::new(&interfaces, bmc.name(), used, device, sel, watchdog, write_test);
        report.pstore = pstore;
        self.color.apply();
        if self.json {
            message::json(&report)
        } else if self.print_options {
            message::report(format_args!("{}\n", report.options.join(" ")))
        } else if self.print_parameters {
            message::report(format_args!("{}\n", report.parameters()))
        } else {
            message::report(report.text(layout::width()))
        }
        .context("standard output")?;
        Ok(if report.is_ready() { ExitCode::SUCCESS } else { ExitCode::from(NOT_READY) })
    }
}

/// A BMC that has told what it is may refuse or not answer one question, and answer the next.
fn known<T>(answer: Result<T, bmc::BmcError>) -> Result<Option<T>, bmc::BmcError> {
    match answer {
        Err(bmc::BmcError::Refused(..) | bmc::BmcError::Silent(_) | bmc::BmcError::Garbled(_)) => Ok(None),
        answer => answer.map(Some),
    }
}
