//! Finds the BMC's interface: what the running driver uses, else what the machine's tables say. Tables lie (an HPE
//! Gen9's SPMI says 0xca3 where its SMBIOS says 0xca2), the driver's word has been tried.
//!
//! Readers take the root of the file system, so that tests can give them a stored machine.

use lastwords_core::{cmdline, plan::KcsPorts};
use std::{fmt, fs, path::Path};

/// Kind of system interface (IPMI 2.0 appendix C1, "Interface Type").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keyboard controller style: the one that the image speaks.
    Kcs,
    /// Server management interface chip.
    Smic,
    /// Block transfer.
    Bt,
    /// SMBus.
    Ssif,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        [Self::Kcs, Self::Smic, Self::Bt, Self::Ssif].into_iter().nth(usize::from(number).checked_sub(1)?)
    }
}

/// Where the registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// I/O ports.
    Io,
    /// Memory.
    Memory,
}

/// Who told us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Linux' own driver, running.
    Driver,
    /// SMBIOS type 38, "IPMI Device Information".
    Smbios,
    /// ACPI's Service Processor Management Interface table.
    Spmi,
}

/// A BMC interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its kind.
    pub kind: Kind,
    /// Where its registers are.
    pub space: Space,
    /// Address of the first register.
    pub address: u64,
    /// Distance of the registers in bytes: 1, 4 or 16.
    pub spacing: u8,
    /// Who told us.
    pub source: Source,
}

impl Interface {
    /// The registers, when it is one that the image can use: KCS, at I/O ports or in memory.
    #[must_use]
    pub fn ports(&self) -> Option<KcsPorts> {
        if self.kind != Kind::Kcs {
            return None;
        }
        match self.space {
            Space::Io => {
                let data = u16::try_from(self.address).ok().filter(|data| *data != 0)?;
                Some(KcsPorts::io(data, data.checked_add(u16::from(self.spacing))?))
            }
            Space::Memory => KcsPorts::memory(self.address, u16::from(self.spacing)),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Kcs => "KCS",
            Kind::Smic => "SMIC",
            Kind::Bt => "BT",
            Kind::Ssif => "SSIF",
        };
        let source = match self.source {
            Source::Driver => "the running ipmi_si driver",
            Source::Smbios => "SMBIOS type 38",
            Source::Spmi => "ACPI SPMI",
        };
        match (self.ports(), self.space) {
            (Some(ports), Space::Io) => write!(f, "{kind} at I/O ports {ports}, from {source}"),
            (Some(ports), Space::Memory) => write!(f, "{kind} in memory at {ports}, from {source}"),
            (None, Space::Io) => write!(f, "{kind} at {:#x}, from {source} (not usable)", self.address),
            (None, Space::Memory) => {
                write!(f, "{kind} at memory address {:#x}, from {source} (not usable)", self.address)
            }
        }
    }
}

/// All interfaces that the machine tells of, the most trustworthy first.
pub fn interfaces(root: &Path) -> Vec<Interface> {
    driver_files(root).chain(smbios_files(root)).chain(spmi_file(root)).collect()
}

/// The interface to use: the first usable one, else the first.
pub fn best(interfaces: &[Interface]) -> Option<&Interface> {
    interfaces.iter().find(|interface| interface.ports().is_some()).or(interfaces.first())
}

fn driver_files(root: &Path) -> impl Iterator<Item = Interface> {
    let mut devices = folder(&root.join("sys/bus/platform/drivers/ipmi_si"));
    devices.sort();
    devices.into_iter().filter_map(|device| driver(&fs::read_to_string(device.join("params")).ok()?))
}

fn smbios_files(root: &Path) -> impl Iterator<Item = Interface> {
    let mut entries = folder(&root.join("sys/firmware/dmi/entries"));
    entries.retain(|entry| {
        entry.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("38-"))
    });
    entries.sort();
    let mut structures: Vec<_> =
        entries.into_iter().filter_map(|entry| fs::read(entry.join("raw")).ok()).collect();
    if structures.is_empty() {
        // The entries are made by a module, dmi_sysfs; the table is always there.
        let table = fs::read(root.join("sys/firmware/dmi/tables/DMI")).unwrap_or_default();
        structures.extend(smbios_structures(&table).map(<[u8]>::to_vec));
    }
    structures.into_iter().filter_map(|structure| smbios(&structure))
}

fn spmi_file(root: &Path) -> Option<Interface> {
    spmi(&fs::read(root.join("sys/firmware/acpi/tables/SPMI")).ok()?)
}

fn folder(path: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// The driver's `params` file: `kcs,i/o,0xca2,rsp=1,rsi=1,rsh=0,irq=0,ipmb=32`.
fn driver(params: &str) -> Option<Interface> {
    let mut words = params.trim().split(',');
    let kind = match words.next()? {
        "kcs" => Kind::Kcs,
        "smic" => Kind::Smic,
        "bt" => Kind::Bt,
        _ => return None,
    };
    let space = match words.next()? {
        "i/o" => Space::Io,
        "mem" => Space::Memory,
        _ => return None,
    };
    let address = cmdline::number(words.next()?)?;
    let spacing = words.find_map(|word| word.strip_prefix("rsp="))?.parse().ok()?;
    Some(Interface { kind, space, address, spacing, source: Source::Driver })
}

/// The structures of a DMI table: each has its length at 1 and is followed by strings that end with two NULs
/// (SMBIOS 3.x section 6.1).
fn smbios_structures(mut table: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = usize::from(*table.get(1)?);
        let structure = table.get(..len).filter(|structure| structure.len() >= 4)?;
        let strings = table[len..].windows(2).position(|end| end == [0, 0])?;
        table = &table[len + strings + 2..];
        Some(structure)
    })
}

/// SMBIOS type 38 (SMBIOS 3.x section 7.39; IPMI 2.0 appendix C1).
fn smbios(structure: &[u8]) -> Option<Interface> {
    if structure.first() != Some(&38) {
        return None;
    }
    let kind = Kind::from_number(*structure.get(4)?)?;
    let base = u64::from_le_bytes(structure.get(8..16)?.try_into().ok()?);
    // Older structures end before the modifier.
    let modifier = structure.get(0x10).copied().unwrap_or(0);
    let spacing = match modifier >> 6 {
        0 => 1,
        1 => 4,
        2 => 16,
        _ => return None,
    };
    let space = if base & 1 == 1 { Space::Io } else { Space::Memory };
    let address = base & !1 | u64::from(modifier >> 4 & 1);
    Some(Interface { kind, space, address, spacing, source: Source::Smbios })
}

/// ACPI SPMI (IPMI 2.0 appendix C3): behind the table's header the interface's kind at 36, its registers' Generic
/// Address Structure at 48.
fn spmi(table: &[u8]) -> Option<Interface> {
    if !table.starts_with(b"SPMI") {
        return None;
    }
    let kind = Kind::from_number(*table.get(36)?)?;
    let space = match *table.get(48)? {
        0 => Space::Memory,
        1 => Space::Io,
        _ => return None,
    };
    let spacing = match *table.get(49)? {
        32 => 4,
        128 => 16,
        _ => 1,
    };
    let address = u64::from_le_bytes(table.get(52..60)?.try_into().ok()?);
    Some(Interface { kind, space, address, spacing, source: Source::Spmi })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KCS_CA2: Interface =
        Interface { kind: Kind::Kcs, space: Space::Io, address: 0xca2, spacing: 1, source: Source::Driver };

    /// Type 38 of 18 bytes at this base with this modifier.
    fn type_38(base: u64, modifier: u8) -> Vec<u8> {
        let mut structure = vec![38, 18, 0x26, 0, 1, 0x20, 0x20, 0xff];
        structure.extend(base.to_le_bytes());
        structure.extend([modifier, 0]);
        structure
    }

    fn spmi_table(space: u8, width: u8, address: u64) -> Vec<u8> {
        let mut table = b"SPMI".to_vec();
        table.resize(65, 0);
        table[36] = 1;
        table[48] = space;
        table[49] = width;
        table[52..60].copy_from_slice(&address.to_le_bytes());
        table
    }

    #[test]
    fn the_drivers_parameters() {
        assert_eq!(driver("kcs,i/o,0xca2,rsp=1,rsi=1,rsh=0,irq=0,ipmb=32\n"), Some(KCS_CA2));
        let memory = driver("kcs,mem,0xf0000ca2,rsp=4,rsi=1,rsh=0,irq=0,ipmb=32\n").unwrap();
        let ports = KcsPorts::memory(0xf000_0ca2, 4);
        assert_eq!((memory.space, memory.spacing, memory.ports()), (Space::Memory, 4, ports));
        assert_eq!(driver("bt,i/o,0xe4,rsp=1,rsi=1,rsh=0,irq=5,ipmb=32\n").unwrap().ports(), None);
        for bad in ["", "kcs", "kcs,i/o,ca2,rsp=1", "kcs,i/o,0xca2", "kcs,i/o,0xca2,rsp=x"] {
            assert_eq!(driver(bad), None, "{bad}");
        }
    }

    #[test]
    fn smbios_spacing_and_lowest_bit() {
        for (base, modifier, data, status) in [
            (0xca3, 0x00, 0xca2, 0xca3),
            (0xca9, 0x40, 0xca8, 0xcac),
            (0xca1, 0x80, 0xca0, 0xcb0),
            (0xca3, 0x10, 0xca3, 0xca4),
        ] {
            let ports = smbios(&type_38(base, modifier)).unwrap().ports();
            assert_eq!(ports, Some(KcsPorts::io(data, status)), "{base:#x} {modifier:#x}");
        }
        let memory = smbios(&type_38(0xfe00_0000, 0)).unwrap();
        assert_eq!((memory.space, memory.ports()), (Space::Memory, KcsPorts::memory(0xfe00_0000, 1)));
        assert_eq!(smbios(&type_38(0xca3, 0xc0)), None);
        assert_eq!(smbios(&type_38(0xca3, 0)[..16]).unwrap().address, 0xca2);
        assert_eq!(smbios(&type_38(0xca3, 0)[..15]), None);
    }

    #[test]
    fn a_dmi_table_is_walked_by_lengths_and_strings() {
        let mut table = vec![1, 6, 1, 0, 1, 2];
        table.extend(b"Vendor\0Product\0\0");
        table.extend([126, 4, 2, 0, 0, 0]); // no strings: two NULs all the same
        table.extend(type_38(0xca3, 0));
        table.extend([0, 0]);
        table.extend([127, 4, 0xff, 0xff, 0, 0]);
        let types: Vec<_> = smbios_structures(&table).map(|structure| structure[0]).collect();
        assert_eq!(types, [1, 126, 38, 127]);
        // A table that ends within the strings ends there.
        assert_eq!(smbios_structures(&table[..10]).count(), 0);
    }

    #[test]
    fn spmi_spaces_and_widths() {
        let ports = |table: &[u8]| spmi(table).unwrap().ports();
        assert_eq!(ports(&spmi_table(1, 8, 0xca2)), Some(KcsPorts::DEFAULT));
        assert_eq!(ports(&spmi_table(1, 32, 0xca8)), Some(KcsPorts::io(0xca8, 0xcac)));
        assert_eq!(ports(&spmi_table(0, 8, 0xfe00_0000)), KcsPorts::memory(0xfe00_0000, 1));
        assert_eq!(spmi(&spmi_table(1, 8, 0xca2)[..59]), None);
        assert_eq!(spmi(b"APIC"), None);
    }

    #[test]
    fn the_driver_is_believed_first_then_smbios() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        assert_eq!(interfaces(root.path()), []);

        write("sys/firmware/acpi/tables/SPMI", &spmi_table(1, 8, 0xca3));
        let mut table = type_38(0xca3, 0);
        table.extend([0, 0]);
        write("sys/firmware/dmi/tables/DMI", &table);
        let found = interfaces(root.path());
        assert_eq!(best(&found).unwrap().source, Source::Smbios);

        // The entry is preferred to the table, and is not reported twice.
        write("sys/firmware/dmi/entries/38-0/raw", &type_38(0xca9, 0));
        assert_eq!(interfaces(root.path()).iter().map(|one| one.address).collect::<Vec<_>>(), [0xca8, 0xca3]);

        write("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0/params", b"kcs,i/o,0xca2,rsp=1,rsi=1");
        write("sys/bus/platform/drivers/ipmi_si/bind", b"");
        let found = interfaces(root.path());
        assert_eq!(best(&found), Some(&KCS_CA2));

        // An interface that cannot be used gives way to one that can.
        write("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0/params", b"bt,mem,0xfe000000,rsp=1,rsi=1");
        let found = interfaces(root.path());
        assert_eq!((found[0].source, best(&found).unwrap().source), (Source::Driver, Source::Smbios));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,60}") {
            let _ = (smbios(&bytes), spmi(&bytes), driver(&text));
            prop_assert!(smbios_structures(&bytes).all(|structure| structure.len() >= 4));
            let spmi_bytes = [b"SPMI", &bytes[..]].concat();
            let _ = spmi(&spmi_bytes).map(|interface| interface.ports());
        }
    }
}
