//! What the running kernel shows of its CPUs in /proc and /sys, for the image, which cannot find it out by itself when the
//! kernel is dead.

use crate::sort;
use std::{fmt, fs, io, path::Path};

/// What the image cannot find out by itself about the CPUs when the kernel is dead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus {
    /// Local APIC id of each CPU, by the kernel's number; `None` for one that is offline.
    apic_ids: Vec<Option<u32>>,
    flags: Vec<String>,
    /// The kernel's numbers of the CPUs that have crash notes, in their order.
    with_notes: Vec<u32>,
}

/// The kernel's numbers of the CPUs below /sys/devices/system/cpu, in their order: those that are present, online or not.
pub fn numbers(root: &Path) -> io::Result<Vec<u32>> {
    let number = |name: &str| name.strip_prefix("cpu")?.parse().ok();
    let entries = fs::read_dir(root.join("sys/devices/system/cpu"))?;
    let mut cpus: Vec<_> = entries.filter_map(|entry| number(entry.ok()?.file_name().to_str()?)).collect();
    sort::all(&mut cpus);
    Ok(cpus)
}

impl Cpus {
    /// Reads /proc/cpuinfo and /sys/devices/system/cpu below `root`.
    pub fn read(root: &Path) -> Self {
        let cpuinfo = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
        let has_notes =
            |cpu: &u32| root.join(format!("sys/devices/system/cpu/cpu{cpu}/crash_notes")).exists();
        let with_notes = numbers(root).unwrap_or_default().into_iter().filter(has_notes).collect();
        Self { with_notes, ..Self::parse(&cpuinfo) }
    }

    /// Reads the text of /proc/cpuinfo.
    pub fn parse(cpuinfo: &str) -> Self {
        let mut cpus = Self::default();
        let mut processor = 0;
        for (name, value) in cpuinfo.lines().filter_map(|line| line.split_once(':')) {
            // The kernel prints the ids with %d, and an x2APIC's has 32 bits.
            let negative = || value.trim().parse().ok().map(i32::cast_unsigned);
            let number = || value.trim().parse().ok().or_else(negative);
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

    /// Has the first CPU this flag?
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|one| one == flag)
    }

    /// Does the TSC run at one rate, whatever the CPU does? Only then is its frequency worth measuring.
    pub fn tsc_is_steady(&self) -> bool {
        self.has("constant_tsc") && self.has("nonstop_tsc")
    }

    /// The value of `lastwords.apic_ids=`. IA32_TSC_AUX, where Linux keeps a CPU's number for RDTSCP, is not to be relied
    /// on: KVM leaves in it what a guest has written.
    pub fn apic_ids(&self) -> Option<String> {
        if self.apic_ids.is_empty() {
            return None;
        }
        // A CPU that is offline keeps its place; no CPU has this id, it means all of them (Intel SDM 3, "Local x2APIC").
        let ids: Vec<_> = self.apic_ids.iter().map(|id| id.unwrap_or(u32::MAX)).collect();
        Some(Runs(&ids).to_string())
    }

    /// The value of `lastwords.cpu_numbers=`, when the image needs it: where the CPUs' numbers have holes.
    pub fn numbers(&self) -> Option<String> {
        let has_holes = self.with_notes.iter().zip(0..).any(|(cpu, place)| *cpu != place);
        has_holes.then(|| Runs(&self.with_notes).to_string())
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
    use lastwords_core::numbers::Numbers;
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
    fn apic_ids_are_passed_whatever_the_cpu_has_for_its_number() {
        for flags in ["fpu", "fpu rdtscp rdpid"] {
            assert_eq!(cpus(&[0, 1, 2, 3], flags).apic_ids().as_deref(), Some("0-3"));
            assert_eq!(cpus(&[0, 2, 4, 1, 3, 5], flags).apic_ids().as_deref(), Some("0-4/2,1-5/2"));
        }
        assert_eq!(Cpus::default().apic_ids(), None);
    }

    #[test]
    fn a_cpu_that_is_offline_keeps_its_place() {
        let text = "processor\t: 0\napicid\t: 0\n\nprocessor\t: 2\napicid\t: 8\nflags\t: fpu\n";
        let ids = Cpus::parse(text).apic_ids().unwrap();
        assert_eq!(ids, "0,4294967295,8");
        assert_eq!(Numbers::parse(&ids).unwrap().position(8), Some(2));
    }

    #[test]
    fn an_apic_id_may_have_32_bits() {
        let text = "processor\t: 0\napicid\t: 0\n\nprocessor\t: 1\napicid\t: -2147483647\n";
        assert_eq!(Cpus::parse(text).apic_ids().as_deref(), Some("0,2147483649"));
    }

    #[test]
    fn numbers_are_passed_where_they_have_holes() {
        for (cpus, expected) in
            [(&[0, 1, 2, 3][..], None), (&[0, 2, 3], Some("0,2,3")), (&[1], Some("1")), (&[], None)]
        {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join("sys/devices/system/cpu");
            // A slot has no notes, and what is no CPU neither.
            for folder in [folder.join("cpu9"), folder.join("cpufreq")] {
                fs::create_dir_all(folder).unwrap();
            }
            for cpu in cpus {
                fs::create_dir_all(folder.join(format!("cpu{cpu}"))).unwrap();
                fs::write(folder.join(format!("cpu{cpu}/crash_notes")), "3f0a000\n").unwrap();
            }
            assert_eq!(Cpus::read(root.path()).numbers().as_deref(), expected, "{cpus:?}");
        }
    }

    #[test]
    fn a_steady_tsc_has_both_flags() {
        assert!(cpus(&[0], "constant_tsc nonstop_tsc").tsc_is_steady());
        assert!(!cpus(&[0], "constant_tsc tsc").tsc_is_steady());
    }

    proptest! {
        #[test]
        fn runs_say_where_each_id_is(ids in prop::collection::hash_set(0u32..40, 1..20)) {
            let ids: Vec<_> = ids.into_iter().collect();
            let text = Runs(&ids).to_string();
            let parsed = Numbers::parse(&text).unwrap();
            for (id, cpu) in ids.iter().zip(0u32..) {
                prop_assert_eq!(parsed.position(*id), Some(cpu), "{}", text);
            }
        }
    }
}
