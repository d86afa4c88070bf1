//! What it takes to read a file of SEL records, beside ipmitool's own listing of the same file.

use super::table::number;
use super::{Aim, Most, Page, millions};
use crate::machine::count::Counter;
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use std::path::Path;

/// Some records as `ipmitool sel writeraw` saves them: two crashes, and other events.
const SAMPLE: &[u8] = include_bytes!("../../../../cli/tests/read/ipmitool-writeraw.bin");

/// A file of so many records, of 16 bytes each: the sample again and again, numbered on, each time with other
/// crash IDs.
#[must_use]
pub fn records(count: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let (sample, _) = SAMPLE.as_chunks::<16>();
    for (number, record) in (0..count).zip(sample.iter().cycle()) {
        let mut record = *record;
        record[..2].copy_from_slice(&((number + 1) as u16).to_le_bytes());
        if let Some(at) = record.windows(3).position(|text| text == b"id ") {
            let id = format!("{:08x}", 0x5f3e_0000 + number / sample.len() as u32);
            record[at + 3..at + 11].copy_from_slice(id.as_bytes());
        }
        file.extend(record);
    }
    file
}

/// What reading takes, in instructions of the whole command, the kernel's and its own.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Records in the file.
    pub records: u32,
    /// `lastwords read --file`.
    pub ours: u64,
    /// `ipmitool sel readraw`.
    pub ipmitool: u64,
}

/// Reads files of so many records, in one machine.
///
/// # Errors
/// When they cannot be read.
pub fn readings(program: &Path, counts: &[u32]) -> Result<Vec<Reading>> {
    let counter = Counter::new()?;
    let mut scenario = super::machine(program, &counter);
    let mut script = "ipmi\n".to_owned();
    for count in counts {
        let file = format!("sel-{count}");
        let _ = writeln!(
            script,
            "section ours-{count} sh -c 'counted /bin/lastwords read --file /boot/{file} >/tmp/out'\n\
             section ipmitool-{count} sh -c 'counted /bin/ipmitool sel readraw /boot/{file} >/tmp/out'"
        );
        scenario = scenario.file(&file, records(*count));
    }
    let outcome = scenario.before(&script).death("poweroff -f").run()?;
    for count in counts {
        outcome.text(&format!("ours-{count}"))?;
        outcome.text(&format!("ipmitool-{count}"))?;
    }
    let counted = counter.marked()?;
    let (pairs, rest) = counted.as_chunks::<2>();
    ensure!(pairs.len() == counts.len() && rest.is_empty(), "{counted:?}");
    let reading = |(records, [ours, ipmitool]): (&u32, &[u64; 2])| Reading {
        records: *records,
        ours: *ours,
        ipmitool: *ipmitool,
    };
    Ok(counts.iter().zip(pairs).map(reading).collect())
}

/// The page's part, and its aims.
///
/// # Errors
/// When it cannot be measured.
pub fn report(page: &mut Page, program: &Path) -> Result<()> {
    let readings = readings(program, &[13, 1000, 4000, 16_000, 65_535])?;
    page.section(
        "Reading SEL records from a file",
        "Million guest instructions of the whole command. The records are two panic reports and other events, again and again.",
    );
    let row = |reading: &Reading| {
        [f64::from(reading.records), millions(reading.ours), millions(reading.ipmitool)].map(number).to_vec()
    };
    let rows: Vec<_> = readings.iter().map(row).collect();
    page.table(&["records", "lastwords read --file", "ipmitool sel readraw"], &rows);
    let [.., few, many] = &readings[..] else { unreachable!("five files") };
    page.aims.push(Aim {
        what: "reading 65,535 records".to_owned(),
        figure: millions(many.ours),
        unit: "M instructions",
        most: Most::Times(4.4, "16,000", millions(few.ours)),
    });
    Ok(())
}
