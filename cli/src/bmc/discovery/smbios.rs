//! What the firmware has in SMBIOS type 38.

use super::{Found, Kind, Place, Source, folder, smbus};
use std::{fs, path::Path};

/// A structure of this length has the base address modifier and the interrupt (SMBIOS 2.3.4). In a shorter one the lowest bit
/// of the base is often wrong, so that Linux takes it for I/O, always (`drivers/char/ipmi/ipmi_dmi.c`).
const WITH_MODIFIER: usize = 18;

/// The interfaces that the table has.
pub fn interfaces(root: &Path) -> Vec<Found> {
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
        structures.extend(walk(&table).map(<[u8]>::to_vec));
    }
    structures.into_iter().filter_map(|structure| parse(root, &structure)).collect()
}

/// The structures of a DMI table: each has its length at 1 and is followed by strings that end with two NULs
/// (SMBIOS 3.x section 6.1).
fn walk(mut table: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let len = usize::from(*table.get(1)?);
        let structure = table.get(..len).filter(|structure| structure.len() >= 4)?;
        let strings = table[len..].windows(2).position(|end| end == [0, 0])?;
        table = &table[len + strings + 2..];
        Some(structure)
    })
}

/// SMBIOS type 38 (SMBIOS 3.x section 7.39; IPMI 2.0 appendix C1). What comes behind its length are its strings.
fn parse(root: &Path, structure: &[u8]) -> Option<Found> {
    if structure.first() != Some(&38) {
        return None;
    }
    let structure = structure.get(..usize::from(*structure.get(1)?)).unwrap_or(structure);
    let kind = Kind::from_number(*structure.get(4)?)?;
    let base = u64::from_le_bytes(structure.get(8..16)?.try_into().ok()?);
    if kind == Kind::Ssif {
        // The slave address is in the bits 7:1. Some have it in the field for the BMC's own on IPMB (the same file of Linux').
        let address = [*structure.get(8)?, *structure.get(6)?]
            .into_iter()
            .map(|byte| byte >> 1)
            .find(|address| *address != 0)?;
        return Some(Found::ssif(u16::from(address), smbus::only(root), Source::Smbios));
    }
    let (address, spacing) = if structure.len() < WITH_MODIFIER {
        (base & 0xfffe, 1)
    } else {
        let modifier = structure[0x10];
        let spacing = match modifier >> 6 {
            0 => 1,
            1 => 4,
            2 => 16,
            _ => return None,
        };
        (base & !1 | u64::from(modifier >> 4 & 1), spacing)
    };
    // None is there, or one whose address is somewhere else: that of a PCI device (QEMU's table).
    if address == 0 {
        return None;
    }
    let place = if base & 1 == 1 || structure.len() < WITH_MODIFIER {
        Place::Io { address, spacing }
    } else {
        Place::Memory { address, spacing }
    };
    Some(Found::new(kind, place, Source::Smbios))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bmc::discovery::tests::Root;
    use proptest::prelude::*;

    /// Type 38 of 18 bytes at this base with this modifier.
    pub fn type_38(base: u64, modifier: u8) -> Vec<u8> {
        let mut structure = vec![38, 18, 0x26, 0, 1, 0x20, 0x20, 0xff];
        structure.extend(base.to_le_bytes());
        structure.extend([modifier, 0]);
        structure
    }

    fn value(structure: &[u8]) -> Option<String> {
        parse(Path::new("/nonexistent"), structure)?.value().ok()
    }

    #[test]
    fn smbios_spacing_and_lowest_bit() {
        for (base, modifier, expected) in [
            (0xca3, 0x00, "kcs:0xca2,0xca3"),
            (0xca9, 0x40, "kcs:0xca8,0xcac"),
            (0xca1, 0x80, "kcs:0xca0,0xcb0"),
            (0xca3, 0x10, "kcs:0xca3,0xca4"),
            (0xfe00_0000, 0x40, "kcs:mmio:0xfe000000,4"),
        ] {
            assert_eq!(value(&type_38(base, modifier)).as_deref(), Some(expected), "{base:#x} {modifier:#x}");
        }
        let bt = |base| {
            let mut structure = type_38(base, 0x40);
            structure[4] = 3;
            value(&structure)
        };
        assert_eq!(bt(0xe5).as_deref(), Some("bt:0xe4,4"));
        assert_eq!(bt(0xfe00_0000).as_deref(), Some("bt:mmio:0xfe000000,4"));
        assert_eq!(value(&type_38(0xca3, 0xc0)), None);
        assert_eq!(value(&type_38(0xca3, 0)[..15]), None);
        // No address: QEMU's for a PCI device.
        assert_eq!([0, 1].map(|base| parse(Path::new("/"), &type_38(base, 0))), [None, None]);
    }

    #[test]
    fn a_short_structure_is_io_with_an_even_base_too_whatever_comes_behind_it() {
        for base in [0xca2, 0xca3] {
            let mut structure = type_38(base, 0)[..16].to_vec();
            structure[1] = 16;
            assert_eq!(value(&structure).as_deref(), Some("kcs:0xca2,0xca3"));
            // In an entry of dmi_sysfs its strings stand there.
            structure.extend([0, 0]);
            assert_eq!(value(&structure).as_deref(), Some("kcs:0xca2,0xca3"));
        }
    }

    #[test]
    fn ssif_is_at_half_the_base_of_the_one_i801() {
        let root = Root::new();
        let ssif = |base: u64, slave: u8| {
            let mut structure = type_38(base, 0);
            (structure[4], structure[6]) = (4, slave);
            parse(root.path(), &structure)
        };
        let found = ssif(0x84, 0x20).unwrap();
        assert_eq!(found.place, Place::Smbus { address: 0x42, controller: None });
        assert!(found.to_string().starts_with("SSIF at SMBus address 0x42, from SMBIOS"), "{found}");
        root.i801("0000:00:1f.3", 0x700);
        assert_eq!(ssif(0x84, 0x20).unwrap().value().as_deref(), Ok("ssif:i801:0x700,0x42"));
        assert_eq!(ssif(0, 0x20).unwrap().value().as_deref(), Ok("ssif:i801:0x700,0x10"));
        assert_eq!(ssif(0, 0), None);
        // Reserved on the SMBus.
        assert!(ssif(0x02, 0).unwrap().value().is_err());
    }

    #[test]
    fn a_dmi_table_is_walked_by_lengths_and_strings() {
        let mut table = vec![1, 6, 1, 0, 1, 2];
        table.extend(b"Vendor\0Product\0\0");
        table.extend([126, 4, 2, 0, 0, 0]); // no strings: two NULs all the same
        table.extend(type_38(0xca3, 0));
        table.extend([0, 0]);
        table.extend([127, 4, 0xff, 0xff, 0, 0]);
        let types: Vec<_> = walk(&table).map(|structure| structure[0]).collect();
        assert_eq!(types, [1, 126, 38, 127]);
        // A table that ends within the strings ends there.
        assert_eq!(walk(&table[..10]).count(), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(Path::new("/nonexistent"), &bytes);
            let structure = [&[38], &bytes[..]].concat();
            let _ = parse(Path::new("/nonexistent"), &structure).map(|found| found.to_string());
            prop_assert!(walk(&bytes).all(|structure| structure.len() >= 4));
        }
    }
}
