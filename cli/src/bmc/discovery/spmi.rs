//! What the firmware has in ACPI's Service Processor Management Interface table.

use super::{Interface, Kind, Source, Space};
use std::{fs, path::Path};

/// The interface that the table has.
pub fn interface(root: &Path) -> Option<Interface> {
    parse(&fs::read(root.join("sys/firmware/acpi/tables/SPMI")).ok()?)
}

/// ACPI SPMI (IPMI 2.0 appendix C3): behind the table's header the interface's kind at 36, its registers' Generic
/// Address Structure at 48.
fn parse(table: &[u8]) -> Option<Interface> {
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
pub mod tests {
    use super::*;
    use lastwords_core::ipmi::interface::KcsPorts;
    use proptest::prelude::*;

    pub fn spmi_table(space: u8, width: u8, address: u64) -> Vec<u8> {
        let mut table = b"SPMI".to_vec();
        table.resize(65, 0);
        table[36] = 1;
        table[48] = space;
        table[49] = width;
        table[52..60].copy_from_slice(&address.to_le_bytes());
        table
    }

    #[test]
    fn spmi_spaces_and_widths() {
        let ports = |table: &[u8]| parse(table).unwrap().ports();
        assert_eq!(ports(&spmi_table(1, 8, 0xca2)), Some(KcsPorts::DEFAULT));
        assert_eq!(ports(&spmi_table(1, 32, 0xca8)), Some(KcsPorts::io(0xca8, 0xcac)));
        assert_eq!(ports(&spmi_table(0, 8, 0xfe00_0000)), KcsPorts::memory(0xfe00_0000, 1));
        assert_eq!(parse(&spmi_table(1, 8, 0xca2)[..59]), None);
        assert_eq!(parse(b"APIC"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let table = [b"SPMI", &bytes[..]].concat();
            let _ = (parse(&bytes), parse(&table).map(|interface| interface.ports()));
        }
    }
}
