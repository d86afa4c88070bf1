//! The resources of ACPI's IPMI device (`IPI0001`), which the kernel lists in /proc/ioports and /proc/iomem, driver or not. Its
//! kind (`_IFT`) is in no file: two registers are KCS', three BT's or SMIC's (IPMI 2.0, 9.5, 10.1, 11.1).

use super::{Found, Kind, Place, Source, resources};
use std::{fs, path::Path};

/// The interfaces that the kernel lists.
pub fn interfaces(root: &Path) -> Vec<Found> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let io = |address, spacing| Place::Io { address, spacing };
    let memory = |address, spacing| Place::Memory { address, spacing };
    parse(&read("proc/ioports"), io).into_iter().chain(parse(&read("proc/iomem"), memory)).collect()
}

fn parse(text: &str, place: fn(u64, u16) -> Place) -> Vec<Found> {
    let mut devices: Vec<(&str, Vec<(u64, u64)>)> = Vec::new();
    for resource in resources(text).filter(|resource| resource.name.starts_with("IPI0001:")) {
        let range = (resource.start, resource.last);
        match devices.iter_mut().find(|(name, _)| *name == resource.name) {
            Some((_, ranges)) => ranges.push(range),
            None => devices.push((resource.name, vec![range])),
        }
    }
    devices.into_iter().filter_map(|(_, ranges)| device(&ranges, place)).collect()
}

/// The interface at these ranges of registers.
fn device(ranges: &[(u64, u64)], place: fn(u64, u16) -> Place) -> Option<Found> {
    let (address, last) = *ranges.first()?;
    if address == 0 {
        // Without privileges every line reads as 0-0.
        return None;
    }
    let len = last.checked_sub(address)?.checked_add(1)?;
    let spacing = match ranges {
        [_, (second, _), ..] => u16::try_from(second.checked_sub(address)?).ok()?,
        _ => 1,
    };
    let kcs = Found::new(Kind::Kcs, place(address, spacing), Source::Acpi);
    let unknown = |text: &str| Found { needs: Some(format!("{text}: modprobe ipmi_si")), ..kcs.clone() };
    Some(match (ranges.len(), len) {
        (1, 2) | (2, 1) => kcs,
        (1, 3) | (3, 1) => Found {
            kind: Kind::Bt,
            ..unknown("three registers are BT or SMIC, and ACPI's table alone has which")
        },
        _ => unknown("these registers are of an unknown kind of interface"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn io(text: &str) -> Vec<Found> {
        parse(text, |address, spacing| Place::Io { address, spacing })
    }

    #[test]
    fn two_registers_are_kcs_and_three_are_not_certain() {
        for (text, value) in [
            ("  0ca2-0ca3 : IPI0001:00\n    0ca2-0ca2 : IPMI Address 1\n", Some("kcs:0xca2,0xca3")),
            (
                "0ca2-0ca2 : IPI0001:00\n  0ca2-0ca2 : ipmi_si\n0ca3-0ca3 : IPI0001:00\n",
                Some("kcs:0xca2,0xca3"),
            ),
            ("0ca8-0ca8 : IPI0001:00\n0cac-0cac : IPI0001:00\n", Some("kcs:0xca8,0xcac")),
            ("00e4-00e6 : IPI0001:00\n", None),
            ("0ca8-0ca8 : IPI0001:00\n", None),
            ("0ca0-0caf : IPI0001:00\n", None),
        ] {
            let found = io(text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].value().ok().as_deref(), value, "{text}");
        }
        let two = io("0ca2-0ca3 : IPI0001:00\n0ca4-0ca5 : IPI0001:01\n");
        assert_eq!(
            two.iter().map(|found| found.value().unwrap()).collect::<Vec<_>>(),
            ["kcs:0xca2,0xca3", "kcs:0xca4,0xca5"]
        );
        for nothing in ["", "0000-0000 : IPI0001:00\n", "0ca2-0ca3 : ipmi_si\n", "x : IPI0001:00"] {
            assert_eq!(io(nothing), [], "{nothing}");
        }
        let memory =
            parse("fe000000-fe000001 : IPI0001:00\n", |address, spacing| Place::Memory { address, spacing });
        assert_eq!(memory[0].value().unwrap(), "kcs:mmio:0xfe000000,1");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(?s)[0-9a-f\\- :IP\n]{0,200}") {
            let _ = io(&text);
        }
    }
}
