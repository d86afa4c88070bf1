//! Gives the running kernel what is to be loaded.
//!
//! "Never worse than plain kdump" holds for loading, too. The kernel frees the loaded dump kernel before it looks at the
//! new one, so all that can be checked is checked first, and where a dump kernel is loaded already the same files are
//! first loaded into the place of `kexec -e`, where the kernel checks them without touching the dump kernel.

use super::{
    kdump::Kdump,
    refusal::{Refusal, Situation},
    x86_64::{boot_params::E820Entry, purgatory::Purgatory},
};
use crate::sys::{self, KexecSegment, Place};
use anyhow::{Context, Result};
use std::{ffi::CString, fmt, fs::File, io, path::Path};

/// What is going to be loaded.
pub enum Loading<'a> {
    /// The image as the purgatory, with kexec_load(2).
    Purgatory { purgatory: Purgatory<'a>, hotplug: bool },
    /// The image in the dump kernel, with kexec_file_load(2).
    Wrap { kernel: File, initrd: Option<File>, cmdline: CString, situation: Situation<'a> },
}

impl Loading<'_> {
    /// Loads the dump kernel, after a trial where that helps.
    ///
    /// # Errors
    /// A [`Refusal`], with whether a dump kernel is still loaded.
    pub fn load(&self, root: &Path, kdump: &Kdump) -> Result<()> {
        const KEPT: &str = "not loaded, the earlier dump kernel is still loaded";
        if kdump.can_try() {
            self.attempt().map_err(|error| self.refusal(kdump, &error).of_a_trial()).context(KEPT)?;
        }
        self.load_into(Place::Crash).map_err(|error| self.refusal(kdump, &error)).with_context(|| {
            match (kdump.crash_loaded, Kdump::read(root).crash_loaded) {
                (Some(true), Some(false)) => {
                    "not loaded, and the earlier dump kernel is no longer loaded\nhint: load the earlier one again"
                }
                (Some(true), _) => KEPT,
                _ => "not loaded",
            }
        })
    }

    fn load_into(&self, place: Place) -> io::Result<()> {
        match self {
            Self::Purgatory { purgatory, hotplug } => {
                let segments: Vec<_> = purgatory
                    .segments
                    .iter()
                    .map(|segment| KexecSegment {
                        data: &segment.data,
                        addr: segment.addr,
                        memory_size: segment.memory_size,
                    })
                    .collect();
                sys::kexec_load(place, purgatory.entry, &segments, *hotplug)
            }
            Self::Wrap { kernel, initrd, cmdline, .. } => {
                sys::kexec_file_load(place, kernel, initrd.as_ref(), cmdline)
            }
        }
    }

    /// Loads into the place of `kexec -e` and takes it out again.
    fn attempt(&self) -> io::Result<()> {
        self.load_into(Place::Reboot)?;
        match self {
            Self::Purgatory { .. } => sys::kexec_unload(Place::Reboot),
            Self::Wrap { .. } => sys::kexec_file_unload(Place::Reboot),
        }
    }

    fn refusal(&self, kdump: &Kdump, error: &io::Error) -> Refusal {
        match self {
            Self::Purgatory { .. } => Refusal::to_load_as_purgatory(error, kdump),
            Self::Wrap { situation, .. } => situation.refusal(error),
        }
    }
}

/// What `--verbose` prints of what is loaded.
pub struct Verbose<'a>(pub &'a Purgatory<'a>);

impl fmt::Display for Verbose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Purgatory { segments, entry, cmdline, e820 } = self.0;
        for segment in segments {
            let (name, last) = (segment.name, segment.addr + segment.memory_size - 1);
            writeln!(f, "segment: {:#x}-{last:#x} {name}, {} bytes", segment.addr, segment.data.len())?;
        }
        writeln!(f, "entry: {entry:#x}")?;
        for E820Entry { range, kind } in e820 {
            writeln!(f, "E820: {:#x}-{:#x} {kind:?}", range.start, range.end - 1)?;
        }
        writeln!(f, "command line: {cmdline}")
    }
}
