//! What stands around the loaded dump kernel, for `lastwords status`: whether lastwords is enabled in the distribution's
//! kdump, Secure Boot, what the next boot does, the last crash.

use crate::{
    config::Config,
    crashes::{
        store::{Store, Stored},
        watchdog::{self, Timer},
    },
    distro::{
        self,
        service::Service,
        wrapped::{self, Record, Wanted},
    },
    message,
};
use std::{fs, path::Path};

/// The unit that reads the report at the next boot, and stops the watchdog.
const REPORT: &str = "lastwords-report.service";
/// Where units are, the ones that win first.
const UNITS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
/// `secure_boot` in boot_params (`asm/bootparam.h`), and its value when it is on (`enum efi_secureboot_mode`).
const SECURE_BOOT: (usize, u8, u8) = (0x1ec, 3, 2);
/// EFI's variable: four bytes of attributes, then the value.
const EFI_SECURE_BOOT: &str = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Setup {
    /// Has `lastwords enable` been run?
    pub enabled: bool,
    /// The distribution's kdump.
    pub service: Option<&'static Service>,
    /// The record of the running kernel's wrapped kernel.
    pub record: Option<Record>,
    /// Why what is wrapped is not what is configured.
    pub unlike_configuration: Option<String>,
    /// The timer that a panic is known to start.
    pub timer: Option<Timer>,
    /// Is Secure Boot on?
    pub secure_boot: Option<bool>,
    /// Is the report read at the next boot, and the watchdog stopped?
    pub reports_at_boot: bool,
    /// The last crash.
    pub crash: Option<Stored>,
}

impl Setup {
    /// Reads it below `root`, for the running kernel's `release`.
    pub fn read(root: &Path, release: Option<&str>) -> Self {
        Self {
            enabled: distro::is_enabled(root),
            service: Service::find(root),
            record: release.and_then(|release| wrapped::record(root, release).ok()),
            unlike_configuration: release
                .filter(|_| distro::is_enabled(root))
                .and_then(|release| unlike_configuration(root, release)),
            timer: watchdog::planned(root),
            secure_boot: secure_boot(root),
            reports_at_boot: is_installed(root, REPORT),
            crash: Store::new(root).list().into_iter().next(),
        }
    }
}

/// Whether the wrapped kernel, if there is one, has what is configured today.
fn unlike_configuration(root: &Path, release: &str) -> Option<String> {
    wrapped::record(root, release).ok()?;
    match Config::read(root).and_then(|config| Wanted::new(root, release, None, &config)) {
        Ok(wanted) if wanted.is_made() => None,
        Ok(_) => Some("the configuration or the kernel has changed since it was wrapped".to_owned()),
        Err(error) => Some(message::fact(&message::chain(&error)).to_owned()),
    }
}

/// As the running kernel has found it, else as the firmware shows it. Without EFI there is none.
fn secure_boot(root: &Path) -> Option<bool> {
    let (at, on, off) = SECURE_BOOT;
    let params = fs::read(root.join("sys/kernel/boot_params/data")).unwrap_or_default();
    match params.get(at) {
        Some(mode) if *mode == on => Some(true),
        Some(mode) if *mode == off => Some(false),
        _ if !root.join("sys/firmware/efi").exists() => Some(false),
        _ => fs::read(root.join(EFI_SECURE_BOOT)).ok()?.get(4).map(|value| *value == 1),
    }
}

/// Is there such a unit, and is it not masked?
fn is_installed(root: &Path, unit: &str) -> bool {
    let found = UNITS.iter().map(|folder| root.join(folder).join(unit)).find(|path| {
        // A link that leads out of the `root`, too.
        path.symlink_metadata().is_ok()
    });
    found.is_some_and(|path| fs::read_link(path).map_or(true, |target| target != Path::new("/dev/null")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crashes::store::tests::crash;

    fn write(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn what_was_set_up_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let nothing = Setup { secure_boot: Some(false), ..Setup::default() };
        assert_eq!(Setup::read(root, Some("6.1")), nothing);
        for path in ["etc/default/kdump-tools", "usr/sbin/kdump-config", distro::ENABLED] {
            write(root, path, b"{}");
        }
        write(root, "usr/lib/systemd/system/lastwords-report.service", b"[Unit]");
        let crash = crash("06bz7sfyrb", 0);
        Store::new(root).write(&crash).unwrap();
        let setup = Setup::read(root, Some("6.1"));
        assert!(setup.enabled && setup.reports_at_boot);
        assert_eq!(setup.service.unwrap().reload, ["kdump-config", "reload"]);
        assert_eq!((setup.record, setup.crash), (None, Some(crash)));
        // A unit that is masked is not started.
        fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
        std::os::unix::fs::symlink("/dev/null", root.join("etc/systemd/system").join(REPORT)).unwrap();
        assert!(!Setup::read(root, None).reports_at_boot);
    }

    #[test]
    fn secure_boot_is_what_the_kernel_found_else_what_the_firmware_shows() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, EFI_SECURE_BOOT, &[6, 0, 0, 0, 1]);
        assert_eq!(secure_boot(root), Some(true));
        write(root, EFI_SECURE_BOOT, &[6, 0, 0, 0]);
        assert_eq!(secure_boot(root), None);
        for (mode, expected) in [(3, Some(true)), (2, Some(false)), (0, None)] {
            let mut params = vec![0; 4096];
            params[0x1ec] = mode;
            write(root, "sys/kernel/boot_params/data", &params);
            assert_eq!(secure_boot(root), expected, "{mode}");
        }
    }
}
