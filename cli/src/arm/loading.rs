//! Gives the running kernel what is to be loaded.
//!
//! "Never worse than plain kdump" holds for arming, too. The kernel frees what was armed before it looks at the new
//! image, so all that can be checked is checked first, and where something is armed already the same files are first
//! loaded into the place of `kexec -e`, where the kernel checks them without touching what is armed.

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
    /// Arms the dump kernel, after a rehearsal where that helps.
    pub fn arm(&self, root: &Path, kdump: &Kdump) -> Result<()> {
        if kdump.can_rehearse() {
            self.rehearse()
                .map_err(|error| self.refusal(kdump, &error).in_rehearsal())
                .context("not loaded, what was armed before is still armed")?;
        }
        self.load(Place::Crash).map_err(|error| self.refusal(kdump, &error)).with_context(|| {
            match (kdump.crash_loaded, Kdump::read(root).crash_loaded) {
                (Some(true), Some(false)) => "not loaded, and what was armed before is lost: arm it again",
                (Some(true), _) => "not loaded, what was armed before is still armed",
                _ => "not loaded",
            }
        })
    }

    fn load(&self, place: Place) -> io::Result<()> {
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
    fn rehearse(&self) -> io::Result<()> {
        self.load(Place::Reboot)?;
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

/// What `--verbose` says of what is loaded.
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
