//! What happens to a real Debian: the package is installed, the machine crashes, the kernel is upgraded; and what came of
//! each, by others than lastwords.

use crate::judge::bzimage;
use crate::judge::dump_file::DumpFile;
use crate::judge::sel::Record;
use crate::judge::sel_text::{self, Said};
use crate::machine::console::Line;
use crate::machine::debian::{Debian, Image, Suite};
use crate::machine::lastwords;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// The dump kernel that is loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file that kdump-tools gave to kexec.
    pub path: String,
    /// Which kernel it is, by its own header.
    pub release: String,
    /// Is it the file in `/boot`, byte for byte?
    pub plain: bool,
}

/// A crash, and the boot after it.
#[derive(Clone, Debug)]
pub struct Crash {
    /// The kernel that crashed.
    pub release: String,
    /// The dump that the distribution's service wrote.
    pub dump: DumpFile,
    /// What lastwords wrote to the SEL, if it did.
    pub said: Option<Said>,
    /// The texts in ipmitool's list of the SEL, those before the crash, too.
    pub sel: Vec<String>,
}

impl Crash {
    /// Was it reported, with its reason, and did the dump's progress get to the SEL?
    ///
    /// # Errors
    /// When it was not.
    pub fn reported(&self) -> Result<&Said> {
        let said = self.said.as_ref().context("lastwords has written nothing to the SEL")?;
        ensure!(said.reason.as_deref() == Some("sysrq triggered crash"), "{said:?}");
        let marks: Vec<_> = self.sel.iter().filter(|text| text.contains("dump ")).collect();
        let last = marks.iter().rev().take(2).rev().map(|text| text.as_str()).collect::<Vec<_>>();
        ensure!(
            last == ["Linux kernel panic: dump start", "Linux kernel panic: dump saved"],
            "{:?}",
            self.sel
        );
        Ok(said)
    }
}

/// Boots a Debian and installs the package as a user does: the one that `LASTWORDS_VM_PACKAGE` names, else one that is made.
///
/// # Errors
/// When one of them fails.
pub fn installed(suite: Suite) -> Result<Debian> {
    let package = match std::env::var_os("LASTWORDS_VM_PACKAGE") {
        Some(package) => PathBuf::from(package),
        None => lastwords::packages()?.deb.clone(),
    };
    let mut debian = Debian::boot(&Image::get(suite)?)?;
    fs::copy(package, debian.share().join("lastwords.deb"))?;
    // The package's hook has dpkg make the kernel's RAM disk anew, in minutes of an emulated CPU. None boots with it here.
    debian.run(
        "sed -i s/^update_initramfs=.*/update_initramfs=no/ /etc/initramfs-tools/update-initramfs.conf",
    )?;
    debian.run("DEBIAN_FRONTEND=noninteractive apt-get install --yes /share/lastwords.deb")?;
    Ok(debian)
}

/// Configures panic reporting and enables it. `watchdog` is in seconds.
///
/// # Errors
/// When it fails.
pub fn enable(debian: &mut Debian, watchdog: u32) -> Result<()> {
    debian.run(&format!(
        "mkdir -p /etc/lastwords.conf.d && cat >/etc/lastwords.conf.d/bench.conf <<'END'\n\
         [report]\nipmi-handle-panic = true\noutput-cpu-ip = true\nipmi-watchdog = \"start={watchdog}\"\nEND\n\
         lastwords enable"
    ))?;
    Ok(())
}

/// What `uname -r` prints.
///
/// # Errors
/// When it prints nothing.
pub fn running(debian: &mut Debian) -> Result<String> {
    Ok(debian.run("uname -r")?.trim().to_owned())
}

/// Looks at the dump kernel that is loaded, and holds it against the running kernel.
///
/// # Errors
/// When none is loaded, or that of another kernel.
pub fn loaded(debian: &mut Debian) -> Result<Loaded> {
    let is_loaded = debian.run("cat /sys/kernel/kexec_crash_loaded")?;
    ensure!(is_loaded.trim() == "1", "no dump kernel is loaded");
    let release = running(debian)?;
    let command = debian.run("cat /var/crash/kexec_cmd")?;
    let path = command.split_whitespace().last().context("kexec was given nothing")?.to_owned();
    let same = debian.try_run(&format!("cmp '{path}' '/boot/vmlinuz-{release}'"))?.0 == 0;
    debian.run(&format!("head -c 65536 '{path}' >/share/loaded"))?;
    let found = bzimage::release(&fs::read(debian.share().join("loaded"))?)?;
    ensure!(found == release, "the dump kernel is {found}, the running one {release}");
    ensure!(command.contains("--initrd="), "the dump kernel has no RAM disk: {command}");
    Ok(Loaded { path, release, plain: same })
}

/// The wrapped kernel of the running one is loaded.
///
/// # Errors
/// When another file is.
pub fn wrapped_is_loaded(debian: &mut Debian) -> Result<()> {
    let loaded = loaded(debian)?;
    let expected = format!("/var/lib/kdump/lastwords/vmlinuz-{}", loaded.release);
    ensure!(!loaded.plain && loaded.path == expected, "loaded is {loaded:?}");
    Ok(())
}

/// The distribution's kernel is loaded as it is.
///
/// # Errors
/// When another file is.
pub fn plain_is_loaded(debian: &mut Debian) -> Result<()> {
    let loaded = loaded(debian)?;
    ensure!(loaded.plain, "loaded is {loaded:?}");
    Ok(())
}

/// Crashes the kernel. The distribution's service has to write a dump of it, and the machine has to come up again with
/// the same kernel, with no other boot between.
///
/// # Errors
/// When something else comes of it.
pub fn crash(debian: &mut Debian) -> Result<Crash> {
    let release = running(debian)?;
    let dumps = "ls -1 /var/crash/*/dump.* 2>/dev/null";
    // A dump's folder has the minute in its name.
    debian.run("while [ -e /var/crash/$(date +%Y%m%d%H%M) ]; do sleep 1; done")?;
    let before = debian.try_run(dumps)?.1;
    let console = debian.crash("echo c > /proc/sysrq-trigger")?;
    let booted = booted(&console);
    ensure!(booted == [release.as_str(), &release], "{release} crashed, and then booted {booted:?}");
    let after = debian.try_run(dumps)?.1;
    let new: Vec<_> = after.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    ensure!(new.len() == 1, "new dumps: {new:?}");
    let dump = DumpFile::read(&debian.fetch(new[0])?)?;
    ensure!(dump.release == release, "{release} crashed, the dump is of {}", dump.release);
    ensure!(dump.log.contains("Kernel panic - not syncing: sysrq triggered crash"), "{}", dump.log);
    // Loaded by udev, or not, where nothing of lastwords is installed.
    debian.run("modprobe -a ipmi_si ipmi_devintf; udevadm settle; test -c /dev/ipmi0")?;
    let sel = debian.run("ipmitool sel elist")?;
    let sel: Vec<_> =
        sel.lines().filter_map(|line| Some(line.rsplit_once(" | ")?.1.trim().to_owned())).collect();
    // ipmitool writes no file of an empty SEL.
    let mut records = Vec::new();
    if !sel.is_empty() {
        debian
            .run("rm -f /share/sel; ipmitool sel writeraw /share/sel >/dev/null 2>&1; test -e /share/sel")?;
        records = Record::split(&fs::read(debian.share().join("sel"))?)?;
    }
    Ok(Crash { said: last_crash(&records)?, release, dump, sel })
}

/// The kernels that have booted, by what they print first.
fn booted(console: &[Line]) -> Vec<String> {
    let version = |line: &Line| {
        let (_, rest) = line.text.split_once("] Linux version ")?;
        Some(rest.split(' ').next()?.to_owned())
    };
    console.iter().filter_map(version).collect()
}

/// What the last crash in a SEL wrote. Records of each crash are numbered from 0.
fn last_crash(records: &[Record]) -> Result<Option<Said>> {
    let first = |Record(bytes): &Record| bytes[2] == 0xf0 && matches!(bytes[4], 0 | 0x80);
    let Some(start) = records.iter().rposition(first) else { return Ok(None) };
    sel_text::said(&records[start..]).map(Some)
}

/// This boot's entries of the journal that are about a crash, as journalctl has them in JSON.
///
/// # Errors
/// When journalctl fails.
pub fn told(debian: &mut Debian) -> Result<Vec<Value>> {
    let journal = debian.run("journalctl --boot --priority=0 --output=json --no-pager")?;
    let entries = journal.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    Ok(entries.into_iter().filter(|entry| !entry["LASTWORDS_CRASH_ID"].is_null()).collect())
}

/// What a user who logs in is shown before the shell.
///
/// # Errors
/// When nobody can log in.
pub fn login(debian: &mut Debian) -> Result<String> {
    debian.run("echo exit | script --quiet --command 'login -f root' /dev/null")
}

/// The wrapped kernel of the running one, as a script names it.
pub const WRAPPED: &str = "/var/lib/kdump/lastwords/vmlinuz-$(uname -r)";

/// What lastwords has written to the journal since this script's run.
///
/// # Errors
/// When journalctl fails.
pub fn journal_of(debian: &mut Debian, script: &str) -> Result<String> {
    let cursor = debian.run(
        "journalctl --sync; journalctl --lines=0 --show-cursor --no-pager | sed -n 's/^-- cursor: //p'",
    )?;
    debian.try_run(script)?;
    debian.run(&format!(
        "journalctl --sync; journalctl --after-cursor='{}' --output=short --no-pager | grep -v 'bench-agent'",
        cursor.trim()
    ))
}
