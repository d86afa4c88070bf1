//! Gives the running kernel what is to be loaded.
//!
//! "Never worse than plain kdump" holds for loading, too. The kernel frees the loaded dump kernel before it looks at the
//! new one, so all that can be checked is checked first, and where a dump kernel is loaded already the same files are
//! first loaded into the place of `kexec -e`, where the kernel checks them without touching the dump kernel.

use super::{
    busy,
    kdump::Kdump,
    memory::{Memory, Size},
    refusal::{Refusal, Situation},
    x86_64::{boot_params::E820Entry, purgatory::Purgatory},
};
use crate::{
    message,
    sys::{self, KexecSegment, Place},
};
use anyhow::{Context, Result};
use std::{
    ffi::CString,
    fmt,
    fs::File,
    io::{self, Seek},
    path::Path,
};

/// What is going to be loaded.
pub enum Loading<'a> {
    /// The image as the purgatory, with kexec_load(2).
    Purgatory { purgatory: Purgatory<'a>, hotplug: bool },
    /// The image in the dump kernel, with kexec_file_load(2).
    Wrap {
        kernel: File,
        initrd: Option<File>,
        cmdline: CString,
        situation: Situation<'a>,
        /// Bytes of the two files.
        files: u64,
    },
}

impl Loading<'_> {
    /// Loads the dump kernel, after a trial where that helps. False where it was not loaded, because `is_safe` says right
    /// before that others can change the files: the kernel gives the loaded dump kernel away first.
    ///
    /// # Errors
    /// A [`Refusal`], with whether a dump kernel is still loaded.
    pub fn load(
        &self,
        root: &Path,
        kdump: &Kdump,
        verbose: bool,
        is_safe: impl Fn() -> bool,
    ) -> Result<bool> {
        const KEPT: &str = "not loaded, the earlier dump kernel is still loaded";
        let memory = Memory::read(root);
        let skipped = match trial(kdump, memory, self.size()) {
            Ok(()) => match self.attempt().map_err(|error| self.refusal(kdump, memory, &error)) {
                Err(refusal) if refusal.is_about_ordinary_memory() => Some("not enough free memory"),
                result => {
                    result.context(KEPT)?;
                    None
                }
            },
            Err(reason) => Some(reason),
        };
        if let Some(reason) = skipped.filter(|_| verbose) {
            message::output(format_args!("trial in ordinary memory: skipped ({reason})"));
        }
        if !is_safe() {
            return Ok(false);
        }
        let loaded = self.load_into(Place::Crash).map_err(|error| self.refusal(kdump, memory, &error));
        loaded.map(|()| true).with_context(|| {
            match (kdump.crash_loaded, Kdump::read(root).crash_loaded) {
                (Some(true), Some(false)) => {
                    "not loaded, and the earlier dump kernel is no longer loaded\nhint: load the earlier one again"
                }
                (Some(true), _) => KEPT,
                _ => "not loaded",
            }
        })
    }

    /// Is what is to be loaded what it was when it was put together? Where the kernel itself reads files that is not known.
    pub fn holds(&self) -> bool {
        match self {
            Self::Purgatory { purgatory, .. } => purgatory.holds(),
            Self::Wrap { .. } => true,
        }
    }

    /// Does the kernel hold what was put together, whatever has become of the files since?
    pub fn is_loaded(&self, root: &Path) -> bool {
        match self {
            Self::Purgatory { purgatory, .. } => purgatory.is_loaded(root),
            Self::Wrap { .. } => false,
        }
    }

    /// Loads it into the place of `kexec -e` alone, and takes it out again: would the kernel accept it?
    pub fn trial(&self, root: &Path, kdump: &Kdump) -> Trial {
        let memory = Memory::read(root);
        // Whether one is loaded already does not matter: nothing is loaded afterwards.
        let kdump = Kdump { crash_loaded: Some(true), ..kdump.clone() };
        match trial(&kdump, memory, self.size()) {
            Ok(()) => match self.attempt() {
                Ok(()) => Trial::Accepted,
                Err(error) => Trial::Refused(self.refusal(&kdump, memory, &error)),
            },
            Err(_) => Trial::Skipped,
        }
    }

    /// What it takes of ordinary memory to try it.
    fn size(&self) -> Size {
        match self {
            Self::Purgatory { purgatory, .. } => Size {
                segments: purgatory.segments.iter().map(|segment| segment.memory_size).sum(),
                buffers: 0,
            },
            // The kernel reads the files first.
            Self::Wrap { situation, files, .. } => Size { segments: situation.needs, buffers: *files },
        }
    }

    fn load_into(&self, place: Place) -> io::Result<()> {
        busy::patiently(|| self.call(place))
    }

    fn call(&self, place: Place) -> io::Result<()> {
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
                match sys::kexec_file_load(place, kernel, initrd.as_ref(), cmdline) {
                    // Somebody has one of the files open for writing; also who waits for our lease to end. The kernel reads no
                    // such file, but has given away already what was loaded.
                    Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                        let initrd = initrd.as_ref().map(copy).transpose()?;
                        sys::kexec_file_load(place, &copy(kernel)?, initrd.as_ref(), cmdline)
                    }
                    result => result,
                }
            }
        }
    }

    /// Loads into the place of `kexec -e` and takes it out again. In a process of its own: whoever is killed then, nothing
    /// stays there.
    fn attempt(&self) -> io::Result<()> {
        let unload = || match self {
            Self::Purgatory { .. } => sys::kexec_unload(Place::Reboot),
            Self::Wrap { .. } => sys::kexec_file_unload(Place::Reboot),
        };
        sys::try_and_undo(|| self.load_into(Place::Reboot), || busy::patiently(unload))
    }

    fn refusal(&self, kdump: &Kdump, memory: Memory, error: &io::Error) -> Refusal {
        if error.raw_os_error() == Some(libc::EINVAL) && memory.is_exceeded_by(self.size().segments) {
            return Refusal::MoreThanHalf;
        }
        match self {
            Self::Purgatory { .. } => Refusal::to_load_as_purgatory(error, kdump),
            Self::Wrap { situation, .. } => situation.refusal(error),
        }
    }
}

/// A file of the same bytes that is in memory alone.
fn copy(mut file: &File) -> io::Result<File> {
    let mut copy = sys::memory_file(c"lastwords", &[])?;
    file.rewind()?;
    io::copy(&mut file, &mut copy)?;
    Ok(copy)
}

/// How a trial has ended.
pub enum Trial {
    /// The kernel accepts it.
    Accepted,
    /// The kernel refuses it.
    Refused(Refusal),
    /// Nothing was tried: it would cost something.
    Skipped,
}

/// Is there anything to be lost by loading untried, and may it be tried? The reason, if not.
fn trial(kdump: &Kdump, memory: Memory, size: Size) -> Result<(), &'static str> {
    if kdump.crash_loaded != Some(true) {
        Err("no dump kernel is loaded that could be lost")
    } else if kdump.reboot_loaded {
        Err("a kernel is loaded for kexec -e")
    } else if kdump.limit_reboot.is_some() {
        Err("sysctl kernel.kexec_load_limit_reboot")
    } else if memory.is_exceeded_by(size.segments) {
        Err("kernel and initrd take more than half of this machine's memory")
    } else if !memory.has_room_for(size) {
        Err("too little memory is available")
    } else {
        Ok(())
    }
}

/// What `--verbose` prints of what is loaded.
pub struct Verbose<'a>(pub &'a Purgatory<'a>);

impl fmt::Display for Verbose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Purgatory { segments, entry, cmdline, e820, .. } = self.0;
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

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_copy_has_all_bytes_wherever_the_file_was_read_to() {
        use std::io::Read;
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &vec![7; 100_000]).unwrap();
        let mut copy = copy(&file).unwrap();
        copy.rewind().unwrap();
        let mut bytes = Vec::new();
        copy.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() == 100_000 && bytes.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_trial_costs_nobody_anything() {
        let loaded = Kdump { crash_loaded: Some(true), ..Kdump::default() };
        let memory = |total, available| Memory { total: Some(total * MIB), available: Some(available * MIB) };
        let plenty = memory(8192, 4096);
        for (kdump, memory, reason) in [
            (loaded.clone(), plenty, None),
            (Kdump { crash_loaded: Some(false), ..loaded.clone() }, plenty, Some("no dump kernel")),
            (Kdump { reboot_loaded: true, ..loaded.clone() }, plenty, Some("kexec -e")),
            (Kdump { limit_reboot: Some(2), ..loaded.clone() }, plenty, Some("limit_reboot")),
            (loaded.clone(), memory(900, 350), Some("too little memory")),
            (loaded.clone(), memory(520, 500), Some("more than half")),
        ] {
            let skipped = trial(&kdump, memory, Size { segments: 261 * MIB, buffers: 0 }).err();
            assert_eq!(skipped.is_some(), reason.is_some(), "{skipped:?}");
            assert!(skipped.unwrap_or_default().contains(reason.unwrap_or_default()), "{skipped:?}");
        }
    }
}
