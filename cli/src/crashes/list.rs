//! `lastwords list`: this machine's crashes, as `lastwords report` has remembered them.

use super::{
    announce,
    store::{Store, Stored},
};
use crate::{
    layout::{self, BAD, Color, printable, wrap},
    machine::hostname,
    message,
};
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use std::{fmt, io, path::Path, process::ExitCode};

/// Exit status: there is no crash.
const NONE_FOUND: u8 = 3;
/// The schema's version.
const SCHEMA: u32 = 1;

/// List this server's crashes
///
/// Shows the crashes that `lastwords report` has found at the boots after them, the newest first, also when the event log was
/// cleared since. A crash that nobody has seen yet has a `!`.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords list
  lastwords list --seen
  lastwords list --json

Exit status:
  0  there are crashes
  1  failed
  2  wrong usage
  3  there is none

Files:
  /var/lib/lastwords/crashes  the crashes, a file each
  /run/motd.d/lastwords       line of the message of the day, removed by --seen")]
pub struct List {
    /// Mark all crashes as seen, and remove the message of the day's line
    #[arg(long)]
    seen: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    color: Color,
}

impl List {
    /// Prints the crashes, and marks them.
    ///
    /// # Errors
    /// When they cannot be marked, or standard output fails.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        self.color.apply();
        let mut listing = Listing { schema: SCHEMA, host: hostname(root), crashes: Store::new(root).list() };
        if self.seen {
            seen(root, &listing.crashes)?;
            listing.crashes = Store::new(root).list();
        }
        let printed = if self.json {
            message::json(&listing)
        } else {
            message::report(Shown { listing: &listing, width: layout::width() })
        };
        match printed {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(error).context("standard output");
            }
            _ => {}
        }
        Ok(if listing.crashes.is_empty() { ExitCode::from(NONE_FOUND) } else { ExitCode::SUCCESS })
    }
}

/// Marks them as seen, and removes the message of the day's line.
fn seen(root: &Path, crashes: &[Stored]) -> Result<()> {
    let store = Store::new(root);
    for crash in crashes.iter().filter(|crash| !crash.seen) {
        store.write(&crash.as_seen())?;
    }
    announce::motd(root)
}

#[derive(Serialize)]
struct Listing {
    schema: u32,
    host: Option<String>,
    /// The newest first.
    crashes: Vec<Stored>,
}

struct Shown<'a> {
    listing: &'a Listing,
    width: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Columns of a mark and a time.
        const INDENT: usize = 2 + 19 + 2;
        let Listing { host, crashes, .. } = self.listing;
        let host = printable(host.as_deref().unwrap_or("this server"));
        let new = crashes.iter().filter(|crash| !crash.seen).count();
        let text = match (crashes.len(), new) {
            (0, _) => format!("No crash of {host} recorded"),
            (1, 0) => format!("1 crash of {host}, seen"),
            (1, _) => format!("1 crash of {host}, not seen yet"),
            (all, 0) => format!("{all} crashes of {host}, all seen"),
            (all, new) => format!("{all} crashes of {host}, {new} not seen yet"),
        };
        writeln!(f, "{}", wrap(&text, 0, 2, self.width))?;
        for crash in crashes {
            let mut line = |mark: &str, time: &str, text: &str| {
                let text = wrap(text, INDENT, INDENT, self.width);
                if crash.seen {
                    writeln!(f, "{mark:2}{time:21}{text}")
                } else {
                    writeln!(f, "{BAD}{mark:2}{time:21}{text}{BAD:#}")
                }
            };
            let mark = if crash.seen { "" } else { "!" };
            line(mark, &printable(crash.time()), &crash.summary)?;
            let id = crash.text("id").unwrap_or("none");
            let class = crash.text("class").unwrap_or("unknown");
            let kernel =
                crash.text("release").map(|release| format!(", kernel {release}")).unwrap_or_default();
            line("", "", &format!("crash ID {id}, class {class}{kernel}"))?;
            line("", "", &crash.dump_text())?;
        }
        match new {
            0 => Ok(()),
            _ => writeln!(f, "Done with them: lastwords list --seen"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::store::tests::crash, *};

    #[test]
    fn crashes_are_shown_newest_first_and_marked_until_they_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let list =
            || Listing { schema: SCHEMA, host: Some("db04".to_owned()), crashes: Store::new(root).list() };
        let shown = || {
            Shown { listing: &list(), width: 80 }
                .to_string()
                .replace(&BAD.to_string(), "")
                .replace("\x1b[0m", "")
        };
        assert_eq!(shown(), "No crash of db04 recorded\n");
        let store = Store::new(root);
        store.write(&crash("06bz7sfyrb", 0)).unwrap();
        store.write(&crash("16bz7sfyrb", 60)).unwrap();
        store.write(&crash("06bz7sfyrb", 0).as_seen()).unwrap();
        assert_eq!(
            shown(),
            "2 crashes of db04, 1 not seen yet\n\
             ! 2026-11-22 16:17:10  NULL pointer dereference at 0x18 in null_pointer+0xa,\n\
            \u{20}                      process insmod\n\
            \u{20}                      crash ID 16bz7sfyrb, class null-pointer, kernel\n\
            \u{20}                      6.1.0-56-amd64\n\
            \u{20}                      dump saved: /var/crash/202611221617/dump.202611221617\n\
            \u{20} 2026-11-22 16:17:10  NULL pointer dereference at 0x18 in null_pointer+0xa,\n\
            \u{20}                      process insmod\n\
            \u{20}                      crash ID 06bz7sfyrb, class null-pointer, kernel\n\
            \u{20}                      6.1.0-56-amd64\n\
            \u{20}                      dump saved: /var/crash/202611221617/dump.202611221617\n\
             Done with them: lastwords list --seen\n"
        );
        announce::motd(root).unwrap();
        assert!(root.join("run/motd.d/lastwords").exists());
        seen(root, &store.list()).unwrap();
        assert!(!root.join("run/motd.d/lastwords").exists());
        assert!(
            store.list().iter().all(|crash| crash.seen)
                && shown().starts_with("2 crashes of db04, all seen\n")
        );
        let json = serde_json::to_value(list()).unwrap();
        assert_eq!(json["crashes"][0]["id"], "16bz7sfyrb");
        assert_eq!(json["crashes"][1]["seen"], true);
    }
}
