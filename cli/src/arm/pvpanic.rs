//! The hypervisor's pvpanic device: where it is, as far as the kernel shows it without a driver.

use crate::bmc::discovery::{pci, resources};
use lastwords_core::{
    device::pvpanic::Hypervisor,
    hw::Register,
    plan::{PREFIX, Plan},
};
use std::{fs, path::Path};

/// The name that ACPI has for the ISA device (QEMU, `docs/specs/pvpanic.rst`).
const ACPI: &str = "QEMU0001";
/// The PCI device's IDs and class, "other system peripheral"; its register is the first of BAR 0.
const PCI: (u16, u16) = (0x1b36, 0x0011);
const CLASS: u32 = 0x0880;

/// The register of this machine's device; none where it has no such device.
pub fn find(root: &Path) -> Option<Register> {
    let ports = fs::read_to_string(root.join("proc/ioports")).unwrap_or_default();
    let isa = resources(&ports).find(|one| one.name.starts_with(ACPI) && one.start > 0);
    let port = isa.and_then(|one| u16::try_from(one.start).ok()).map(Register::Port);
    port.or_else(|| {
        let device = pci::devices(root, &[CLASS]).find(|device| device.id == PCI)?;
        let bar = device.bars.first().filter(|bar| device.decodes(bar))?;
        if bar.is_io {
            u16::try_from(bar.start).ok().map(Register::Port)
        } else {
            Register::memory(bar.start)
        }
    })
}

/// The parameter that names the device, where the plan wants to have it found; and whether there is one.
pub fn parameter(root: &Path, plan: &Plan) -> Option<Result<String, anyhow::Error>> {
    let Hypervisor::Find(event) = plan.hypervisor else { return None };
    Some(match find(root) {
        Some(register) => Ok(format!("{PREFIX}notify_hypervisor={}", Hypervisor::At(register, event))),
        None => Err(anyhow::anyhow!(
            "the hypervisor will not be told of a panic: this machine has no pvpanic device\n\
             hint: QEMU -device pvpanic, libvirt <panic model='isa'/>; without one, leave --notify-hypervisor out"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmc::discovery::tests::Root;

    #[test]
    fn the_device_is_found_by_its_name_in_acpi_or_its_ids_on_pci_and_nowhere_else() {
        let root = Root::new();
        assert_eq!(find(root.path()), None);
        let folder = "sys/bus/pci/devices/0000:00:04.0";
        for (file, text) in [("class", "0x088000"), ("vendor", "0x1b36"), ("device", "0x0011")] {
            root.write(&format!("{folder}/{file}"), text);
        }
        root.write(
            &format!("{folder}/resource"),
            "0x00000000febf1000 0x00000000febf1000 0x0000000000040200\n",
        );
        // Its memory is switched off.
        root.write(&format!("{folder}/config"), [0x36, 0x1b, 0x11, 0, 0, 0]);
        assert_eq!(find(root.path()), None);
        root.write(&format!("{folder}/config"), [0x36, 0x1b, 0x11, 0, 2, 0]);
        assert_eq!(find(root.path()), Some(Register::Memory(0xfebf_1000)));
        root.write(&format!("{folder}/device"), "0x0010");
        assert_eq!(find(root.path()), None);
        root.write("proc/ioports", "0000-0cf7 : PCI Bus 0000:00\n  0505-0505 : QEMU0001:00\n");
        assert_eq!(find(root.path()), Some(Register::Port(0x505)));
        // Without privileges every line reads so.
        root.write("proc/ioports", "0000-0000 : PCI Bus 0000:00\n  0000-0000 : QEMU0001:00\n");
        assert_eq!(find(root.path()), None);
        root.write("proc/ioports", "0505-0505 : other\n");
        assert_eq!(find(root.path()), None);
    }
}
