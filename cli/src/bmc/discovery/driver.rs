//! The interface that Linux' own driver uses: the driver has tried it.

use super::{Interface, Kind, Source, Space, folder};
use lastwords_core::cmdline;
use std::{fs, path::Path};

/// The interfaces that the driver serves.
pub fn interfaces(root: &Path) -> impl Iterator<Item = Interface> {
    let mut devices = folder(&root.join("sys/bus/platform/drivers/ipmi_si"));
    devices.sort();
    devices.into_iter().filter_map(|device| parse(&fs::read_to_string(device.join("params")).ok()?))
}

/// The driver's `params` file: `kcs,i/o,0xca2,rsp=1,rsi=1,rsh=0,irq=0,ipmb=32`.
fn parse(params: &str) -> Option<Interface> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::KCS_CA2;
    use lastwords_core::ipmi::interface::KcsPorts;
    use proptest::prelude::*;

    #[test]
    fn the_drivers_parameters() {
        assert_eq!(parse("kcs,i/o,0xca2,rsp=1,rsi=1,rsh=0,irq=0,ipmb=32\n"), Some(KCS_CA2));
        let memory = parse("kcs,mem,0xf0000ca2,rsp=4,rsi=1,rsh=0,irq=0,ipmb=32\n").unwrap();
        let ports = KcsPorts::memory(0xf000_0ca2, 4);
        assert_eq!((memory.space, memory.spacing, memory.ports()), (Space::Memory, 4, ports));
        assert_eq!(parse("bt,i/o,0xe4,rsp=1,rsi=1,rsh=0,irq=5,ipmb=32\n").unwrap().ports(), None);
        for bad in ["", "kcs", "kcs,i/o,ca2,rsp=1", "kcs,i/o,0xca2", "kcs,i/o,0xca2,rsp=x"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
