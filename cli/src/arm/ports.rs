//! /proc/ioports: who has which I/O port. What is written there at the panic must be a BMC's or a UART's.

use anyhow::{Error, anyhow};
use lastwords_core::{hw::Register, ipmi::interface::Interface, plan::Plan};
use std::ops::Range;

/// A UART has this many registers.
const UART: u32 = 8;

/// /proc/ioports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoPorts(Vec<Resource>);

/// A line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Resource {
    depth: usize,
    range: Range<u32>,
    name: String,
}

/// A device that the image writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A BMC's KCS or BT interface.
    Bmc,
    /// The SMBus controller that a BMC's SSIF interface is behind. Linux' driver may have it.
    Smbus,
    /// A UART.
    Uart,
}

impl Kind {
    /// May a device of the kind be behind a resource of this name? Names that say nothing of the device may.
    fn may_be(self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        // `ipmi_si` and `dmi-ipmi-si.0` (`drivers/char/ipmi`); `serial` (`drivers/tty/serial/8250`), and drivers of cards.
        let of_the_kind: &[&str] = match self {
            Self::Bmc => &["ipmi", "ipi0", "kcs", "bmc"],
            // `drivers/i2c/busses/i2c-i801.c`.
            Self::Smbus => &["i801_smbus"],
            Self::Uart => &["serial", "uart", "8250", "16550", "moxa", "mxser"],
        };
        // The firmware's own lists, and what no driver has taken: `pnp 00:01`, `00:05`, `0000:00:1f.3`, `IPI0001:00`.
        let of_nobody = ["pnp", "reserved", "pci ", "acpi ipmi"].iter().any(|start| name.starts_with(start))
            || is_address(&name);
        of_nobody || of_the_kind.iter().any(|part| name.contains(part))
    }
}

/// Is it the address of a PCI, PNP or ACPI device: hexadecimal numbers and a colon, or an ACPI name with its number?
fn is_address(name: &str) -> bool {
    let Some((front, instance)) = name.rsplit_once(':') else { return false };
    let hex = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|letter| letter.is_ascii_hexdigit() || matches!(letter, b':' | b'.'))
    };
    let acpi = matches!(front.len(), 7 | 8) && front.bytes().all(|letter| letter.is_ascii_alphanumeric());
    hex(instance) && (hex(front) || acpi)
}

impl IoPorts {
    /// Reads its text; a line that is not `START-END : NAME` is left out.
    pub fn parse(text: &str) -> Self {
        let resource = |line: &str| {
            let (range, name) = line.trim().split_once(" : ")?;
            let (start, last) = range.split_once('-')?;
            let number = |text| u32::from_str_radix(text, 16).ok();
            let depth = line.len() - line.trim_start().len();
            Some(Resource {
                depth,
                range: number(start)?..number(last)?.saturating_add(1),
                name: name.to_owned(),
            })
        };
        let resources: Vec<_> = text.lines().filter_map(resource).collect();
        // Without privileges every line reads as 0-0: then nothing is known.
        let is_hidden = resources.iter().all(|resource| resource.range.end <= 1);
        Self(if is_hidden { Vec::new() } else { resources })
    }

    /// The innermost resource that has the port: a bus' window is nobody's.
    fn owner(&self, port: u32) -> Option<&str> {
        let around = self.0.iter().filter(|resource| resource.range.contains(&port));
        around.max_by_key(|resource| resource.depth).map(|resource| resource.name.as_str())
    }

    /// The first register of a BMC's interface that another device has, with who that is.
    pub fn stranger(&self, interface: Interface) -> Option<(u16, &str)> {
        let kind = if matches!(interface, Interface::Ssif(_)) { Kind::Smbus } else { Kind::Bmc };
        interface.registers().find_map(|register| {
            let Register::Port(port) = register else { return None };
            self.owner(port.into()).filter(|owner| !kind.may_be(owner)).map(|owner| (port, owner))
        })
    }

    /// Says who has the registers that the plan wants of a device of this kind, where that is another driver.
    pub fn conflict(&self, plan: &Plan, kind: Kind) -> Option<Error> {
        let interface = plan.interface.filter(|_| plan.talks_to_bmc());
        let bmc = interface.into_iter().flat_map(|interface| interface.registers());
        let uart = plan.console.serial.map(|serial| (serial.base, UART, u32::from(serial.spacing)));
        let (device, option, registers): (_, _, Vec<_>) = match kind {
            Kind::Bmc | Kind::Smbus => {
                ("BMC", "--ipmi-interface", bmc.map(|register| (register, 1, 1)).collect())
            }
            Kind::Uart => ("UART", "--serial", uart.into_iter().collect()),
        };
        let kind = match interface {
            Some(Interface::Ssif(_)) if kind == Kind::Bmc => Kind::Smbus,
            _ => kind,
        };
        for (first, count, spacing) in registers {
            let Register::Port(first) = first else { continue };
            for port in (0..count).map(|register| u32::from(first) + register * spacing) {
                if let Some(owner) = self.owner(port).filter(|owner| !kind.may_be(owner)) {
                    return Some(anyhow!(
                        "I/O port {port:#x} belongs to {owner} (/proc/ioports)\nhint: give the ports of a {device} to {option}"
                    ));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's: the BMC's ports with and without a driver, firmware's lists, devices, a card with a UART.
    const SERVER: &str = "\
0000-03af : PCI Bus 0000:00
  0000-001f : dma1
  0060-0060 : keyboard
  0070-0071 : rtc0
  02f8-02ff : serial
03e0-0cf7 : PCI Bus 0000:00
  03f8-03ff : serial
  0400-0453 : pnp 00:04
    0400-0403 : ACPI PM1a_EVT_BLK
    0430-0433 : iTCO_wdt.0.auto
      0430-0433 : iTCO_wdt
  0600-060f : pnp 00:01
  0ca2-0ca2 : IPI0001:00
    0ca2-0ca2 : ipmi_si
  0ca3-0ca3 : IPI0001:00
    0ca3-0ca3 : ipmi_si
  0ca8-0ca8 : dmi-ipmi-si.0
  0cac-0cac : pnp 00:05
0cf8-0cff : PCI conf1
1000-ffff : PCI Bus 0000:00
  2000-201f : 0000:00:1f.4
    2000-201f : i801_smbus
  3000-3fff : PCI Bus 0000:03
    3000-3007 : 0000:03:00.0
      3000-3007 : serial
    3008-300f : 0000:03:00.1
";

    fn conflict(ioports: &str, plan: &Plan) -> Option<Error> {
        let ports = IoPorts::parse(ioports);
        [Kind::Bmc, Kind::Uart].into_iter().find_map(|kind| ports.conflict(plan, kind))
    }

    #[test]
    fn ports_of_another_device_are_seen() {
        const ASK: &str = "lastwords.ipmi_handle_panic ";
        for (line, owner) in [
            ("lastwords.console=ttyS0", None),
            ("lastwords.console=ttyS1", None),
            // Nobody has them.
            ("lastwords.console=ttyS2", None),
            ("lastwords.console=0x3000", None),
            ("lastwords.console=0x3008", None),
            ("lastwords.console=0x600", None),
            ("lastwords.console=0x400", Some("ACPI PM1a_EVT_BLK")),
            // Its last registers are.
            ("lastwords.console=0x42c", Some("iTCO_wdt")),
            ("lastwords.console=0x2000", Some("i801_smbus")),
            ("lastwords.console=0xca2", Some("ipmi_si")),
            ("lastwords.ipmi_handle_panic", None),
            ("lastwords.ipmi_kcs_ports=0xca8,0xcac lastwords.ipmi_handle_panic", None),
            ("lastwords.ipmi_kcs_ports=0xd00,0xd04 lastwords.ipmi_handle_panic", None),
            ("lastwords.ipmi_kcs_ports=0x3f8,0x3f9 lastwords.ipmi_handle_panic", Some("serial")),
            ("lastwords.ipmi_kcs_ports=0x60,0x64 lastwords.ipmi_handle_panic", Some("keyboard")),
            ("lastwords.ipmi_kcs_ports=0xca2,0xca3 lastwords.ipmi_handle_panic", None),
            ("lastwords.ipmi_interface=bt:0xca8,4 lastwords.ipmi_handle_panic", None),
            ("lastwords.ipmi_interface=bt:0x2000 lastwords.ipmi_handle_panic", Some("i801_smbus")),
            ("lastwords.ipmi_interface=bt:0x42f lastwords.ipmi_handle_panic", Some("iTCO_wdt")),
            // The SMBus controller's driver may have its ports, and no other may.
            ("lastwords.ipmi_interface=ssif:i801:0x2000,0x42 lastwords.ipmi_handle_panic", None),
            ("lastwords.ipmi_interface=ssif:i801:0x3e0,0x42 lastwords.ipmi_handle_panic", None),
            (
                "lastwords.ipmi_interface=ssif:i801:0x400,0x42 lastwords.ipmi_handle_panic",
                Some("ACPI PM1a_EVT_BLK"),
            ),
            ("lastwords.ipmi_interface=ssif:i801:0xca0,0x42 lastwords.ipmi_handle_panic", Some("ipmi_si")),
            // Not touched.
            ("lastwords.ipmi_kcs_ports=0x3f8,0x3f9", None),
            ("lastwords.console=mmio:0x400", None),
        ] {
            let plan = Plan::new("", line);
            // What the parser itself refuses is nothing to ask about.
            if plan.bad[0].is_some() {
                continue;
            }
            let found = conflict(SERVER, &plan);
            assert_eq!(found.is_some(), owner.is_some(), "{line}: {found:?}");
            if let (Some(error), Some(owner)) = (found, owner) {
                assert!(error.to_string().contains(owner), "{line}: {error}");
            }
        }
        let hidden = "0000-0000 : keyboard\n  0000-0000 : serial\n";
        let plan = format!("{ASK} lastwords.console=0x2000");
        assert!(conflict(hidden, &Plan::new("", &plan)).is_none());
        assert!(conflict("", &Plan::new("", &plan)).is_none());
    }

    #[test]
    fn addresses_are_no_drivers() {
        for name in ["0000:00:1f.4", "00:05", "IPI0001:00", "PNP0C02:01", "HPE0001:0a"] {
            assert!(is_address(&name.to_ascii_lowercase()), "{name}");
        }
        for name in ["iTCO_wdt", "serial", "keyboard", "ACPI GPE0_BLK", "rtc0", "vga+"] {
            assert!(!is_address(&name.to_ascii_lowercase()), "{name}");
        }
    }
}
