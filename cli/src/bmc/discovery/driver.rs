//! The interfaces that Linux' own drivers use: they have tried them.

use super::{Found, Kind, Place, Source, folder, smbios, smbus, spmi};
use lastwords_core::cmdline;
use std::{
    fs, iter,
    path::{Path, PathBuf},
};

/// The folders in which `ipmi_si` has its devices: what a table of the firmware describes is a platform device, or was
/// (before Linux 3.10) a PNP one.
const FOLDERS: [&str; 4] = ["platform", "pci", "acpi", "pnp"];

/// The interfaces that the drivers serve, the one of /dev/ipmi0 first.
pub fn interfaces(root: &Path) -> impl Iterator<Item = Found> {
    let drivers = FOLDERS.map(|bus| root.join(format!("sys/bus/{bus}/drivers/ipmi_si")));
    let mut devices: Vec<_> = drivers.iter().flat_map(|driver| folder(driver)).collect();
    devices.extend(folder(&root.join("sys/bus/i2c/drivers/ipmi_ssif")));
    let numbers = numbers(root);
    let number = |device: &PathBuf| {
        let device = fs::canonicalize(device).ok();
        numbers.iter().position(|one| Some(one) == device.as_ref()).unwrap_or(usize::MAX)
    };
    devices.sort();
    devices.sort_by_cached_key(number);
    let root = root.to_owned();
    devices.into_iter().filter_map(move |device| interface(&root, &device))
}

/// The interfaces that have a device of their own, with that: /dev/ipmi0, /dev/ipmi1 and so on.
pub fn devices(root: &Path) -> impl Iterator<Item = (PathBuf, Found)> {
    let numbered = numbers(root).into_iter().enumerate();
    numbered.filter_map(|(number, device)| {
        Some((root.join(format!("dev/ipmi{number}")), interface(root, &device)?))
    })
}

/// The folders of /dev/ipmi0, /dev/ipmi1 and so on in /sys.
fn numbers(root: &Path) -> Vec<PathBuf> {
    let device = |number| root.join(format!("sys/class/ipmi/ipmi{number}/device"));
    let mut numbers = 0..;
    iter::from_fn(|| fs::canonicalize(device(numbers.next()?)).ok()).collect()
}

/// The interface of a driver's device, by its folder.
fn interface(root: &Path, device: &Path) -> Option<Found> {
    match fs::read_to_string(device.join("params")) {
        Ok(params) => parse(&params),
        Err(_) => ssif(root, device),
    }
}

/// The driver's `params` file: `kcs,i/o,0xca2,rsp=1,rsi=1,rsh=0,irq=0,ipmb=32`.
fn parse(params: &str) -> Option<Found> {
    let mut words = params.trim().split(',');
    let kind = match words.next()? {
        "kcs" => Kind::Kcs,
        "smic" => Kind::Smic,
        "bt" => Kind::Bt,
        _ => return None,
    };
    let space = words.next()?;
    let address = cmdline::number(words.next()?)?;
    let number = |name| words.clone().find_map(|word| word.strip_prefix(name))?.parse::<u16>().ok();
    let spacing = number("rsp=")?;
    let place = match space {
        "i/o" => Place::Io { address, spacing },
        "mem" => Place::Memory { address, spacing },
        _ => return None,
    };
    // The byte within a register that is wider than one.
    let shift = number("rsh=").filter(|shift| *shift != 0);
    let needs =
        shift.map(|shift| format!("its registers are shifted by {shift} bits, which is not supported"));
    Some(Found { needs, ..Found::new(kind, place, Source::Driver) })
}

/// A device of `ipmi_ssif`: `0-0042`, address 0x42 of bus 0, or `i2c-IPI0001:00`, whose address ACPI has.
fn ssif(root: &Path, device: &Path) -> Option<Found> {
    device.join("name").exists().then_some(())?;
    let device = fs::canonicalize(device).ok()?;
    let bus_of = |path: &Path| path.file_name()?.to_str()?.strip_prefix("i2c-")?.parse::<u16>().ok();
    let adapter = device.ancestors().skip(1).find(|path| bus_of(path).is_some())?;
    let bus = bus_of(adapter)?;
    let name = device.file_name()?.to_str()?;
    let named = name.split_once('-').filter(|(number, _)| *number == bus.to_string());
    let address = named
        .and_then(|(_, address)| u16::from_str_radix(address, 16).ok())
        .or_else(|| threads(root).find(|(on, _)| *on == bus).map(|(_, address)| address))
        .or_else(|| tabled(root))?;
    let controller = adapter.parent().ok_or_else(String::new).and_then(|parent| {
        smbus::i801(parent).map_err(|_| {
            let name = fs::read_to_string(adapter.join("name")).unwrap_or_default();
            smbus::other(name.trim())
        })
    });
    Some(Found::ssif(address, controller, Source::Driver))
}

/// Buses and addresses by the driver's threads: it has one for each device, `kssif0042` for address 0x42 of bus 0
/// (`drivers/char/ipmi/ipmi_ssif.c`).
fn threads(root: &Path) -> impl Iterator<Item = (u16, u16)> {
    folder(&root.join("proc")).into_iter().filter_map(|process| {
        process.file_name()?.to_str()?.parse::<u32>().ok()?;
        let name = fs::read_to_string(process.join("comm")).ok()?;
        let number = u32::from_str_radix(name.trim().strip_prefix("kssif")?, 16).ok()?;
        Some((u16::try_from(number >> 8).ok()?, (number & 0xff) as u16))
    })
}

/// The one SSIF address that the tables have: later drivers may have no such thread.
fn tabled(root: &Path) -> Option<u16> {
    let found = smbios::interfaces(root).into_iter().chain(spmi::interfaces(root));
    let mut addresses = found.filter_map(|one| match one.place {
        Place::Smbus { address, .. } => Some(address),
        Place::Io { .. } | Place::Memory { .. } => None,
    });
    let first = addresses.next()?;
    addresses.all(|address| address == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::{KCS_CA2, Root, spmi_table};
    use proptest::prelude::*;

    #[test]
    fn the_drivers_parameters() {
        assert_eq!(parse("kcs,i/o,0xca2,rsp=1,rsi=1,rsh=0,irq=0,ipmb=32\n"), Some(KCS_CA2));
        for (params, value) in [
            ("kcs,mem,0xf0000ca2,rsp=4,rsi=1,rsh=0,irq=0,ipmb=32\n", "kcs:mmio:0xf0000ca2,4"),
            ("bt,i/o,0xe4,rsp=1,rsi=1,rsh=0,irq=5,ipmb=32\n", "bt:0xe4"),
            ("bt,mem,0xfe0000e4,rsp=4,rsi=1,rsh=0,irq=5,ipmb=32\n", "bt:mmio:0xfe0000e4,4"),
        ] {
            assert_eq!(parse(params).unwrap().value().unwrap(), value);
        }
        let shifted = parse("kcs,mem,0xfe000000,rsp=4,rsi=4,rsh=8,irq=0,ipmb=32\n").unwrap();
        assert!(shifted.value().unwrap_err().contains("shifted by 8 bits"));
        assert!(parse("smic,i/o,0xca9,rsp=1,rsi=1").unwrap().value().unwrap_err().contains("SMIC"));
        for bad in
            ["", "kcs", "kcs,i/o,ca2,rsp=1", "kcs,i/o,0xca2", "kcs,i/o,0xca2,rsp=x", "bt,pci,0xe4,rsp=1"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_device_of_dev_ipmi0_comes_first_on_whichever_bus_it_is() {
        let root = Root::new();
        root.write("sys/bus/platform/drivers/ipmi_si/bind", "");
        root.write("sys/devices/platform/dmi-ipmi-si.0/params", "kcs,i/o,0xca2,rsp=1,rsi=1");
        root.link("sys/bus/platform/drivers/ipmi_si/dmi-ipmi-si.0", "sys/devices/platform/dmi-ipmi-si.0");
        root.write("sys/devices/pci0000:00/0000:01:04.6/params", "kcs,mem,0xf1ef0000,rsp=1,rsi=1");
        root.link("sys/bus/pci/drivers/ipmi_si/0000:01:04.6", "sys/devices/pci0000:00/0000:01:04.6");
        let values = || -> Vec<_> { interfaces(root.path()).map(|found| found.value().unwrap()).collect() };
        assert_eq!(values(), ["kcs:mmio:0xf1ef0000,1", "kcs:0xca2,0xca3"]);
        root.link("sys/class/ipmi/ipmi0/device", "sys/devices/platform/dmi-ipmi-si.0");
        assert_eq!(values(), ["kcs:0xca2,0xca3", "kcs:mmio:0xf1ef0000,1"]);
    }

    #[test]
    fn an_ssif_devices_address_is_in_its_name_or_in_that_of_the_drivers_thread() {
        let root = Root::new();
        root.i801("0000:00:1f.3", 0x700);
        root.write("sys/devices/pci0000:00/0000:00:1f.3/i2c-0/name", "SMBus I801 adapter at 0700\n");
        let device = |name: &str| format!("sys/devices/pci0000:00/0000:00:1f.3/i2c-0/{name}");
        let bound = |name: &str| format!("sys/bus/i2c/drivers/ipmi_ssif/{name}");
        let values = || interfaces(root.path()).map(|found| found.value()).collect::<Vec<_>>();
        root.write(&device("0-0042/name"), "ipmi_ssif\n");
        root.link(&bound("0-0042"), &device("0-0042"));
        root.write(&bound("unbind"), "");
        assert_eq!(values(), [Ok("ssif:i801:0x700,0x42".to_owned())]);
        root.remove(&bound("0-0042"));
        root.write(&device("i2c-IPI0001:00/name"), "IPI0001:00\n");
        root.link(&bound("i2c-IPI0001:00"), &device("i2c-IPI0001:00"));
        assert_eq!(values(), []);
        root.write("proc/57/comm", "kssif0110\n"); // of bus 1
        root.write("proc/58/comm", "kssif0020\n");
        assert_eq!(values(), [Ok("ssif:i801:0x700,0x20".to_owned())]);
        // Without the thread it is the one that the tables have.
        let spmi = |address: u64| {
            let mut table = spmi_table(4, 8, address);
            table[36] = 4;
            table
        };
        root.remove("proc/58/comm");
        assert_eq!(values(), []);
        root.write("sys/firmware/acpi/tables/SPMI", spmi(0x84));
        assert_eq!(values(), [Ok("ssif:i801:0x700,0x42".to_owned())]);
        root.write("sys/firmware/acpi/tables/SPMI2", spmi(0x20));
        assert_eq!(values(), []);
        root.write("proc/58/comm", "kssif0020\n");
        // Behind another controller it is found, and cannot be used.
        root.write("sys/devices/pci0000:00/0000:00:1f.3/vendor", "0x1022\n");
        root.write("sys/devices/pci0000:00/0000:00:1f.3/i2c-0/name", "SMBus PIIX4 adapter port 0 at 0b00\n");
        let needs = values().remove(0).unwrap_err();
        assert!(needs.contains("SMBus PIIX4 adapter port 0 at 0b00"), "{needs}");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
