//! A machine at the image's first instruction, after the crash.

use crate::judge::image::{HEADER, Image};
use crate::machine::gdb::Gdb;
use crate::machine::kernels::Release;
use crate::machine::qemu::Machine;
use crate::scenarios::kept::{DEATH, KeptState, keep};
use crate::scenarios::{Arm, Call, Scenario};
use anyhow::{Result, bail};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// How the image is come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// As the purgatory. One CPU without an APIC, so that nobody can mask an NMI.
    Purgatory,
    /// By the hook in a wrapped kernel, on the same machine.
    Wrap,
    /// As the purgatory, with a second CPU that the crash has stopped, for what comes to all CPUs.
    TwoCpus,
}

impl Way {
    /// Every way.
    pub const ALL: [Self; 3] = [Self::Purgatory, Self::Wrap, Self::TwoCpus];

    fn scenario(self) -> Scenario {
        const OPTIONS: &str = "--ipmi-handle-panic --output-cpu-ip --ipmi-watchdog start=300";
        let arm = match self {
            Self::Wrap => Arm::Wrapped(Call::Load, OPTIONS.to_owned()),
            _ => Arm::Lastwords(format!("--via purgatory {OPTIONS}")),
        };
        let (cpus, cpu) = match self {
            Self::TwoCpus => (2, "max,la57=off,erms=off"),
            _ => (1, "max,la57=off,erms=off,-apic"),
        };
        Scenario::new(Release::V6_1)
            .cpus(cpus)
            .cpu(cpu)
            .memory(384)
            // Memory that is free is zero, and costs nothing to put back.
            .first_append("crashkernel=32M init_on_free=1")
            .payload()
            .arm(arm)
            .death(DEATH)
    }
}

/// As the list of what is lost names it.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Purgatory => "purgatory",
            Self::Wrap => "wrap",
            Self::TwoCpus => "two-cpus",
        })
    }
}

/// A machine that stands before the image's first instruction.
pub struct State {
    /// The image's first byte, a physical address.
    pub(super) image: u64,
    pub(super) machine: Machine,
    pub(super) file: PathBuf,
}

impl State {
    /// The state of this way, made when there is none of this build.
    ///
    /// # Errors
    /// When the machine does not come there.
    pub fn get(way: Way) -> Result<Self> {
        let KeptState { machine, file, note } = keep(&format!("entry-{way}"), way.scenario(), |ready| {
            let (image, entry) = find(ready.gdb, ready.reserved, way)?;
            Ok((entry, vec![image]))
        })?;
        let [image] = note[..] else { bail!("{note:?} is no place of an image") };
        Ok(Self { image, machine, file })
    }
}

/// The image in the reserved memory, where it begins on a page: its address, and that of its entry point.
fn find(gdb: &mut Gdb, reserved: Range<u64>, way: Way) -> Result<(u64, u64)> {
    for page in reserved.step_by(4096) {
        if Image::begins(&gdb.read(page, 16)?) {
            let header = gdb.read(page, HEADER)?;
            let image = Image::find(&header)?;
            let entry = if way == Way::Wrap { image.entry()? } else { image.purgatory_entry()? };
            return Ok((page, page + entry));
        }
    }
    bail!("no image in the reserved memory")
}
