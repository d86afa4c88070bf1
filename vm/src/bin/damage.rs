//! `make damage`: one bit of what was loaded changes before the crash, in each region, with a dump kernel loaded in each
//! way: the table in docs/reliability.md.
//!
//! It fails when stock comes to the dump with a bit that costs us the dump. The argument is how many bits there are in a
//! region; without one, 10, which take half an hour.

use anyhow::{Context, Result, ensure};
use lastwords_vm::judge::loaded::Region;
use lastwords_vm::scenarios::damage::{Case, End, Way, run, worse};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;

const BEGIN: &str = "<!-- made by `make damage` -->\n";
const END: &str = "<!-- end -->\n";

fn main() -> Result<()> {
    let count = std::env::args().nth(1).map_or(Ok(10), |count| count.parse()).context("how many bits?")?;
    let machines = available_parallelism()?.get();
    let mut results = Vec::new();
    for way in Way::ALL {
        let done = |case: Case, end: End| eprintln!("{way}: {} {}: {end:?}", case.region, case.number);
        results.push((way, run(way, count, machines, done)?));
    }
    let table = table(&results);
    print!("{table}");
    put(&table)?;
    let worse = worse(&results);
    ensure!(worse.is_empty(), "stock comes to the dump, and we do not:\n{}", worse.join("\n"));
    Ok(())
}

/// `| kernel | 10 reported | 10 hung | ...`
fn table(results: &[(Way, Vec<(Case, End)>)]) -> String {
    let mut table = String::from("| region |");
    for (way, _) in results {
        let _ = write!(table, " {way} |");
    }
    table += "\n| --- | --- | --- | --- | --- |\n";
    for region in Region::IMAGE.iter().chain(&Region::OTHERS) {
        let _ = write!(table, "| {region} |");
        for (_, cases) in results {
            let mut ends = Vec::new();
            for (end, name) in [
                (End::Dump, "dump"),
                (End::Report, "report, reset"),
                (End::Reset, "reset"),
                (End::Hang, "hang"),
            ] {
                let count = cases.iter().filter(|(case, is)| case.region == *region && *is == end).count();
                if count > 0 {
                    ends.push(format!("{count} {name}"));
                }
            }
            let _ = write!(table, " {} |", if ends.is_empty() { "–".to_owned() } else { ends.join(", ") });
        }
        table.push('\n');
    }
    table
}

/// Puts the table into the document.
fn put(table: &str) -> Result<()> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md"));
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).context("the table has no place in docs/reliability.md")?;
    let (_, after) = rest.split_once(END).context("the table has no end in docs/reliability.md")?;
    Ok(fs::write(path, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?)
}
