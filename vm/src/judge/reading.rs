//! What `lastwords read` tells of a crash, held against the same crash's dump: the reason against vmcore-dmesg, the
//! names of places against the notes in /proc/vmcore and the crashed kernel's own /proc/kallsyms.

use crate::judge::dmesg::Dmesg;
use crate::judge::outcome::Outcome;
use crate::judge::sel_text;
use crate::judge::symbols::Kallsyms;
use crate::machine::bmc::ipmi_sim::{PASSWORD, USER};
use crate::machine::{lastwords, process};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

/// What it tells of the SEL that ipmitool wrote to a file in the dump kernel.
///
/// # Errors
/// When it fails, or prints something else.
pub fn read_file(outcome: &Outcome, symbols: &Kallsyms) -> Result<Value> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, outcome.bytes("sel-raw")?)?;
    let text = read(symbols, |read| read.arg("--json").arg("--file").arg(file.path()))?;
    Ok(serde_json::from_str(&text)?)
}

/// The same, as people read it.
///
/// # Errors
/// When it fails.
pub fn read_file_text(outcome: &Outcome, symbols: &Kallsyms) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, outcome.bytes("sel-raw")?)?;
    read(symbols, |read| read.arg("--file").arg(file.path()))
}

/// What it tells of the SEL that it reads over the LAN.
///
/// # Errors
/// As [`read_file`].
pub fn read_lan(outcome: &Outcome, symbols: &Kallsyms) -> Result<Value> {
    let host = format!("127.0.0.1:{}", outcome.lan_port()?);
    let text = read(symbols, |read| {
        read.args(["--json", "--host", &host, "--user", USER]).env("LASTWORDS_PASSWORD", PASSWORD)
    })?;
    Ok(serde_json::from_str(&text)?)
}

/// `lastwords read` on this machine, with the crashed kernel's symbols.
fn read(symbols: &Kallsyms, from: impl FnOnce(&mut Command) -> &mut Command) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    fs::write(&file, &symbols.text)?;
    let mut read = Command::new(lastwords::program()?);
    read.args(["read", "--symbols"]).arg(file.path());
    process::text(from(&mut read))
}

/// Checks what it told: one crash, its reason, which CPU panicked, and where each one was.
///
/// # Errors
/// When it differs from the dump.
pub fn check(outcome: &Outcome, told: &Value, symbols: &Kallsyms, panicked: usize) -> Result<()> {
    let crashes = told["crashes"].as_array().context("no crashes")?;
    ensure!(crashes.len() == 1, "{} crashes: {told:#}", crashes.len());
    let crash = &crashes[0];
    // Without a panic it is the report, made short: then as the SEL has it.
    let said = sel_text::said(&outcome.sel()?)?.reason;
    let reason = Dmesg::parse(outcome.text("dmesg")?).panic().map(str::to_owned).or(said);
    let reason = reason.context("no reason")?;
    ensure!(crash["reason"] == reason && crash["reason_whole"] == true, "not {reason:?}: {crash:#}");
    ensure!(crash["missing_records"] == 0 && crash["rehearsal"] == false, "{crash:#}");

    let notes = outcome.notes()?;
    let name = |rip: u64| if rip >> 63 == 0 { Some("user".to_owned()) } else { symbols.name(rip) };
    let mut groups: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for (_, cpu) in notes.cpus.iter().enumerate().filter(|(number, _)| *number != panicked) {
        *groups.entry(name(cpu.rip)).or_default() += 1;
    }
    let place = |place: &Value| match place["kind"].as_str() {
        Some("kernel" | "address") => place["symbol"].as_str().map(str::to_owned),
        other => other.map(str::to_owned),
    };
    let mut told: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for group in crash["groups"].as_array().context("no groups")? {
        *told.entry(place(&group["place"])).or_default() += group["count"].as_u64().context("no count")?;
    }
    ensure!(told == groups, "the other CPUs are {told:?}, by the notes {groups:?}");
    let expected = name(notes.cpus.get(panicked).context("the panicked CPU has no note")?.rip);
    ensure!(crash["panicked"]["cpu"] == panicked, "not CPU {panicked}: {crash:#}");
    let told = place(&crash["panicked"]["place"]);
    ensure!(told == expected, "the panicked CPU was at {told:?}, by its note at {expected:?}");
    Ok(())
}
