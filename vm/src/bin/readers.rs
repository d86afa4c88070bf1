//! `make readers`: what lastwords, ipmitool and FreeIPMI's ipmi-sel read of the same log, from a BMC with each quirk, as a table
//! in docs/reading.md. It fails where one of the others reads more.
//!
//! The BMC is `lan-bmc`, of the simulated machine. Each tool gets one of its own, all at the same time: most of them wait.

use anyhow::{Context, Result, ensure};
use lastwords_vm::machine::{cache, lastwords, packages, process};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{fs, thread};

const BEGIN: &str = "<!-- made by `make readers` -->\n";
const END: &str = "<!-- end -->\n";
const HEAD: &str = "| the BMC | lastwords | ipmitool | ipmi-sel |\n| --- | --- | --- | --- |\n";

/// User, password and key of the BMC.
const USER: &str = "reader";
const PASSWORD: &str = "secret";
const KG: &str = "a key of the BMC";
/// Seconds for each, and bytes of output: some of them end never.
const LIMIT: &str = "240";
const OUTPUT: usize = 1_000_000;

/// A stored log, the first record of a crash in it, and how many there are, without this one of somebody else's.
const LOG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/tests/read/ipmitool-writeraw.bin");
const FIRST: usize = 15;
const OTHER: usize = 21;
const RECORDS: usize = 20;

#[derive(Clone, Copy)]
enum Tool {
    Lastwords,
    Ipmitool,
    IpmiSel,
}

/// What a tool has read: how many different records, whether it was stopped in the middle of too many, and the first line that
/// it says.
#[derive(Default)]
struct Read {
    records: usize,
    is_endless: bool,
    said: String,
}

/// What they are started with.
struct Bench {
    bmc: PathBuf,
    lastwords: PathBuf,
    folder: PathBuf,
    log: PathBuf,
}

/// A BMC that ends with this.
struct Bmc(Child, String);

impl Drop for Bmc {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<()> {
    packages::install()?;
    let folder = cache::target()?.join("vm/readers");
    fs::create_dir_all(&folder)?;
    let stored = fs::read(LOG)?;
    let (stored, _) = stored.as_chunks::<16>();
    let chosen: Vec<_> = (FIRST..).filter(|at| *at != OTHER).take(RECORDS).collect();
    let log = folder.join("sel");
    fs::write(&log, chosen.iter().flat_map(|at| stored[*at]).collect::<Vec<_>>())?;
    fs::write(folder.join("password"), PASSWORD)?;
    fs::write(folder.join("kg"), KG)?;
    let bench =
        Bench { bmc: lastwords::lan_bmc()?, lastwords: lastwords::program()?.to_owned(), folder, log };
    let quirks = process::text(&mut Command::new(&bench.bmc))?;
    let quirks: Vec<&str> = quirks.lines().collect();
    let read = |quirk, tool| bench.read(quirk, tool);
    let rows: Vec<[Read; 3]> = thread::scope(|scope| {
        let tools = [Tool::Lastwords, Tool::Ipmitool, Tool::IpmiSel];
        let row = |quirk| tools.map(|tool| scope.spawn(move || read(quirk, tool)));
        let rows: Vec<_> = quirks.iter().map(|quirk| row(quirk)).collect();
        let done = |row: [thread::ScopedJoinHandle<'_, Result<Read>>; 3]| {
            let [a, b, c] = row.map(|read| read.join().unwrap_or_else(|_| Ok(Read::default())));
            Ok([a?, b?, c?])
        };
        rows.into_iter().map(done).collect::<Result<_>>()
    })?;
    let mut table = String::from(HEAD);
    let mut behind = Vec::new();
    for (quirk, read) in quirks.iter().zip(rows) {
        if read[0].records < read[1].records.max(read[2].records) {
            behind.push(*quirk);
        }
        // Where nobody can read anything, what counts is what each says.
        let is_told = read.iter().all(|read| read.records == 0);
        let [ours, ipmitool, ipmi_sel] = read.map(|Read { records, is_endless, said }| {
            let read = match records {
                0 if is_told => format!("nothing: {said}"),
                0 => "nothing".to_owned(),
                RECORDS => "all".to_owned(),
                read => format!("{read} of {RECORDS}"),
            };
            if is_endless { read + ", without end" } else { read }
        });
        writeln!(table, "| {quirk} | {ours} | {ipmitool} | {ipmi_sel} |")?;
    }
    print!("{table}");
    put(&table)?;
    ensure!(behind.is_empty(), "another tool reads more: {}", behind.join(", "));
    Ok(())
}

impl Bench {
    fn start(&self, quirk: &str) -> Result<Bmc> {
        let mut bmc = Command::new(&self.bmc);
        let mut bmc = bmc.arg(&self.log).arg(quirk).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut port = String::new();
        BufReader::new(bmc.stdout.take().context("no output")?).read_line(&mut port)?;
        Ok(Bmc(bmc, port.trim().to_owned()))
    }

    /// Reads the log of a BMC with this quirk.
    fn read(&self, quirk: &str, tool: Tool) -> Result<Read> {
        let bmc = self.start(quirk)?;
        let first = |text: &str| {
            // What ipmitool says first of itself is no result.
            let is_said = |line: &&str| {
                !line.is_empty() && !["Loading", "Using"].iter().any(|word| line.starts_with(word))
            };
            let line = text.lines().find(is_said);
            let line = line.unwrap_or("no word").trim_start_matches("lastwords: error: ");
            line.replace(&format!("127.0.0.1:{}", bmc.1), "BMC").replace('|', "/")
        };
        let kg = quirk.starts_with("Kg");
        let mut command = Command::new("sh");
        command.args(["-c", &format!("timeout {LIMIT} \"$@\" 2>&1 | head -c {OUTPUT}"), "sh"]);
        let text = match tool {
            Tool::Lastwords => {
                let folder = |name| self.folder.join(name);
                command.arg(&self.lastwords).args([
                    "read",
                    "--json",
                    "--host",
                    &format!("127.0.0.1:{}", bmc.1),
                ]);
                command.args(["--user", USER, "--timeout", LIMIT, "--password-file"]).arg(folder("password"));
                if kg {
                    command.arg("--kg-file").arg(folder("kg"));
                }
                let text = said(&mut command)?;
                let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let crashes = json["crashes"].as_array().cloned().unwrap_or_default();
                let records = crashes.iter().filter_map(|crash| crash["records"].as_u64()).sum::<u64>();
                return Ok(Read {
                    records: usize::try_from(records)?,
                    said: first(&text),
                    ..Read::default()
                });
            }
            Tool::Ipmitool => {
                command.args(["ipmitool", "-I", "lanplus", "-H", "127.0.0.1", "-p", &bmc.1, "-L", "USER"]);
                command.args(["-U", USER, "-P", PASSWORD]);
                if kg {
                    command.args(["-k", KG]);
                }
                said(command.args(["-v", "sel", "list"]))?
            }
            Tool::IpmiSel => {
                let host = format!("127.0.0.1:{}", bmc.1);
                command.args([
                    "ipmi-sel", "-D", "LAN_2_0", "-h", &host, "-l", "USER", "-u", USER, "-p", PASSWORD,
                ]);
                if kg {
                    command.args(["-k", KG]);
                }
                said(command.args(["--ignore-sdr-cache", "--hex-dump", "--no-header-output"]))?
            }
        };
        fs::write(self.folder.join(format!("{}-{}.txt", quirk.replace([' ', ','], "-"), tool as u8)), &text)?;
        let bytes = if quirk.contains("last byte") { 15 } else { 16 };
        let records = records(&text, &fs::read(&self.log)?, bytes);
        Ok(Read { records, is_endless: text.len() >= OUTPUT, said: first(&text) })
    }
}

/// What a tool prints, whether it succeeds or not.
fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// How many of the log's records are in a text, as far as the BMC has kept so many bytes of each: in hex, or of text records the
/// text, of the event its three bytes.
fn records(text: &str, log: &[u8], bytes: usize) -> usize {
    let digits = |line: &str| match line.split_once("RID:") {
        // ipmi-sel has each byte in brackets.
        Some((_, bytes)) => bytes.split('[').filter_map(|byte| byte.get(..2)).collect::<String>(),
        None => line.chars().filter(char::is_ascii_hexdigit).collect(),
    };
    let digits = text.lines().map(digits).collect::<Vec<_>>().join("\n").to_lowercase();
    let lines: BTreeSet<_> =
        text.lines().filter_map(|line| line.split_once(": ")).map(|(_, text)| text).collect();
    let (log, _) = log.as_chunks::<16>();
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let shown = |record: &&[u8; 16]| {
        let text = String::from_utf8_lossy(&record[5..bytes]);
        let is_event = record[2] == 2;
        digits.contains(&hex(&record[if is_event { 13 } else { 3 }..bytes]))
            || !is_event && lines.contains(text.trim_end_matches('\0'))
    };
    log.iter().filter(shown).collect::<BTreeSet<_>>().len()
}

/// Puts the table into the document.
fn put(table: &str) -> Result<()> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reading.md"));
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).context("the table has no place in docs/reading.md")?;
    let (_, after) = rest.split_once(END).context("the table has no end in docs/reading.md")?;
    fs::write(path, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?;
    Ok(())
}
