//! The dump kernel's boot_params: what the first kernel's boot loader passed to it, again for the reserved memory
//! (`Documentation/arch/x86/boot.rst` and `zero-page.rst`).
//!
//! One segment holds it all: boot_params, the command line, the list of setup_data and the EFI memory map.

use super::{PAGE, core_header::LOW_1M, put};
use crate::{
    arm::ranges::{IoMem, without},
    sort,
};
use std::ops::Range;

/// Offsets in boot_params; those from 0x1f1 on are setup_header's (`zero-page.rst`, `asm/bootparam.h`).
mod offset {
    pub const SCREEN_INFO: usize = 0x000;
    pub const ACPI_RSDP_ADDR: usize = 0x070;
    pub const EXT_RAMDISK_IMAGE: usize = 0x0c0;
    pub const EXT_RAMDISK_SIZE: usize = 0x0c4;
    pub const EXT_CMD_LINE_PTR: usize = 0x0c8;
    pub const EFI_INFO: usize = 0x1c0;
    pub const E820_ENTRIES: usize = 0x1e8;
    /// eddbuf_entries and edd_mbr_sig_buf_entries.
    pub const EDD_COUNTS: usize = 0x1e9;
    pub const SECURE_BOOT: usize = 0x1ec;
    pub const SETUP_HEADER: usize = 0x1f1;
    /// The `jmp` whose displacement gives setup_header's length.
    pub const JUMP: usize = 0x201;
    pub const TYPE_OF_LOADER: usize = 0x210;
    pub const LOADFLAGS: usize = 0x211;
    pub const RAMDISK_IMAGE: usize = 0x218;
    pub const RAMDISK_SIZE: usize = 0x21c;
    pub const CMD_LINE_PTR: usize = 0x228;
    pub const HARDWARE_SUBARCH: usize = 0x23c;
    pub const SETUP_DATA: usize = 0x250;
    pub const EDD_MBR_SIG_BUFFER: usize = 0x290;
    pub const E820_TABLE: usize = 0x2d0;
    pub const EDDBUF: usize = 0xd00;
    /// Behind the six entries of eddbuf.
    pub const EDDBUF_END: usize = 0xeec;
}

/// Fields that describe the machine and hold for the dump kernel as they did for the first.
const KEPT: [Range<usize>; 6] = [
    offset::SCREEN_INFO..0x40,
    offset::EDD_COUNTS..offset::EDD_COUNTS + 2,
    offset::SECURE_BOOT..offset::SECURE_BOOT + 1,
    // With hardware_subarch_data.
    offset::HARDWARE_SUBARCH..offset::HARDWARE_SUBARCH + 12,
    offset::EDD_MBR_SIG_BUFFER..offset::E820_TABLE,
    offset::EDDBUF..offset::EDDBUF_END,
];

/// `type_of_loader` of kexec (boot.rst: 0xD).
const LOADER_KEXEC: u8 = 0xd0;
/// Entries that boot_params has room for; more go to setup_data.
const E820_MAX_ENTRIES_ZEROPAGE: usize = 128;
const E820_ENTRY_LEN: usize = 20;

const SETUP_E820_EXT: u32 = 1;
const SETUP_EFI: u32 = 4;
const SETUP_RNG_SEED: u32 = 9;

/// Type of a range in the E820 table (`asm/e820/types.h`; ACPI 6.5 section 15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum E820Type {
    /// Usable.
    Ram = 1,
    /// In use or not there.
    Reserved = 2,
    /// ACPI tables.
    Acpi = 3,
    /// ACPI non-volatile storage.
    Nvs = 4,
    /// Persistent memory.
    Pmem = 7,
    /// Persistent memory, found in the way before ACPI knew of it.
    Pram = 12,
}

/// An entry of the E820 table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct E820Entry {
    /// Addresses.
    pub range: Range<u64>,
    /// What is there.
    pub kind: E820Type,
}

/// The dump kernel's memory map: as RAM the first MiB's RAM and the reserved memory without `core_header`, and what
/// firmware keeps, as the running kernel shows it. Sorted and disjoint.
pub fn e820(iomem: &IoMem, core_header: &Range<u64>) -> Vec<E820Entry> {
    // Firmware's own first, so that no byte of it is taken for RAM where lines overlap.
    let firmware = [
        ("ACPI Non-volatile Storage", E820Type::Nvs),
        ("ACPI Tables", E820Type::Acpi),
        ("Persistent Memory", E820Type::Pmem),
        ("Persistent Memory (legacy)", E820Type::Pram),
        ("Reserved", E820Type::Reserved),
    ];
    let low = iomem.system_ram().map(|range| range.start..range.end.min(LOW_1M.end));
    let ram = low.chain(without(iomem.named("Crash kernel"), core_header));
    let all = firmware
        .into_iter()
        .flat_map(|(name, kind)| iomem.named(name).map(move |range| E820Entry { range, kind }))
        .chain(ram.map(|range| E820Entry { range, kind: E820Type::Ram }));

    let mut table: Vec<E820Entry> = Vec::new();
    for E820Entry { range, kind } in all {
        let left = table.iter().fold(vec![range], |left, entry| without(left, &entry.range));
        table.extend(left.into_iter().map(|range| E820Entry { range, kind }));
    }
    table.retain(|entry| !entry.range.is_empty());
    sort::by_key(&mut table, |entry| entry.range.start);
    table
}

/// What the first kernel knows of EFI, for one that is not started by EFI (`struct efi_setup_data` in `asm/efi.h`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Efi {
    /// fw_vendor, runtime, tables, smbios: physical addresses before SetVirtualAddressMap.
    pub addresses: [u64; 4],
    /// The runtime regions: type, physical and virtual address, pages, attribute.
    pub runtime_map: Vec<[u64; 5]>,
}

/// `efi_memory_desc_t` (UEFI 2.10 section 7.2.3).
const EFI_MEMORY_DESC_LEN: usize = 40;

/// What boot_params is made of.
#[derive(Clone, Debug)]
pub struct BootParams<'a> {
    /// The kernel file, which has setup_header.
    pub kernel: &'a [u8],
    /// The first kernel's boot_params (/sys/kernel/boot_params/data), where it shows them.
    pub running: Option<&'a [u8]>,
    /// The command line.
    pub cmdline: &'a str,
    /// Where the initial RAM disk is.
    pub initrd: Option<Range<u64>>,
    /// The memory map.
    pub e820: &'a [E820Entry],
    /// EFI, when the first kernel runs on it and the dump kernel can take it over.
    pub efi: Option<&'a Efi>,
    /// Physical address of ACPI's root table, or 0 when it is not known.
    pub acpi_rsdp: u64,
    /// Random bytes, with which the dump kernel starts its own generator.
    pub rng_seed: Option<[u8; 32]>,
}

impl BootParams<'_> {
    /// The segment's bytes, when it lies at `addr`. Its length does not depend on that.
    pub fn build(&self, addr: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        self.keep(&mut bytes);
        self.setup_header(&mut bytes);
        put(&mut bytes, offset::ACPI_RSDP_ADDR, &self.acpi_rsdp.to_le_bytes());

        let cmdline = addr + bytes.len() as u64;
        bytes.extend(self.cmdline.as_bytes());
        bytes.push(0);
        put_64(&mut bytes, offset::CMD_LINE_PTR, offset::EXT_CMD_LINE_PTR, cmdline);
        if let Some(initrd) = &self.initrd {
            put_64(&mut bytes, offset::RAMDISK_IMAGE, offset::EXT_RAMDISK_IMAGE, initrd.start);
            put_64(&mut bytes, offset::RAMDISK_SIZE, offset::EXT_RAMDISK_SIZE, initrd.end - initrd.start);
        }

        let (first, rest) = self.e820.split_at(self.e820.len().min(E820_MAX_ENTRIES_ZEROPAGE));
        put(&mut bytes, offset::E820_TABLE, &e820_bytes(first));
        bytes[offset::E820_ENTRIES] = first.len() as u8;
        if let Some(rng_seed) = &self.rng_seed {
            add_setup_data(&mut bytes, addr, SETUP_RNG_SEED, rng_seed);
        }
        if !rest.is_empty() {
            add_setup_data(&mut bytes, addr, SETUP_E820_EXT, &e820_bytes(rest));
        }
        if let Some(efi) = self.efi {
            self.efi_info(&mut bytes, addr, efi);
        }
        bytes
    }

    fn keep(&self, bytes: &mut [u8]) {
        for field in KEPT {
            if let Some(value) = self.running.and_then(|running| running.get(field.clone())) {
                put(bytes, field.start, value);
            }
        }
    }

    fn setup_header(&self, bytes: &mut [u8]) {
        // boot.rst: it ends where the jump at its 0x200 leads to.
        let end = (offset::JUMP + 1 + usize::from(self.kernel[offset::JUMP])).min(offset::EDD_MBR_SIG_BUFFER);
        let subarch = offset::HARDWARE_SUBARCH..offset::HARDWARE_SUBARCH + 12;
        let kept = bytes[subarch.clone()].to_vec();
        put(bytes, offset::SETUP_HEADER, &self.kernel[offset::SETUP_HEADER..end]);
        put(bytes, subarch.start, &kept);
        bytes[offset::TYPE_OF_LOADER] = LOADER_KEXEC;
        // LOADED_HIGH and the like are about entries that are not used.
        bytes[offset::LOADFLAGS] = 0;
        put(bytes, offset::SETUP_DATA, &[0; 8]);
    }

    /// efi_info: signature and system table as they were, the map ours.
    fn efi_info(&self, bytes: &mut Vec<u8>, addr: u64, efi: &Efi) {
        let Some(running) =
            self.running.and_then(|running| running.get(offset::EFI_INFO..)?.first_chunk::<32>())
        else {
            return;
        };
        let mut setup_data = [0; 96];
        for (at, address) in efi.addresses.iter().enumerate() {
            put(&mut setup_data, at * 8, &address.to_le_bytes());
        }
        add_setup_data(bytes, addr, SETUP_EFI, &setup_data);

        bytes.resize(bytes.len().next_multiple_of(16), 0);
        let map = addr + bytes.len() as u64;
        for [kind, fields @ ..] in &efi.runtime_map {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        }
        let map_len = (efi.runtime_map.len() * EFI_MEMORY_DESC_LEN) as u32;
        let mut efi_info = *running;
        put(&mut efi_info, 8, &(EFI_MEMORY_DESC_LEN as u32).to_le_bytes());
        put_64(&mut efi_info, 16, 28, map);
        put(&mut efi_info, 20, &map_len.to_le_bytes());
        put(bytes, offset::EFI_INFO, &efi_info);
    }
}

/// Can a kernel take EFI over with these boot_params of the first kernel? They must have that it runs on EFI, with a
/// memory map of version 1.
pub fn has_efi(running: &[u8]) -> bool {
    let number =
        |at| running.get(offset::EFI_INFO + at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    number(12) == Some(1) && number(20).is_some_and(|len| len > 0)
}

/// acpi_rsdp_addr in the first kernel's boot_params, or 0.
pub fn acpi_rsdp(running: &[u8]) -> u64 {
    let bytes = running.get(offset::ACPI_RSDP_ADDR..).and_then(|bytes| bytes.first_chunk());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A number whose halves lie apart.
fn put_64(bytes: &mut [u8], low: usize, high: usize, value: u64) {
    put(bytes, low, &(value as u32).to_le_bytes());
    put(bytes, high, &((value >> 32) as u32).to_le_bytes());
}

fn e820_bytes(entries: &[E820Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * E820_ENTRY_LEN);
    for entry in entries {
        bytes.extend(entry.range.start.to_le_bytes());
        bytes.extend((entry.range.end - entry.range.start).to_le_bytes());
        bytes.extend((entry.kind as u32).to_le_bytes());
    }
    bytes
}

/// Adds a `struct setup_data` in front of the list.
fn add_setup_data(bytes: &mut Vec<u8>, addr: u64, kind: u32, data: &[u8]) {
    bytes.resize(bytes.len().next_multiple_of(16), 0);
    let at = addr + bytes.len() as u64;
    let next = bytes[offset::SETUP_DATA..offset::SETUP_DATA + 8].to_vec();
    bytes.extend(next);
    bytes.extend(kind.to_le_bytes());
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    put(bytes, offset::SETUP_DATA, &at.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastwords_boot::synthetic::Kernel;
    use proptest::prelude::*;

    const ADDR: u64 = 0x1_2345_6000;

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
    }

    /// Type and data of every setup_data, in the list's order.
    fn setup_data(bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let mut list = Vec::new();
        let mut at = u64_at(bytes, 0x250);
        while at != 0 {
            let data = &bytes[(at - ADDR) as usize..];
            list.push((u32_at(data, 8), &data[16..16 + u32_at(data, 12) as usize]));
            at = u64_at(data, 0);
        }
        list
    }

    fn entries(table: &[(Range<u64>, E820Type)]) -> Vec<E820Entry> {
        table.iter().map(|(range, kind)| E820Entry { range: range.clone(), kind: *kind }).collect()
    }

    fn boot_params<'a>(kernel: &'a [u8], e820: &'a [E820Entry]) -> BootParams<'a> {
        BootParams {
            kernel,
            running: None,
            cmdline: "console=ttyS0",
            initrd: None,
            e820,
            efi: None,
            acpi_rsdp: 0,
            rng_seed: Some([7; 32]),
        }
    }

    #[test]
    fn the_memory_map_is_low_ram_firmware_and_the_reserved_memory() {
        use E820Type::{Acpi, Nvs, Pmem, Ram, Reserved};
        let iomem = IoMem::parse(
            "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n0009fc00-0009ffff : Reserved\n\
             000f0000-000fffff : Reserved\n  000f0000-000fffff : System ROM\n00100000-bffdffff : System RAM\n  \
             2f000000-3effffff : Crash kernel\nbffe0000-bffeffff : ACPI Tables\nbfff0000-bfffffff : ACPI Non-volatile Storage\n\
             fe000000-feffffff : PCI Bus\n  feffc000-feffffff : Reserved\n100000000-1bfffffff : System RAM\n  \
             1a0000000-1afffffff : Crash kernel\n200000000-2ffffffff : Persistent Memory\n  200000000-200000fff : Reserved\n",
        );
        let table = [
            (0..0x1000, Reserved),
            (0x1000..0x9_fc00, Ram),
            (0x9_fc00..0xa_0000, Reserved),
            (0xf_0000..0x10_0000, Reserved),
            (0x2f00_0000..0x3f00_0000, Ram),
            (0xbffe_0000..0xbfff_0000, Acpi),
            (0xbfff_0000..0xc000_0000, Nvs),
            (0xfeff_c000..0xff00_0000, Reserved),
            (0x1_a000_0000..0x1_afff_0000, Ram),
            (0x1_afff_1000..0x1_b000_0000, Ram),
            (0x2_0000_0000..0x3_0000_0000, Pmem),
        ];
        assert_eq!(e820(&iomem, &(0x1_afff_0000..0x1_afff_1000)), entries(&table));
    }

    #[test]
    fn setup_header_is_the_kernels_own_but_for_the_loaders_fields() {
        let mut file = Kernel::default().build();
        put(&mut file, 0x200, &[0xeb, 0x6a]);
        put(&mut file, 0x230, &0x20_0000u32.to_le_bytes());
        put(&mut file, 0x250, &[1; 8]);
        put(&mut file, 0x268, &[0xee; 8]);
        let bytes = boot_params(&file, &[]).build(ADDR);
        assert_eq!(bytes[0x202..0x206], *b"HdrS");
        assert_eq!(u32_at(&bytes, 0x230), 0x20_0000);
        assert_eq!(u32_at(&bytes, 0x260), 0x40_0000);
        assert_eq!(bytes[0x210..0x212], [0xd0, 0]);
        // The jump leads to 0x26c: nothing behind it is a header's.
        assert_eq!(bytes[0x268..0x270], [0xee, 0xee, 0xee, 0xee, 0, 0, 0, 0]);
        // The sentinel: not 0 means that the loader did not clear what it does not know.
        assert_eq!(bytes[0x1ef], 0);
        assert_eq!(setup_data(&bytes), [(SETUP_RNG_SEED, &[7; 32][..])]);
    }

    #[test]
    fn pointers_go_above_4_gib() {
        let file = Kernel::default().build();
        let initrd = Some(0x1_0000_2000..0x1_0000_5001);
        let bytes = BootParams { initrd, ..boot_params(&file, &[]) }.build(ADDR);
        assert_eq!((u32_at(&bytes, 0x228), u32_at(&bytes, 0xc8)), (0x2345_7000, 1));
        assert!(bytes[0x1000..].starts_with(b"console=ttyS0\0"));
        assert_eq!((u32_at(&bytes, 0x218), u32_at(&bytes, 0xc0)), (0x2000, 1));
        assert_eq!((u32_at(&bytes, 0x21c), u32_at(&bytes, 0xc4)), (0x3001, 0));
    }

    #[test]
    fn what_describes_the_machine_is_kept() {
        let file = Kernel::default().build();
        let running: Vec<_> = (0..4096).map(|at: usize| (at % 251) as u8).collect();
        let bytes = BootParams { running: Some(&running), ..boot_params(&file, &[]) }.build(ADDR);
        for field in [0..0x40, 0x1e9..0x1eb, 0x1ec..0x1ed, 0x23c..0x248, 0x290..0x2d0, 0xd00..0xeec] {
            assert_eq!(bytes[field.clone()], running[field.clone()], "{field:x?}");
        }
        for field in [0x40..0xc0, 0x140..0x1e0, 0x2d0..0xd00, 0xeec..0x1000] {
            assert!(bytes[field.clone()].iter().all(|byte| *byte == 0), "{field:x?}");
        }
    }

    #[test]
    fn efi_is_handed_on_with_a_map_of_the_runtime_regions() {
        let file = Kernel::default().build();
        let mut running = vec![0; 4096];
        put(&mut running, 0x1c0, b"EL64");
        for (at, value) in [(4, 0x1234u32), (8, 48), (12, 1), (16, 0x5678), (20, 0x90), (24, 9), (28, 8)] {
            put(&mut running, 0x1c0 + at, &value.to_le_bytes());
        }
        assert!(has_efi(&running));
        assert!(!has_efi(&[0; 4096]));
        let efi = Efi { addresses: [1, 2, 3, 4], runtime_map: vec![[5, 6, 7, 8, 9], [10, 11, 12, 13, 14]] };
        let bytes =
            BootParams { running: Some(&running), efi: Some(&efi), ..boot_params(&file, &[]) }.build(ADDR);
        let info: Vec<_> = (0..8).map(|at| u32_at(&bytes, 0x1c0 + at * 4)).collect();
        let map = u64::from(info[4]) | u64::from(info[7]) << 32;
        assert_eq!(
            (&bytes[0x1c0..0x1c4], info[1], info[2], info[3], info[5], info[6]),
            (&b"EL64"[..], 0x1234, 40, 1, 80, 9)
        );
        let map = &bytes[(map - ADDR) as usize..];
        assert_eq!(map.len(), 80);
        assert_eq!((0..10).map(|at| u64_at(map, at * 8)).collect::<Vec<_>>(), (5..15).collect::<Vec<_>>());
        let (kind, data) = setup_data(&bytes)[0];
        assert_eq!((kind, data.len()), (SETUP_EFI, 96));
        assert_eq!((0..5).map(|at| u64_at(data, at * 8)).collect::<Vec<_>>(), [1, 2, 3, 4, 0]);
    }

    proptest! {
        #[test]
        fn every_entry_of_the_map_arrives(count in 0usize..300) {
            let file = Kernel::default().build();
            let all: Vec<_> = (0..count as u64)
                .map(|at| E820Entry { range: at * 0x2000..at * 0x2000 + 0x1000, kind: E820Type::Ram }).collect();
            let bytes = boot_params(&file, &all).build(ADDR);
            let mut table = bytes[0x2d0..0x2d0 + usize::from(bytes[0x1e8]) * 20].to_vec();
            for (_, data) in setup_data(&bytes).into_iter().filter(|(kind, _)| *kind == SETUP_E820_EXT) {
                table.extend(data);
            }
            prop_assert_eq!(table, e820_bytes(&all));
        }

        #[test]
        fn the_length_does_not_depend_on_the_address(addr: u32) {
            let file = Kernel::default().build();
            prop_assert_eq!(boot_params(&file, &[]).build(u64::from(addr)).len(), boot_params(&file, &[]).build(0).len());
        }
    }
}
