//! BMCs that are PCI devices of their own: the class says that one is there (PCI Code and ID Assignment, class 0x0c07), nothing
//! says how far its registers lie apart. It is believed when it has answered Get Device ID ([`super::ask`]).

use super::{Found, Kind, Place, Source, folder};
use lastwords_core::cmdline;
use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

/// PCI class "IPMI interface", without the programming interface.
const CLASS: u32 = 0x0c07;
/// PCI class "SMBus".
pub const SMBUS: u32 = 0x0c05;
/// PCI base class "display controller".
pub const DISPLAY: u32 = 0x03;
/// It has the class and is none ("Virtual IPMI device"; `drivers/char/ipmi/ipmi_si_pci.c`).
const REALTEK: (u16, u16) = (0x10ec, 0x816c);
/// Its first KCS channel lies behind BAR 1, in registers of 32 bits (the same file).
const ASPEED: (u16, u16) = (0x1a03, 0x2402);
const ASPEED_KCS: u64 = 0xe80;
const ASPEED_SPACING: u16 = 4;

/// The command register of the configuration space, and its bits for I/O and memory.
const COMMAND: usize = 4;
const IO: u8 = 1;
const MEMORY: u8 = 2;
/// `IORESOURCE_IO` in `resource` (`include/linux/ioport.h`).
const IORESOURCE_IO: u64 = 0x100;

/// So many of a device's ranges are its own; behind them come its ROM and, of a bridge, what lies behind that.
const BARS: usize = 6;

/// A PCI device.
pub struct Device {
    /// Its address: `0000:00:1f.3`.
    pub name: String,
    /// Class, subclass and programming interface.
    pub class: u32,
    /// Vendor and device ID.
    pub id: (u16, u16),
    /// Its configuration space, as far as it is shown.
    pub config: Vec<u8>,
    pub bars: Vec<Bar>,
    /// The driver that has it.
    pub driver: Option<String>,
}

/// A range of its registers.
pub struct Bar {
    pub start: u64,
    pub len: u64,
    pub is_io: bool,
}

/// A range of registers, and the PCI device that has it.
#[derive(Debug)]
pub struct Region {
    range: Range<u64>,
    /// At I/O ports?
    pub is_io: bool,
    /// The device's address, class and driver.
    pub device: String,
    pub class: u32,
    pub driver: Option<String>,
}

impl Region {
    /// Is this address, or port, in it?
    pub fn has(&self, at: u64) -> bool {
        self.range.contains(&at)
    }
}

impl Device {
    /// Reads a device's folder in /sys, where it is of a wanted class, without the programming interface.
    pub fn read(folder: &Path, classes: &[u32]) -> Option<Self> {
        let class = class(folder).filter(|class| classes.contains(&(class >> 8)))?;
        let id = |name| u16::try_from(number(folder, name)?).ok();
        Some(Self {
            name: name(folder)?,
            class,
            id: (id("vendor")?, id("device")?),
            config: fs::read(folder.join("config")).unwrap_or_default(),
            bars: bars(folder),
            driver: driver(folder),
        })
    }

    /// Does it answer at these registers?
    pub fn decodes(&self, bar: &Bar) -> bool {
        let bit = if bar.is_io { IO } else { MEMORY };
        bar.start != 0 && self.config.get(COMMAND).is_some_and(|command| command & bit != 0)
    }
}

fn name(folder: &Path) -> Option<String> {
    Some(folder.file_name()?.to_str()?.to_owned())
}

fn number(folder: &Path, file: &str) -> Option<u64> {
    cmdline::number(fs::read_to_string(folder.join(file)).ok()?.trim())
}

fn class(folder: &Path) -> Option<u32> {
    u32::try_from(number(folder, "class")?).ok()
}

fn bars(folder: &Path) -> Vec<Bar> {
    let bar = |line: &str| {
        let mut numbers = line.split_whitespace().map(cmdline::number);
        let mut next = || numbers.next().flatten();
        let (start, last, flags) = (next()?, next()?, next()?);
        Some(Bar {
            start,
            len: last.checked_sub(start)?.saturating_add(1),
            is_io: flags & IORESOURCE_IO != 0,
        })
    };
    let text = fs::read_to_string(folder.join("resource")).unwrap_or_default();
    text.lines().take(BARS).map_while(bar).collect()
}

fn driver(folder: &Path) -> Option<String> {
    name(&fs::read_link(folder.join("driver")).ok()?)
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let mut folders = folder(&root.join("sys/bus/pci/devices"));
    folders.sort();
    folders
}

/// The PCI devices of these classes, without the programming interface, in the order of their addresses. Nobody else's
/// configuration space is read: a machine has hundreds, and each read of them is slow.
pub fn devices(root: &Path, classes: &'static [u32]) -> impl Iterator<Item = Device> + use<> {
    folders(root).into_iter().filter_map(|folder| Device::read(&folder, classes))
}

/// The registers of all PCI devices. No device is touched for that.
pub fn regions(root: &Path) -> Vec<Region> {
    let of_device = |folder: PathBuf| {
        let (device, class, driver) = (name(&folder)?, class(&folder)?, driver(&folder));
        let bars = bars(&folder).into_iter().filter(|bar| bar.start != 0);
        Some(bars.map(move |bar| Region {
            range: bar.start..bar.start.saturating_add(bar.len),
            is_io: bar.is_io,
            device: device.clone(),
            class,
            driver: driver.clone(),
        }))
    };
    folders(root).into_iter().filter_map(of_device).flatten().collect()
}

/// The BMCs among the PCI devices, but for those that `ipmi_si` has: those it shows itself.
pub fn interfaces(root: &Path) -> impl Iterator<Item = Found> {
    let is_one = |device: &Device| device.id != REALTEK && device.driver.as_deref() != Some("ipmi_si");
    devices(root, &[CLASS]).filter(is_one).filter_map(|device| interface(&device))
}

fn interface(device: &Device) -> Option<Found> {
    let aspeed = device.id == ASPEED;
    let kind = match device.class & 0xff {
        0 => Kind::Smic,
        1 => Kind::Kcs,
        2 => Kind::Bt,
        _ => return None,
    };
    let bar = device.bars.get(usize::from(aspeed))?;
    let place = match (bar.is_io, aspeed) {
        (true, _) => Place::Io { address: bar.start, spacing: 1 },
        (false, false) => Place::Memory { address: bar.start, spacing: 1 },
        (false, true) => {
            Place::Memory { address: bar.start.checked_add(ASPEED_KCS)?, spacing: ASPEED_SPACING }
        }
    };
    let mut found = Found::new(kind, place, Source::Pci);
    if !device.decodes(bar) {
        found.needs = Some(format!("the PCI device {} is switched off: modprobe ipmi_si", device.name));
    } else if let Some(driver) = &device.driver {
        found.needs = Some(format!("the driver {driver} has it"));
    } else if bar.is_io {
        found.needs =
            Some("a PCI device is believed once it has answered: lastwords probe asks it".to_owned());
        found.ask = u16::try_from(bar.len).ok();
    } else {
        // Nothing shows where it lies, and the tool reaches no memory of devices.
        found.needs = Some("the distance of its registers is unknown: modprobe ipmi_si".to_owned());
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::Root;

    #[test]
    fn a_bmc_by_its_class_is_found_and_not_believed() {
        let root = Root::new();
        let folder = root.pci("0000:00:04.0", 0x0c_0701, (0x1b36, 0x000d), &[(0xc080, 8, true)]);
        let found = || interfaces(root.path()).collect::<Vec<_>>();
        let [kcs] = &found()[..] else { panic!() };
        assert_eq!(
            (kcs.kind, kcs.place, kcs.ask),
            (Kind::Kcs, Place::Io { address: 0xc080, spacing: 1 }, Some(8))
        );
        assert!(kcs.value().is_err());
        // Not decoded.
        root.config(&folder, 2, 0);
        assert_eq!(found()[0].ask, None);
        root.config(&folder, 1, 0);
        // Another driver's is left alone; the right one's is shown by that.
        root.link(&format!("{folder}/driver"), "sys/bus/pci/drivers/vfio-pci");
        assert!(found()[0].ask.is_none() && found()[0].value().unwrap_err().contains("vfio-pci"));
        root.remove(&format!("{folder}/driver"));
        root.link(&format!("{folder}/driver"), "sys/bus/pci/drivers/ipmi_si");
        assert_eq!(found(), []);
    }

    #[test]
    fn kinds_and_devices_that_are_no_bmc_or_another_than_their_class_says() {
        let root = Root::new();
        root.pci("0000:00:01.0", 0x0c_0702, (0x1b36, 0x000e), &[(0xc100, 4, true)]);
        root.pci("0000:00:02.0", 0x0c_0700, (0x1234, 0x0001), &[(0xc200, 4, true)]);
        root.pci("0000:00:03.0", 0x0c_0701, REALTEK, &[(0xc300, 8, true)]);
        root.pci("0000:00:04.0", 0x0c_0500, (0x8086, 0x2930), &[]);
        root.pci("0000:01:04.6", 0x0c_0701, (0x103c, 0x3302), &[(0xf1ef_0000, 256, false)]);
        let aspeed = [(0xfc00_0000, 0x10_0000, false), (0xfc10_0000, 0x4_0000, false)];
        root.pci("0000:09:01.0", 0x0c_0701, ASPEED, &aspeed);
        let found: Vec<_> = interfaces(root.path()).map(|found| (found.kind, found.place)).collect();
        assert_eq!(
            found,
            [
                (Kind::Bt, Place::Io { address: 0xc100, spacing: 1 }),
                (Kind::Smic, Place::Io { address: 0xc200, spacing: 1 }),
                (Kind::Kcs, Place::Memory { address: 0xf1ef_0000, spacing: 1 }),
                (Kind::Kcs, Place::Memory { address: 0xfc10_0e80, spacing: 4 }),
            ]
        );
        assert!(interfaces(root.path()).all(|found| found.value().is_err()));
    }
}
