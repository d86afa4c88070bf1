//! `lastwords read`: the last words in a System Event Log, told.
//!
//! Where the log is from (`source`), how a file's forms are taken apart (`log`), what it tells of each crash (`crash`),
//! and how that is shown (`report`, `json`) are one module each; all but the first are without system calls.

mod crash;
mod json;
mod log;
mod report;
mod source;

pub use log::Log;

use crate::symbols::Symbols;
use anyhow::{Context, Result};
use clap::Args;
use crash::Crash;
use log::Note;
use report::Report;
use source::{Source, Sources};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Exit status: there are no last words.
const NONE_FOUND: u8 = 3;

/// Tells the last words in the BMC's event log: why and where the server died
///
/// Reads this machine's BMC, one on the LAN, or a file, and tells of each crash in order, the newest last: when, why,
/// where every CPU was, how far the dump came, and what is lost. The panic records of Linux's own IPMI driver are told
/// too.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Files are taken in these forms, told apart by content: ipmitool sel writeraw (the best: it is complete), ipmitool sel \
list, elist, -v and -c, FreeIPMI's ipmi-sel (but --legacy-output), --hex-dump among them, and lines of 16 bytes in hex.

Examples:
  lastwords read
  lastwords read --last --json
  lastwords read --host bmc17 --user admin --password-file /etc/bmc17.password --symbols /srv/kallsyms-6.1.0-56
  ipmitool sel writeraw /tmp/sel; lastwords read --file /tmp/sel
  ssh server ipmitool sel list | lastwords read --file -

Exit status: 0 words found, 3 none found, 1 failed, 2 wrong usage.")]
pub struct Read {
    #[command(flatten)]
    sources: Sources,
    /// Only the newest crash (a rehearsal when there is nothing else)
    #[arg(long)]
    last: bool,
    /// Name places by this file: kallsyms, System.map or vmlinux of the kernel that crashed, or a saved one
    ///
    /// Without it those that `lastwords load` has saved in /var/lib/lastwords are taken.
    #[arg(long, value_name = "FILE")]
    symbols: Option<PathBuf>,
    /// Print JSON (docs/reading.md describes it)
    #[arg(long)]
    json: bool,
}

impl Read {
    /// Does it.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        let symbols = self.symbols.as_deref().map(Symbols::open).transpose()?;
        let source = self.sources.open(root)?;
        let mut reading = Reading::new(&source.log, &source.name);
        if self.last {
            reading.keep_last();
        }
        reading.name_places(root, &source, symbols.as_ref());
        reading.print(self.json)?;
        Ok(if reading.crashes.is_empty() { ExitCode::from(NONE_FOUND) } else { ExitCode::SUCCESS })
    }
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// From where: `/dev/ipmi0`, a file's name.
    source: String,
    /// The oldest first.
    crashes: Vec<Crash>,
    /// What the source does not tell.
    notes: BTreeSet<Note>,
    /// Kernels whose symbols are not at hand.
    unnamed: BTreeSet<u32>,
}

impl Reading {
    /// What a log tells, without names for the places.
    #[must_use]
    pub fn new(log: &Log, source: &str) -> Self {
        Self {
            source: source.to_owned(),
            crashes: crash::crashes(log),
            notes: log.notes.clone(),
            unnamed: BTreeSet::new(),
        }
    }

    /// Forgets all but the newest crash.
    fn keep_last(&mut self) {
        let last = self.crashes.iter().rposition(|crash| !crash.is_rehearsal());
        self.crashes = last
            .or(self.crashes.len().checked_sub(1))
            .map(|last| self.crashes.swap_remove(last))
            .into_iter()
            .collect();
    }

    /// Gives the places their names, by those that are saved, where the log is this machine's own.
    pub fn name_places_here(&mut self, root: &Path) {
        let source = Source { log: Log::default(), name: String::new(), ahead: 0, running: boot_id(root) };
        self.name_places(root, &source, None);
    }

    /// Gives the places their names, by `symbols` or those that are saved.
    fn name_places(&mut self, root: &Path, source: &Source, symbols: Option<&Symbols>) {
        let kernels: BTreeSet<_> = self.crashes.iter().filter_map(|crash| crash.build_id).collect();
        if kernels.len() > 1 && symbols.is_some_and(|symbols| !symbols.have_build_id()) {
            self.notes.insert(Note::SymbolsOfAnyKernel);
        }
        let mut saved = BTreeMap::new();
        for crash in &mut self.crashes {
            let Some(id) = crash.build_id else {
                // Nothing tells which kernel it was: the one that is named.
                if let Some(symbols) = symbols {
                    crash.name_places(symbols, source.ahead, source.running.as_deref());
                }
                continue;
            };
            let found = match symbols {
                Some(symbols) => Some(symbols).filter(|symbols| symbols.are_of(id)),
                None => saved
                    .entry(id)
                    .or_insert_with(|| {
                        Symbols::find(root, id).unwrap_or_else(|error| {
                            eprintln!("lastwords: warning: {error:#}");
                            None
                        })
                    })
                    .as_ref(),
            };
            match found {
                Some(symbols) => crash.name_places(symbols, source.ahead, source.running.as_deref()),
                None if crash.needs_symbols() => drop(self.unnamed.insert(id)),
                None => {}
            }
        }
    }

    /// Prints it.
    ///
    /// # Errors
    /// When standard output does not take it.
    pub fn print(&self, json: bool) -> Result<()> {
        let printed = if json {
            writeln!(io::stdout(), "{}", json::json(self))
        } else {
            let report = Report { reading: self, picture: io::stdout().is_terminal() };
            write!(anstream::stdout(), "{report}")
        };
        match printed {
            // Who reads it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            printed => printed.context("standard output"),
        }
    }
}

/// The boot id of the running system.
fn boot_id(root: &Path) -> Option<String> {
    Some(fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).ok()?.trim().to_owned())
}
