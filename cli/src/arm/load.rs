//! `lastwords load`: arms the dump kernel, the image as its purgatory (kexec_load(2)) or wrapped into it in memory
//! (kexec_file_load(2)).
//!
//! All that can be checked is checked here, before `loading` gives it to the kernel.

use super::{
    cmdline::Cmdline,
    cpus::Cpus,
    image::IMAGE,
    initrd::Initrd,
    kdump::Kdump,
    kexec::KexecOptions,
    loaded,
    loading::{Loading, Verbose},
    options::PlanOptions,
    refusal::{Refusal, Situation},
    unload,
    via::{self, Via},
    x86_64::{
        first_kernel::FirstKernel,
        purgatory::{self, Parts},
    },
};
use crate::{bmc::discovery, symbols::store, sys};
use anyhow::{Context, Result};
use clap::Args;
use lastwords_boot::{self as boot, BzImage};
use lastwords_core::{ipmi::interface::KcsPorts, plan::PREFIX};
use std::{
    borrow::Cow,
    ffi::CString,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Arms a dump kernel with last words.
///
/// KERNEL may be the kernel as it is in /boot, or one that `lastwords wrap` has made, whose embedded parameters count,
/// and which may be signed. What was armed before stays armed when something is wrong.
#[derive(Args, Debug)]
#[command(after_long_help = "\
The parameters that the options stand for are put on the dump kernel's command line, and with them, where they are \
needed and you have not given them there: the BMC's ports, the frequency of the TSC, the APIC ids of the CPUs.

Examples:
  lastwords load /boot/vmlinuz-6.1.0-56-amd64 --initrd /var/lib/kdump/initrd.img-6.1.0-56-amd64 \\
      --reuse-cmdline --append \"reset_devices nr_cpus=1\" --ipmi-handle-panic --output-cpu-ip
  lastwords load KERNEL --initrd FILE --append \"root=/dev/sda1 irqpoll\" --ipmi-watchdog start=300

Installed under the name kexec, it takes the calls that are about the dump kernel (-p, -p -u, -S), with kexec's options, \
and hands all others to the real kexec: $LASTWORDS_KEXEC, or kexec.real, kexec.distrib or kexec in $PATH.")]
pub struct Load {
    /// The dump kernel (a 64-bit bzImage, as in /boot)
    #[arg(required_unless_present_any = ["unload", "status"])]
    kernel: Option<PathBuf>,
    /// How the image gets in before the dump kernel [default: purgatory, where kexec_load(2) is allowed]
    #[arg(long, value_name = "WAY")]
    via: Option<Via>,
    /// Its initial RAM disk
    #[arg(long, visible_alias = "ramdisk", value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Its command line
    #[arg(
        long,
        visible_alias = "command-line",
        value_name = "STRING",
        allow_hyphen_values = true,
        required_unless_present_any = ["reuse_cmdline", "load_panic", "unload", "status"]
    )]
    append: Option<String>,
    /// Its command line starts with the running kernel's, without crashkernel= and what belongs to this boot
    #[arg(long)]
    reuse_cmdline: bool,
    /// Do not save the running kernel's symbols in /var/lib/lastwords, by which `lastwords read` names places
    #[arg(long)]
    no_symbols: bool,
    /// Print what is loaded where, the command line, and what was found out about the machine
    #[arg(short, long, visible_alias = "debug", visible_short_alias = 'd')]
    verbose: bool,
    #[command(flatten)]
    kexec: KexecOptions,
    #[command(flatten)]
    plan: PlanOptions,
}

impl Load {
    /// Does it.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        if self.kexec.status {
            return Ok(ExitCode::from(u8::from(Kdump::read(root).crash_loaded == Some(true))));
        }
        match &self.kernel {
            Some(kernel) if !self.kexec.unload => self.load(root, kernel)?,
            _ => unload::run(root)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn load(&self, root: &Path, path: &Path) -> Result<()> {
        let kdump = Kdump::read(root);
        Refusal::beforehand(&kdump)?;

        let name = || path.display().to_string();
        let mut file = File::open(path).with_context(name)?;
        let mut kernel = Vec::new();
        file.read_to_end(&mut kernel).with_context(name)?;
        let bz_image = BzImage::parse(&kernel).with_context(name)?;
        let initrd = self.initrd.as_deref().map(Initrd::open).transpose()?;
        let embedded = boot::embedded_parameters(&kernel).with_context(name)?;
        let cmdline = || self.cmdline(root, &embedded, bz_image.cmdline_size);

        let (via, why) = self.choose(root, &kdump)?;
        if self.verbose {
            println!("way in: {why}");
        }
        let line = match via {
            Via::Purgatory => {
                let kernel = if bz_image.is_wrapped() {
                    boot::unwrap(&kernel).with_context(name)?.into()
                } else {
                    Cow::from(&kernel)
                };
                let initrd = initrd.map(Initrd::read).transpose()?;
                let cmdline = cmdline()?;
                let parts = Parts {
                    kernel: &kernel,
                    bz_image: &BzImage::parse(&kernel).with_context(name)?,
                    initrd: initrd.as_deref(),
                    cmdline: &cmdline,
                    image: IMAGE,
                    parameters: &embedded,
                    limits: &self.kexec.limits(),
                    rng_seed: sys::random_bytes(),
                    noefi: self.kexec.noefi,
                };
                let first = FirstKernel::read(root)?;
                let purgatory = purgatory::build(&parts, &first).with_context(name)?;
                if self.verbose {
                    print!("{}", Verbose(&purgatory));
                }
                let line = purgatory.cmdline.clone();
                Loading::Purgatory { purgatory, hotplug: first.hotplug_size.is_some() }.arm(root, &kdump)?;
                line
            }
            Via::Wrap => {
                let situation = Situation {
                    kdump: &kdump,
                    signed: bz_image.is_signed() && bz_image.is_wrapped(),
                    was_signed: bz_image.is_signed(),
                    needs: u64::from(bz_image.init_size) + initrd.as_ref().map_or(0, |initrd| initrd.len),
                };
                situation.check()?;
                let cmdline = cmdline()?.finish()?;
                if self.verbose {
                    println!("command line: {cmdline}");
                }
                let kernel = if bz_image.is_wrapped() {
                    // The file itself: its signature may lie in its extended attributes (IMA).
                    file
                } else {
                    let wrapped = boot::wrap(&kernel, IMAGE, "").with_context(name)?;
                    sys::memory_file(c"lastwords", &wrapped).context("no memory for the wrapped kernel")?
                };
                let initrd = initrd.map(|initrd| initrd.file);
                Loading::Wrap { kernel, initrd, cmdline: CString::new(cmdline.as_str())?, situation }
                    .arm(root, &kdump)?;
                cmdline
            }
        };
        loaded::remember(root, path, via, [&embedded, &line]);
        println!("armed: {} in {} MiB of reserved memory", name(), kdump.crash_size >> 20);
        if !self.no_symbols {
            match store::save(root) {
                Ok(path) if self.verbose => println!("symbols: {}", path.display()),
                Ok(_) => {}
                Err(error) => eprintln!("lastwords: warning: symbols not saved: {error:#}"),
            }
        }
        Ok(())
    }

    /// The way in, and why it is that one.
    fn choose(&self, root: &Path, kdump: &Kdump) -> Result<(Via, String)> {
        let asked = self.via.or(self.kexec.via());
        if asked == Some(Via::Wrap) {
            return Ok((Via::Wrap, "wrapped, as was asked for".to_owned()));
        }
        match via::obstacle(root, kdump) {
            None => Ok((Via::Purgatory, "as the purgatory, kexec_load(2) is allowed".to_owned())),
            Some(why) if asked == Some(Via::Purgatory) => Err(Refusal::Purgatory(why).into()),
            Some(why) => Ok((Via::Wrap, format!("wrapped, because {why}"))),
        }
    }

    /// The command line, with what the machine's tables tell; warns of what cannot work.
    fn cmdline(&self, root: &Path, embedded: &str, cmdline_size: u32) -> Result<Cmdline> {
        let mut cmdline = Cmdline::new(cmdline_size);
        if self.reuse_cmdline {
            cmdline.reuse(&fs::read_to_string(root.join("proc/cmdline")).context("/proc/cmdline")?);
        }
        cmdline.append(self.append.as_deref().unwrap_or(""));
        cmdline.append(&self.plan.parameters());

        let plan = cmdline.plan(embedded)?;
        let (reports_something, talks_to_bmc) = (plan.reports_something(), plan.talks_to_bmc());
        if !reports_something {
            eprintln!(
                "lastwords: warning: the next panic will be dumped but not reported: no reporting option was given\n\
                 hint: --ipmi-handle-panic --output-cpu-ip report the cause and all CPUs"
            );
            return Ok(cmdline);
        }
        let add = |cmdline: &mut Cmdline, name, value: &str| {
            if !cmdline.append_unless_given(embedded, name, value) {
                eprintln!("lastwords: warning: no room on the command line for {PREFIX}{name}={value}");
            }
        };
        if talks_to_bmc {
            let found = discovery::interfaces(root);
            for interface in found.iter().filter(|_| self.verbose) {
                println!("BMC: {interface}");
            }
            let best = discovery::best(&found);
            if let Some(ports) = best.and_then(discovery::Interface::ports) {
                if ports != KcsPorts::DEFAULT {
                    add(&mut cmdline, "ipmi_kcs_ports", &ports.to_string());
                }
            } else if let Some(interface) = best {
                eprintln!("lastwords: warning: the BMC may not be reached: {interface}");
            } else if self.verbose {
                println!("BMC: neither SMBIOS nor ACPI names one, 0xca2,0xca3 will be tried");
            }
        }
        let cpus = Cpus::read(root);
        if let Some(apic_ids) = cpus.apic_ids() {
            add(&mut cmdline, "apic_ids", &apic_ids);
        }
        if cpus.tsc_is_steady() {
            add(&mut cmdline, "tsc_khz", &sys::measure_tsc_khz().to_string());
        }
        Ok(cmdline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        load: Load,
    }

    /// The command line that these options make on a machine whose BMC is at 0xca8, with registers 4 bytes apart.
    fn cmdline(options: &[&str], cpu_flags: &str, embedded: &str) -> String {
        let root = tempfile::tempdir().unwrap();
        let cpuinfo =
            format!("processor : 0\napicid : 0\nflags : {cpu_flags}\n\nprocessor : 1\napicid : 2\n");
        for (path, text) in [
            ("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 crashkernel=256M\n"),
            ("proc/cpuinfo", cpuinfo.as_str()),
            (
                "sys/bus/platform/drivers/ipmi_si/IPI0001:00/params",
                "kcs,i/o,0xca8,rsp=4,rsi=1,rsh=0,irq=0,ipmb=32\n",
            ),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let only = Only::try_parse_from([&["test", "kernel"], options].concat()).unwrap();
        only.load.cmdline(root.path(), embedded, 2047).unwrap().finish().unwrap()
    }

    #[test]
    fn the_machines_tables_fill_in_what_is_not_given() {
        let all = "lastwords.ipmi_kcs_ports=0xca8,0xcac lastwords.apic_ids=0,2";
        for (options, embedded, line) in [
            (&["--append", "a"][..], "", "a".to_owned()),
            (&["--append", "a", "--budget", "9"], "", "a lastwords.budget=9".to_owned()),
            (&["--append", "a", "--ipmi-handle-panic"], "", format!("a lastwords.ipmi_handle_panic {all}")),
            (&["--append", "a"], "lastwords.ipmi_handle_panic", format!("a {all}")),
            (
                &["--append", "a"],
                "lastwords.ipmi_handle_panic lastwords.ipmi_kcs_ports=0xca2,0xca3",
                "a lastwords.apic_ids=0,2".to_owned(),
            ),
            // The console alone needs no BMC.
            (
                &["--command-line", "a", "--output-cpu-ip=console"],
                "",
                "a lastwords.output_cpu_ip=console lastwords.apic_ids=0,2".to_owned(),
            ),
            (
                &["--reuse-cmdline", "--append", "b lastwords.apic_ids=7,8", "--output-cpu-ip=console"],
                "",
                "root=/dev/sda1 b lastwords.apic_ids=7,8 lastwords.output_cpu_ip=console".to_owned(),
            ),
        ] {
            assert_eq!(cmdline(options, "rdtscp", embedded), line, "{options:?}");
        }
    }

    #[test]
    fn a_steady_tsc_is_measured() {
        let line =
            cmdline(&["--append", "a", "--output-cpu-ip=console"], "rdtscp constant_tsc nonstop_tsc", "");
        assert!(line.contains(" lastwords.tsc_khz="), "{line}");
    }
}
