//! What stands around the loaded dump kernel, for `lastwords status`: whether lastwords is enabled in the distribution's
//! kdump, Secure Boot, what the next boot does, the last crash. Files that other commands write are read with indulgence:
//! what is not there is unknown.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What `lastwords enable` leaves.
const ENABLED: &str = "var/lib/lastwords/enabled.json";
/// Wrapped kernels and their records.
const WRAPPED: &str = "var/lib/kdump/lastwords";
/// Crashes that the next boots have found.
const CRASHES: &str = "var/lib/lastwords/crashes";
/// The unit that reads the report at the next boot, and stops the watchdog.
const REPORT: &str = "lastwords-report.service";
/// Where units are, the ones that win first.
const UNITS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
/// `secure_boot` in boot_params (`asm/bootparam.h`), and its value when it is on (`enum efi_secureboot_mode`).
const SECURE_BOOT: (usize, u8, u8) = (0x1ec, 3, 2);
/// EFI's variable: four bytes of attributes, then the value.
const EFI_SECURE_BOOT: &str = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// The kdump services of distributions: what they are called, what tells that they are there, how they load again.
const SERVICES: [(&str, &str, &str); 3] = [
    ("kdump-tools", "usr/sbin/kdump-config", "kdump-config reload"),
    ("kdumpctl", "usr/bin/kdumpctl", "kdumpctl restart"),
    ("SUSE's kdump", "usr/lib/kdump/load.sh", "systemctl restart kdump.service"),
];

/// A distribution's kdump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What it is called.
    pub name: &'static str,
    /// The command that loads again.
    pub reload: &'static str,
}

/// The record of a wrapped kernel, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The wrapped kernel.
    pub path: PathBuf,
    /// Why it is not loaded.
    pub refused: Option<String>,
    /// The key that it is signed with.
    pub key: Option<String>,
}

/// The last crash of this machine that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Its file.
    pub file: PathBuf,
    /// When it was, as text.
    pub time: Option<String>,
    /// The panic's reason.
    pub reason: Option<String>,
    /// How far the dump came.
    pub dump: Option<String>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// Has `lastwords enable` been run?
    pub enabled: bool,
    /// The distribution's kdump.
    pub service: Option<Service>,
    /// The record of the running kernel's wrapped kernel.
    pub record: Option<Record>,
    /// Is Secure Boot on?
    pub secure_boot: Option<bool>,
    /// Is the report read at the next boot, and the watchdog stopped?
    pub reports_at_boot: bool,
    /// The last crash.
    pub crash: Option<Crash>,
}

impl Setup {
    /// Reads it below `root`, for the running kernel's `release`.
    pub fn read(root: &Path, release: Option<&str>) -> Self {
        let service = SERVICES.iter().find(|(_, file, _)| root.join(file).exists());
        Self {
            enabled: root.join(ENABLED).exists(),
            service: service.map(|(name, _, reload)| Service { name, reload }),
            record: release.and_then(|release| record(root, release)),
            secure_boot: secure_boot(root),
            reports_at_boot: is_installed(root, REPORT),
            crash: crash(root),
        }
    }
}

fn record(root: &Path, release: &str) -> Option<Record> {
    let value = json(&root.join(WRAPPED).join(format!("{release}.json")))?;
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let path = Path::new("/").join(WRAPPED).join(format!("vmlinuz-{release}"));
    Some(Record { path, refused: text("refused"), key: text("key_id") })
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

/// The newest by its name, which begins with the time.
fn crash(root: &Path) -> Option<Crash> {
    let entries = fs::read_dir(root.join(CRASHES)).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let json_files = names.filter(|name| name.ends_with(".json") && !name.starts_with('.'));
    let name = json_files.max()?;
    let value = json(&root.join(CRASHES).join(&name)).unwrap_or_default();
    let crash = if value["crash"].is_object() { &value["crash"] } else { &value };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(Crash {
        file: Path::new("/").join(CRASHES).join(name),
        time: text(&crash["time"]["text"]).or_else(|| text(&crash["time"])),
        reason: text(&crash["reason"]),
        dump: crash["dump"].as_array().and_then(|stages| stages.last()).and_then(text),
    })
}

fn json(path: &Path) -> Option<Value> {
    // Not a pipe that nobody writes to.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (path, text) in [
            (ENABLED, "{}"),
            ("usr/sbin/kdump-config", ""),
            ("var/lib/kdump/lastwords/6.1.json", r#"{"schema": 1, "refused": "ENOKEY", "key_id": null}"#),
            ("usr/lib/systemd/system/lastwords-report.service", "[Unit]"),
        ] {
            write(root, path, text.as_bytes());
        }
        let setup = Setup::read(root, Some("6.1"));
        assert!(setup.enabled && setup.reports_at_boot);
        assert_eq!(setup.service.unwrap().reload, "kdump-config reload");
        let record = setup.record.unwrap();
        assert_eq!((record.refused.as_deref(), record.key), (Some("ENOKEY"), None));
        assert_eq!(record.path, Path::new("/var/lib/kdump/lastwords/vmlinuz-6.1"));
        assert_eq!(Setup::read(root, Some("6.2")).record, None);
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

    #[test]
    fn the_last_crash_is_the_newest_file_whatever_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert_eq!(crash(root), None);
        let name = |name: &str| format!("{CRASHES}/{name}");
        write(root, &name("2026-11-23T01:38:20-aa.json"), br#"{"reason": "old"}"#);
        let new = br#"{"time": {"text": "2026-11-24 00:00:00"}, "reason": "Fatal exception", "dump": ["started", "saved"]}"#;
        write(root, &name("2026-11-24T00:00:00-bb.json"), new);
        write(root, &name(".tmp.json"), b"");
        let found = crash(root).unwrap();
        assert_eq!(found.time.as_deref(), Some("2026-11-24 00:00:00"));
        assert_eq!(
            (found.reason.as_deref(), found.dump.as_deref()),
            (Some("Fatal exception"), Some("saved"))
        );
        write(root, &name("2026-11-25T00:00:00-cc.json"), b"half");
        assert_eq!(crash(root).unwrap().reason, None);
    }
}
