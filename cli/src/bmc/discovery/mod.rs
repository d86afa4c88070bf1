//! Finds the BMC's interface, the most trustworthy source first: what the running driver uses, what the SMBIOS and ACPI tables
//! have, and PCI devices of the right class. Tables can be wrong (an HPE Gen9's SPMI has 0xca3 where its SMBIOS has 0xca2), the
//! driver's registers have been tried, and a PCI device is believed when it has answered ([`ask`]).
//!
//! Readers take the root of the file system, so that tests can give them a stored machine. None touches a register.

mod acpi;
mod ask;
mod driver;
#[cfg(test)]
mod machines;
pub mod pci;
mod smbios;
pub mod smbus;
mod spmi;

pub use ask::ask;

use crate::arm::{ranges::IoMem, registers::Owners};
use lastwords_core::{
    hw::Register,
    ipmi::interface::{BtPorts, I801, Interface, KcsPorts},
};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// Kind of system interface (IPMI 2.0 appendix C1, "Interface Type").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keyboard controller style.
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

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kcs => "KCS",
            Self::Smic => "SMIC",
            Self::Bt => "BT",
            Self::Ssif => "SSIF",
        })
    }
}

/// Where the registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At I/O ports, so many bytes apart.
    Io {
        /// The first one.
        address: u64,
        /// Distance of the registers.
        spacing: u16,
    },
    /// In memory.
    Memory {
        /// The first one.
        address: u64,
        /// Distance of the registers.
        spacing: u16,
    },
    /// On the SMBus, at this slave address of 7 bits.
    Smbus {
        /// The BMC's.
        address: u16,
        /// I/O base of the controller, an i801, where it is known to be one.
        controller: Option<u16>,
    },
}

/// Where it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Linux' own driver, running.
    Driver,
    /// SMBIOS type 38, "IPMI Device Information".
    Smbios,
    /// ACPI's Service Processor Management Interface table.
    Spmi,
    /// The resources of ACPI's IPMI device.
    Acpi,
    /// A PCI device's class.
    Pci,
}

/// Where a PC has RAM, the text screen and its firmware.
const FIRST_MIB: u64 = 0x10_0000;

/// A BMC interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its kind.
    pub kind: Kind,
    /// Where its registers are.
    pub place: Place,
    /// Where it is from.
    pub source: Source,
    /// What it would need to be used, where its source knows of something.
    needs: Option<String>,
    /// How many I/O ports there are, where it is to be asked before it is believed.
    ask: Option<u16>,
    /// Nobody was there when somebody looked: its status register read 0xff.
    nobody: bool,
}

impl Found {
    fn new(kind: Kind, place: Place, source: Source) -> Self {
        Self { kind, place, source, needs: None, ask: None, nobody: false }
    }

    /// SSIF at this address, behind this controller.
    fn ssif(address: u16, controller: Result<u16, String>, source: Source) -> Self {
        let place = Place::Smbus { address, controller: controller.as_ref().ok().copied() };
        Self { needs: controller.err(), ..Self::new(Kind::Ssif, place, source) }
    }

    /// The interface for the image and the tool.
    ///
    /// # Errors
    /// What it would need to be used.
    pub fn interface(&self) -> Result<Interface, String> {
        if self.kind == Kind::Smic {
            return Err("SMIC is not supported".to_owned());
        }
        if let Some(needs) = &self.needs {
            return Err(needs.clone());
        }
        if let (Kind::Ssif, Place::Smbus { address, .. }) = (self.kind, self.place)
            && u8::try_from(address)
                .is_ok_and(|address| I801::MEMORY.iter().any(|addresses| addresses.contains(&address)))
        {
            return Err(format!("SMBus address {address:#x} is that of a memory module: the table is wrong"));
        }
        let named = self.named().ok_or("its table has no address that can be right")?;
        // What the parameter does not take, the image does not either.
        Interface::parse(&named.to_string()).map_err(str::to_owned)
    }

    /// Is it this interface, as far as its source shows? A PCI device's registers may lie further apart, a table has no controller
    /// of the SMBus, and where ACPI has three registers they may be another kind's.
    #[must_use]
    pub fn may_be(&self, interface: Interface) -> bool {
        match (interface, self.place) {
            _ if self.named() == Some(interface) => true,
            (Interface::Ssif(one), Place::Smbus { address, controller: None }) => {
                u16::from(one.address) == address
            }
            _ => {
                self.ask.is_some()
                    && self
                        .named()
                        .is_some_and(|named| named.registers().next() == interface.registers().next())
            }
        }
    }

    /// The interface, whatever else it may need.
    fn named(&self) -> Option<Interface> {
        let port = |address| u16::try_from(address).ok().filter(|port| *port != 0);
        Some(match (self.kind, self.place) {
            (Kind::Kcs, Place::Io { address, spacing }) => {
                let data = port(address)?;
                Interface::Kcs(KcsPorts::io(data, data.checked_add(spacing)?))
            }
            (Kind::Kcs, Place::Memory { address, spacing }) => {
                Interface::Kcs(KcsPorts::memory(address, spacing)?)
            }
            (Kind::Bt, Place::Io { address, spacing }) => {
                Interface::Bt(BtPorts::new(Register::Port(port(address)?), spacing)?)
            }
            (Kind::Bt, Place::Memory { address, spacing }) => {
                Interface::Bt(BtPorts::new(Register::memory(address)?, spacing)?)
            }
            (Kind::Ssif, Place::Smbus { address, controller }) => {
                Interface::Ssif(I801::new(controller?, u8::try_from(address).ok()?)?)
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind;
        match (self.named(), self.place) {
            (Some(interface), _) => f.write_str(&place(interface))?,
            (None, Place::Io { address, .. }) => write!(f, "{kind} at {address:#x}")?,
            (None, Place::Memory { address, .. }) => write!(f, "{kind} at memory address {address:#x}")?,
            (None, Place::Smbus { address, .. }) => write!(f, "{kind} at SMBus address {address:#x}")?,
        }
        write!(f, ", from {}", self.source_name())?;
        match self.interface() {
            Ok(_) if self.nobody => f.write_str(" (nobody answers there now)"),
            Ok(_) => Ok(()),
            Err(needs) => write!(f, " (not usable: {needs})"),
        }
    }
}

impl Found {
    /// Where it is from, for people.
    #[must_use]
    pub fn source_name(&self) -> &'static str {
        match self.source {
            Source::Driver if self.kind == Kind::Ssif => "the running ipmi_ssif driver",
            Source::Driver => "the running ipmi_si driver",
            Source::Smbios => "SMBIOS type 38",
            Source::Spmi => "ACPI SPMI",
            Source::Acpi => "ACPI IPI0001",
            Source::Pci => "its PCI class",
        }
    }
}

/// Where an interface is, for people: `KCS at I/O ports 0xca2,0xca3`.
#[must_use]
pub fn place(interface: Interface) -> String {
    let in_memory = interface.registers().any(|register| matches!(register, Register::Memory(_)));
    match interface {
        Interface::Kcs(ports) if in_memory => format!("KCS in memory at {ports}"),
        Interface::Kcs(ports) => format!("KCS at I/O ports {ports}"),
        Interface::Bt(ports) if in_memory => format!("BT in memory at {ports}"),
        Interface::Bt(ports) => format!("BT at I/O ports from {ports}"),
        Interface::Ssif(I801 { port, address }) => {
            format!("SSIF at SMBus address {address:#x} of the i801 at {port:#x}")
        }
    }
}

/// Where an interface is and who knows of it, for people.
#[must_use]
pub fn describe(found: &[Found], interface: Interface) -> String {
    let known = found.iter().find(|one| one.may_be(interface));
    format!("{}, from {}", place(interface), known.map_or("its parameter", Found::source_name))
}

/// All interfaces that the drivers, the tables and the PCI devices show, the most trustworthy first. No register is touched.
pub fn interfaces(root: &Path) -> Vec<Found> {
    let mut found: Vec<_> = driver::interfaces(root)
        .chain(smbios::interfaces(root))
        .chain(spmi::interfaces(root))
        .chain(acpi::interfaces(root))
        .chain(pci::interfaces(root))
        .collect();
    let iomem = IoMem::parse(&fs::read_to_string(root.join("proc/iomem")).unwrap_or_default());
    let owners = Owners::read(root);
    // A table that lies would have the BMC's commands written to whatever is there. The driver has tried its registers.
    for one in found.iter_mut().filter(|one| one.source != Source::Driver) {
        let Some(interface) = one.named() else { continue };
        let is_ram = iomem.has_in_ram(interface.registers()).is_some();
        let in_ram = is_ram.then(|| "its registers would lie in RAM (/proc/iomem)".to_owned());
        let mut registers = interface.registers();
        let is_legacy = registers.any(|one| matches!(one, Register::Memory(..FIRST_MIB)));
        let legacy = is_legacy.then(|| "its registers would lie in the first MiB".to_owned());
        if let Some(why) = in_ram.or(legacy).or_else(|| owners.stranger_at(interface)) {
            let whose = if one.source == Source::Pci { "" } else { ": the table is wrong" };
            (one.needs, one.ask) = (Some(why + whose), None);
        }
    }
    found
}

/// The device of the driver that serves this interface, where it is one that a driver serves.
pub fn device(root: &Path, interface: Interface) -> Option<PathBuf> {
    driver::devices(root).find_map(|(path, found)| found.may_be(interface).then_some(path))
}

/// Does a driver serve this interface?
pub fn is_driven(root: &Path, interface: Interface) -> bool {
    driver::interfaces(root).any(|found| found.may_be(interface))
}

/// The interface to use, the first one that can be, with its place in the list.
pub fn best(interfaces: &[Found]) -> Option<(usize, Interface)> {
    interfaces.iter().enumerate().find_map(|(index, found)| Some((index, found.interface().ok()?)))
}

/// What is in a folder, if it is there.
fn folder(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// A line of /proc/ioports or /proc/iomem.
pub struct Resource<'a> {
    /// Its first port or address.
    pub start: u64,
    /// Its last one.
    pub last: u64,
    /// Who has it.
    pub name: &'a str,
}

/// The lines of /proc/ioports or /proc/iomem: `  0ca2-0ca3 : IPI0001:00`.
pub fn resources(text: &str) -> impl Iterator<Item = Resource<'_>> {
    text.lines().filter_map(|line| {
        let (range, name) = line.trim().split_once(" : ")?;
        let (start, last) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Resource { start: number(start)?, last: number(last)?, name })
    })
}

#[cfg(test)]
pub mod tests {
    pub use super::spmi::tests::spmi_table;
    use super::{smbios::tests::type_38, *};
    use std::os::unix::fs::symlink;

    pub const KCS_CA2: Found = Found {
        kind: Kind::Kcs,
        place: Place::Io { address: 0xca2, spacing: 1 },
        source: Source::Driver,
        needs: None,
        ask: None,
        nobody: false,
    };

    /// What a source finds.
    pub fn found(kind: Kind, place: Place, source: Source) -> Found {
        Found::new(kind, place, source)
    }

    impl Found {
        /// The same, with something that it needs.
        pub fn needing(self, needs: &str) -> Self {
            Self { needs: Some(needs.to_owned()), ..self }
        }

        /// The value of the parameter.
        pub fn value(&self) -> Result<String, String> {
            self.interface().map(|interface| interface.to_string())
        }
    }

    /// A stored machine's files.
    pub struct Root(tempfile::TempDir);

    impl Root {
        pub fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        pub fn path(&self) -> &Path {
            self.0.path()
        }

        fn with_folder(&self, path: &str) -> PathBuf {
            let path = self.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }

        pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
            fs::write(self.with_folder(path), bytes).unwrap();
        }

        pub fn link(&self, from: &str, to: &str) {
            let from = self.with_folder(from);
            let _ = fs::remove_file(&from);
            symlink(self.path().join(to), from).unwrap();
        }

        pub fn remove(&self, path: &str) {
            fs::remove_file(self.path().join(path)).unwrap();
        }

        /// A PCI device with these ranges of registers (start, length, at I/O ports), all decoded. Returns its folder.
        pub fn pci(
            &self,
            name: &str,
            class: u32,
            (vendor, device): (u16, u16),
            bars: &[(u64, u64, bool)],
        ) -> String {
            let folder = format!("sys/devices/pci0000:00/{name}");
            for (file, number) in
                [("vendor", u32::from(vendor)), ("device", u32::from(device)), ("class", class)]
            {
                self.write(&format!("{folder}/{file}"), format!("{number:#06x}\n"));
            }
            let bars = bars.iter().fold(String::new(), |text, (start, len, is_io)| {
                let (last, flags) = (start + len.saturating_sub(1), if *is_io { 0x40101 } else { 0x40200 });
                text + &format!("{start:#018x} {last:#018x} {flags:#018x}\n")
            });
            self.write(&format!("{folder}/resource"), bars);
            self.config(&folder, 3, 0);
            self.link(&format!("sys/bus/pci/devices/{name}"), &folder);
            folder
        }

        /// An i801 at this I/O base.
        pub fn i801(&self, name: &str, base: u64) -> String {
            let none = (0, 0, false);
            let bars = [(0xdf12_3000, 256, false), none, none, none, (base, 32, true)];
            let folder = self.pci(name, 0x0c_0500, (0x8086, 0xa2a3), &bars);
            self.config(&folder, 3, 1);
            folder
        }

        /// A PCI device's configuration space, as root sees it.
        pub fn config(&self, folder: &str, command: u8, hostc: u8) {
            let mut config = [0; 256];
            (config[4], config[0x40]) = (command, hostc);
            self.write(&format!("{folder}/config"), config);
        }
    }

    fn values(found: &[Found]) -> Vec<Option<String>> {
        found.iter().map(|found| found.value().ok()).collect()
    }

    #[test]
    fn the_driver_comes_first_then_smbios_then_acpi_then_pci() {
        let root = Root::new();
        assert_eq!(interfaces(root.path()), []);
        let source = || {
            let found = interfaces(root.path());
            best(&found).map(|(index, _)| found[index].source)
        };

        root.pci("0000:00:04.0", 0x0c_0701, (0x1b36, 0x000d), &[(0xc080, 8, true)]);
        // Found, but not believed.
        assert_eq!((interfaces(root.path()).len(), source()), (1, None));
        root.write("proc/ioports", "0ca4-0ca5 : IPI0001:00\n");
        assert_eq!(source(), Some(Source::Acpi));
        root.write("sys/firmware/acpi/tables/SPMI", spmi_table(1, 8, 0xca3));
        assert_eq!(source(), Some(Source::Spmi));
        let mut table = type_38(0xca3, 0);
        table.extend([0, 0]);
        root.write("sys/firmware/dmi/tables/DMI", &table);
        assert_eq!(source(), Some(Source::Smbios));

        // The entry is preferred to the table, and is not reported twice.
        root.write("sys/firmware/dmi/entries/38-0/raw", type_38(0xca9, 0));
        let found = interfaces(root.path());
        let expected =
            ["kcs:0xca8,0xca9", "kcs:0xca3,0xca4", "kcs:0xca4,0xca5"].map(|value| Some(value.to_owned()));
        assert_eq!(values(&found), [&expected[..], &[None]].concat());

        root.write("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0/params", b"kcs,i/o,0xca2,rsp=1,rsi=1");
        root.write("sys/bus/platform/drivers/ipmi_si/bind", b"");
        assert_eq!(interfaces(root.path())[0], KCS_CA2);
        assert_eq!(source(), Some(Source::Driver));

        // An interface that cannot be used gives way to one that can.
        root.write("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0/params", b"smic,i/o,0xca9,rsp=1,rsi=1");
        assert_eq!((interfaces(root.path())[0].source, source()), (Source::Driver, Some(Source::Smbios)));
    }

    #[test]
    fn what_a_table_says_of_other_devices_is_not_used() {
        let root = Root::new();
        let table = |address| spmi_table(1, 8, address);
        root.write(
            "proc/ioports",
            "0000-0cf7 : PCI Bus 0000:00\n  0600-067f : 0000:00:1f.0\n    0604-0605 : ACPI PM1a_CNT_BLK\n\
             \x20 03f8-03ff : serial\n  0ca2-0ca2 : dmi-ipmi-si.0\n  0ca8-0ca9 : pnp 00:05\n",
        );
        for (at, address) in [0x604, 0x603, 0x3f8, 0xca2, 0xca8, 0x610].into_iter().enumerate() {
            root.write(&format!("sys/firmware/acpi/tables/SPMI{at}"), table(address));
        }
        let used: Vec<_> = interfaces(root.path()).iter().map(|one| one.value().is_ok()).collect();
        assert_eq!(used, [false, false, false, true, true, true]);
        let shown = interfaces(root.path())[0].to_string();
        assert!(shown.contains("I/O port 0x604 belongs to ACPI PM1a_CNT_BLK"), "{shown}");
        // The memory's EEPROMs are on the BMC's SMBus.
        for (address, is_used) in [
            (0x20, true),
            (0x2f, true),
            (0x30, false),
            (0x37, false),
            (0x42, true),
            (0x50, false),
            (0x57, false),
        ] {
            let found = Found::ssif(address, Ok(0x700), Source::Smbios);
            assert_eq!(found.interface().is_ok(), is_used, "{found}");
        }
    }

    #[test]
    fn registers_in_ram_are_not_used() {
        let root = Root::new();
        root.write(
            "proc/iomem",
            "00100000-3fffffff : System RAM\n  2f000000-3effffff : Crash kernel\nfe000000-fe000fff : IPMI\n",
        );
        root.write("sys/firmware/acpi/tables/SPMI1", spmi_table(0, 8, 0x3b30_0000));
        root.write("sys/firmware/acpi/tables/SPMI2", spmi_table(0, 8, 0xfe00_0000));
        let found = interfaces(root.path());
        assert!(found[0].value().unwrap_err().contains("in RAM"));
        assert!(found[1].value().is_ok());
        root.write("sys/firmware/acpi/tables/SPMI2", spmi_table(0, 8, 0xb_8000));
        assert!(interfaces(root.path())[1].value().unwrap_err().contains("first MiB"));
        // Without privileges nothing is known.
        root.write("proc/iomem", "00000000-00000000 : System RAM\n");
        assert!(interfaces(root.path())[0].value().is_ok());
    }

    #[test]
    fn texts_say_where_it_is_and_what_it_would_need() {
        let io = Place::Io { address: 0xe4, spacing: 1 };
        let far = Place::Io { address: 0x1_0000, spacing: 1 };
        let smbus = |controller| Place::Smbus { address: 0x42, controller };
        for (found, text) in [
            (KCS_CA2, "KCS at I/O ports 0xca2,0xca3, from the running ipmi_si driver"),
            (Found::new(Kind::Bt, io, Source::Pci), "BT at I/O ports from 0xe4, from its PCI class"),
            (
                Found::new(Kind::Ssif, smbus(Some(0x700)), Source::Driver),
                "SSIF at SMBus address 0x42 of the i801 at 0x700, from the running ipmi_ssif driver",
            ),
            (
                Found::ssif(0x42, Err("MORE".to_owned()), Source::Smbios),
                "SSIF at SMBus address 0x42, from SMBIOS type 38 (not usable: MORE)",
            ),
            (
                Found::new(Kind::Kcs, far, Source::Spmi),
                "KCS at 0x10000, from ACPI SPMI (not usable: its table has no address that can be right)",
            ),
            (
                Found::new(Kind::Kcs, Place::Io { address: 0x70, spacing: 1 }, Source::Smbios),
                "KCS at I/O ports 0x70,0x71, from SMBIOS type 38 (not usable: names a port of the machine's own)",
            ),
        ] {
            let shown = found.to_string();
            assert!(shown.starts_with(text.trim_end_matches(')')), "{shown}");
        }
        let pci =
            Found { ask: Some(8), needs: Some(String::new()), ..Found::new(Kind::Kcs, io, Source::Pci) };
        let all = [KCS_CA2, Found::ssif(0x42, Err(String::new()), Source::Smbios), pci];
        let interface = |text| Interface::parse(text).unwrap();
        assert_eq!(describe(&all, interface("kcs:0xca2")), KCS_CA2.to_string());
        for (value, text) in [
            ("kcs:0xe4,0xe8", "KCS at I/O ports 0xe4,0xe8, from its PCI class"),
            ("kcs:0xca4", "KCS at I/O ports 0xca4,0xca5, from its parameter"),
            ("ssif:i801:0x700,0x42", "SSIF at SMBus address 0x42 of the i801 at 0x700, from SMBIOS type 38"),
            ("ssif:i801:0x700,0x43", "SSIF at SMBus address 0x43 of the i801 at 0x700, from its parameter"),
        ] {
            assert_eq!(describe(&all, interface(value)), text);
        }
    }
}
