//! Puts together what kexec_load(2) loads: dump kernel, initial RAM disk, boot_params, ELF core header, and the flat
//! image in purgatory's place, which gets the others' addresses and checksums.

use super::{
    PAGE,
    boot_params::{self, BootParams, E820Entry},
    core_header::{self, CoreHeaderError},
    first_kernel::FirstKernel,
    placement::{PlacementError, Request, TO_RUN_IN, place},
    put,
};
use crate::{
    arm::{
        cmdline::{Cmdline, CmdlineError},
        kimage::KImage,
        ranges::IoMem,
    },
    sort,
};
use lastwords_boot::{self as boot, BzImage};
use lastwords_core::abi::{self, ENTRY_64, Handoff, PARAMETERS_LEN, Segment as Checksum, WayOut};
use lastwords_core::digest;
use sha2::{Digest as _, Sha256};
use std::{borrow::Cow, ops::Range, path::Path};
use thiserror::Error;

/// Why there is nothing to load.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PurgatoryError {
    /// CONFIG_RELOCATABLE=n.
    #[error(
        "this kernel is not relocatable (xloadflags without XLF_CAN_BE_LOADED_ABOVE_4G), so it cannot run in reserved \
         memory\nhint: use one built with CONFIG_RELOCATABLE=y"
    )]
    NotRelocatable,
    /// No XLF_5LEVEL where it is needed.
    #[error(
        "the running kernel uses 5-level paging, and this one cannot take over from it\n\
         hint: use Linux 4.14 or later with CONFIG_X86_5LEVEL=y, or boot the running one with no5lvl"
    )]
    No5Level,
    /// Another layout than the tool's: an error of the build.
    #[error("lastwords was built with an image of another version (layout {0}, not {known})", known = abi::VERSION)]
    Version(u64),
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

/// How the image is to find out whether the dump kernel is still what was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Digest {
    /// XXH64's rounds in four lanes, at the speed of memory: finds any single corrupt word
    #[default]
    Xxh64,
    /// SHA-256: far slower
    Sha256,
}

impl Digest {
    /// Its number in the handoff.
    fn number(self) -> u64 {
        match self {
            Self::Xxh64 => abi::LANES,
            Self::Sha256 => abi::SHA256,
        }
    }

    fn of(self, bytes: &[u8]) -> [u8; 32] {
        match self {
            Self::Xxh64 => digest::lanes(bytes),
            Self::Sha256 => Sha256::digest(bytes).into(),
        }
    }
}

/// What is to be loaded, and when.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The kernel file, not wrapped.
    pub kernel: &'a [u8],
    /// What its headers have.
    pub bz_image: &'a BzImage,
    /// The initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// The command line, without `elfcorehdr=`.
    pub cmdline: &'a Cmdline,
    /// The flat image.
    pub image: &'a [u8],
    /// Parameters to embed in it: those of a wrapped kernel.
    pub parameters: &'a str,
    /// How the segments are summed up.
    pub digest: Digest,
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
    /// How the segments were summed up,
    digest: Digest,
    /// and what came of it: of the first segments, in their order.
    checksums: Vec<[u8; 32]>,
}

impl Purgatory<'_> {
    /// Do the segments still have the checksums that the image has of them? Those that are mapped files can change.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.segments.iter().zip(&self.checksums).all(|(segment, sum)| self.digest.of(&segment.data) == *sum)
    }

    /// Are the segments in the kernel's memory what the image has the checksums of? False where the kernel does not show it.
    #[must_use]
    pub fn is_loaded(&self, root: &Path) -> bool {
        let Some(image) = KImage::read(root) else { return false };
        self.segments.iter().zip(&self.checksums).all(|(segment, sum)| {
            let range = segment.addr..segment.addr + segment.data.len() as u64;
            image.bytes(range).is_some_and(|bytes| self.digest.of(&bytes) == *sum)
        })
    }
}

/// The flat image's own numbers.
fn number(image: &[u8], at: usize) -> u64 {
    image.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes).into())
}

/// Bytes of memory that the flat image takes.
pub fn memory_size(image: &[u8]) -> u64 {
    number(image, abi::MEMORY_SIZE).next_multiple_of(PAGE)
}

/// Has the image an entry as the purgatory?
pub fn has_entry(image: &[u8]) -> bool {
    number(image, abi::PURGATORY_ENTRY) != 0
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
    let version = number(parts.image, abi::VERSION_AT);
    if version != u64::from(abi::VERSION) {
        return Err(PurgatoryError::Version(version));
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
    let alone = parts.bz_image.is_alone();
    // Without a dump kernel there shall be little memory: where the room does not do, the kernel leaves the header as it is.
    let hotplug_size = first.hotplug_size.filter(|_| !alone);
    let core_header_size = hotplug_size.map_or(0, |size| size.saturating_add(64));
    let core_header_size = core_header_size.max(core_header.len() as u64).next_multiple_of(PAGE);
    // boot_params is longest with the core header high up in the midst of the reserved memory: then the command line
    // has most digits, and the memory map an entry more.
    let highest = first.reserved.end - PAGE..first.reserved.end - PAGE + 1;
    let end = first.reserved.end.next_multiple_of(PAGE);
    let longest = finish(&(end..end))?;
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
        small("image", number(parts.image, abi::MEMORY_SIZE)),
        small("boot_params", boot_params_size),
        small("initrd", parts.initrd.map_or(0, |initrd| initrd.len() as u64)),
        // With the initrd between: what overwrites one should not reach the other.
        small("copy of boot_params", boot_params_size),
        small("page tables for the jump", page_tables_size(&first.iomem, first.gib_pages, alone)),
    ];
    let places = place(&first.reserved, parts.limits, if alone { 0 } else { TO_RUN_IN }, &requests)?;
    let [kernel_at, core_header_at, image_at, boot_params_at, initrd_at, copy_at, _] = places[..] else {
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
        segment(3, boot_params_at, Cow::Owned(boot_params.clone())),
    ];
    segments.extend(parts.initrd.map(|initrd| segment(4, initrd_at, Cow::Borrowed(initrd))));
    let mut handoff = Handoff {
        digest: parts.digest.number(),
        boot_params: 1,
        boot_params_copy: copy_at,
        ..Handoff::EMPTY
    };
    for (checksum, segment) in handoff.segments.iter_mut().zip(&segments) {
        *checksum = checksum_of(segment, parts.digest);
        handoff.segment_count += 1;
    }
    let way_out = WayOut::of_purgatory(boot_params_at, kernel_at + u64::from(ENTRY_64));
    let mut image = parts.image.to_vec();
    boot::fill_in(&mut image, &way_out, parts.parameters, &bytes(&handoff));
    if alone {
        boot::has_no_dump_kernel(&mut image);
    }
    // Not in the checksum: the core header, because the kernel rewrites it; the image, which has its own sum; and the
    // copy, which has boot_params'.
    segments.push(segment(1, core_header_at, Cow::Owned(core_header)));
    segments.push(segment(2, image_at, Cow::Owned(image)));
    segments.push(segment(5, copy_at, Cow::Owned(boot_params)));
    let entry = image_at + number(parts.image, abi::PURGATORY_ENTRY);
    let checksums = handoff.segments.iter().take(handoff.segment_count as usize);
    let checksums = checksums.map(|checksum| checksum.digest).collect();
    Ok(Purgatory { segments, entry, cmdline, e820, digest: parts.digest, checksums })
}

/// Room for the pages that the kernel takes from what is left of the reserved memory: those of the jump's code, and of
/// page tables for all RAM, one a GiB where it cannot map more at once. A machine with more than 4 TiB can.
///
/// Without a dump kernel it is to be no more than that: with pages of 1 GiB a table for each GiB that is not all RAM, and the
/// few for the rest, where 6 were enough (measured).
pub fn page_tables_size(iomem: &IoMem, gib_pages: bool, alone: bool) -> u64 {
    const GIB: u32 = 30;
    if !alone {
        let gib: u64 = iomem.system_ram().map(|ram| ((ram.end - ram.start) >> GIB) + 2).sum();
        return (64 + gib.min(4096)) * PAGE;
    }
    let ends = iomem.system_ram().flat_map(|ram| [ram.start >> GIB, ram.end.saturating_sub(1) >> GIB]);
    let mut ends: Vec<_> = ends.collect();
    sort::all(&mut ends);
    ends.dedup();
    let whole: u64 = iomem.system_ram().map(|ram| (ram.end - ram.start) >> GIB).sum();
    let tables = if gib_pages { 0 } else { whole.min(4096) };
    (8 + ends.len() as u64 + tables) * PAGE
}

fn checksum_of(segment: &Segment<'_>, digest: Digest) -> Checksum {
    let mut name = [0; 16];
    put(&mut name, 0, segment.name.as_bytes());
    Checksum { addr: segment.addr, len: segment.data.len() as u64, name, digest: digest.of(&segment.data) }
}

/// The handoff as the image reads it.
fn bytes(handoff: &Handoff) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of::<Handoff>());
    for field in [handoff.segment_count, handoff.digest, handoff.boot_params, handoff.boot_params_copy] {
        bytes.extend(field.to_le_bytes());
    }
    for segment in &handoff.segments {
        bytes.extend(segment.addr.to_le_bytes());
        bytes.extend(segment.len.to_le_bytes());
        bytes.extend(segment.name);
        bytes.extend(segment.digest);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{
        super::core_header::{Mapping, ProgramHeader},
        *,
    };
    use crate::arm::ranges::IoMem;
    use lastwords_boot::synthetic::Kernel;
    use proptest::prelude::*;

    const RESERVED: Range<u64> = 0x1_8000_0000..0x1_9000_0000;
    const IMAGE_ENTRY: u64 = 0x450;
    const ANYWHERE: Range<u64> = 0..u64::MAX;

    fn image() -> Vec<u8> {
        let mut image = vec![0xcc; 0x2000];
        put(&mut image, abi::PURGATORY_ENTRY, &(IMAGE_ENTRY as u32).to_le_bytes());
        put(&mut image, abi::MEMORY_SIZE, &0x5001u32.to_le_bytes());
        put(&mut image, abi::FILE_SIZE, &0x2000u32.to_le_bytes());
        put(&mut image, abi::VERSION_AT, &abi::VERSION.to_le_bytes());
        image
    }

    fn first_kernel(reserved: Range<u64>) -> FirstKernel {
        let iomem = format!(
            "00001000-0009fbff : System RAM\n0009fc00-000fffff : Reserved\n00100000-3fffffff : System RAM\n\
             100000000-1bfffffff : System RAM\n  {:x}-{:x} : Crash kernel\n",
            reserved.start,
            reserved.end - 1
        );
        FirstKernel {
            iomem: IoMem::parse(&iomem),
            reserved,
            notes: vec![0x3f00_1000..0x3f00_1170, 0x3f00_2000..0x3f00_3024],
            mapping: Mapping {
                kernel: ProgramHeader {
                    kind: 1,
                    vaddr: 0xffff_ffff_8100_0000,
                    paddr: 0x100_0000,
                    len: 0x300_0000,
                },
                page_offset: 0xffff_8880_0000_0000,
            },
            hotplug_size: None,
            boot_params: None,
            efi: None,
            acpi_rsdp: 0,
            la57: false,
            gib_pages: false,
        }
    }

    /// What is loaded of these.
    fn built(
        kernel: &[u8],
        initrd: Option<&[u8]>,
        parameters: &str,
        first: &FirstKernel,
    ) -> Result<Purgatory<'static>, PurgatoryError> {
        built_with(Digest::default(), kernel, initrd, parameters, first)
    }

    fn built_with(
        digest: Digest,
        kernel: &[u8],
        initrd: Option<&[u8]>,
        parameters: &str,
        first: &FirstKernel,
    ) -> Result<Purgatory<'static>, PurgatoryError> {
        let mut cmdline = Cmdline::new(2047);
        cmdline.append("console=ttyS0 -- single");
        let (bz_image, image) = (BzImage::parse(kernel).unwrap(), image());
        let parts = Parts {
            kernel,
            bz_image: &bz_image,
            initrd,
            cmdline: &cmdline,
            image: &image,
            parameters,
            digest,
            limits: &ANYWHERE,
            rng_seed: None,
            noefi: false,
        };
        let purgatory = build(&parts, first)?;
        let owned = |segment: Segment<'_>| Segment { data: segment.data.into_owned().into(), ..segment };
        Ok(Purgatory { segments: purgatory.segments.into_iter().map(owned).collect(), ..purgatory })
    }

    fn segment<'a>(purgatory: &'a Purgatory<'static>, name: &str) -> &'a Segment<'static> {
        purgatory.segments.iter().find(|segment| segment.name == name).expect(name)
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
    }

    /// The rules of `sanity_check_segment_list` in `kernel/kexec_core.c`, and of `kimage_alloc_init` for the entry.
    fn assert_that_the_kernel_takes(purgatory: &Purgatory<'_>, reserved: &Range<u64>) {
        let segments = &purgatory.segments;
        assert!(segments.len() <= 16 && reserved.contains(&purgatory.entry));
        for (at, segment) in segments.iter().enumerate() {
            let end = segment.addr + segment.memory_size;
            assert!(segment.addr % PAGE == 0 && segment.memory_size % PAGE == 0 && segment.memory_size > 0);
            assert!(segment.data.len() as u64 <= segment.memory_size, "{}", segment.name);
            assert!(segment.addr >= reserved.start && end <= reserved.end, "{}", segment.name);
            let apart =
                |other: &Segment<'_>| other.addr + other.memory_size <= segment.addr || end <= other.addr;
            assert!(segments[..at].iter().all(apart), "{}", segment.name);
        }
    }

    #[test]
    fn the_image_is_told_where_everything_is_and_what_it_was() {
        let kernel = Kernel { certificates: 0x100, ..Kernel::default() };
        let file = kernel.build();
        let initrd = vec![0x11; 5000];
        let purgatory = built(&file, Some(&initrd), "lastwords.budget=9", &first_kernel(RESERVED)).unwrap();
        assert_that_the_kernel_takes(&purgatory, &RESERVED);

        let loaded = segment(&purgatory, "kernel");
        assert_eq!(*loaded.data, file[kernel.setup_len()..file.len() - 0x100]);
        assert_eq!(loaded.memory_size, u64::from(kernel.init_size));
        let image = segment(&purgatory, "image");
        assert_eq!((purgatory.entry, image.memory_size), (image.addr + IMAGE_ENTRY, 0x6000));
        assert!(image.data[abi::PARAMETERS..].starts_with(b"lastwords.budget=9"));
        for way_out in image.data[abi::WAYS_OUT..abi::OWN_SUM].chunks(40) {
            let [boot_params, entry, sum] = [16, 24, 32].map(|at| u64_at(way_out, at));
            assert_eq!((boot_params, entry), (segment(&purgatory, "boot_params").addr, loaded.addr + 0x200));
            assert_eq!(sum, digest::sum(&way_out[..32]));
        }
        let handoff = &image.data[abi::HANDOFF..];
        let copy = segment(&purgatory, "copy of boot_params");
        assert_eq!([0, 8, 16, 24].map(|at| u64_at(handoff, at)), [3, abi::LANES, 1, copy.addr]);
        assert_eq!(copy.data, segment(&purgatory, "boot_params").data);
        assert_eq!(u64_at(&image.data, abi::OWN_SUM), digest::sum(&image.data[abi::SUMMED..]));
        for (at, name) in ["kernel", "boot_params", "initrd"].into_iter().enumerate() {
            let (entry, segment) = (&handoff[32 + at * 64..], segment(&purgatory, name));
            assert_eq!((u64_at(entry, 0), u64_at(entry, 8)), (segment.addr, segment.data.len() as u64));
            assert_eq!(entry[16..32].split(|byte| *byte == 0).next().unwrap(), name.as_bytes());
            assert_eq!(entry[32..64], digest::lanes(&segment.data));
        }
        // Nothing but the loader's own fields is changed.
        assert!(image.data[abi::HANDOFF + size_of::<Handoff>()..].iter().all(|byte| *byte == 0xcc));
    }

    #[test]
    fn any_segment_with_a_checksum_that_changes_is_found() {
        let first = first_kernel(RESERVED);
        for digest in [Digest::Xxh64, Digest::Sha256] {
            let file = Kernel::default().build();
            let mut purgatory = built_with(digest, &file, Some(&[0x11; 5000]), "", &first).unwrap();
            assert!(purgatory.holds() && purgatory.checksums.len() == 3);
            for at in 0..3 {
                let last = purgatory.segments[at].data.to_mut().last_mut().unwrap();
                *last ^= 1;
                assert!(!purgatory.holds(), "{at}");
                *purgatory.segments[at].data.to_mut().last_mut().unwrap() ^= 1;
            }
            assert!(purgatory.holds());
        }
    }

    #[test]
    fn an_image_of_another_version_is_refused() {
        let (file, mut image) = (Kernel::default().build(), image());
        put(&mut image, abi::VERSION_AT, &(abi::VERSION + 1).to_le_bytes());
        let cmdline = Cmdline::new(2047);
        let parts = Parts {
            kernel: &file,
            bz_image: &BzImage::parse(&file).unwrap(),
            initrd: None,
            cmdline: &cmdline,
            image: &image,
            parameters: "",
            digest: Digest::default(),
            limits: &ANYWHERE,
            rng_seed: None,
            noefi: false,
        };
        let refused = build(&parts, &first_kernel(RESERVED));
        assert_eq!(refused, Err(PurgatoryError::Version(u64::from(abi::VERSION) + 1)));
    }

    #[test]
    fn boot_params_lead_to_the_command_line_the_initrd_and_the_core_header() {
        let file = Kernel::default().build();
        let purgatory = built(&file, Some(&[1, 2, 3]), "", &first_kernel(RESERVED)).unwrap();
        let core_header = segment(&purgatory, "ELF core header");
        let line = format!("console=ttyS0 elfcorehdr={}K -- single", core_header.addr >> 10);
        assert_eq!(purgatory.cmdline, line);
        let boot_params = segment(&purgatory, "boot_params");
        assert_eq!(boot_params.data[0x1000..], *format!("{line}\0").as_bytes());
        let initrd = segment(&purgatory, "initrd");
        let ramdisk =
            [0xc0, 0x218].map(|at| u32::from_le_bytes(*boot_params.data[at..].first_chunk().unwrap()));
        assert_eq!(u64::from(ramdisk[0]) << 32 | u64::from(ramdisk[1]), initrd.addr);
        assert_eq!(boot_params.data[0x21c..0x220], [3, 0, 0, 0]);
        // The dump kernel must not use the core header's memory.
        let is_free = |at| purgatory.e820.iter().any(|entry| entry.range.contains(&at));
        assert!(!is_free(core_header.addr) && is_free(initrd.addr) && is_free(RESERVED.start));
    }

    #[test]
    fn the_core_header_has_room_to_be_rewritten() {
        let first = FirstKernel { hotplug_size: Some(0x8000), ..first_kernel(RESERVED) };
        let file = Kernel::default().build();
        let purgatory = built(&file, None, "", &first).unwrap();
        // crash_elfcorehdr_size counts program headers only.
        assert_eq!(segment(&purgatory, "ELF core header").memory_size, 0x9000);
        assert_that_the_kernel_takes(&purgatory, &RESERVED);
    }

    #[test]
    fn a_wrapped_kernel_is_loaded_unwrapped() {
        let file = Kernel::default().build();
        let mut flat = image();
        put(&mut flat, 0, &abi::MAGIC);
        put(&mut flat, abi::ENTRY, &0x1800u32.to_le_bytes());
        let wrapped = boot::wrap(&file, &flat, "").unwrap();
        let unwrapped = boot::unwrap(&wrapped).unwrap();
        let first = first_kernel(RESERVED);
        let kernel_of =
            |file: &[u8]| segment(&built(file, None, "", &first).unwrap(), "kernel").data.to_vec();
        assert_eq!(kernel_of(&unwrapped), kernel_of(&file));
    }

    #[test]
    fn kernels_that_could_not_start_are_refused() {
        let first = first_kernel(RESERVED);
        let fixed = Kernel { xloadflags: 1, ..Kernel::default() }.build();
        assert_eq!(built(&fixed, None, "", &first), Err(PurgatoryError::NotRelocatable));
        let la57 = FirstKernel { la57: true, ..first.clone() };
        let four_levels = Kernel { xloadflags: 0b1_1111, ..Kernel::default() }.build();
        assert_eq!(built(&four_levels, None, "", &la57), Err(PurgatoryError::No5Level));
        assert!(built(&four_levels, None, "", &first).is_ok());
        let file = Kernel::default().build();
        assert!(built(&file, None, "", &la57).is_ok());
        let long = "x".repeat(PARAMETERS_LEN);
        assert_eq!(built(&file, None, &long, &first), Err(PurgatoryError::ParametersTooLong(PARAMETERS_LEN)));
    }

    #[test]
    fn efi_that_is_not_handed_on_leaves_word_of_acpi() {
        let mut running = vec![0; 4096];
        put(&mut running, 0x1c0 + 12, &[1, 0, 0, 0, 0, 0, 0, 0, 0x90]);
        let first = FirstKernel {
            boot_params: Some(running),
            efi: Some(boot_params::Efi { addresses: [1; 4], runtime_map: vec![[1; 5]] }),
            acpi_rsdp: 0x3fb7_e014,
            ..first_kernel(RESERVED)
        };
        for (xloadflags, is_handed_on) in [(0x7f, true), (0x6f, false)] {
            let file = Kernel { xloadflags, ..Kernel::default() }.build();
            let purgatory = built(&file, None, "", &first).unwrap();
            assert_eq!(purgatory.cmdline.contains("acpi_rsdp=0x3fb7e014"), !is_handed_on);
            let boot_params = &segment(&purgatory, "boot_params").data;
            assert_eq!(boot_params[0x1c0..0x1e0] != [0; 32], is_handed_on);
            assert_eq!(u64_at(boot_params, 0x70), 0x3fb7_e014);
        }
    }

    proptest! {
        // Checksums take their time in a build that is not optimized.
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_loaded_the_kernel_takes(
            start in 0x1000u64..0x3_0000, pages in 0x400u64..0x4000, initrd in prop::option::of(1usize..20_000),
            hotplug_size in prop::option::of(0u64..0x10_0000), cpus in 1usize..300,
        ) {
            let reserved = start * PAGE..(start + pages) * PAGE;
            let notes = vec![0x3f00_1000..0x3f00_1170; cpus];
            let first = FirstKernel { notes, hotplug_size, ..first_kernel(reserved.clone()) };
            let file = Kernel::default().build();
            let initrd = initrd.map(|len| vec![0x5a; len]);
            match built(&file, initrd.as_deref(), "", &first) {
                Ok(purgatory) => assert_that_the_kernel_takes(&purgatory, &reserved),
                Err(error) => prop_assert!(matches!(error, PurgatoryError::Placement(_)) && pages < 0x800, "{}", error),
            }
        }
    }
}
