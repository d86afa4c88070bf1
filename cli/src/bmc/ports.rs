//! The machine's I/O ports, for a BMC that no driver has: in the dump kernel, mostly. Through /dev/port, and where the kernel has
//! none (CONFIG_DEVPORT=n, as Debian's for clouds) with ioperm(2) and the port instructions themselves.

use super::{BmcError, discovery::resources};
use crate::sys;
use lastwords_core::hw::Register;
use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

/// I/O ports that can be read and written.
pub enum Ports {
    /// /dev/port.
    Device(File),
    /// The instructions.
    Direct,
}

impl Ports {
    /// Opens the way to these registers. Touches none. Two programs at the same registers would talk past each other, so with a
    /// driver at them it refuses.
    ///
    /// # Errors
    /// [`BmcError::InMemory`], [`BmcError::DriverHasPorts`], [`BmcError::Permission`], [`BmcError::NoPorts`].
    pub fn open(root: &Path, registers: impl IntoIterator<Item = Register>) -> Result<Self, BmcError> {
        let ioports = fs::read_to_string(root.join("proc/ioports")).unwrap_or_default();
        for register in registers {
            let Register::Port(port) = register else { return Err(BmcError::InMemory(register)) };
            if driver_has(&ioports, port) {
                return Err(BmcError::DriverHasPorts(register));
            }
        }
        let path = root.join("dev/port");
        let error = match File::options().read(true).write(true).open(&path) {
            Ok(file) => return Ok(Self::Device(file)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            Some(libc::EACCES) => Err(BmcError::Permission(path.display().to_string())),
            // A node, or none, without a device behind it. Under another root there is none of the machine's.
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) if root == Path::new("/") => {
                sys::port_permission().map(|()| Self::Direct).map_err(BmcError::NoPorts)
            }
            // EPERM is lockdown.
            _ => Err(BmcError::NoPorts(error)),
        }
    }

    /// Reads a port. `None` where it cannot be reached.
    pub fn get(&self, port: u16) -> Option<u8> {
        match self {
            Self::Device(file) => {
                let mut byte = [0];
                once(|| file.read_at(&mut byte, u64::from(port))).then_some(byte[0])
            }
            Self::Direct => sys::port_get(port).ok(),
        }
    }

    /// Writes a port, where it can be reached.
    pub fn put(&self, port: u16, value: u8) {
        // A byte that is lost shows in the BMC's state.
        let _ = match self {
            Self::Device(file) => once(|| file.write_at(&[value], u64::from(port))),
            Self::Direct => sys::port_put(port, value).is_ok(),
        };
    }
}

/// Did one byte go through, signals or not?
fn once(mut access: impl FnMut() -> io::Result<usize>) -> bool {
    loop {
        match access() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return matches!(result, Ok(1)),
        }
    }
}

/// Has Linux' IPMI driver reserved this port? By /proc/ioports: `  0ca2-0ca2 : ipmi_si`.
fn driver_has(ioports: &str, port: u16) -> bool {
    let has = |start, last| (start..=last).contains(&u64::from(port));
    resources(ioports).any(|resource| resource.name.starts_with("ipmi") && has(resource.start, resource.last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastwords_core::ipmi::interface::{Interface, KcsPorts};

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
        let open = |ports| Ports::open(root.path(), Interface::Kcs(ports).registers()).err();
        let refused = open(KcsPorts::DEFAULT);
        assert!(matches!(refused, Some(BmcError::DriverHasPorts(_))), "{refused:?}");
        let other = open(KcsPorts::io(0xca8, 0xcac));
        assert!(matches!(other, Some(BmcError::NoPorts(_))), "{other:?}");
        let memory = open(KcsPorts::memory(0xfe00_0000, 4).unwrap());
        assert!(matches!(memory, Some(BmcError::InMemory(_))), "{memory:?}");
    }

    #[test]
    fn a_port_that_cannot_be_reached_has_no_value() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [1, 2, 3]).unwrap();
        let ports = Ports::Device(File::options().read(true).write(true).open(file.path()).unwrap());
        ports.put(1, 9);
        assert_eq!([0, 1, 2, 3].map(|port| ports.get(port)), [Some(1), Some(9), Some(3), None]);
    }
}
