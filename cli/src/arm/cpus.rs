//! What the running kernel shows of its CPUs in /proc/cpuinfo, for the image, which cannot find it out by itself when the
//! kernel is dead.

use std::{fmt, fs, path::Path};

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

    /// Reads the text of /proc/cpuinfo.
    pub fn parse(cpuinfo: &str) -> Self {
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

    /// Has the first CPU this flag?
    pub fn has(&self, flag: &str) -> bool {
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
