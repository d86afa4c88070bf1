//! What a dump kernel's loader must know of the running kernel, read from /proc and /sys. The readers take the root of
//! the file system, so that tests can give them a stored machine.

use super::{
    boot_params::{self, Efi},
    core_header::{self, Mapping},
};
use crate::{
    arm::{cpus, ranges::IoMem},
    sort,
};
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

/// The running kernel.
#[derive(Clone, Debug)]
pub struct FirstKernel {
    /// /proc/iomem.
    pub iomem: IoMem,
    /// Where the segments go: the upper one, when `crashkernel=,high` has reserved two. The kernel takes no other.
    pub reserved: Range<u64>,
    /// Its notes: one a CPU, in CPU order, then VMCOREINFO. Physical addresses.
    pub notes: Vec<Range<u64>>,
    /// Where it and memory are mapped.
    pub mapping: Mapping,
    /// Bytes that the core header needs to be rewritten on CPU and memory hotplug (CONFIG_CRASH_HOTPLUG).
    pub hotplug_size: Option<u64>,
    /// Its boot_params, where it shows them.
    pub boot_params: Option<Vec<u8>>,
    /// EFI, when it runs on it.
    pub efi: Option<Efi>,
    /// Physical address of ACPI's root table, or 0.
    pub acpi_rsdp: u64,
    /// Does it use 5-level paging?
    pub la57: bool,
    /// Does its CPU have pages of 1 GiB, by which the jump's page tables are small?
    pub gib_pages: bool,
}

impl FirstKernel {
    /// Reads it below `root`.
    ///
    /// # Errors
    /// When something that no dump can do without is missing.
    pub fn read(root: &Path) -> Result<Self> {
        let text = |path: &str| fs::read_to_string(root.join(path)).with_context(|| format!("/{path}"));
        let iomem = IoMem::parse(&text("proc/iomem")?);
        ensure!(!iomem.is_hidden(), "/proc/iomem hides the addresses (CAP_SYS_ADMIN)\nhint: run it as root");
        let reserved = iomem.named("Crash kernel").max_by_key(|range| range.start).context(
            "/proc/iomem shows no memory reserved for a dump kernel\nhint: boot with crashkernel=256M",
        )?;
        let boot_params = fs::read(root.join("sys/kernel/boot_params/data")).ok();
        let systab = text("sys/firmware/efi/systab").unwrap_or_default();
        let rsdp = boot_params.as_deref().map_or(0, boot_params::acpi_rsdp);
        Ok(Self {
            notes: notes(root)?,
            mapping: core_header::mapping(&kcore_headers(root).context("/proc/kcore")?, &iomem)?,
            hotplug_size: hotplug_size(root),
            efi: boot_params
                .as_deref()
                .filter(|bytes| boot_params::has_efi(bytes))
                .and_then(|_| efi(root, &systab)),
            acpi_rsdp: Some(rsdp)
                .filter(|rsdp| *rsdp != 0)
                .or_else(|| from_systab(&systab, "ACPI20"))
                .unwrap_or(0),
            la57: uses_5_level(root),
            gib_pages: has_gib_pages(root),
            iomem,
            reserved,
            boot_params,
        })
    }
}

/// Does the running kernel use 5-level paging? It shows the flag only then (`early_identify_cpu` in
/// `arch/x86/kernel/cpu/common.c`), so that `no5lvl` on its command line is seen, too.
pub fn uses_5_level(root: &Path) -> bool {
    has_cpu_flag(root, "la57")
}

/// Has its CPU pages of 1 GiB?
pub fn has_gib_pages(root: &Path) -> bool {
    has_cpu_flag(root, "pdpe1gb")
}

/// Bytes that the core header needs to be rewritten, where the kernel rewrites it.
pub fn hotplug_size(root: &Path) -> Option<u64> {
    number(&fs::read_to_string(root.join("sys/kernel/crash_elfcorehdr_size")).ok()?)
}

/// Does the first CPU have this flag in /proc/cpuinfo?
fn has_cpu_flag(root: &Path, name: &str) -> bool {
    let text = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == name))
}

/// A number as sysfs writes it: decimal, or hexadecimal with 0x.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(text) => u64::from_str_radix(text, 16).ok(),
        None => text.parse().ok(),
    }
}

/// crash_notes of every CPU that has them, and VMCOREINFO. The notes' size is decimal, all else hexadecimal, with or
/// without 0x (`drivers/base/cpu.c`, `kernel/ksysfs.c`).
fn notes(root: &Path) -> Result<Vec<Range<u64>>> {
    let hex = |text: &str| {
        let text = text.trim();
        u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
    };
    let folder = root.join("sys/devices/system/cpu");
    let cpus = cpus::numbers(root).context("/sys/devices/system/cpu")?;

    let note_of = |cpu: &u32| {
        let text = |name| fs::read_to_string(folder.join(format!("cpu{cpu}/{name}"))).ok();
        let start = hex(&text("crash_notes")?)?;
        Some(start..start.checked_add(number(&text("crash_notes_size")?)?)?)
    };
    let mut notes: Vec<_> = cpus.iter().filter_map(note_of).collect();
    ensure!(!notes.is_empty(), "no CPU's crash_notes in /sys/devices/system/cpu: this kernel has no kdump");

    let vmcoreinfo =
        fs::read_to_string(root.join("sys/kernel/vmcoreinfo")).context("/sys/kernel/vmcoreinfo")?;
    let range = || {
        let (start, size) = vmcoreinfo.trim().split_once(' ')?;
        let start = hex(start)?;
        Some(start..start.checked_add(hex(size)?)?)
    };
    notes.push(range().context("/sys/kernel/vmcoreinfo: not an address and a size")?);
    Ok(notes)
}

/// The ELF header and program headers of /proc/kcore.
fn kcore_headers(root: &Path) -> Result<Vec<u8>> {
    let mut file = File::open(root.join("proc/kcore"))?;
    let mut ehdr = [0; 64];
    file.read_exact(&mut ehdr)?;
    let mut bytes = vec![0; core_header::kcore_headers_len(&ehdr)?];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A line `NAME=0x…` of /sys/firmware/efi/systab.
fn from_systab(systab: &str, name: &str) -> Option<u64> {
    systab.lines().find_map(|line| number(line.strip_prefix(name)?.strip_prefix('=')?))
}

/// EFI as /sys/firmware/efi shows it; `None` where it does not show all of it (`efi=noruntime`, or no CONFIG_EFI).
fn efi(root: &Path, systab: &str) -> Option<Efi> {
    let folder = root.join("sys/firmware/efi");
    let value = |path: &str| number(&fs::read_to_string(folder.join(path)).ok()?);
    let mut regions: Vec<u32> = fs::read_dir(folder.join("runtime-map"))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    sort::all(&mut regions);
    let region = |at: &u32| {
        let value = |name: &str| value(&format!("runtime-map/{at}/{name}"));
        Some([
            value("type")?,
            value("phys_addr")?,
            value("virt_addr")?,
            value("num_pages")?,
            value("attribute")?,
        ])
    };
    let runtime_map = regions.iter().map(region).collect::<Option<Vec<_>>>().filter(|map| !map.is_empty())?;
    let smbios = from_systab(systab, "SMBIOS").unwrap_or(0);
    Some(Efi {
        addresses: [value("fw_vendor")?, value("runtime")?, value("config_table")?, smbios],
        runtime_map,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn notes_come_in_cpu_order() {
        let root = machine(&[
            ("sys/devices/system/cpu/cpu10/crash_notes", "3f0a000\n"),
            ("sys/devices/system/cpu/cpu10/crash_notes_size", "368\n"),
            ("sys/devices/system/cpu/cpu2/crash_notes", "3f02000\n"),
            ("sys/devices/system/cpu/cpu2/crash_notes_size", "368\n"),
            ("sys/devices/system/cpu/cpu3/online", "0\n"),
            ("sys/devices/system/cpu/cpufreq/boost", "1\n"),
            ("sys/kernel/vmcoreinfo", "0x0000000001a5f000 1024\n"),
        ]);
        assert_eq!(
            notes(root.path()).unwrap(),
            [0x3f0_2000..0x3f0_2000 + 368, 0x3f0_a000..0x3f0_a000 + 368, 0x1a5_f000..0x1a6_0024]
        );
        let root = machine(&[("sys/devices/system/cpu/online", "0\n"), ("sys/kernel/vmcoreinfo", "1 1\n")]);
        assert!(notes(root.path()).is_err());
    }

    #[test]
    fn efi_is_read_whole_or_not_at_all() {
        let files = [
            ("sys/firmware/efi/fw_vendor", "0x3fbf1018\n"),
            ("sys/firmware/efi/runtime", "0x3fdf0b98\n"),
            ("sys/firmware/efi/config_table", "0x3fbee018\n"),
            ("sys/firmware/efi/runtime-map/10/type", "0x6\n"),
            ("sys/firmware/efi/runtime-map/10/phys_addr", "0x2000\n"),
            ("sys/firmware/efi/runtime-map/10/virt_addr", "0xfffffffeffe00000\n"),
            ("sys/firmware/efi/runtime-map/10/num_pages", "0x1\n"),
            ("sys/firmware/efi/runtime-map/10/attribute", "0x800000000000000f\n"),
            ("sys/firmware/efi/runtime-map/9/type", "0x5\n"),
            ("sys/firmware/efi/runtime-map/9/phys_addr", "0x1000\n"),
            ("sys/firmware/efi/runtime-map/9/virt_addr", "0xfffffffeff000000\n"),
            ("sys/firmware/efi/runtime-map/9/num_pages", "0x100\n"),
            ("sys/firmware/efi/runtime-map/9/attribute", "0xf\n"),
        ];
        let systab = "ACPI20=0x3fb7e014\nACPI=0x3fb7e000\nSMBIOS3=0x3f955000\nSMBIOS=0x3f956000\n";
        let whole = efi(machine(&files).path(), systab).unwrap();
        assert_eq!(whole.addresses, [0x3fbf_1018, 0x3fdf_0b98, 0x3fbe_e018, 0x3f95_6000]);
        assert_eq!(
            whole.runtime_map,
            [
                [5, 0x1000, 0xffff_fffe_ff00_0000, 0x100, 0xf],
                [6, 0x2000, 0xffff_fffe_ffe0_0000, 1, 0x8000_0000_0000_000f]
            ]
        );
        for missing in [0, 2, 6, 12] {
            let mut files = files.to_vec();
            files.remove(missing);
            assert_eq!(efi(machine(&files).path(), systab), None, "{missing}");
        }
        assert_eq!(from_systab(systab, "ACPI20"), Some(0x3fb7_e014));
    }

    #[test]
    fn hidden_addresses_are_told() {
        let root = machine(&[(
            "proc/iomem",
            "00000000-00000000 : System RAM\n  00000000-00000000 : Crash kernel\n",
        )]);
        let error = format!("{:#}", FirstKernel::read(root.path()).unwrap_err());
        assert!(error.contains("run it as root"), "{error}");
    }
}
