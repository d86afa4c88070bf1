//! A machine at the image's first instruction, after the crash: made once for a build of lastwords and kept.

use crate::judge::image::Image;
use crate::machine::console::Line;
use crate::machine::gdb::{Debugger, Gdb};
use crate::machine::initramfs::Base;
use crate::machine::kernels::{Kernel, Release};
use crate::machine::qemu::Machine;
use crate::machine::{cache, lastwords, packages, snapshot};
use crate::scenarios::{Arm, Call, Scenario};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};

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
            .death("grep 'Crash kernel' /proc/iomem >/dev/console\nstep all is ready\nsleep 1\npanic_on 0")
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
    /// How the image is come to.
    pub way: Way,
    /// The image's first byte, a physical address.
    pub image: u64,
    /// The image's bytes in memory.
    pub len: u64,
    pub(super) machine: Machine,
    pub(super) file: PathBuf,
}

impl State {
    /// The state of this way, made when there is none of this build.
    ///
    /// # Errors
    /// When the machine does not come there.
    pub fn get(way: Way) -> Result<Self> {
        packages::install()?;
        let scenario = way.scenario();
        let kernel = Kernel::get(Release::V6_1)?;
        let machine = scenario.machine(&kernel, &Base::get(&kernel)?, &std::env::temp_dir())?;
        let mut hasher = DefaultHasher::new();
        fs::read(lastwords::program()?)?.hash(&mut hasher);
        machine.options().hash(&mut hasher);
        (include_str!("state.rs"), include_str!("../../../guest/payload.s")).hash(&mut hasher);
        let kind = snapshot::name(&format!("entry-{way}-"))?;
        let folder = cache::entry(&format!("{kind}{:016x}", hasher.finish()), |folder| {
            // Of other builds.
            snapshot::remove(|name| name.starts_with(&kind))?;
            fs::create_dir(folder)?;
            make(scenario, way, &folder.join("state"), &folder.join("image"))
        })?;
        let place = fs::read_to_string(folder.join("image"))?;
        let numbers: Vec<u64> = place.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [image, len] = numbers[..] else { anyhow::bail!("{place:?} is no place of an image") };
        Ok(Self { way, image, len, machine, file: folder.join("state") })
    }
}

fn make(scenario: Scenario, way: Way, state: &Path, place: &Path) -> Result<()> {
    let debugger = Debugger::new()?;
    let mut reserved = None;
    let mut made = false;
    snapshot::disk(state)?;
    scenario.beside(&snapshot::disk_options(state)).debugger(&debugger).watch(|vm, line| {
        reserved = reserved.take().or_else(|| crash_kernel(line));
        if line.text.contains("all is ready") {
            let mut gdb = debugger.connect()?;
            let (at, len, entry) = find(&mut gdb, reserved.clone().context("no memory is reserved")?, way)?;
            gdb.go_to(entry)?;
            let mut monitor = vm.monitor()?;
            snapshot::keep(&mut monitor)?;
            fs::write(place, format!("{at} {len}"))?;
            monitor.execute("quit", &json!({}))?;
            made = true;
        }
        Ok(())
    })?;
    ensure!(made, "the dump kernel was not loaded");
    Ok(())
}

/// `  15000000-16ffffff : Crash kernel`
fn crash_kernel(line: &Line) -> Option<Range<u64>> {
    let range = line.text.trim().strip_suffix(" : Crash kernel")?;
    let (start, end) = range.split_once('-')?;
    Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()? + 1)
}

/// The image in the reserved memory, where it begins on a page: its address, its length and its entry point.
fn find(gdb: &mut Gdb, reserved: Range<u64>, way: Way) -> Result<(u64, u64, u64)> {
    for page in reserved.step_by(4096) {
        if Image::begins(&gdb.read(page, 16)?) {
            let header = gdb.read(page, crate::judge::image::HEADER)?;
            let image = Image::find(&header)?;
            let entry = if way == Way::Wrap { image.entry()? } else { image.purgatory_entry()? };
            return Ok((page, image.memory_size()?, page + entry));
        }
    }
    anyhow::bail!("no image in the reserved memory")
}
