//! `lastwords read`: the panic reports in a System Event Log (SEL).
//!
//! Where the log is from (`source`), how a file's forms are taken apart (`log`), what it holds of each crash (`crash`),
//! how that is shown to people (`report`, `rows`, `next`) and to programs (`json`) are one module each; `source` and
//! `next` make the system calls.

mod crash;
mod identity;
mod json;
mod log;
mod next;
mod part;
mod pstore;
mod report;
mod rows;
mod source;
mod text;
mod why;

pub use log::{Log, text};
pub use why::records as why_records;

use crate::{
    bmc::Connection,
    layout::{self, Color},
    machine::{boot_id, hostname, now},
    message,
    symbols::Symbols,
};
use anyhow::{Context, Result};
use clap::Args;
use crash::{Crash, Time};
use log::{Note, Notes};
use part::{Part, Since, Wanted};
use report::Report;
use serde_json::Value;
use source::{Source, Sources};
use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Exit status: there is no panic report.
const NONE_FOUND: u8 = 3;

/// Show the panic reports in a BMC's event log
///
/// Reads the System Event Log (SEL) of this machine's BMC (baseboard management controller), of one on the LAN (IPMI or
/// Redfish), or from a file. Shows the newest crash in full: its reason and location, every CPU, the dump, and what to do next. Earlier
/// crashes get a line each. The panic texts of Linux's own IPMI driver are shown, too.
///
/// The form of a file is found by its content: ipmitool sel writeraw (complete), ipmitool sel list, elist, -v and -c,
/// FreeIPMI's ipmi-sel (without --legacy-output), lines of 16 bytes in hex, and a record of pstore (dmesg-erst-...). A note names what a listing leaves out.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords read
  lastwords read --all
  lastwords read -n 1 --json
  lastwords read --since 3d
  lastwords read -H bmc17 -U admin --password-file /etc/bmc17.password
  lastwords read --redfish https://bmc17 -U admin --ca-file /etc/bmc-ca.pem
  ipmitool sel writeraw /tmp/sel; lastwords read --file /tmp/sel
  ssh server ipmitool sel list | lastwords read --file -
  lastwords read --log

Exit status:
  0  a panic report was found
  1  failed, or records were not read that may be a panic's
  2  wrong usage
  3  no panic report

Files:
  /var/lib/lastwords  symbols that lastwords load has saved
  /var/crash          dumps, to name the one of a crash
  /dev/ipmi0          this machine's BMC
  /sys/fs/pstore, /var/lib/systemd/pstore
                      reports and logs' ends that pstore kept

Environment:
  LASTWORDS_PASSWORD  password for --host or --redfish, before IPMI_PASSWORD
  IPMI_PASSWORD       the same, as for ipmitool
  NO_COLOR            no colour, unless --color always")]
pub struct Read {
    #[command(flatten)]
    sources: Sources,
    /// Show all crashes and test reports in full
    #[arg(long, conflicts_with = "newest")]
    all: bool,
    /// Show the newest N crashes in full, nothing else (1 to 65535)
    ///
    /// Without it the newest one is shown in full, and each other in a line.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    newest: Option<u16>,
    /// Show the newest crash, as -n 1 does
    #[arg(long, hide = true, conflicts_with_all = ["all", "newest"])]
    last: bool,
    /// Show only crashes since TIME, by the BMC's clock (3d, 2026-11-23)
    ///
    /// A time ago in minutes, hours or days (30m, 12h, 3d), or a date with or without a time of day ("2026-11-23 01:38:20").
    /// Crashes without a time are shown, too.
    #[arg(long, value_name = "TIME")]
    since: Option<Since>,
    /// Name code locations by this file [default: /var/lib/lastwords]
    ///
    /// It is the crashed kernel's kallsyms, System.map or vmlinux, or a file that `lastwords load` has saved in
    /// /var/lib/lastwords.
    #[arg(long, value_name = "FILE")]
    symbols: Option<PathBuf>,
    /// Print the end of the newest crash's log, as pstore kept it
    ///
    /// It is there where the dump kernel was loaded with --output-pstore, in /sys/fs/pstore or /var/lib/systemd/pstore.
    #[arg(long, conflicts_with_all = ["all", "newest", "json"])]
    log: bool,
    /// Print JSON: all crashes, or the newest N
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    color: Color,
}

impl Read {
    /// Reads the log and prints the reports.
    ///
    /// # Errors
    /// When the log or the symbols cannot be read, or standard output fails.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        self.color.apply();
        let symbols = self.symbols.as_deref().map(Symbols::open).transpose()?;
        let newest = self.newest.or(self.last.then_some(1));
        let wanted = Wanted { newest: newest.map(usize::from), since: self.since };
        let (sources, refused) = self.sources.open(root, wanted)?;
        let view = match newest {
            _ if self.all => View::All,
            None => View::Overview,
            Some(count) => View::Newest(count.into()),
        };
        let (mut found, mut is_cut, mut ends_early) = (false, false, refused > 0);
        for (index, source) in sources.iter().enumerate() {
            let mut reading = Reading::new(&source.log, &source.name);
            reading.join(&source.pstore);
            if let Some(since) = self.since {
                reading.keep_since(since.seconds(source.ahead));
            }
            if let View::Newest(count) = view {
                reading.keep_newest(count);
            }
            reading.complete(root, source, symbols.as_ref());
            if index > 0 && !self.json {
                message::output("");
            }
            if self.log {
                reading.print_log()?;
            } else {
                reading.show(view, self.json)?;
            }
            found |= !reading.crashes.is_empty();
            is_cut |= reading.is_cut();
            ends_early |= reading.notes.ends_early() || reading.part.as_ref().is_some_and(Part::ends_early);
        }
        Ok(match found {
            // Whether there is one, or a newer one, is unknown.
            _ if ends_early => ExitCode::FAILURE,
            true => ExitCode::SUCCESS,
            false if is_cut => ExitCode::FAILURE,
            false => ExitCode::from(NONE_FOUND),
        })
    }
}

/// What is shown in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The newest crash; the others get a line each.
    Overview,
    /// The newest so many, and nothing else.
    Newest(usize),
    /// All, test reports among them.
    All,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// From where: `/dev/ipmi0`, a file's name.
    source: String,
    /// Whose log it is, where that is known.
    host: Option<String>,
    /// Is it this machine's own?
    is_local: bool,
    /// The time by the BMC's clock, in seconds since 1970, where it is known.
    now: Option<i64>,
    /// The oldest first.
    crashes: Vec<Crash>,
    /// What the source leaves out.
    notes: Notes,
    /// Kernels whose symbols are not at hand.
    unnamed: Vec<u32>,
    /// How much of the log was read, where a BMC has it.
    part: Option<Part>,
}

/// A crash, for those who remember it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What it is known by: the id that is recorded or can be derived, else what else is known of it.
    pub key: String,
    /// Seconds since 1970 by the BMC's clock, where they are known.
    pub seconds: Option<u32>,
    /// Seconds since then, where the BMC's clock was asked.
    pub age: Option<i64>,
    /// What happened, in a line.
    pub summary: String,
    /// As `lastwords read --json` has it.
    pub json: Value,
}

impl Reading {
    /// What the log of this machine's own BMC holds, with names for the locations and the dumps that were found.
    ///
    /// # Errors
    /// When the BMC does not answer.
    pub fn here(root: &Path, bmc: &mut Connection) -> Result<Self> {
        let source = Source::here(root, bmc)?;
        let mut reading = Self::new(&source.log, &source.name);
        reading.complete(root, &source, None);
        Ok(reading)
    }

    /// The host's name, where it is known.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// All crashes, without test reports, the oldest first.
    pub fn found(&self) -> impl Iterator<Item = Found> {
        self.crashes.iter().filter(|crash| !crash.is_test()).map(|crash| Found {
            key: identity::key(crash),
            seconds: match crash.time {
                Some(Time::Seconds(seconds)) => Some(seconds),
                _ => None,
            },
            age: self.age(crash),
            summary: layout::printable(&report::summary(crash)),
            json: serde_json::to_value(json::CrashJson::new(crash, None)).unwrap_or_default(),
        })
    }

    /// What a log holds, without names for the locations.
    #[must_use]
    pub fn new(log: &Log, source: &str) -> Self {
        Self {
            source: source.to_owned(),
            crashes: crash::crashes(log),
            notes: log.notes.clone(),
            ..Self::default()
        }
    }

    /// Forgets all but the newest crashes; where there is no crash, all but the newest test reports.
    fn keep_newest(&mut self, count: usize) {
        if self.crashes.iter().any(|crash| !crash.is_test()) {
            self.crashes.retain(|crash| !crash.is_test());
        }
        self.crashes.drain(..self.crashes.len().saturating_sub(count));
    }

    /// Forgets the crashes before this time by the BMC's clock.
    fn keep_since(&mut self, since: i64) {
        let is_before =
            |time: &Option<Time>| matches!(time, Some(Time::Seconds(seconds)) if i64::from(*seconds) < since);
        self.crashes.retain(|crash| !is_before(&crash.time));
        if self.crashes.iter().any(|crash| matches!(crash.time, Some(Time::Listed(_)))) {
            self.notes.insert(Note::SinceUnknown);
        }
    }

    /// Adds what this machine knows, whose own log it is: names for the locations by the saved symbols, its host name.
    pub fn name_places_here(&mut self, root: &Path) {
        let source = Source {
            log: Log::default(),
            name: String::new(),
            ahead: None,
            host: hostname(root),
            running: boot_id(root),
            part: None,
            pstore: Vec::new(),
        };
        self.complete(root, &source, None);
    }

    /// Adds what is known of the source, and what its machine has: symbols (or `symbols`) and dumps.
    fn complete(&mut self, root: &Path, source: &Source, symbols: Option<&Symbols>) {
        self.host.clone_from(&source.host);
        self.part.clone_from(&source.part);
        self.is_local = source.running.is_some();
        self.now = source.ahead.map(|ahead| now() + ahead);
        let is_cut = self.is_cut();
        self.crashes.iter_mut().for_each(|crash| crash.is_open = is_cut);
        self.name_locations(root, source, symbols);
        if self.is_local {
            self.find_dumps(root, source.ahead.unwrap_or_default());
        }
    }

    /// Names the locations, by `symbols` or those that are saved.
    fn name_locations(&mut self, root: &Path, source: &Source, symbols: Option<&Symbols>) {
        let ahead = source.ahead.unwrap_or_default();
        let running = source.running.as_deref();
        let mut kernels = self.crashes.iter().filter_map(|crash| crash.build_id);
        let first = kernels.next();
        let is_several = kernels.any(|id| Some(id) != first);
        if is_several && symbols.is_some_and(|symbols| !symbols.have_build_id()) {
            self.notes.insert(Note::SymbolsOfAnyKernel);
        }
        // Of few kernels: lists, in the order of their ids, are smaller code than maps.
        let mut saved: Vec<(u32, Option<Symbols>)> = Vec::new();
        for crash in &mut self.crashes {
            let Some(id) = crash.build_id else {
                // Which kernel it was is unknown: the one that is named.
                if let Some(symbols) = symbols {
                    crash.name_locations(symbols, ahead, running);
                }
                continue;
            };
            let found = if let Some(symbols) = symbols {
                Some(symbols).filter(|symbols| symbols.are_of(id))
            } else {
                let at = saved.iter().position(|(known, _)| *known == id).unwrap_or_else(|| {
                    let found = Symbols::find(root, id).unwrap_or_else(|error| {
                        message::warning(&error);
                        None
                    });
                    saved.push((id, found));
                    saved.len() - 1
                });
                saved[at].1.as_ref()
            };
            match found {
                Some(symbols) => crash.name_locations(symbols, ahead, running),
                None if crash.needs_symbols() => {
                    if let Err(at) = self.unnamed.binary_search(&id) {
                        self.unnamed.insert(at, id);
                    }
                }
                None => {}
            }
        }
    }

    /// May records be missing, whichever?
    fn is_cut(&self) -> bool {
        self.notes.is_cut() || self.part.as_ref().is_some_and(Part::is_cut)
    }

    /// Finds each crash's dump, where the time of the crash is known.
    fn find_dumps(&mut self, root: &Path, ahead: i64) {
        let mut next = None;
        for crash in self.crashes.iter_mut().rev().filter(|crash| !crash.is_test()) {
            let Some(Time::Seconds(seconds)) = crash.time else { continue };
            let time = i64::from(seconds) - ahead;
            crash.vmcore = next::vmcore(root, time, next).map(|path| path.display().to_string());
            next = Some(time);
        }
    }

    /// Seconds since a crash, where the BMC's clock was asked.
    fn age(&self, crash: &Crash) -> Option<i64> {
        let Some(Time::Seconds(seconds)) = crash.time else { return None };
        self.now.map(|now| now - i64::from(seconds)).filter(|age| *age >= 0)
    }

    /// Prints all crashes and test reports in full.
    ///
    /// # Errors
    /// When standard output fails.
    pub fn print(&self, json: bool) -> Result<()> {
        self.show(View::All, json)
    }

    /// Prints the end of the newest crash's log, where pstore kept it.
    fn print_log(&self) -> Result<()> {
        let newest = self.crashes.iter().rev().find_map(|crash| crash.pstore.as_ref());
        let path = newest.context(
            "pstore has no log of a crash\nhint: load the dump kernel with --output-pstore; after a crash, read as root",
        )?;
        message::report(pstore::log(Path::new(path))).context("standard output")
    }

    /// Prints what `view` has.
    ///
    /// # Errors
    /// When standard output fails.
    fn show(&self, view: View, json: bool) -> Result<()> {
        let printed = if json {
            message::json(&json::Root::new(self))
        } else {
            message::report(Report { reading: self, view, width: layout::width() })
        };
        match printed {
            // Who reads it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed.context("standard output"),
        }
    }
}
