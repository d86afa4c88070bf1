//! A dump as a distribution's service leaves it on the disk: makedumpfile's compressed form, flattened by `-F`, because it
//! went through a pipe.
//!
//! Whose it is stands in its head (`disk_dump_header` in makedumpfile's IMPLEMENTATION: "KDUMP   ", a version, and the
//! `new_utsname` of the crashed kernel, six fields of 65 bytes); that it is whole shows when makedumpfile reads all of it.

use crate::machine::process;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;

/// What a dump holds.
#[derive(Clone, Debug)]
pub struct DumpFile {
    /// The crashed kernel, as `uname -r` printed it.
    pub release: String,
    /// Its log.
    pub log: String,
}

const FIELD: usize = 65;
const UTSNAME: usize = 12;

impl DumpFile {
    /// Reads it, all of it; with files beside it.
    ///
    /// # Errors
    /// When it is no dump, or not whole.
    pub fn read(path: &Path) -> Result<Self> {
        let [dump, log, again] = ["kdump", "log", "again"].map(|extension| path.with_extension(extension));
        for file in [&dump, &log, &again] {
            let _ = fs::remove_file(file);
        }
        let makedumpfile = |arguments: &[&str], files: &[&Path]| {
            process::output(Command::new("makedumpfile").args(arguments).args(files))
        };
        // It reads the flattened form from standard input, and fails when the end is missing.
        let unfolded = "exec makedumpfile -R \"$2\" <\"$1\"";
        process::output(Command::new("sh").args(["-c", unfolded, "sh"]).args([path, &dump]))?;
        let mut head = [0; UTSNAME + 6 * FIELD];
        File::open(&dump)?.read_exact(&mut head).context("the dump is too short")?;
        let release = release(&head)?;
        makedumpfile(&["--dump-dmesg"], &[&dump, &log])?;
        // It makes no ELF file of this form, but reads every page to write it again.
        makedumpfile(&["-c", "-d", "31"], &[&dump, &again])?;
        let log = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        fs::remove_file(&again)?;
        fs::remove_file(&dump)?;
        Ok(Self { release, log })
    }
}

fn release(head: &[u8]) -> Result<String> {
    ensure!(head.starts_with(b"KDUMP   "), "no dump of makedumpfile's");
    let field = head.get(UTSNAME + 2 * FIELD..UTSNAME + 3 * FIELD).context("the dump is too short")?;
    Ok(field.iter().take_while(|byte| **byte != 0).map(|byte| *byte as char).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_dump_it_is_stands_in_its_head() {
        let mut head = vec![0; UTSNAME + 6 * FIELD];
        head[..8].copy_from_slice(b"KDUMP   ");
        head[UTSNAME + 2 * FIELD..][..14].copy_from_slice(b"6.1.0-50-amd64");
        assert_eq!(release(&head).unwrap(), "6.1.0-50-amd64");
        assert!(release(&head[1..]).is_err());
    }
}
