//! What the running kernel tells of kdump and of the CPUs, in /proc and /sys. Pure parsers, and readers that take the
//! root of the file system, so that tests can give them a stored machine.

use std::{
    fmt, fs,
    ops::RangeInclusive,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// The running system's host name, where it has been set.
pub fn hostname(root: &Path) -> Option<String> {
    let name = fs::read_to_string(root.join("proc/sys/kernel/hostname")).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name != "(none)")
}

/// The running system's boot id.
pub fn boot_id(root: &Path) -> Option<String> {
    Some(fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).ok()?.trim().to_owned())
}

/// Seconds since 1970 by this machine's clock.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or_default()
}

/// What matters for arming a dump kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kdump {
    /// Is a dump kernel armed? `None`: the kernel has no kdump (CONFIG_CRASH_DUMP=n).
    pub crash_loaded: Option<bool>,
    /// Is a kernel loaded for `kexec -e`?
    pub reboot_loaded: bool,
    /// Bytes reserved for the dump kernel (`crashkernel=`).
    pub crash_size: u64,
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
        Self {
            crash_loaded: switch("sys/kernel/kexec_crash_loaded"),
            reboot_loaded: switch("sys/kernel/kexec_loaded").unwrap_or(false),
            crash_size: text("sys/kernel/kexec_crash_size")
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0),
            crash_ranges: text("proc/iomem").map(|text| crash_ranges(&text)).unwrap_or_default(),
            lockdown: text("sys/kernel/security/lockdown").and_then(|text| lockdown(&text)),
            load_disabled: switch("proc/sys/kernel/kexec_load_disabled").unwrap_or(false),
            limit_panic: limit("proc/sys/kernel/kexec_load_limit_panic"),
            limit_reboot: limit("proc/sys/kernel/kexec_load_limit_reboot"),
        }
    }
}

impl Kdump {
    /// Is there something armed to be careful of, and may the place of `kexec -e` be used to try a kernel out?
    pub fn can_rehearse(&self) -> bool {
        self.crash_loaded == Some(true) && !self.reboot_loaded && self.limit_reboot.is_none()
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

/// What the image cannot find out by itself about the CPUs when the kernel is dead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Local APIC id of each CPU, by the kernel's number; `None` for one that is offline.
    apic_ids: Vec<Option<u32>>,
    flags: Vec<String>,
}

impl Cpus {
    /// Reads /proc/cpuinfo below `root`.
    pub fn read(root: &Path) -> Self {
        fs::read_to_string(root.join("proc/cpuinfo")).map(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(cpuinfo: &str) -> Self {
        let mut cpus = Self::default();
        let mut processor = 0;
        for (name, value) in cpuinfo.lines().filter_map(|line| line.split_once(':')) {
            let number = || value.trim().parse::<u32>().ok();
            match name.trim() {
                "processor" => processor = number().unwrap_or(0) as usize,
                // The kernel's own limit is 8192 CPUs.
                "apicid" if processor < 1 << 16 => {
                    cpus.apic_ids.resize(cpus.apic_ids.len().max(processor + 1), None);
                    cpus.apic_ids[processor] = number();
                }
                "flags" if cpus.flags.is_empty() => {
                    cpus.flags = value.split_whitespace().map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        cpus
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|one| one == flag)
    }

    /// Does the TSC run at one rate, whatever the CPU does? Only then is its frequency worth measuring.
    pub fn tsc_is_steady(&self) -> bool {
        self.has("constant_tsc") && self.has("nonstop_tsc")
    }

    /// The value of `lastwords.apic_ids=`, when the image needs it: where the local APIC ids are not the kernel's
    /// numbers, or where the image cannot read the number from IA32_TSC_AUX (Linux keeps it there for RDTSCP and RDPID).
    pub fn apic_ids(&self) -> Option<String> {
        let same = self.apic_ids.iter().zip(0u32..).all(|(id, cpu)| id.is_none_or(|id| id == cpu));
        let auxiliary = self.has("rdtscp") || self.has("rdpid");
        if self.apic_ids.is_empty() || same && auxiliary {
            return None;
        }
        // A CPU that is offline keeps its place; no CPU has this id, it means all of them (Intel SDM 3, "Local x2APIC").
        let ids: Vec<_> = self.apic_ids.iter().map(|id| id.unwrap_or(u32::MAX)).collect();
        Some(Runs(&ids).to_string())
    }
}

/// Numbers as `lastwords.apic_ids=` writes them: runs of equal steps, `0-14/2,1-15/2`.
struct Runs<'a>(&'a [u32]);

impl fmt::Display for Runs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let [first, ..] = rest {
            let step = rest.get(1).and_then(|second| second.checked_sub(*first)).unwrap_or(0);
            let steps =
                rest.windows(2).take_while(|pair| step > 0 && pair[0].checked_add(step) == Some(pair[1]));
            // Two numbers are no run yet: the second may start a better one.
            let mut len = steps.count() + 1;
            if len == 2 {
                len = 1;
            }
            let last = rest[len - 1];
            match (len, step) {
                (1, _) => write!(f, "{first}")?,
                (_, 1) => write!(f, "{first}-{last}")?,
                _ => write!(f, "{first}-{last}/{step}")?,
            }
            rest = &rest[len..];
            if !rest.is_empty() {
                f.write_str(",")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastwords_core::plan::ApicIds;
    use proptest::prelude::*;

    fn cpus(ids: &[u32], flags: &str) -> Cpus {
        let block = |(cpu, id): (usize, &u32)| {
            format!(
                "processor\t: {cpu}\nmodel name\t: A: B\napicid\t\t: {id}\ninitial apicid\t: 9\nflags\t\t: {flags}\n\n"
            )
        };
        Cpus::parse(&ids.iter().enumerate().map(block).collect::<String>())
    }

    #[test]
    fn apic_ids_are_passed_only_where_they_are_needed() {
        assert_eq!(cpus(&[0, 1, 2, 3], "fpu rdtscp").apic_ids(), None);
        assert_eq!(cpus(&[0, 1, 2, 3], "fpu rdpid").apic_ids(), None);
        assert_eq!(cpus(&[0, 1, 2, 3], "fpu").apic_ids().as_deref(), Some("0-3"));
        assert_eq!(cpus(&[0, 2, 4, 1, 3, 5], "rdtscp").apic_ids().as_deref(), Some("0-4/2,1-5/2"));
        assert_eq!(Cpus::default().apic_ids(), None);
    }

    #[test]
    fn a_cpu_that_is_offline_keeps_its_place() {
        let text = "processor\t: 0\napicid\t: 0\n\nprocessor\t: 2\napicid\t: 2\nflags\t: rdtscp\n";
        assert_eq!(Cpus::parse(text).apic_ids(), None);
        let text = text.replace("apicid\t: 2", "apicid\t: 8");
        let ids = Cpus::parse(&text).apic_ids().unwrap();
        assert_eq!(ids, "0,4294967295,8");
        assert_eq!(ApicIds::parse(&ids).unwrap().cpu(8), Some(2));
    }

    #[test]
    fn a_steady_tsc_has_both_flags() {
        assert!(cpus(&[0], "constant_tsc nonstop_tsc").tsc_is_steady());
        assert!(!cpus(&[0], "constant_tsc tsc").tsc_is_steady());
    }

    #[test]
    fn a_rehearsal_costs_nobody_anything() {
        let armed = Kdump { crash_loaded: Some(true), ..Kdump::default() };
        assert!(armed.can_rehearse());
        assert!(!Kdump { crash_loaded: Some(false), ..armed.clone() }.can_rehearse());
        assert!(!Kdump { reboot_loaded: true, ..armed.clone() }.can_rehearse());
        assert!(!Kdump { limit_reboot: Some(2), ..armed }.can_rehearse());
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
            crash_ranges: std::iter::once(0x2500_0000..=0x34ff_ffff).collect(),
            lockdown: Some("confidentiality".to_owned()),
            load_disabled: false,
            limit_panic: None,
            limit_reboot: Some(3),
        };
        assert_eq!(Kdump::read(root.path()), kdump);
    }

    proptest! {
        #[test]
        fn runs_say_where_each_id_is(ids in prop::collection::hash_set(0u32..40, 1..20)) {
            let ids: Vec<_> = ids.into_iter().collect();
            let text = Runs(&ids).to_string();
            let parsed = ApicIds::parse(&text).unwrap();
            for (id, cpu) in ids.iter().zip(0u32..) {
                prop_assert_eq!(parsed.cpu(*id), Some(cpu), "{}", text);
            }
        }
    }
}
