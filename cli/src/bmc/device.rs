//! The connection to the BMC through Linux' driver: /dev/ipmi0.

use super::{BmcError, System, discovery, error::os};
use crate::sys;
use lastwords_core::{
    budget::{Millis, Timer},
    ipmi::{TransferError, Transport, interface::Interface, message::Request},
};
use std::{
    fs::File,
    io,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longest answer that is taken; the driver's own limit is 272 (IPMI_MAX_MSG_LENGTH).
const ANSWER_LEN: usize = 272;

/// Between two looks whether the device is there.
const PAUSE: Duration = Duration::from_millis(50);

/// Loads Linux's drivers where `/dev/ipmi0` is missing, and waits for it so long: they take a moment to find the BMC. Is it
/// there? Where there is no driver nobody waits.
///
/// What nobody names is looked for: on the SMBus only where tables have it there and nowhere else.
pub fn wait(root: &Path, interface: Option<Interface>, limit: Duration) -> bool {
    let device = super::driver_device(root);
    if device.exists() {
        return true;
    }
    let is_on_smbus = || {
        let found = discovery::interfaces(root);
        !found.is_empty() && found.iter().all(|one| one.kind == discovery::Kind::Ssif)
    };
    let (drivers, module): (&[_], _) = match interface {
        Some(Interface::Ssif(_)) => (&SMBUS, "ipmi_ssif"),
        None if is_on_smbus() => (&SMBUS, "ipmi_ssif"),
        _ => (&REGISTERS, "ipmi_si"),
    };
    let modprobe = ["sbin/modprobe", "usr/sbin/modprobe"].map(|path| root.join(path));
    if let Some(modprobe) = modprobe.iter().find(|path| path.exists()) {
        // It fails where the kernel finds no BMC.
        let mut command = Command::new(modprobe);
        command.args(["-q", "-a"]).args(drivers).stdin(Stdio::null()).stderr(Stdio::null());
        let _ = command.status();
    }
    let end = Instant::now() + limit;
    while !device.exists() {
        if !root.join("sys/module").join(module).exists() || Instant::now() >= end {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

/// The drivers of a BMC behind registers, and of one on an i801's SMBus.
const REGISTERS: [&str; 2] = ["ipmi_si", "ipmi_devintf"];
const SMBUS: [&str; 3] = ["i2c_i801", "ipmi_ssif", "ipmi_devintf"];

/// The open device.
pub struct Device {
    file: File,
    /// The last request's number, by which its answer is known.
    sent: i64,
}

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    /// [`BmcError::Permission`], [`BmcError::Open`].
    pub fn open(path: &Path) -> Result<Self, BmcError> {
        let name = path.display().to_string();
        match File::options().read(true).write(true).open(path) {
            Ok(file) => Ok(Self { file, sent: 0 }),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(BmcError::Permission(name)),
            Err(error) => Err(BmcError::Open(name, error)),
        }
    }
}

impl Transport<System> for Device {
    fn transfer(
        &mut self,
        system: &mut System,
        timer: &mut Timer,
        request: &[u8],
        reply: &mut [u8],
        deadline: Millis,
    ) -> Result<usize, TransferError> {
        let request = Request::decode(request).ok_or(TransferError::State(0))?;
        self.sent += 1;
        sys::ipmi_send(&self.file, self.sent, request.net_fn.0, request.cmd, request.data)
            .map_err(|error| os(&error))?;
        let end = system.instant(timer, deadline);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !sys::readable(&self.file, left).map_err(|error| os(&error))? {
                return Err(TransferError::Timeout);
            }
            let mut answer = [0; ANSWER_LEN];
            match sys::ipmi_receive(&self.file, &mut answer) {
                // An earlier request's answer, that came too late, is not ours.
                Ok((sent, len)) if sent == Some(self.sent) => {
                    return request.put_answer(&answer[..len], reply).ok_or(TransferError::TooLong);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(os(&error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn the_drivers_are_loaded_and_waited_for_but_only_where_there_are_some() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        // No driver, nothing to load it with: nobody waits.
        assert!(!wait(root.path(), None, Duration::from_secs(600)));
        for folder in ["sbin", "dev", "sys/module/ipmi_si"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        assert!(!wait(root.path(), None, Duration::ZERO));
        // It takes a moment to find the BMC.
        let (log, device) = (path("log"), path("dev/ipmi0"));
        let script =
            format!("#!/bin/sh\necho $* > {}\n(sleep 0.2; : > {}) &\n", log.display(), device.display());
        fs::write(path("sbin/modprobe"), script).unwrap();
        fs::set_permissions(path("sbin/modprobe"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(wait(root.path(), None, Duration::from_secs(600)));
        assert_eq!(fs::read_to_string(&log).unwrap(), "-q -a ipmi_si ipmi_devintf\n");
        fs::remove_file(&log).unwrap();
        assert!(wait(root.path(), None, Duration::ZERO) && !log.exists());
        // On the SMBus it takes others: where that is named, and where tables have it there alone.
        fs::write(path("sbin/modprobe"), format!("#!/bin/sh\necho $* > {}\n", log.display())).unwrap();
        fs::remove_file(&device).unwrap();
        let asked = |interface: Option<&str>| {
            let interface = interface.map(|text| Interface::parse(text).unwrap());
            assert!(!wait(root.path(), interface, Duration::ZERO));
            fs::read_to_string(&log).unwrap()
        };
        let (registers, smbus) = ("-q -a ipmi_si ipmi_devintf\n", "-q -a i2c_i801 ipmi_ssif ipmi_devintf\n");
        assert_eq!((asked(Some("ssif:i801:0x700,0x42")).as_str(), asked(None).as_str()), (smbus, registers));
        let mut table = discovery::tests::spmi_table(4, 8, 0x84);
        table[36] = 4;
        fs::create_dir_all(path("sys/firmware/acpi/tables")).unwrap();
        fs::write(path("sys/firmware/acpi/tables/SPMI"), table).unwrap();
        assert_eq!((asked(Some("bt:0xe4")).as_str(), asked(None).as_str()), (registers, smbus));
    }
}
