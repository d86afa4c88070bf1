//! How large: the image, and kexec-tools' purgatory.

use super::table::number;
use super::{Aim, Most, Page};
use crate::judge::image::Image;
use crate::machine::kernels::{Kernel, Release};
use crate::machine::process;
use anyhow::{Context, Result};
use object::{Object, ObjectSection, SectionFlags, elf};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Bytes.
struct Sizes {
    /// What the image has in its file, and in memory.
    image: [u64; 2],
    /// What `wrap` adds to a kernel's file.
    wrapping: u64,
    /// What is loaded of the purgatory that kexec-tools carries in its program.
    purgatory: u64,
}

fn sizes(program: &Path) -> Result<Sizes> {
    let kernel = Kernel::get(Release::V6_1)?.image;
    let folder = tempfile::tempdir()?;
    let wrapped = folder.path().join("wrapped");
    process::output(Command::new(program).arg("wrap").arg(&kernel).arg("-o").arg(&wrapped))?;
    let bytes = fs::read(wrapped)?;
    let image = Image::find(&bytes)?;

    let kexec = fs::read("/usr/sbin/kexec").context("kexec-tools is not installed")?;
    // An ELF file in an ELF file; the magic alone also stands where kexec compares with it.
    let purgatory = (4..kexec.len())
        .filter(|at| kexec[*at..].starts_with(&elf::ELFMAG))
        .find_map(|at| object::File::parse(&kexec[at..]).ok())
        .context("no purgatory in kexec")?;
    let loaded =
        |flags| matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(elf::SHF_ALLOC));
    let purgatory =
        purgatory.sections().filter(|section| loaded(section.flags())).map(|section| section.size()).sum();
    Ok(Sizes {
        image: [image.file_size()?, image.memory_size()?],
        wrapping: bytes.len() as u64 - fs::metadata(kernel)?.len(),
        purgatory,
    })
}

/// The page's part, and its aim.
///
/// # Errors
/// When it cannot be measured.
pub fn report(page: &mut Page, program: &Path) -> Result<()> {
    let sizes = sizes(program)?;
    let (program, kexec) = (fs::metadata(program)?.len(), fs::metadata("/usr/sbin/kexec")?.len());
    page.section("Size", "Bytes. The program goes into the RAM disks of dump kernels.");
    let row = |what: &str, ours: u64, stock: Option<u64>| {
        vec![what.to_owned(), number(ours as f64), stock.map_or(String::new(), |bytes| number(bytes as f64))]
    };
    page.table(
        &["", "lastwords", "kexec-tools"],
        &[
            row("purgatory: what is loaded", sizes.image[0], Some(sizes.purgatory)),
            row("the same in memory, with its stack", sizes.image[1], None),
            row("what `wrap` adds to a kernel's file", sizes.wrapping, None),
            row("the program", program, Some(kexec)),
        ],
    );
    page.aims.push(Aim {
        what: "the program (release)".to_owned(),
        figure: program as f64 / 1e6,
        unit: "MB",
        most: Most::Is(2.0),
    });
    Ok(())
}
