//! The report of a crash that did not happen, of the kernel that runs here.

use crate::symbols::build_id::running_build_id;
use lastwords_core::{
    crash::CauseReader,
    report::{CpuLocation, CrashId, Fnv, Location, Report},
};
use std::{fs, path::Path};

/// The made-up crash's log. The reason begins with what marks a test report (`read::crash`).
const LOG: [&str; 8] = [
    "sysrq: Trigger a crash",
    "Kernel panic - not syncing: test report, nothing has crashed",
    "CPU: 0 PID: 1 Comm: lastwords Not tainted",
    "Call Trace:",
    " <TASK>",
    " sysrq_handle_crash+0x16/0x20",
    " write_sysrq_trigger+0x24/0x40",
    " </TASK>",
];

/// In which functions its CPUs are, how far into them, and where that is when it is not known: the one that panicked; and
/// the others, in the first of these that there is.
const PANICKED: (&[&str], u32, u32) = (&["sysrq_handle_crash"], 0x16, 0x9c_2a36);
const IDLE: (&[&str], u32, u32) =
    (&["pv_native_safe_halt", "native_safe_halt", "default_idle", "mwait_idle"], 0xb, 0x1_03f0);

/// The report, with so many CPUs, of which the last one panicked.
pub fn report(root: &Path, cpus: u32) -> Report {
    let mut reader = CauseReader::default();
    for line in LOG {
        reader.text(0, None, line.as_bytes());
    }
    let mut report = Report { cause: reader.cause, ..Report::default() };
    // Where these cannot be read, the report does without.
    let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).unwrap_or_default();
    report.release.bytes(release.trim().as_bytes());
    let build_id = running_build_id(root);
    report.build_id = build_id.and_then(|id| u32::from_str_radix(id.get(..8)?, 16).ok());

    // Another one each time that it is read.
    let uuid = fs::read_to_string(root.join("proc/sys/kernel/random/uuid"));
    report.id = uuid.ok().map(|uuid| CrashId::new(Fnv::default().bytes(uuid.as_bytes())));

    let kallsyms = fs::read_to_string(root.join("proc/kallsyms")).unwrap_or_default();
    let known = [PANICKED, IDLE].map(|(names, into, _)| offset(&kallsyms, names).map(|offset| offset + into));
    let [panicked, idle] = match known {
        [Some(panicked), Some(idle)] => [panicked, idle],
        _ => [PANICKED.2, IDLE.2],
    };
    let last = cpus.saturating_sub(1);
    report.panicked = Some(CpuLocation { cpu: last, location: Location::Kernel(panicked) });
    (0..last).for_each(|_| report.groups.add(Location::Kernel(idle)));
    report
}

/// How far behind `_stext` the first of these functions that there is begins. `None` when it is not there or hidden.
fn offset(kallsyms: &str, names: &[&str]) -> Option<u32> {
    let address = |name: &str| {
        let line = kallsyms.lines().find(|line| line.split(' ').nth(2) == Some(name))?;
        u64::from_str_radix(line.split(' ').next()?, 16).ok().filter(|address| *address != 0)
    };
    let function = names.iter().find_map(|name| address(name))?;
    u32::try_from(function.checked_sub(address("_stext")?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use lastwords_core::report::Line;

    /// Where the panicked CPU is, and the groups of the others.
    fn locations(report: &Report) -> (Option<CpuLocation>, Vec<(u32, Location)>) {
        let mut groups = Vec::new();
        report.groups.lines(100, |_| 1, &mut |line| {
            if let Line::Group { count, location } = line {
                groups.push((count, location));
            }
            true
        });
        (report.panicked, groups)
    }

    #[test]
    fn the_made_up_crash_is_of_the_running_kernel() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        let nothing = report(root.path(), 2);
        assert_eq!((nothing.release.as_bytes(), nothing.build_id, nothing.id), (&b""[..], None, None));

        write("proc/sys/kernel/osrelease", b"6.1.0-56-amd64\n");
        let symbols = "ffffffff81000000 T _stext\nffffffff81000200 t native_safe_halt\nffffffff81000400 t sysrq_handle_crash\n";
        write("proc/kallsyms", symbols.as_bytes());
        let crash = report(root.path(), 3);
        assert_eq!(crash.release.as_bytes(), b"6.1.0-56-amd64");
        let ids = ["one", "two"].map(|uuid| {
            write("proc/sys/kernel/random/uuid", uuid.as_bytes());
            report(root.path(), 3).id.unwrap()
        });
        assert_ne!(ids[0], ids[1]);
        let panicked = CpuLocation { cpu: 2, location: Location::Kernel(0x416) };
        assert_eq!(locations(&crash), (Some(panicked), vec![(2, Location::Kernel(0x20b))]));

        // As it looks to those who may not see.
        write("proc/kallsyms", b"0000000000000000 T _stext\n0000000000000000 t sysrq_handle_crash\n");
        assert_eq!(locations(&report(root.path(), 3)), locations(&nothing_known(3)));
        assert_eq!(locations(&report(root.path(), 1)).1, []);
    }

    fn nothing_known(cpus: u32) -> Report {
        report(Path::new("/nonexistent"), cpus)
    }
}
