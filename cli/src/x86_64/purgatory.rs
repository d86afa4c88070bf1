//! Puts together what kexec_load(2) loads: dump kernel, initial RAM disk, boot_params, ELF core header, and the flat
//! image in purgatory's place, which is told where the others lie and what they were.

use super::{
    PAGE,
    boot_params::{self, BootParams, E820Entry},
    core_header::{self, CoreHeaderError},
    first_kernel::FirstKernel,
    placement::{PlacementError, Request, place},
    put,
};
use crate::{
    bzimage::BzImage,
    cmdline::{Cmdline, CmdlineError},
};
use lastwords_core::stub::{self, ENTRY_64, Handoff, PARAMETERS_LEN, Segment as Digest};
use sha2::{Digest as _, Sha256};
use std::{borrow::Cow, ops::Range};
use thiserror::Error;

/// Why there is nothing to load.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PurgatoryError {
    /// CONFIG_RELOCATABLE=n.
    #[error(
        "this kernel is not relocatable (xloadflags says no XLF_CAN_BE_LOADED_ABOVE_4G), so it cannot run in reserved \
         memory: take one built with CONFIG_RELOCATABLE=y"
    )]
    NotRelocatable,
    /// No XLF_5LEVEL where it is needed.
    #[error(
        "the running kernel uses 5-level paging, and this one cannot take over from it: take one of Linux 4.14 or \
         later with CONFIG_X86_5LEVEL=y, or boot the running one with no5lvl"
    )]
    No5Level,
    /// Longer than the image's field.
    #[error("parameters embedded in KERNEL are {0} bytes long, at most {max} fit", max = PARAMETERS_LEN - 1)]
    ParametersTooLong(usize),
    /// No place.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// No core header.
    #[error(transparent)]
    CoreHeader(#[from] CoreHeaderError),
    /// No command line.
    #[error(transparent)]
    Cmdline(#[from] CmdlineError),
}

/// What is to be loaded, and when.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The kernel file, not wrapped.
    pub kernel: &'a [u8],
    /// What its headers say.
    pub bz_image: &'a BzImage,
    /// The initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// The command line, without `elfcorehdr=`.
    pub cmdline: &'a Cmdline,
    /// The flat image.
    pub image: &'a [u8],
    /// Parameters to embed in it: those of a wrapped kernel.
    pub parameters: &'a str,
    /// Addresses that may be used of the reserved memory.
    pub limits: &'a Range<u64>,
    /// See [`BootParams::rng_seed`].
    pub rng_seed: Option<[u8; 32]>,
    /// Keep EFI from the dump kernel.
    pub noefi: bool,
}

/// A segment for kexec_load(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// What it is, for people.
    pub name: &'static str,
    /// Physical address, a multiple of [`PAGE`].
    pub addr: u64,
    /// Bytes of memory, a multiple of [`PAGE`]; those behind `data` are zero.
    pub memory_size: u64,
    /// What is in it.
    pub data: Cow<'a, [u8]>,
}

/// What is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purgatory<'a> {
    /// The segments.
    pub segments: Vec<Segment<'a>>,
    /// Where the first kernel jumps to.
    pub entry: u64,
    /// The dump kernel's command line.
    pub cmdline: String,
    /// The dump kernel's memory map.
    pub e820: Vec<E820Entry>,
}

/// The flat image's own numbers.
fn number(image: &[u8], at: usize) -> u64 {
    image.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes).into())
}

/// Has the image a way in as the purgatory?
pub fn has_entry(image: &[u8]) -> bool {
    number(image, stub::PURGATORY_ENTRY) != 0
}

/// Puts everything together.
///
/// # Errors
/// When the kernel cannot run in reserved memory, or does not fit there.
pub fn build<'a>(parts: &Parts<'a>, first: &FirstKernel) -> Result<Purgatory<'a>, PurgatoryError> {
    if !parts.bz_image.is_relocatable() {
        return Err(PurgatoryError::NotRelocatable);
    }
    if first.la57 && !parts.bz_image.knows_5_level() {
        return Err(PurgatoryError::No5Level);
    }
    if parts.parameters.len() >= PARAMETERS_LEN {
        return Err(PurgatoryError::ParametersTooLong(parts.parameters.len()));
    }
    let core_header = core_header::build(&first.notes, &first.mapping, &core_header::memory(&first.iomem))?;
    let protected_mode = parts.bz_image.protected_mode(parts.kernel);
    let efi = first.efi.as_ref().filter(|_| parts.bz_image.takes_over_efi() && !parts.noefi);

    let finish = |core_header: &Range<u64>| -> Result<_, CmdlineError> {
        let mut cmdline = parts.cmdline.clone();
        if efi.is_none() && first.efi.is_some() && first.acpi_rsdp != 0 {
            // A kernel that finds no EFI and is older than acpi_rsdp_addr (5.0) looks for ACPI in the first MiB only.
            cmdline.append(&format!("acpi_rsdp={:#x}", first.acpi_rsdp));
        }
        cmdline.finish_with_elfcorehdr(core_header.start)
    };
    let boot_params = |cmdline: &str, initrd: Option<Range<u64>>, e820: &[E820Entry], addr| {
        let running = first.boot_params.as_deref();
        let (kernel, acpi_rsdp, rng_seed) = (parts.kernel, first.acpi_rsdp, parts.rng_seed);
        BootParams { kernel, running, cmdline, initrd, e820, efi, acpi_rsdp, rng_seed }.build(addr)
    };

    // The kernel's crash_elfcorehdr_size leaves the ELF header out (`arch_crash_get_elfcorehdr_size`).
    let core_header_size = first.hotplug_size.map_or(0, |size| size.saturating_add(64));
    let core_header_size = core_header_size.max(core_header.len() as u64).next_multiple_of(PAGE);
    // boot_params is longest with the core header high up in the midst of the reserved memory: then the command line
    // has most digits, and the memory map an entry more.
    let highest = first.reserved.end - PAGE..first.reserved.end - PAGE + 1;
    let longest = finish(&(u64::MAX..u64::MAX))?;
    let boot_params_size =
        boot_params(&longest, None, &boot_params::e820(&first.iomem, &highest), 0).len() as u64;

    let request =
        |name, size: u64, align, min| Request { name, size: size.next_multiple_of(PAGE), align, min };
    let small = |name, size| request(name, size, PAGE, 0);
    let requests = [
        // Below its preferred address it would move itself there, out of the reserved memory (boot.rst, pref_address).
        request(
            "kernel",
            u64::from(parts.bz_image.init_size),
            parts.bz_image.kernel_alignment(),
            parts.bz_image.pref_address,
        ),
        small("ELF core header", core_header_size),
        small("image", number(parts.image, stub::MEMORY_SIZE)),
        small("boot_params", boot_params_size),
        small("initrd", parts.initrd.map_or(0, |initrd| initrd.len() as u64)),
        small("page tables for the jump", page_tables_size(first)),
    ];
    let places = place(&first.reserved, parts.limits, &requests)?;
    let [kernel_at, core_header_at, image_at, boot_params_at, initrd_at, _] = places[..] else {
        unreachable!("one place for each request")
    };

    let core_header_range = core_header_at..core_header_at + core_header_size;
    let cmdline = finish(&core_header_range)?;
    let e820 = boot_params::e820(&first.iomem, &core_header_range);
    let initrd_range = parts.initrd.map(|initrd| initrd_at..initrd_at + initrd.len() as u64);
    let boot_params = boot_params(&cmdline, initrd_range, &e820, boot_params_at);

    let segment = |at: usize, addr, data| Segment {
        name: requests[at].name,
        addr,
        memory_size: requests[at].size,
        data,
    };
    let mut segments = vec![
        segment(0, kernel_at, Cow::Borrowed(protected_mode)),
        segment(3, boot_params_at, Cow::Owned(boot_params)),
    ];
    segments.extend(parts.initrd.map(|initrd| segment(4, initrd_at, Cow::Borrowed(initrd))));
    let mut handoff = Handoff {
        boot_params: boot_params_at,
        kernel_entry: kernel_at + u64::from(ENTRY_64),
        ..Handoff::EMPTY
    };
    for (digest, segment) in handoff.segments.iter_mut().zip(&segments) {
        *digest = digest_of(segment);
        handoff.segment_count += 1;
    }
    let image = filled_in(parts.image, parts.parameters, &handoff);
    // Not in the digest: the core header, because the kernel rewrites it, and the image, which has its own sum.
    segments.push(segment(1, core_header_at, Cow::Owned(core_header)));
    segments.push(segment(2, image_at, Cow::Owned(image)));
    Ok(Purgatory { segments, entry: image_at + number(parts.image, stub::PURGATORY_ENTRY), cmdline, e820 })
}

/// Room for the pages that the kernel takes from what is left of the reserved memory: those of the jump's code, and of
/// page tables for all RAM, one a GiB where it cannot map more at once. A machine with more than 4 TiB can.
fn page_tables_size(first: &FirstKernel) -> u64 {
    let gib: u64 = first.iomem.system_ram().map(|ram| ((ram.end - ram.start) >> 30) + 2).sum();
    (64 + gib.min(4096)) * PAGE
}

fn digest_of(segment: &Segment<'_>) -> Digest {
    let mut name = [0; 16];
    put(&mut name, 0, segment.name.as_bytes());
    let sha256 = Sha256::digest(&segment.data).into();
    Digest { addr: segment.addr, len: segment.data.len() as u64, name, sha256 }
}

/// The image with the fields of its header that are the loader's.
fn filled_in(image: &[u8], parameters: &str, handoff: &Handoff) -> Vec<u8> {
    let mut image = image.to_vec();
    put(&mut image, stub::PARAMETERS, parameters.as_bytes());
    let mut bytes = Vec::with_capacity(size_of::<Handoff>());
    for field in [handoff.boot_params, handoff.kernel_entry, handoff.segment_count] {
        bytes.extend(field.to_le_bytes());
    }
    for segment in &handoff.segments {
        bytes.extend(segment.addr.to_le_bytes());
        bytes.extend(segment.len.to_le_bytes());
        bytes.extend(segment.name);
        bytes.extend(segment.sha256);
    }
    put(&mut image, stub::HANDOFF, &bytes);
    image
}
