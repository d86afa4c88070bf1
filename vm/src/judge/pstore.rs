//! Records in the platform's error store, read from the file behind QEMU's device, and from what the next boot's pstore
//! shows. Written from UEFI 2.10, appendix N.2, and QEMU's `docs/specs/acpi_erst.rst`.

use anyhow::{Context, Result, ensure};
use std::{fs, path::Path};

/// Bytes of the store's file, and of each of its places: QEMU's own.
pub const STORE_LEN: usize = 0x10000;
const PLACE: usize = 0x2000;

/// A record's text begins here.
const HEADER: usize = 200;

/// A store that has nothing in it, as QEMU takes it.
///
/// # Errors
/// When it cannot be written.
pub fn empty(path: &Path) -> Result<()> {
    fs::write(path, vec![0; STORE_LEN]).context("cannot write the store")
}

/// QEMU's options for a machine that has this store.
#[must_use]
pub fn devices(path: &Path) -> [String; 4] {
    [
        "-object".to_owned(),
        format!("memory-backend-file,id=erst,mem-path={},size={STORE_LEN:#x},share=on", path.display()),
        "-device".to_owned(),
        "acpi-erst,memdev=erst".to_owned(),
    ]
}

/// A record of pstore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its id.
    pub id: u64,
    /// Its text.
    pub text: String,
}

impl Record {
    /// All records in a store's file, by their ids.
    ///
    /// # Errors
    /// When it cannot be read, or a record in it is none.
    pub fn in_store(path: &Path) -> Result<Vec<Self>> {
        let bytes = fs::read(path)?;
        let mut records = Vec::new();
        for place in bytes.chunks(PLACE).skip(1).filter(|place| place.starts_with(b"CPER")) {
            let number = |at: usize| place[at..at + 8].try_into().map(u64::from_le_bytes);
            let len = usize::try_from(number(20)? & 0xffff_ffff)?;
            ensure!(len > HEADER && len <= PLACE, "a record has {len} bytes");
            let text = String::from_utf8_lossy(&place[HEADER..len]).into_owned();
            records.push(Self { id: number(96)?, text });
        }
        records.sort_by_key(|record| record.id);
        Ok(records)
    }

    /// All that the guest's section shows (`collect_pstore` in `guest/guest.sh`), by their ids.
    ///
    /// # Errors
    /// When it is none.
    pub fn in_guest(section: &str) -> Result<Vec<Self>> {
        let mut records: Vec<Self> = Vec::new();
        for line in section.lines() {
            if let Some(name) = line.strip_prefix("-- ") {
                let id = name.strip_prefix("dmesg-erst-").with_context(|| format!("a file {name}"))?;
                records.push(Self { id: id.parse()?, text: String::new() });
            } else if let Some(record) = records.last_mut() {
                record.text += line;
                record.text.push('\n');
            }
        }
        records.sort_by_key(|record| record.id);
        Ok(records)
    }
}

/// What one crash's records hold: the log's lines, oldest first and without their levels, and the lines of the report.
///
/// # Errors
/// When they are not the parts of one crash, newest first.
pub fn joined(records: &[Record]) -> Result<(Vec<&str>, Vec<&str>)> {
    let (mut log, mut report) = (Vec::new(), Vec::new());
    for (number, record) in records.iter().enumerate().rev() {
        let (first, text) = record.text.split_once('\n').context("a record without a line")?;
        ensure!(first == format!("Panic#1 Part{}", number + 1), "record {number} begins {first}");
        for line in text.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("lastwords: ") {
                Some(line) => report.push(line),
                None => log.push(line.split_once('>').with_context(|| format!("a line {line}"))?.1),
            }
        }
    }
    Ok((log, report))
}
