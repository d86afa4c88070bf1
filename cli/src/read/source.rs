//! Where a System Event Log is read from: this machine's BMC, one on the LAN by IPMI or Redfish, a file, standard input.

use super::{
    Log, Reading,
    crash::{LAST_UPTIME, NO_TIME},
    log::{LogError, MOST, Note, begins_with_id},
    part::{Part, Wanted},
    pstore::Kept,
};
use crate::{
    bmc::{
        Connection, Local, Remote, SelList,
        redfish::{Entries, Kind, Redfish},
    },
    layout,
    machine::{boot_id, hostname, now},
    message, unpack,
};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use lastwords_core::ipmi::commands::GetSelTime;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

/// The options that name the log. Without any it is this machine's BMC's.
#[derive(Args, Debug)]
#[command(mut_arg("ipmi_interface", |option| option.conflicts_with("bmc")))]
#[command(mut_arg("ipmi_kcs_ports", |option| option.conflicts_with("bmc")))]
pub struct Sources {
    #[command(flatten)]
    remote: Remote,
    /// Read the SEL from FILE, or from standard input if it is -
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bmc", "ipmi_interface", "ipmi_kcs_ports"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    local: Local,
    /// Give up after so many seconds (1 to 65535), print what was read
    #[arg(long, value_name = "SECONDS", default_value_t = SECONDS, conflicts_with = "file")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    timeout: u16,
}

/// How long reading a SEL may take at most. A slow BMC with a full one takes minutes.
const SECONDS: u16 = 600;

/// A log, and what is known of where it is from.
pub struct Source {
    /// The log.
    pub log: Log,
    /// What to call it.
    pub name: String,
    /// How many seconds the BMC's clock is ahead of this machine's, where the BMC was asked and knows.
    pub ahead: Option<i64>,
    /// Whose log it is, where that is known.
    pub host: Option<String>,
    /// Boot id of the running system, when the log is this machine's own.
    pub running: Option<String>,
    /// How much of the log it is, where a BMC has it.
    pub part: Option<Part>,
    /// What pstore has of this machine's crashes.
    pub pstore: Vec<Kept>,
}

impl Sources {
    /// Reads the log; or of a file with those of several hosts, one after the other. And how many of the hosts have none.
    ///
    /// # Errors
    /// When there is no BMC, it does not answer, the file cannot be read, or it is no SEL.
    pub fn open(&self, root: &Path, wanted: Wanted) -> Result<(Vec<Source>, usize)> {
        if let Some(path) = &self.file {
            return file(path);
        }
        let limit = Duration::from_secs(self.timeout.into());
        if let Some(mut service) = self.remote.redfish(limit)? {
            return Ok((vec![redfish(&mut service, wanted)?], 0));
        }
        let mut pstore = Vec::new();
        let (mut bmc, host, running) = if let Some(bmc) = self.remote.connect(limit)? {
            let host = bmc.name().to_owned();
            (bmc, Some(host), None)
        } else {
            pstore = Kept::find(root);
            let (host, running) = (hostname(root), boot_id(root));
            match Connection::local(root, self.local.interface()) {
                Ok(bmc) => (bmc.within(limit), host, running),
                Err(error) if pstore.is_empty() => return Err(error.into()),
                // It may be a machine that has none.
                Err(error) => {
                    message::warning(&error.into());
                    let (log, name) = (Log::default(), "pstore".to_owned());
                    return Ok((
                        vec![Source { log, name, ahead: Some(0), host, running, part: None, pstore }],
                        0,
                    ));
                }
            }
        };
        if layout::can_show_progress() {
            bmc.on_progress(message::progress());
        }
        let ahead = ahead(&mut bmc);
        let list = bmc.read_sel(wanted.enough(ahead).as_deref_mut());
        if layout::can_show_progress() {
            message::end_progress();
        }
        Ok((vec![Source { pstore, ..Source::of(&bmc, list?, ahead, host, running) }], 0))
    }
}

impl Source {
    /// A log that was read from this BMC.
    fn of(
        bmc: &Connection,
        list: SelList,
        ahead: Option<i64>,
        host: Option<String>,
        running: Option<String>,
    ) -> Self {
        Self {
            part: Some(Part::of(&list)),
            pstore: Vec::new(),
            log: list.entries.into_iter().map(|entry| entry.record).collect(),
            name: bmc.name().to_owned(),
            ahead,
            host,
            running,
        }
    }

    /// Reads all of the log of this machine's own BMC.
    ///
    /// # Errors
    /// When it does not answer to the log's end: who remembers crashes comes again.
    pub fn here(root: &Path, bmc: &mut Connection) -> Result<Self> {
        let list = bmc.read_sel(None)?.whole()?;
        let ahead = ahead(bmc);
        Ok(Self::of(bmc, list, ahead, hostname(root), boot_id(root)))
    }
}

/// Reads the log of a BMC by Redfish. Where nothing is found in it, that is so: it is an error where the BMC may have left
/// something out.
fn redfish(service: &mut Redfish, wanted: Wanted) -> Result<Source> {
    let (host, mut log, mut part, mut unknown) = (service.host(), Log::default(), Part::default(), 0);
    let (mut name, mut ahead) = (String::new(), None);
    if service.is_insecure() {
        message::warning(&anyhow!(
            "--insecure: the certificate of {host} is not checked. Whoever answers there gets the password"
        ));
        log.notes.insert(Note::CertificateNotChecked);
    }
    if layout::can_show_progress() {
        service.progress = Some(message::progress());
    }
    for one in service.logs()? {
        let read = service.entries(&one, wanted.enough(one.ahead).as_deref_mut());
        message::end_progress();
        let read = match read {
            Ok(read) => read,
            Err(error) if log.entries.is_empty() => return Err(error.into()),
            Err(error) => Entries { ended_by: Some(error), ..Entries::default() },
        };
        part.add(&read);
        let since = wanted.since.map_or(i64::MIN, |since| since.seconds(one.ahead));
        for entry in read.all {
            unknown += usize::from(entry.kind == Kind::Unknown && entry.created.is_none_or(|at| at >= since));
            log.entries.push(entry.record().into());
        }
        ahead = ahead.or(one.ahead);
        name = one.name;
    }
    if unknown > 0 {
        let maker = service.maker;
        let mut reading = Reading::new(&log, &name);
        if let Some(since) = wanted.since {
            reading.keep_since(since.seconds(ahead));
        }
        if reading.crashes.is_empty() {
            bail!(
                "{name}: whether there is a panic report cannot be told: {maker} ({unknown} of {} entries)\n\
                 hint: read the SEL with --host (IPMI over LAN), or with lastwords read on the server",
                log.entries.len()
            );
        }
        log.notes.insert(Note::NoRawData(maker));
    }
    Ok(Source { log, name, ahead, host: Some(host), running: None, part: Some(part), pstore: Vec::new() })
}

fn file(path: &Path) -> Result<(Vec<Source>, usize)> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let (mut refused, mut pstore) = (0, Vec::new());
    let mut read = || -> Result<_> {
        let bytes = if is_stdin { bounded(io::stdin())? } else { bounded(File::open(path)?)? };
        let bytes = unpacked(bytes)?;
        if let Some(kept) = Kept::of(path, &bytes) {
            pstore.push(kept);
            return Ok(vec![(None, Log::default())]);
        }
        Ok(Log::hosts(&bytes, &mut |host, error| {
            refused += 1;
            message::warning(&anyhow::Error::new(error).context(host.to_owned()));
        })?)
    };
    let logs = read().with_context(|| message::path(path))?;
    let source = |(host, log)| {
        let pstore = std::mem::take(&mut pstore);
        Source { log, name: name.clone(), ahead: None, host, running: None, part: None, pstore }
    };
    Ok((logs.into_iter().map(source).collect(), refused))
}

/// All that comes, when it is not too much.
fn bounded(reader: impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more shows whether it ends there.
    reader.take(MOST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST { Err(LogError::TooLong.into()) } else { Ok(bytes) }
}

/// Unpacks what is packed, with the programs that its users have. Where one is not there, the error names it.
fn unpacked(bytes: Vec<u8>) -> Result<Vec<u8>> {
    const PROGRAMS: [(&[u8], &str); 4] =
        [(b"\x1f\x8b", "gzip"), (b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2")];
    match PROGRAMS.iter().find(|(begin, _)| bytes.starts_with(begin)) {
        Some(_) if begins_with_id(&bytes) => Ok(bytes),
        Some((_, program)) => bounded(&*unpack::with(program, &bytes, MOST)?.unwrap_or(bytes)),
        None => Ok(bytes),
    }
}

/// How far the SEL's clock is ahead of ours (Get SEL Time, IPMI 2.0 section 31.10).
fn ahead(bmc: &mut Connection) -> Option<i64> {
    // Up to 0x20000000 it counts from the BMC's start, and 0xffffffff is none at all.
    let time = bmc.send(&GetSelTime).ok()?;
    if !(LAST_UPTIME + 1..NO_TIME).contains(&time) {
        return None;
    }
    Some(i64::from(time) - now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::best());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }

    #[test]
    fn a_packed_file_is_unpacked_to_its_limit_and_no_further() {
        assert_eq!(unpacked(packed(b"SEL has no entries\n")).unwrap(), b"SEL has no entries\n");
        assert_eq!(unpacked(b"SEL".to_vec()).unwrap(), b"SEL");
        let bomb = packed(&vec![b'a'; MOST as usize + 1]);
        assert!(bomb.len() < 1 << 20);
        let error = unpacked(bomb).unwrap_err();
        assert!(format!("{error:#}").contains("more than 64 MiB"), "{error:#}");
        assert!(unpacked(b"\x1f\x8b\x08".to_vec()).is_err());
    }
}
