//! Finds the BMC's interface: what the running driver uses, else what the SMBIOS and ACPI tables have. Tables can
//! be wrong (an HPE Gen9's SPMI has 0xca3 where its SMBIOS has 0xca2), the driver's registers have been tried.
//!
//! Readers take the root of the file system, so that tests can give them a stored machine.

mod driver;
mod smbios;
mod spmi;

use lastwords_core::ipmi::interface::KcsPorts;
use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// Kind of system interface (IPMI 2.0 appendix C1, "Interface Type").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Keyboard controller style: the one that the image supports.
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

/// Where the registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// I/O ports.
    Io,
    /// Memory.
    Memory,
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
}

/// A BMC interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its kind.
    pub kind: Kind,
    /// Where its registers are.
    pub space: Space,
    /// Address of the first register.
    pub address: u64,
    /// Distance of the registers in bytes: 1, 4 or 16.
    pub spacing: u8,
    /// Where it is from.
    pub source: Source,
}

impl Interface {
    /// The registers, when it is one that the image can use: KCS, at I/O ports or in memory.
    #[must_use]
    pub fn ports(&self) -> Option<KcsPorts> {
        if self.kind != Kind::Kcs {
            return None;
        }
        match self.space {
            Space::Io => {
                let data = u16::try_from(self.address).ok().filter(|data| *data != 0)?;
                Some(KcsPorts::io(data, data.checked_add(u16::from(self.spacing))?))
            }
            Space::Memory => KcsPorts::memory(self.address, u16::from(self.spacing)),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Kcs => "KCS",
            Kind::Smic => "SMIC",
            Kind::Bt => "BT",
            Kind::Ssif => "SSIF",
        };
        let source = match self.source {
            Source::Driver => "the running ipmi_si driver",
            Source::Smbios => "SMBIOS type 38",
            Source::Spmi => "ACPI SPMI",
        };
        match (self.ports(), self.space) {
            (Some(ports), Space::Io) => write!(f, "{kind} at I/O ports {ports}, from {source}"),
            (Some(ports), Space::Memory) => write!(f, "{kind} in memory at {ports}, from {source}"),
            (None, Space::Io) => write!(f, "{kind} at {:#x}, from {source} (not usable)", self.address),
            (None, Space::Memory) => {
                write!(f, "{kind} at memory address {:#x}, from {source} (not usable)", self.address)
            }
        }
    }
}

/// All interfaces that the driver and the tables have, the most trustworthy first.
pub fn interfaces(root: &Path) -> Vec<Interface> {
    driver::interfaces(root).chain(smbios::interfaces(root)).chain(spmi::interface(root)).collect()
}

/// The interface to use: the first usable one, else the first.
pub fn best(interfaces: &[Interface]) -> Option<&Interface> {
    interfaces.iter().find(|interface| interface.ports().is_some()).or(interfaces.first())
}

/// What is in a folder, if it is there.
fn folder(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

#[cfg(test)]
pub mod tests {
    use super::{smbios::tests::type_38, spmi::tests::spmi_table, *};

    pub const KCS_CA2: Interface =
        Interface { kind: Kind::Kcs, space: Space::Io, address: 0xca2, spacing: 1, source: Source::Driver };

    #[test]
    fn the_driver_comes_first_then_smbios() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        assert_eq!(interfaces(root.path()), []);

        write("sys/firmware/acpi/tables/SPMI", &spmi_table(1, 8, 0xca3));
        let mut table = type_38(0xca3, 0);
        table.extend([0, 0]);
        write("sys/firmware/dmi/tables/DMI", &table);
        let found = interfaces(root.path());
        assert_eq!(best(&found).unwrap().source, Source::Smbios);

        // The entry is preferred to the table, and is not reported twice.
        write("sys/firmware/dmi/entries/38-0/raw", &type_38(0xca9, 0));
        assert_eq!(interfaces(root.path()).iter().map(|one| one.address).collect::<Vec<_>>(), [0xca8, 0xca3]);

        write("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0/params", b"kcs,i/o,0xca2,rsp=1,rsi=1");
        write("sys/bus/platform/drivers/ipmi_si/bind", b"");
        let found = interfaces(root.path());
        assert_eq!(best(&found), Some(&KCS_CA2));

        // An interface that cannot be used gives way to one that can.
        write("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0/params", b"bt,mem,0xfe000000,rsp=1,rsi=1");
        let found = interfaces(root.path());
        assert_eq!((found[0].source, best(&found).unwrap().source), (Source::Driver, Source::Smbios));
    }
}
