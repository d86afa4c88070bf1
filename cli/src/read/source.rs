//! Where a System Event Log is read from: this machine's BMC, one on the LAN, a file, standard input.

use super::{Log, boot_id};
use crate::bmc::{Connection, Local, Remote};
use anyhow::{Context, Result};
use clap::Args;
use lastwords_core::ipmi::commands::GetSelTime;
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// The options that say from where. Without any it is this machine's BMC.
#[derive(Args, Debug)]
#[command(mut_arg("ipmi_kcs_ports", |option| option.conflicts_with("host").help("\
Reach this machine's BMC at these I/O ports, where /dev/ipmi0 is not there and the machine's tables are wrong")))]
pub struct Sources {
    #[command(flatten)]
    remote: Remote,
    /// Read a file, or standard input when it is `-`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["host", "ipmi_kcs_ports"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    local: Local,
}

/// A log, and what is known of where it is from.
pub struct Source {
    /// The log.
    pub log: Log,
    /// What to call it.
    pub name: String,
    /// How many seconds the BMC's clock is ahead of this machine's.
    pub ahead: i64,
    /// Boot id of the running system, when the log is this machine's own.
    pub running: Option<String>,
}

impl Sources {
    /// Reads it.
    ///
    /// # Errors
    /// When there is no BMC, it does not answer, the file cannot be read, or it is no SEL.
    pub fn open(&self, root: &Path) -> Result<Source> {
        if let Some(path) = &self.file {
            return file(path);
        }
        let remote = self.remote.connect()?;
        let running = if remote.is_some() { None } else { boot_id(root) };
        let mut bmc = match remote {
            Some(bmc) => bmc,
            None => Connection::local(root, self.local.ipmi_kcs_ports)?,
        };
        let records = bmc.sel_entries()?;
        Ok(Source {
            log: records.into_iter().map(|entry| entry.record).collect(),
            name: bmc.way().to_owned(),
            ahead: ahead(&mut bmc).unwrap_or_default(),
            running,
        })
    }
}

fn file(path: &Path) -> Result<Source> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let read = || -> Result<_> {
        let mut bytes = Vec::new();
        if is_stdin {
            io::stdin().read_to_end(&mut bytes)?;
        } else {
            bytes = fs::read(path)?;
        }
        Ok(Log::parse(&bytes)?)
    };
    Ok(Source { log: read().with_context(|| name.clone())?, name, ahead: 0, running: None })
}

/// How far the SEL's clock is ahead of ours (Get SEL Time, IPMI 2.0 section 31.10). A BMC that does not tell is taken
/// to be right.
fn ahead(bmc: &mut Connection) -> Option<i64> {
    let time = bmc.send(&GetSelTime).ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    Some(i64::from(time) - i64::try_from(now).ok()?)
}
