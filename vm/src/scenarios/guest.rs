//! What the guests are given: the first kernel's orders, and the dump kernel's initial RAM disk with the script in it.

use crate::machine::cpio::Archive;
use crate::machine::initramfs::{self, Base};
use crate::machine::kernels::Kernel;
use crate::machine::{lastwords, payload, process};
use crate::scenarios::scenario::{Arm, Call, Scenario};
use anyhow::{Context, Result};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What both kernels are told: a serial console, and to leave out what costs an emulated CPU time and has no part
/// in a crash. Address randomization stays on.
pub(super) const QUICK: &str =
    "console=ttyS0 quiet mitigations=off nmi_watchdog=0 no_timer_check tsc=reliable cryptomgr.notests";

/// What a dump kernel is told besides (Linux `Documentation/admin-guide/kdump/kdump.rst`).
const DUMP_KERNEL: &str = "nr_cpus=1 reset_devices";

impl Call {
    /// As kexec-tools has it.
    fn option(self) -> &'static str {
        match self {
            Self::FileLoad => "-s",
            Self::Load => "-c",
        }
    }
}

impl Scenario {
    /// The first kernel's orders, an archive: its script, and what it needs for it.
    pub(super) fn orders(&self, kernel: &Kernel, base: &Base, folder: &Path) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        archive.file("scenario", 0o644, self.first_script().as_bytes());
        for (name, bytes) in &self.files {
            archive.file(&format!("boot/{name}"), 0o600, bytes);
        }
        if self.arm != Arm::Not || self.lastwords_at_hand {
            let mut image = kernel.image.clone();
            if self.payload {
                image = folder.join("payload");
                fs::write(&image, payload::build()?)?;
            }
            if let Arm::Wrapped(_, options) = &self.arm {
                let wrapped = folder.join("wrapped");
                lastwords::wrap(&image, &wrapped, options)?;
                image = wrapped;
            }
            archive.file("boot/vmlinuz", 0o644, &fs::read(image)?);
            if !self.payload {
                let mut initrd = fs::read(&base.compressed)?;
                initrd.extend(self.dump_root(folder)?);
                archive.file("boot/initrd", 0o644, &initrd);
            }
        }
        if matches!(self.arm, Arm::Lastwords(_)) || self.lastwords_at_hand {
            add_program(&mut archive, self.lastwords()?, folder)?;
        }
        Ok(archive.finish())
    }

    fn lastwords(&self) -> Result<&Path> {
        self.program.as_deref().map_or_else(|| lastwords::program(), Ok)
    }

    fn first_script(&self) -> String {
        let append = format!("{QUICK} {DUMP_KERNEL} {}", self.append);
        let initrd = if self.payload { "" } else { "--initrd=/boot/initrd " };
        let load = format!("{initrd}--append=\"{}\"", append.trim_end());
        let arm = match &self.arm {
            Arm::Not => None,
            Arm::Stock(call) | Arm::Wrapped(call, _) => {
                Some(format!("kexec {} -p /boot/vmlinuz {load}", call.option()))
            }
            Arm::Lastwords(options) => Some(format!("lastwords load /boot/vmlinuz {load} {options}")),
        };
        let mut script = format!("step the first kernel is up\n{}\n", self.before);
        if let Some(arm) = arm {
            let _ = writeln!(
                script,
                "section arm {arm} || {{ step not armed: status $?; poweroff -f; }}\nstep the dump kernel is loaded"
            );
        }
        let _ = writeln!(script, "{}", self.death);
        script
    }

    /// What the dump kernel's root has besides the base.
    fn dump_root(&self, folder: &Path) -> Result<Vec<u8>> {
        // The ELF header and the notes: a page each, and room for the CPUs' notes, and for a range of RAM more for each hole.
        let holes = self.first_append.matches('$').count() as u32;
        let head = 2 * 4096 + (4096 + self.cpus * 512 + holes * 56).next_multiple_of(4096);
        let mut archive = Archive::default();
        let script = format!(
            "VMCORE_HEAD={head}\nstep the dump kernel is up\n{}\nsection end true\nstep the end\n",
            self.dump
        );
        archive.file("scenario", 0o644, script.as_bytes());
        if self.lastwords_at_hand && self.dump.contains("lastwords") {
            add_program(&mut archive, self.lastwords()?, folder)?;
        }
        if self.log_at_hand {
            add_program(&mut archive, &lastwords::vmcore_log()?, folder)?;
        }
        Ok(archive.finish())
    }
}

/// Puts one of our own programs into a root.
fn add_program(archive: &mut Archive, program: &Path, folder: &Path) -> Result<()> {
    // Without its debugging symbols, which are most of it.
    let stripped = folder.join(program.file_name().context("a program has a name")?);
    process::output(Command::new("strip").arg("-o").arg(&stripped).arg(program))?;
    initramfs::add_program(archive, &stripped)?;
    for library in initramfs::libraries(&[program])? {
        initramfs::add_library(archive, &library)?;
    }
    Ok(())
}
