//! `make faults`: every fault beside what else there is for a dump, as a table in docs/reliability.md.
//!
//! With words of faults' names as arguments: these rows alone. The consoles are in `vm/faults` in cargo's target
//! folder.

use anyhow::{Context, Result, ensure};
use lastwords_vm::machine::cache;
use lastwords_vm::machine::console::Line;
use lastwords_vm::scenarios::faults::{self, End, Fault, Run, Way};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

const BEGIN: &str = "<!-- made by `make faults` -->\n";
const HEAD: &str = "| fault | lastwords, purgatory | lastwords, wrap | Linux, `panic_op=string` | `kexec -s` alone |\n\
                    | --- | --- | --- | --- | --- |\n";
const END: &str = "<!-- end -->\n";

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |fault: &Fault| wanted.is_empty() || wanted.iter().any(|word| fault.name().contains(word));
    let faults: Vec<Fault> = Fault::ALL.into_iter().filter(chosen).collect();
    ensure!(!faults.is_empty(), "no fault has such a name");
    let cells = Mutex::new(vec![["(as above)"; Way::ALL.len()].map(str::to_owned); faults.len()]);
    // Where there is no dump kernel to be loaded.
    for (fault, cells) in faults.iter().zip(cells.lock().unwrap_or_else(PoisonError::into_inner).iter_mut()) {
        if let (Fault::Alone(_), Some(kexec)) = (fault, cells.last_mut()) {
            "–".clone_into(kexec);
        }
    }
    let consoles = cache::target()?.join("vm/faults");
    fs::create_dir_all(&consoles)?;
    let failed = AtomicBool::new(false);
    faults::run_all(&faults, &Way::ALL, |fault, way, run| {
        let (name, way_name) = (faults[fault].name(), Way::ALL[way]);
        let text = run.and_then(|run| {
            let file =
                format!("{}-{way_name:?}.txt", name.replace(|char: char| !char.is_alphanumeric(), "-"));
            fs::write(consoles.join(file), console(&run))?;
            Ok(cell(&run))
        });
        let text = text.unwrap_or_else(|error| {
            failed.store(true, Ordering::Relaxed);
            format!("the bench failed: {error:#}")
        });
        eprintln!("{name}, {way_name:?}: {text}");
        cells.lock().unwrap_or_else(PoisonError::into_inner)[fault][way] = text;
    });
    ensure!(!failed.into_inner(), "the bench failed");
    let cells = cells.into_inner().unwrap_or_else(PoisonError::into_inner);
    let row = |(fault, cells): (&Fault, [String; 4])| {
        (*fault, format!("| {} | {} |", fault.name(), cells.join(" | ")))
    };
    put(&faults.iter().zip(cells).map(row).collect::<Vec<_>>())
}

/// The console, with the seconds of each line.
fn console(run: &Run) -> String {
    let line = |line: &Line| format!("{:8.3} {}\n", line.at.as_secs_f64(), line.text);
    format!("{} NMIs\n{}", run.nmis, run.console.iter().map(line).collect::<String>())
}

/// `7.1 s; event, 9 records, CPUs`
fn cell(run: &Run) -> String {
    let end = match run.end {
        End::Up(after) => format!("{:.1} s", after.as_secs_f64()),
        End::Back(after) => format!("reset after {:.1} s", after.as_secs_f64()),
        End::Reset => "**no dump**, reset".to_owned(),
        End::Hung => "**no dump**, hung".to_owned(),
    };
    let mut saved = Vec::new();
    match run.taken.events.len() {
        0 => {}
        1 => saved.push("event".to_owned()),
        events => saved.push(format!("{events} events")),
    }
    match run.taken.records {
        0 => {}
        1 => saved.push("1 record".to_owned()),
        records => saved.push(format!("{records} records")),
    }
    if run.console_has_cpus() {
        saved.push("CPUs".to_owned());
    }
    if saved.is_empty() { format!("{end}; –") } else { format!("{end}; {}", saved.join(", ")) }
}

/// Puts the rows into the document's table, in the place of those of the same faults.
fn put(rows: &[(Fault, String)]) -> Result<()> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md"));
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).context("the table has no place in docs/reliability.md")?;
    let (old, after) = rest.split_once(END).context("the table has no end in docs/reliability.md")?;
    let mut table = String::from(HEAD);
    for fault in Fault::ALL {
        let start = format!("| {} |", fault.name());
        let new = rows.iter().find(|(of, _)| *of == fault).map(|(_, row)| row.as_str());
        if let Some(row) = new.or_else(|| old.lines().find(|line| line.starts_with(&start))) {
            let _ = writeln!(table, "{row}");
        }
    }
    fs::write(path, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?;
    Ok(())
}
