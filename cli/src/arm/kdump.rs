//! What the running kernel shows of kdump in /proc and /sys: whether a dump kernel is loaded, whether one may be. It takes
//! the root of the file system, so that tests can give it a stored machine.

use super::busy;
use std::{fs, io, ops::RangeInclusive, path::Path};

/// What matters for loading a dump kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kdump {
    /// Is a dump kernel loaded? `None`: the kernel has no kdump (CONFIG_CRASH_DUMP=n).
    pub crash_loaded: Option<bool>,
    /// Is a kernel loaded for `kexec -e`?
    pub reboot_loaded: bool,
    /// Bytes reserved for the dump kernel (`crashkernel=`).
    pub crash_size: u64,
    /// Is that number unknown, because another program loads a kernel all the time?
    pub busy: bool,
    /// Where they are; without privileges the kernel shows zeros.
    pub crash_ranges: Vec<RangeInclusive<u64>>,
    /// The active lockdown mode, when it is not `none` (kernel_lockdown.7).
    pub lockdown: Option<String>,
    /// sysctl kernel.kexec_load_disabled.
    pub load_disabled: bool,
    /// sysctl kernel.kexec_load_limit_panic, when there is a limit (Linux 6.3 and later).
    pub limit_panic: Option<u32>,
    /// sysctl kernel.kexec_load_limit_reboot, likewise.
    pub limit_reboot: Option<u32>,
}

impl Kdump {
    /// Reads it from /proc and /sys below `root`.
    pub fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let switch = |path: &str| text(path).map(|text| text.trim() != "0");
        // -1 is no limit.
        let limit = |path: &str| text(path)?.trim().parse().ok();
        let crash_size = crash_size(|| fs::read_to_string(root.join("sys/kernel/kexec_crash_size")));
        Self {
            crash_loaded: switch("sys/kernel/kexec_crash_loaded"),
            reboot_loaded: switch("sys/kernel/kexec_loaded").unwrap_or(false),
            crash_size: crash_size.unwrap_or(0),
            busy: crash_size.is_none(),
            crash_ranges: text("proc/iomem").map(|text| crash_ranges(&text)).unwrap_or_default(),
            lockdown: text("sys/kernel/security/lockdown").and_then(|text| lockdown(&text)),
            load_disabled: switch("proc/sys/kernel/kexec_load_disabled").unwrap_or(false),
            limit_panic: limit("proc/sys/kernel/kexec_load_limit_panic"),
            limit_reboot: limit("proc/sys/kernel/kexec_load_limit_reboot"),
        }
    }
}

/// So many bytes, for people: in KiB where they are few.
pub fn amount(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes < 16 * MIB && !bytes.is_multiple_of(MIB) {
        format!("{} KiB", bytes.div_ceil(1024))
    } else {
        format!("{} MiB", bytes.div_ceil(MIB))
    }
}

/// The number of bytes; `None` while another program loads a kernel. Nothing to read is nothing reserved.
fn crash_size(read: impl FnMut() -> io::Result<String>) -> Option<u64> {
    match busy::patiently(read) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => None,
        text => Some(text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)),
    }
}

/// The active one of `none [integrity] confidentiality`, when it is not `none`.
fn lockdown(text: &str) -> Option<String> {
    let mode = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'))?;
    (mode != "none").then(|| mode.to_owned())
}

/// The lines `START-END : Crash kernel` of /proc/iomem.
fn crash_ranges(iomem: &str) -> Vec<RangeInclusive<u64>> {
    let range = |line: &str| {
        let (range, name) = line.trim().split_once(" : ")?;
        let (start, end) = range.split_once('-').filter(|_| name == "Crash kernel")?;
        Some(u64::from_str_radix(start, 16).ok()?..=u64::from_str_radix(end, 16).ok()?)
    };
    iomem.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_of_another_program_is_not_a_missing_reservation() {
        let mut answers = vec![Ok("268435456\n".to_owned()), Err(libc::EBUSY), Err(libc::EBUSY)];
        let read = || answers.pop().unwrap().map_err(io::Error::from_raw_os_error);
        assert_eq!(crash_size(read), Some(256 << 20));
        assert_eq!(crash_size(|| Err(io::ErrorKind::NotFound.into())), Some(0));
    }

    #[test]
    fn lockdown_modes() {
        assert_eq!(lockdown("[none] integrity confidentiality\n"), None);
        assert_eq!(lockdown("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(lockdown(""), None);
    }

    #[test]
    fn kdump_is_read_from_a_stored_machine() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Kdump::read(root.path()), Kdump::default());
        for (path, text) in [
            ("sys/kernel/kexec_crash_loaded", "1\n"),
            ("sys/kernel/kexec_loaded", "0\n"),
            ("sys/kernel/kexec_crash_size", "268435456\n"),
            ("sys/kernel/security/lockdown", "none integrity [confidentiality]\n"),
            ("proc/sys/kernel/kexec_load_disabled", "0\n"),
            ("proc/sys/kernel/kexec_load_limit_panic", "-1\n"),
            ("proc/sys/kernel/kexec_load_limit_reboot", "3\n"),
            (
                "proc/iomem",
                "00000000-00000fff : Reserved\n00100000-3ffdbfff : System RAM\n  25000000-34ffffff : Crash kernel\n",
            ),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let kdump = Kdump {
            crash_loaded: Some(true),
            reboot_loaded: false,
            crash_size: 256 << 20,
            busy: false,
            crash_ranges: std::iter::once(0x2500_0000..=0x34ff_ffff).collect(),
            lockdown: Some("confidentiality".to_owned()),
            load_disabled: false,
            limit_panic: None,
            limit_reboot: Some(3),
        };
        assert_eq!(Kdump::read(root.path()), kdump);
    }
}
