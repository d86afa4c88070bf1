//! Is there room in ordinary memory to try what is to be loaded?

use std::{fs, path::Path};

/// /proc/meminfo, in bytes; `None` where it does not show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// MemTotal: what the kernel has (`totalram_pages`).
    pub total: Option<u64>,
    /// MemAvailable: what can be had without taking it from anybody.
    pub available: Option<u64>,
}

/// What is to be loaded, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Memory of its segments.
    pub segments: u64,
    /// What the kernel needs besides, as long as it loads.
    pub buffers: u64,
}

impl Memory {
    /// Reads it below `root`.
    pub fn read(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("proc/meminfo")).unwrap_or_default();
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
        };
        Self { total: bytes("MemTotal"), available: bytes("MemAvailable") }
    }

    /// Are the segments more than the kernel takes of any kernel? EINVAL is its answer to more than half of all memory
    /// (`sanity_check_segment_list` in `kernel/kexec_core.c`), reserved or not.
    pub fn is_exceeded_by(self, segments: u64) -> bool {
        self.total.is_some_and(|total| segments > total / 2)
    }

    /// Is there so much, and enough left for everybody else? Else the OOM killer would be the one that decides.
    pub fn has_room_for(self, size: Size) -> bool {
        let reserve = (self.total.unwrap_or(0) / 8).max(128 << 20);
        let needed = size.segments.saturating_add(size.buffers).saturating_add(reserve);
        self.available.is_some_and(|available| available > needed)
    }
}

/// The least that a memory cgroup around us allows, in bytes; `None` where none has a limit that can be seen.
pub fn cgroup_limit(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = text.lines().filter_map(|line| {
        // `HIERARCHY:CONTROLLERS:PATH`, without controllers in version 2 (cgroups(7)).
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>().try_into().ok()?;
        let (folder, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|one| one == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let limit = |group: &Path| -> Option<u64> {
            let group = root.join(folder).join(group.strip_prefix("/").ok()?);
            fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()
        };
        Path::new(path).ancestors().filter_map(limit).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_is_read() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Memory::read(root.path()), Memory::default());
        fs::create_dir(root.path().join("proc")).unwrap();
        let text = "MemTotal:        2048 kB\nMemFree:          1 kB\nMemAvailable:    1024 kB\n";
        fs::write(root.path().join("proc/meminfo"), text).unwrap();
        let memory = Memory { total: Some(2 << 20), available: Some(1 << 20) };
        assert_eq!(Memory::read(root.path()), memory);
    }

    #[test]
    fn the_least_limit_of_the_cgroups_around_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(cgroup_limit(root.path()), None);
        put("proc/self/cgroup", "0::/system.slice/kdump.service\n");
        assert_eq!(cgroup_limit(root.path()), None);
        put("sys/fs/cgroup/system.slice/kdump.service/memory.max", "max\n");
        assert_eq!(cgroup_limit(root.path()), None);
        put("sys/fs/cgroup/system.slice/memory.max", "62914560\n");
        assert_eq!(cgroup_limit(root.path()), Some(62_914_560));
        put("sys/fs/cgroup/system.slice/kdump.service/memory.max", "20971520\n");
        assert_eq!(cgroup_limit(root.path()), Some(20_971_520));
        // Version 1, whose root says that there is no limit by a number.
        put("proc/self/cgroup", "9:cpu,cpuacct:/a\n4:memory:/a/b:c\n1:name=systemd:/x\n0::/\n");
        put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(cgroup_limit(root.path()), Some(9_223_372_036_854_771_712));
        put("sys/fs/cgroup/memory/a/b:c/memory.limit_in_bytes", "8192\n");
        assert_eq!(cgroup_limit(root.path()), Some(8192));
    }

    #[test]
    fn a_trial_leaves_memory_to_others() {
        const MIB: u64 = 1 << 20;
        let memory = |available| Memory { total: Some(1024 * MIB), available: Some(available * MIB) };
        let size = Size { segments: 260 * MIB, buffers: 200 * MIB };
        assert!(memory(589).has_room_for(size));
        assert!(!memory(588).has_room_for(size));
        assert!(memory(0).is_exceeded_by(513 * MIB) && !memory(0).is_exceeded_by(512 * MIB));
        // Of an unknown memory nothing is taken.
        assert!(!Memory::default().has_room_for(Size { segments: 0, buffers: 0 }));
        assert!(!Memory::default().is_exceeded_by(u64::MAX));
    }
}
