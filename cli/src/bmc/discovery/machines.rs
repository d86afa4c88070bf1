//! Real machines, as public reports show them (`machines.txt`), and what is found on them.

use super::{
    interfaces,
    tests::{Root, spmi_table},
};
use lastwords_core::cmdline::number;

/// A machine's files, of the lines that describe it.
fn machine(lines: &[&str]) -> Root {
    let root = Root::new();
    let (mut ioports, mut structures, mut tables) = (String::new(), 0, 0);
    for line in lines {
        let (what, rest) = line.split_once(' ').unwrap();
        let fields: Vec<_> = rest.split_whitespace().collect();
        match what {
            "dmi" => {
                let bytes = fields.iter().map(|byte| u8::from_str_radix(byte, 16).unwrap());
                let bytes: Vec<_> = bytes.chain([0, 0]).collect();
                root.write(&format!("sys/firmware/dmi/entries/38-{structures}/raw"), bytes);
                structures += 1;
            }
            "spmi" => {
                let [kind, space, width, address] = fields[..] else { panic!("{line}") };
                let byte = |text| number(text).unwrap() as u8;
                let mut table = spmi_table(byte(space), byte(width), number(address).unwrap());
                table[36] = byte(kind);
                tables += 1;
                root.write(&format!("sys/firmware/acpi/tables/SPMI{tables}"), table);
            }
            "ioports" => ioports.extend([rest, "\n"]),
            "pci" => {
                let hex = |text| u16::from_str_radix(text, 16).unwrap();
                let (vendor, device) = fields[2].split_once(':').unwrap();
                let bar = |text: &&str| {
                    let Some((space, range)) = text.split_once(':') else { return (0, 0, false) };
                    let (start, len) = range.split_once(':').unwrap();
                    (number(start).unwrap(), number(len).unwrap(), space == "io")
                };
                let bars: Vec<_> = fields[4..].iter().map(bar).collect();
                let class = u32::try_from(number(fields[1]).unwrap()).unwrap();
                let folder = root.pci(fields[0], class, (hex(vendor), hex(device)), &bars);
                root.config(&folder, fields[3].parse().unwrap(), 1);
            }
            _ => panic!("{line}"),
        }
    }
    root.write("proc/ioports", ioports);
    root
}

#[test]
fn real_machines() {
    let text = include_str!("machines.txt");
    let mut machines = text.split("\n= ").skip(1);
    let mut count = 0;
    for text in &mut machines {
        let mut lines = text.lines().filter(|line| !line.is_empty());
        let name = lines.next().unwrap();
        let (expected, lines): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with("> "));
        let root = machine(&lines);
        let found = interfaces(root.path());
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for (one, expected) in found.iter().zip(expected) {
            let (source, value) = (one.source, one.value());
            match (&value, expected.strip_prefix("> - ")) {
                (Ok(value), None) => assert_eq!(format!("> {value} from {source:?}"), expected, "{name}"),
                (Err(needs), Some(expected)) => {
                    let (from, part) = expected.split_once(": ").unwrap();
                    assert!(from == format!("from {source:?}") && needs.contains(part), "{name}: {one}");
                }
                _ => panic!("{name}: {expected}: {one}"),
            }
        }
        count += 1;
    }
    assert_eq!(count, 17);
}
