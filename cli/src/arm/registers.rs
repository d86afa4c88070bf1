//! Who has which register: by /proc/ioports, /proc/iomem and the PCI devices. What is written there at the panic must be a BMC's or
//! a UART's.

use crate::bmc::discovery::pci::{self, Region};
use anyhow::{Error, anyhow};
use lastwords_core::{hw::Register, ipmi::interface::Interface, plan::Plan};
use std::{fs, ops::Range, path::Path};

/// A UART has this many registers.
const UART: u16 = 8;

/// Who has what, as far as the kernel shows it.
#[derive(Debug, Default)]
pub struct Owners {
    ports: Vec<Resource>,
    memory: Vec<Resource>,
    pci: Vec<Region>,
}

/// A line of /proc/ioports or /proc/iomem.
#[derive(Debug)]
struct Resource {
    depth: usize,
    range: Range<u64>,
    name: String,
}

impl Resource {
    /// Reads all lines; one that is not `START-END : NAME` is left out.
    fn parse(text: &str) -> Vec<Self> {
        let resource = |line: &str| {
            let (range, name) = line.trim().split_once(" : ")?;
            let (start, last) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            let depth = line.len() - line.trim_start().len();
            let range = number(start)?..number(last)?.saturating_add(1);
            Some(Self { depth, range, name: name.to_owned() })
        };
        let resources: Vec<_> = text.lines().filter_map(resource).collect();
        // Without privileges every line reads as 0-0: then nothing is known.
        let is_hidden = resources.iter().all(|resource| resource.range.end <= 1);
        if is_hidden { Vec::new() } else { resources }
    }
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
    /// A hypervisor's pvpanic.
    Pvpanic,
}

impl Kind {
    fn of(interface: Interface) -> Self {
        if matches!(interface, Interface::Ssif(_)) { Self::Smbus } else { Self::Bmc }
    }

    /// Does this name, in small letters, say that it is a device of the kind?
    fn is_named(self, name: &str) -> bool {
        // `ipmi_si` and `dmi-ipmi-si.0` (`drivers/char/ipmi`); `serial` (`drivers/tty/serial/8250`), and drivers of cards.
        let parts: &[&str] = match self {
            Self::Bmc => &["ipmi", "ipi0", "kcs", "bmc"],
            // `drivers/i2c/busses/i2c-i801.c`.
            Self::Smbus => &["i801_smbus"],
            Self::Uart => &["serial", "uart", "8250", "16550", "moxa", "mxser"],
            // The device's name in ACPI, and its drivers' (`drivers/misc/pvpanic`).
            Self::Pvpanic => &["qemu0001", "pvpanic"],
        };
        parts.iter().any(|part| name.contains(part))
    }

    /// May a device of the kind be behind a resource of this name? Names that say nothing of the device may.
    fn may_be(self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        // The configuration space: `PCI MMCONFIG 0000 [bus 00-ff]`, since Linux 6.9 `PCI ECAM`.
        let is_pci = name.starts_with("pci ") && !["mmconfig", "ecam"].iter().any(|part| name.contains(part));
        // The firmware's own lists, and what no driver has taken: `pnp 00:01`, `00:05`, `0000:00:1f.3`, `IPI0001:00`.
        let of_nobody = is_pci || ["pnp ", "reserved"].iter().any(|start| name.starts_with(start));
        of_nobody || self.may_be_at(&name) || self.is_named(&name)
    }

    /// Is it the address of a PCI or PNP device, or of an ACPI device that may be of the kind? In small letters.
    fn may_be_at(self, name: &str) -> bool {
        let Some((front, instance)) = name.rsplit_once(':') else { return false };
        let hex = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|letter| letter.is_ascii_hexdigit() || matches!(letter, b':' | b'.'))
        };
        let acpi = matches!(front.len(), 7 | 8) && front.bytes().all(|letter| letter.is_ascii_alphanumeric());
        // PNP0C01 and PNP0C02 are what the board has besides. A BMC has no other name than IPI0001 (`ipmi_si_platform.c`).
        let may_be = self != Self::Bmc || ["ipi0001", "pnp0c01", "pnp0c02"].contains(&front);
        hex(instance) && (hex(front) || acpi && may_be)
    }

    /// May it be this PCI device's?
    fn may_have(self, region: &Region) -> bool {
        match &region.driver {
            Some(driver) => self.may_be(driver),
            None => match self {
                Self::Smbus => region.class >> 8 == pci::SMBUS,
                Self::Bmc | Self::Uart | Self::Pvpanic => {
                    region.class >> 16 != pci::DISPLAY && region.class >> 8 != pci::SMBUS
                }
            },
        }
    }
}

impl Owners {
    /// Reads what the running kernel shows.
    pub fn read(root: &Path) -> Self {
        let resources = |file| Resource::parse(&fs::read_to_string(root.join(file)).unwrap_or_default());
        Self { ports: resources("proc/ioports"), memory: resources("proc/iomem"), pci: pci::regions(root) }
    }

    /// Who has the register and is no device of this kind? Of several the innermost. And who says so.
    fn stranger(&self, register: Register, kind: Kind) -> Option<(&str, &'static str)> {
        let (resources, at, is_io, file) = match register {
            Register::Port(port) => (&self.ports, u64::from(port), true, "/proc/ioports"),
            Register::Memory(address) => (&self.memory, address, false, "/proc/iomem"),
        };
        let around = || resources.iter().filter(|resource| resource.range.contains(&at));
        let innermost = around().max_by_key(|resource| resource.depth);
        if innermost.is_some_and(|one| kind.is_named(&one.name.to_ascii_lowercase())) {
            return None;
        }
        let stranger = around().filter(|one| !kind.may_be(&one.name)).max_by_key(|one| one.depth);
        let of_pci = || {
            let mut regions = self.pci.iter().filter(|one| one.is_io == is_io && one.has(at));
            let one = regions.find(|one| !kind.may_have(one))?;
            Some((one.driver.as_ref().unwrap_or(&one.device).as_str(), "PCI"))
        };
        stranger.map(|one| (one.name.as_str(), file)).or_else(of_pci)
    }

    /// The first register of a BMC's interface that another device has, and who that is: `I/O port 0x604 belongs to ACPI
    /// PM1a_CNT_BLK (/proc/ioports)`.
    pub fn stranger_at(&self, interface: Interface) -> Option<String> {
        self.first_stranger(interface.registers(), Kind::of(interface))
    }

    fn first_stranger(&self, mut registers: impl Iterator<Item = Register>, kind: Kind) -> Option<String> {
        registers.find_map(|register| {
            let (owner, who_says) = self.stranger(register, kind)?;
            Some(match register {
                Register::Port(port) => format!("I/O port {port:#x} belongs to {owner} ({who_says})"),
                Register::Memory(address) => {
                    format!("memory address {address:#x} belongs to {owner} ({who_says})")
                }
            })
        })
    }

    /// Says who has the registers that the plan wants of its BMC, where that is another device.
    pub fn bmc_conflict(&self, plan: &Plan) -> Option<Error> {
        let interface = plan.interface.filter(|_| plan.talks_to_bmc())?;
        let stranger = self.stranger_at(interface)?;
        Some(anyhow!("{stranger}\nhint: give the registers of a BMC to --ipmi-interface"))
    }

    /// Says who has the register that the hypervisor is to be told through, where that is another device.
    pub fn pvpanic_conflict(&self, register: Register) -> Option<Error> {
        let stranger = self.first_stranger(std::iter::once(register), Kind::Pvpanic)?;
        Some(anyhow!("{stranger}\nhint: --notify-hypervisor without a value takes this machine's own device"))
    }

    /// Says who has the ports that the plan wants of its console's UART, where that is another device.
    pub fn uart_conflict(&self, plan: &Plan) -> Option<Error> {
        let serial = plan.console.serial.filter(|serial| matches!(serial.base, Register::Port(_)))?;
        let registers = (0..UART).filter_map(|at| serial.base.behind(at * serial.spacing));
        let stranger = self.first_stranger(registers, Kind::Uart)?;
        Some(anyhow!("{stranger}\nhint: give the ports of a UART to --serial"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::Root;

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
        let owners = Owners { ports: Resource::parse(ioports), ..Owners::default() };
        owners.bmc_conflict(plan).or_else(|| owners.uart_conflict(plan))
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
    fn addresses_are_no_drivers_and_a_bmc_has_one_name_in_acpi() {
        for name in ["0000:00:1f.4", "00:05", "IPI0001:00", "PNP0C02:01", "HPE0001:0a"] {
            assert!(Kind::Uart.may_be(name), "{name}");
        }
        for name in ["iTCO_wdt", "keyboard", "ACPI GPE0_BLK", "rtc0", "vga+", "fw_cfg_io"] {
            assert!(![Kind::Bmc, Kind::Smbus, Kind::Uart].iter().any(|kind| kind.may_be(name)), "{name}");
        }
        let bmc = ["0000:00:1f.4", "00:05", "IPI0001:00", "PNP0C02:01", "QEMU0002:00", "PNP0103:00"];
        assert_eq!(bmc.map(|name| Kind::Bmc.may_be(name)), [true, true, true, true, false, false]);
    }

    /// A server's memory of devices.
    const MEMORY: &str = "\
000a0000-000fffff : Reserved
  000c0000-000c7fff : Video ROM
00100000-7fffffff : System RAM
  01000000-01ffffff : Kernel code
80000000-8fffffff : PCI ECAM 0000 [bus 00-ff]
  80000000-8fffffff : Reserved
    80000000-8fffffff : pnp 00:00
90000000-fbffffff : PCI Bus 0000:00
  91000000-91ffffff : 0000:00:02.0
    91000000-912fffff : BOOTFB
  92000000-92000fff : 0000:00:04.0
  93000000-93000fff : 0000:00:05.0
  94000000-94000fff : IPI0001:00
    94000000-94000001 : ipmi_si
  95000000-95000fff : PNP0C02:00
fec00000-fec003ff : IOAPIC 0
fed00000-fed003ff : HPET 0
  fed00000-fed003ff : PNP0103:00
fee00000-fee00fff : Local APIC
  fee00000-fee00fff : Reserved
";

    #[test]
    fn memory_of_another_device_is_seen() {
        let owners = Owners { memory: Resource::parse(MEMORY), ..Owners::default() };
        for (address, owner) in [
            (0x10_0000u64, Some("System RAM")),
            (0x100_0000, Some("Kernel code")),
            (0x8000_0000, Some("PCI ECAM 0000 [bus 00-ff]")),
            (0x9100_0000, Some("BOOTFB")),
            (0x9200_0000, None),
            (0x9400_0000, None),
            (0x9500_0000, None),
            (0x9600_0000, None),
            (0xfec0_0000, Some("IOAPIC 0")),
            (0xfec0_0400, None),
            (0xfed0_0000, Some("PNP0103:00")),
            (0xfee0_0000, Some("Local APIC")),
        ] {
            let line =
                format!("lastwords.ipmi_interface=kcs:mmio:{address:#x},4 lastwords.ipmi_handle_panic");
            let found = owners.bmc_conflict(&Plan::new("", &line)).map(|error| error.to_string());
            assert_eq!(found.is_some(), owner.is_some(), "{line}: {found:?}");
            if let (Some(error), Some(owner)) = (found, owner) {
                let start = format!("memory address {address:#x} belongs to {owner} (/proc/iomem)");
                assert!(error.starts_with(&start), "{error}");
            }
        }
    }

    #[test]
    fn registers_of_a_pci_device_are_a_bmcs_only_where_its_driver_or_its_class_may_be() {
        let root = Root::new();
        let bars = |address| [(address, 0x1000, false), (0xc000 + address / 0x1000, 32, true)];
        root.pci("0000:00:02.0", 0x03_0000, (0x1234, 0x1111), &bars(0x80_0000));
        let driven = root.pci("0000:00:03.0", 0x02_0000, (0x8086, 0x10d3), &bars(0x20_0000));
        root.link(&format!("{driven}/driver"), "sys/bus/pci/drivers/e1000e");
        root.pci("0000:00:04.0", 0x0c_0701, (0x1b36, 0x000d), &bars(0x40_0000));
        let bmc = root.pci("0000:00:05.0", 0x0c_0701, (0x1b36, 0x000d), &bars(0x60_0000));
        root.link(&format!("{bmc}/driver"), "sys/bus/pci/drivers/ipmi_si");
        root.i801("0000:00:1f.3", 0x700);
        let owners = Owners::read(root.path());
        for (value, owner) in [
            ("kcs:mmio:0x800000", Some("0000:00:02.0")),
            ("kcs:mmio:0x200ffc,4", Some("e1000e")),
            ("kcs:0xc204", Some("e1000e")),
            ("kcs:mmio:0x400000", None),
            ("bt:mmio:0x600000", None),
            ("kcs:0x710", Some("0000:00:1f.3")),
            ("ssif:i801:0x700,0x42", None),
            ("ssif:i801:0xc200,0x42", Some("e1000e")),
            ("ssif:i801:0xc400,0x42", Some("0000:00:04.0")),
            ("ssif:i801:0x720,0x42", None),
        ] {
            let stranger = owners.stranger_at(Interface::parse(value).unwrap());
            assert_eq!(stranger.is_some(), owner.is_some(), "{value}: {stranger:?}");
            assert!(stranger.unwrap_or_default().contains(owner.unwrap_or_default()), "{value}");
        }
    }
}
