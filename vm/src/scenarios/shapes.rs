//! Shapes of machines, and of first kernels: on each the dump must be what stock kexec's is. QEMU's microvm is not among
//! them: Debian's kernel does not come up on it.

use crate::judge::{console, dump, ram};
use crate::machine::kernels::Release;
use crate::machine::qemu::Firmware;
use crate::scenarios::{Arm, Call, Scenario};
use anyhow::{Context, Result, ensure};

/// A kind of machine, beside q35 with 1 GiB, two CPUs and 256 MiB reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The older chipset, little memory.
    PcSmall,
    /// Two nodes of memory.
    Numa,
    /// A CPU of this kind, as QEMU names it.
    Cpu(&'static str),
    /// Five levels of page tables.
    FiveLevels,
    /// Local APIC ids with holes.
    SparseIds,
    /// Memory in a slot, there from the beginning.
    Dimm,
    /// So many CPUs.
    Cpus(u32),
    /// `nr_cpus=1` in the first kernel of a machine with four.
    NrCpus,
    /// Panic notifiers run before the dump kernel.
    PostNotifiers,
    /// A high region and a low one.
    TwoRegions,
    /// A hole in the memory map.
    Hole,
    /// 140 of them: more than 128 ranges of RAM.
    Holes,
    /// 16 GiB by UEFI, reserved high.
    Large,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 19] = [
        Self::PcSmall,
        Self::Numa,
        Self::Cpu("qemu64"),
        Self::Cpu("Nehalem"),
        Self::Cpu("Haswell"),
        Self::Cpu("Skylake-Server"),
        Self::Cpu("Opteron_G3"),
        Self::Cpu("EPYC-Rome"),
        Self::FiveLevels,
        Self::SparseIds,
        Self::Dimm,
        Self::Cpus(32),
        Self::Cpus(64),
        Self::NrCpus,
        Self::PostNotifiers,
        Self::TwoRegions,
        Self::Hole,
        Self::Holes,
        Self::Large,
    ];

    /// CPUs that the first kernel runs on.
    fn cpus(self) -> usize {
        match self {
            Self::Numa => 4,
            Self::SparseIds => 6,
            Self::Cpus(cpus) => cpus as usize,
            Self::NrCpus => 1,
            _ => 2,
        }
    }

    fn scenario(self) -> Scenario {
        let scenario =
            Scenario::new(Release::V6_1).cpus(self.cpus() as u32).limit(std::time::Duration::from_secs(900));
        match self {
            Self::PcSmall => scenario.kind("pc").memory(512).first_append("crashkernel=192M"),
            Self::Numa => scenario.qemu([
                "-object",
                "memory-backend-ram,id=one,size=512M",
                "-object",
                "memory-backend-ram,id=two,size=512M",
                "-numa",
                "node,cpus=0-1,memdev=one",
                "-numa",
                "node,cpus=2-3,memdev=two",
            ]),
            Self::Cpu(cpu) => scenario.cpu(cpu),
            Self::FiveLevels => scenario.cpu("max,la57=on,erms=off"),
            // 6.1 hangs on such a machine when QEMU emulates it.
            Self::SparseIds => Scenario::new(Release::V6_12).cpus(6).topology("sockets=2,cores=3"),
            Self::Dimm => scenario
                .qemu([
                    "-m",
                    "slots=2,maxmem=4G",
                    "-object",
                    "memory-backend-ram,id=more,size=128M",
                    "-device",
                    "pc-dimm,memdev=more",
                ])
                // Bounce buffers take 64 MiB of it, where there can be memory above 4 GiB.
                .first_append("crashkernel=384M memhp_default_state=online")
                // The dump kernel is not to take the crashed kernel's memory for its own.
                .append("acpi_no_memhotplug")
                .before("until grep -q 100000000-107ffffff /proc/iomem; do sleep 1; done"),
            Self::Cpus(_) => scenario.memory(2048),
            Self::NrCpus => scenario.cpus(4).first_append("crashkernel=256M nr_cpus=1"),
            Self::PostNotifiers => scenario.first_append("crashkernel=256M crash_kexec_post_notifiers"),
            Self::TwoRegions => {
                scenario.memory(6144).first_append("crashkernel=256M,high crashkernel=128M,low")
            }
            Self::Hole => scenario.first_append("crashkernel=256M memmap=1M$0x18000000"),
            Self::Holes => {
                let holes: Vec<_> = (150..290).map(|place| format!("4K${}M", 2 * place)).collect();
                scenario.first_append(&format!("crashkernel=256M memmap={}", holes.join(",")))
            }
            Self::Large => {
                scenario.firmware(Firmware::Uefi).memory(16384).first_append("crashkernel=384M,high")
            }
        }
    }

    /// Lets it crash with a dump kernel loaded in this way, and looks at the dump.
    ///
    /// # Errors
    /// When there is none, or it is not what /proc/iomem was.
    pub fn dumps(self, arm: Arm) -> Result<()> {
        let (what, is_ours) = (format!("{self:?}, {arm:?}"), !matches!(arm, Arm::Stock(_)));
        let load = || -> Result<()> {
            let outcome = self
                .scenario()
                .arm(arm)
                .death("section first-iomem cat /proc/iomem\npanic_on 0")
                .dump("section loads readelf -lW /proc/vmcore\ncollect_vmcore\ncollect_dump")
                .run()?;
            ensure!(outcome.dumped(), "no dump");
            dump::check(&outcome, self.cpus())?;
            ram::check(&outcome, "first-iomem", "loads")?;
            if !is_ours {
                return Ok(());
            }
            ensure!(
                self != Self::Holes || outcome.text("loads")?.matches(" LOAD ").count() > 140,
                "too few ranges"
            );
            console::check(&outcome, 0)?;
            let headline = console::lines(&outcome).first().copied().unwrap_or_default().to_owned();
            ensure!(
                headline.ends_with(" panicked on CPU 0: sysrq triggered crash"),
                "the headline is {headline:?}"
            );
            Ok(())
        };
        load().context(what)
    }

    /// Stock's dump is a good one, and so are ours, loaded in both ways.
    ///
    /// # Errors
    /// When one is not.
    pub fn dumps_as_stock(self) -> Result<()> {
        const OPTIONS: &str = "--ipmi-handle-panic --output-cpu-ip";
        self.dumps(Arm::Stock(Call::Load)).context("not even with kexec")?;
        self.dumps(Arm::Lastwords(format!("--via purgatory {OPTIONS}")))?;
        // With kexec_file_load(2), Linux hands over no more than 128 entries of the memory map, the reserved ones first: then
        // no dump kernel has memory.
        let call = if self == Self::Holes { Call::Load } else { Call::FileLoad };
        self.dumps(Arm::Wrapped(call, OPTIONS.to_owned()))
    }
}
