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
