//! What the firmware has in SMBIOS type 38.

use super::{Interface, Kind, Source, Space, folder};
use std::{fs, path::Path};

/// The interfaces that the table has.
pub fn interfaces(root: &Path) -> impl Iterator<Item = Interface> {
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
    structures.into_iter().filter_map(|structure| parse(&structure))
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

/// SMBIOS type 38 (SMBIOS 3.x section 7.39; IPMI 2.0 appendix C1).
fn parse(structure: &[u8]) -> Option<Interface> {
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

#[cfg(test)]
pub mod tests {
    use super::*;
    use lastwords_core::ipmi::interface::KcsPorts;
    use proptest::prelude::*;

    /// Type 38 of 18 bytes at this base with this modifier.
    pub fn type_38(base: u64, modifier: u8) -> Vec<u8> {
        let mut structure = vec![38, 18, 0x26, 0, 1, 0x20, 0x20, 0xff];
        structure.extend(base.to_le_bytes());
        structure.extend([modifier, 0]);
        structure
    }

    #[test]
    fn smbios_spacing_and_lowest_bit() {
        for (base, modifier, data, status) in [
            (0xca3, 0x00, 0xca2, 0xca3),
            (0xca9, 0x40, 0xca8, 0xcac),
            (0xca1, 0x80, 0xca0, 0xcb0),
            (0xca3, 0x10, 0xca3, 0xca4),
        ] {
            let ports = parse(&type_38(base, modifier)).unwrap().ports();
            assert_eq!(ports, Some(KcsPorts::io(data, status)), "{base:#x} {modifier:#x}");
        }
        let memory = parse(&type_38(0xfe00_0000, 0)).unwrap();
        assert_eq!((memory.space, memory.ports()), (Space::Memory, KcsPorts::memory(0xfe00_0000, 1)));
        assert_eq!(parse(&type_38(0xca3, 0xc0)), None);
        assert_eq!(parse(&type_38(0xca3, 0)[..16]).unwrap().address, 0xca2);
        assert_eq!(parse(&type_38(0xca3, 0)[..15]), None);
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
            let _ = parse(&bytes);
            prop_assert!(walk(&bytes).all(|structure| structure.len() >= 4));
        }
    }
}
