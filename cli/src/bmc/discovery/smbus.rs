//! The SMBus controller that an SSIF interface is behind. The image drives Intel's (Linux' `i2c_i801`), whose registers are the
//! I/O ports of its BAR 4 (Intel ICH9 datasheet, 19.1.11 SMB_BASE).

use super::pci::{self, Device};
use std::path::Path;

const CLASSES: &[u32] = &[pci::SMBUS];
const INTEL: u16 = 0x8086;
const BAR: usize = 4;
/// HOSTC, and its bit HST_EN (ICH9 datasheet, 19.1.17): the controller is on.
const HOSTC: usize = 0x40;
const HST_EN: u8 = 1;

/// The one controller that there is: which of two the tables mean is nowhere in them.
///
/// # Errors
/// What an interface on it would need.
pub fn only(root: &Path) -> Result<u16, String> {
    let mut controllers = pci::devices(root, CLASSES);
    match (controllers.next(), controllers.next()) {
        (None, _) => Err(other("one that is no PCI device")),
        (Some(one), None) => base(&one),
        (Some(_), Some(_)) => {
            Err("there are several SMBus controllers: load ipmi_ssif, which shows the right one".to_owned())
        }
    }
}

/// The I/O base of the controller that is this PCI device.
///
/// # Errors
/// What an interface on it would need.
pub fn i801(device: &Path) -> Result<u16, String> {
    base(&Device::read(device, CLASSES).ok_or_else(|| other("no PCI device"))?)
}

/// Is there an i801 whose ports begin here?
pub fn is_at(root: &Path, port: u16) -> bool {
    pci::devices(root, CLASSES).any(|device| base(&device) == Ok(port))
}

fn base(device: &Device) -> Result<u16, String> {
    let (vendor, id) = device.id;
    if vendor != INTEL {
        return Err(other(&format!("PCI {vendor:04x}:{id:04x}")));
    }
    let off =
        || format!("the SMBus controller {} is switched off: enable it in the firmware's setup", device.name);
    // Without privileges the first 64 bytes of the configuration space are all that is shown.
    if device.config.get(HOSTC).is_some_and(|hostc| hostc & HST_EN == 0) {
        return Err(off());
    }
    let bar = device.bars.get(BAR).filter(|bar| bar.is_io && device.decodes(bar)).ok_or_else(off)?;
    u16::try_from(bar.start).map_err(|_| off())
}

/// What an interface on another controller needs.
pub fn other(name: &str) -> String {
    format!("only SSIF on Intel's SMBus controller (i801) is supported, this is on {name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::Root;

    #[test]
    fn the_one_intel_controller_that_is_switched_on_is_taken_and_no_other() {
        let root = Root::new();
        assert!(only(root.path()).unwrap_err().contains("no PCI device"));
        let folder = root.i801("0000:00:1f.4", 0xefa0);
        assert_eq!(only(root.path()), Ok(0xefa0));
        // What root sees: HOSTC, off and on.
        for (hostc, base) in [(0, None), (1, Some(0xefa0)), (0x11, Some(0xefa0))] {
            root.config(&folder, 1, hostc);
            assert_eq!(only(root.path()).ok(), base);
        }
        // No I/O decoding.
        root.config(&folder, 2, 1);
        assert!(only(root.path()).unwrap_err().contains("switched off"));
        root.config(&folder, 1, 1);
        // AMD's.
        root.write(&format!("{folder}/vendor"), "0x1022\n");
        assert!(only(root.path()).unwrap_err().contains("PCI 1022:a2a3"));
        root.i801("0000:00:1f.3", 0x700);
        assert!(only(root.path()).unwrap_err().contains("several"));
    }
}
