//! Runs in the dump kernel: prints the dead kernel's log from /proc/vmcore, each record with who wrote it.
//!
//! Records of other facilities than the kernel's own are left out, as lastwords leaves them out: user space wrote them.

use anyhow::Result;
use lastwords_vm::judge::printk;
use lastwords_vm::judge::vmcore::Notes;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The ELF header and all notes are within so many bytes.
const HEAD: usize = 1 << 20;

fn main() -> Result<()> {
    let vmcore = File::open("/proc/vmcore")?;
    let mut head = vec![0; HEAD];
    vmcore.read_exact_at(&mut head, 0)?;
    let notes = Notes::parse(&head)?;
    for record in printk::records(&vmcore, &notes)?.iter().filter(|record| record.facility == 0) {
        println!("{record}");
    }
    Ok(())
}
