//! The connection to the BMC through its KCS (keyboard controller style) ports, with core's own driver, for a kernel without one: the dump kernel, mostly.
//! Two programs at the same ports would talk past each other, so with a driver it refuses.

use super::BmcError;
use lastwords_core::{hw::Register, ipmi::interface::KcsPorts};
use std::{
    fs::{self, File},
    path::Path,
};

/// Opens /dev/port for these registers. Touches none.
///
/// # Errors
/// [`BmcError::InMemory`], [`BmcError::DriverHasPorts`], [`BmcError::Permission`], [`BmcError::NoPorts`].
pub fn open(root: &Path, ports: KcsPorts) -> Result<File, BmcError> {
    let (Register::Port(data), Register::Port(status)) = (ports.data, ports.status) else {
        return Err(BmcError::InMemory(ports));
    };
    let ioports = fs::read_to_string(root.join("proc/ioports")).unwrap_or_default();
    if [data, status].iter().any(|port| driver_has(&ioports, *port)) {
        return Err(BmcError::DriverHasPorts(ports));
    }
    let path = root.join("dev/port");
    File::options().read(true).write(true).open(&path).map_err(|error| {
        // EPERM is lockdown.
        match error.raw_os_error() {
            Some(libc::EACCES) => BmcError::Permission(path.display().to_string()),
            _ => BmcError::NoPorts(error),
        }
    })
}

/// Has Linux' IPMI driver reserved this port? By /proc/ioports: `  0ca2-0ca2 : ipmi_si`.
fn driver_has(ioports: &str, port: u16) -> bool {
    ioports.lines().any(|line| {
        let Some((range, owner)) = line.trim().split_once(" : ") else { return false };
        let Some((first, last)) = range.split_once('-') else { return false };
        let number = |text| u16::from_str_radix(text, 16);
        owner.starts_with("ipmi")
            && matches!((number(first), number(last)), (Ok(first), Ok(last)) if (first..=last).contains(&port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_the_driver_are_left_alone() {
        let ioports = "\
0000-0cf7 : PCI Bus 0000:00
  0000-001f : dma1
  0ca2-0ca2 : ipmi_si
    0ca2-0ca2 : ipmi_si
  0ca3-0ca3 : ipmi_si
0d00-ffff : PCI Bus 0000:00
  0e00-0e03 : pnp 00:05
";
        let has = [0xca1, 0xca2, 0xca3, 0xca4, 0xe00].map(|port| driver_has(ioports, port));
        assert_eq!(has, [false, true, true, false, false]);
        assert!(driver_has("  0ca8-0cac : ipmi_si\n", 0xcaa));

        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/ioports"), ioports).unwrap();
        let refused = open(root.path(), KcsPorts::DEFAULT).err();
        assert!(matches!(refused, Some(BmcError::DriverHasPorts(_))), "{refused:?}");
        let other = open(root.path(), KcsPorts::io(0xca8, 0xcac)).err();
        assert!(matches!(other, Some(BmcError::NoPorts(_))), "{other:?}");
        let memory = open(root.path(), KcsPorts::memory(0xfe00_0000, 4).unwrap()).err();
        assert!(matches!(memory, Some(BmcError::InMemory(_))), "{memory:?}");
    }
}
