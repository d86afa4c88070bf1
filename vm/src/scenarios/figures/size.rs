//! How large: the image, and kexec-tools' purgatory.

use crate::judge::image::Image;
use crate::machine::kernels::{Kernel, Release};
use crate::machine::lastwords;
use anyhow::{Context, Result};
use object::{Object, ObjectSection, SectionFlags, elf};
use std::fs;

/// Bytes that are loaded: the image's, and those of the purgatory that kexec-tools carries in its program.
///
/// # Errors
/// When one of them is not found.
pub fn sizes() -> Result<(u64, u64)> {
    let kernel = Kernel::get(Release::V6_1)?;
    let folder = tempfile::tempdir()?;
    let wrapped = folder.path().join("wrapped");
    lastwords::wrap(&kernel.image, &wrapped, "")?;
    let bytes = fs::read(wrapped)?;
    let ours = Image::find(&bytes)?.file_size()?;

    let kexec = fs::read("/usr/sbin/kexec").context("kexec-tools is not installed")?;
    // An ELF file in an ELF file; the magic alone also stands where kexec compares with it.
    let purgatory = (4..kexec.len())
        .filter(|at| kexec[*at..].starts_with(&elf::ELFMAG))
        .find_map(|at| object::File::parse(&kexec[at..]).ok())
        .context("no purgatory in kexec")?;
    let loaded =
        |flags| matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(elf::SHF_ALLOC));
    let stock =
        purgatory.sections().filter(|section| loaded(section.flags())).map(|section| section.size()).sum();
    Ok((ours, stock))
}
