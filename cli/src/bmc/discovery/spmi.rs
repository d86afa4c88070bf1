//! What the firmware has in ACPI's Service Processor Management Interface tables.

use super::{Found, Kind, Place, Source, folder, smbus};
use crate::sort;
use std::{fs, path::Path};

/// The interfaces that the tables have: `SPMI`, or `SPMI1` and `SPMI2` where there are several.
pub fn interfaces(root: &Path) -> Vec<Found> {
    let mut tables = folder(&root.join("sys/firmware/acpi/tables"));
    tables.retain(|path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("SPMI"))
    });
    sort::all(&mut tables);
    tables.into_iter().filter_map(|path| parse(root, &fs::read(path).ok()?)).collect()
}

/// The widths that registers have.
const WIDTHS: [u8; 6] = [0, 8, 16, 32, 64, 128];

/// ACPI SPMI (IPMI 2.0 appendix C3): behind the table's header the interface's kind at 36, its registers' Generic
/// Address Structure at 48. A register's width is the distance of the registers, too, as Linux took it.
fn parse(root: &Path, table: &[u8]) -> Option<Found> {
    if !table.starts_with(b"SPMI") {
        return None;
    }
    let kind = Kind::from_number(*table.get(36)?)?;
    let (space, width) = (*table.get(48)?, *table.get(49)?);
    let address = u64::from_le_bytes(table.get(52..60)?.try_into().ok()?);
    if address == 0 {
        return None;
    }
    let spacing = u16::from(width / 8).max(1);
    let place = match space {
        0 => Place::Memory { address, spacing },
        1 => Place::Io { address, spacing },
        // SMBus, with the slave address in the bits 7:1 (`drivers/char/ipmi/ipmi_ssif.c`, before Linux 4.18).
        4 if kind == Kind::Ssif => {
            let address = u16::try_from(address >> 1).ok().filter(|address| *address != 0)?;
            return Some(Found::ssif(address, smbus::only(root), Source::Spmi));
        }
        _ => return None,
    };
    let needs = (!WIDTHS.contains(&width))
        .then(|| format!("its registers would have {width} bits: the table is wrong"));
    // SSIF has no registers.
    (kind != Kind::Ssif).then(|| Found { needs, ..Found::new(kind, place, Source::Spmi) })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bmc::discovery::tests::Root;
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
    fn spmi_kinds_spaces_and_widths() {
        let root = Root::new();
        root.i801("0000:00:1f.3", 0x700);
        for (kind, space, width, address, expected) in [
            (1, 1, 8, 0xca2, Some("kcs:0xca2,0xca3")),
            (1, 1, 0, 0xca2, Some("kcs:0xca2,0xca3")),
            (1, 1, 16, 0xca2, Some("kcs:0xca2,0xca4")),
            (1, 1, 32, 0xca8, Some("kcs:0xca8,0xcac")),
            (1, 1, 128, 0xca0, Some("kcs:0xca0,0xcb0")),
            (1, 1, 255, 0xca2, None),
            (1, 1, 12, 0xca2, None),
            (1, 0, 32, 0xfe00_0000, Some("kcs:mmio:0xfe000000,4")),
            (2, 1, 8, 0xca9, None),
            (3, 1, 8, 0xe4, Some("bt:0xe4")),
            (4, 4, 8, 0x84, Some("ssif:i801:0x700,0x42")),
            (4, 4, 8, 1, None),
            (4, 1, 8, 0x84, None),
            (1, 4, 8, 0x84, None),
            (5, 1, 8, 0xca2, None),
            (1, 1, 8, 0, None),
        ] {
            let mut table = spmi_table(space, width, address);
            table[36] = kind;
            let found = parse(root.path(), &table).and_then(|found| found.value().ok());
            assert_eq!(found.as_deref(), expected, "{kind} {space} {width} {address:#x}");
        }
        assert_eq!(parse(root.path(), &spmi_table(1, 8, 0xca2)[..59]), None);
        assert_eq!(parse(root.path(), b"APIC"), None);
    }

    #[test]
    fn every_table_is_read() {
        let root = Root::new();
        root.write("sys/firmware/acpi/tables/SPMI2", spmi_table(1, 8, 0xca4));
        root.write("sys/firmware/acpi/tables/SPMI1", spmi_table(1, 8, 0xca2));
        root.write("sys/firmware/acpi/tables/APIC", b"APIC");
        let values: Vec<_> = interfaces(root.path()).iter().map(|found| found.value().unwrap()).collect();
        assert_eq!(values, ["kcs:0xca2,0xca3", "kcs:0xca4,0xca5"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let table = [b"SPMI", &bytes[..]].concat();
            let root = Path::new("/nonexistent");
            let _ = (parse(root, &bytes), parse(root, &table).map(|found| found.to_string()));
        }
    }
}
