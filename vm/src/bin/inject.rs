//! `make inject`: an NMI, a machine check or a flipped bit at every reached instruction of the image's assembly and at
//! some of the rest, and whether the dump kernel is reached all the same.
//!
//! It fails when the dump is lost at more places than `vm/lost.txt` has. With `--write` it makes that list and the table
//! in docs/reliability.md anew. With `--sample` it tries those places alone that `tests/inject.rs` tries.

use anyhow::{Context, Result, bail};
use lastwords_vm::scenarios::inject::{Case, End, Extent, Lost, Way, run};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Instant;

const BEGIN: &str = "<!-- made by `make inject` -->\n";
const END: &str = "<!-- end -->\n";
const HEAD: &str =
    "| loading method | event | tried | lost at | bytes | where |\n| --- | --- | --- | --- | --- | --- |\n";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(other) =
        arguments.iter().find(|argument| !["--write", "--sample"].contains(&argument.as_str()))
    {
        bail!("{other}: the arguments are --write and --sample");
    }
    let has = |argument: &str| arguments.iter().any(|one| one == argument);
    let (write, extent) = (has("--write"), if has("--sample") { Extent::Sample } else { Extent::Whole });
    let machines = available_parallelism()?.get();
    let mut found = Vec::new();
    let mut table = String::from(HEAD);
    for way in Way::ALL {
        let began = Instant::now();
        let results = run(way, extent, machines, |case, end| {
            if !matches!(end, End::Dump { .. }) {
                eprintln!("{way} | {} | {}: {end:?}", case.what, case.place);
            }
        })?;
        eprintln!("{way}: {} cases in {} s", results.len(), began.elapsed().as_secs());
        let lost = Lost::find(way, &results);
        rows(way, &results, &lost, &mut table)?;
        found.extend(lost);
    }
    print!("{table}");
    if write {
        Lost::write(&found)?;
        return put(&table);
    }
    let more = match extent {
        Extent::Whole => Lost::more_than(&found, &Lost::known()?),
        Extent::Sample => Lost::unknown(&found, &Lost::known()?),
    };
    if !more.is_empty() {
        bail!("the dump is lost at more places than vm/lost.txt has:\n{}", more.join("\n"));
    }
    Ok(())
}

/// A row for each event.
fn rows(way: Way, results: &[(Case, End)], lost: &[Lost], table: &mut String) -> Result<()> {
    let mut tried: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (case, end) in results {
        let [all, bad] = tried.entry(&case.what).or_default();
        *all += 1;
        *bad += usize::from(!matches!(end, End::Dump { .. } | End::Missed));
    }
    for (what, [all, bad]) in tried {
        let ranges: Vec<&Lost> = lost.iter().filter(|lost| lost.what == format!("{way} | {what}")).collect();
        let bytes: u64 = ranges.iter().map(|lost| lost.bytes()).sum();
        let mut symbols: Vec<String> = ranges.iter().map(|lost| format!("`{}`", lost.symbol)).collect();
        symbols.dedup();
        let more = symbols.len().saturating_sub(4);
        symbols.truncate(4);
        let mut places = symbols.join(", ");
        if more > 0 {
            let _ = write!(places, " and {more} more");
        }
        writeln!(table, "| {way} | {what} | {all} | {bad} | {bytes} | {places} |")?;
    }
    Ok(())
}

/// Puts the table into the document.
fn put(table: &str) -> Result<()> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reliability.md"));
    let text = fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).context("the table has no place in docs/reliability.md")?;
    let (_, after) = rest.split_once(END).context("the table has no end in docs/reliability.md")?;
    Ok(fs::write(path, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?)
}
