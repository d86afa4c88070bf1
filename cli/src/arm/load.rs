//! `lastwords load`: loads the dump kernel, with the image as its purgatory (kexec_load(2)) or wrapped into it in memory
//! (kexec_file_load(2)).
//!
//! All that can be checked is checked here, before `loading` gives it to the kernel.

use super::{
    alone, busy,
    cmdline::{Cmdline, Placed},
    console,
    cpus::Cpus,
    encryption::{self, Encryption},
    file::{self, Bytes, Source, Take},
    image::IMAGE,
    initrd::Initrd,
    kdump::{Kdump, amount},
    kexec::KexecOptions,
    loaded::{self, Own},
    loading::{Loading, Verbose},
    options::PlanOptions,
    pstore, pvpanic,
    ranges::IoMem,
    refusal::{Refusal, Situation},
    registers::Owners,
    sign::{self, SignOptions, Signer},
    unload,
    via::{self, Via},
    watchdogs::{self, Advice},
    x86_64::{
        first_kernel::{self, FirstKernel},
        purgatory::{self, Digest, Parts},
    },
};
use crate::{
    bmc::{self, Presence, discovery},
    crashes::watchdog,
    message,
    symbols::{kallsyms, store},
    sys::{self, Forked},
};
use anyhow::{Context, Error, Result, anyhow, bail};
use clap::Args;
use lastwords_boot::{self as boot, BzImage, Uki};
use lastwords_core::{device::pvpanic::Hypervisor, hw::Register, ipmi::interface::Interface, plan::Plan};
use std::{
    cell::Cell,
    ffi::CString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{self, ExitCode},
};

/// Load a dump kernel with panic reporting
///
/// The report goes to the event log (SEL, System Event Log) of the BMC (baseboard management controller) and to the
/// console, before the dump kernel starts. Without a reporting option the next panic is dumped, but not reported.
///
/// KERNEL is a kernel as in /boot, or one that `lastwords wrap` has made, which may be signed and has parameters of its
/// own. What can be checked is checked first. When the kernel then refuses it all the same, no dump kernel is loaded.
///
/// The reporting options become parameters on the dump kernel's command line. Where they are not given there, the BMC's
/// system interface (KCS, BT or SSIF) as this machine has it, the frequency of the time stamp counter and the APIC IDs of the
/// CPUs are added. Where no BMC is found, panics are reported to the console alone: no register of a guessed BMC is written.
///
/// Where the running kernel demands signatures (Secure Boot, lockdown), the dump kernel is signed: with the key that is given
/// or configured, else with one that this machine has and the kernel trusts.
///
/// Installed under the name kexec, lastwords handles the calls for the dump kernel (-p, -p -u, -S), with kexec's options,
/// and hands all others to the real kexec.
#[derive(Args, Debug)]
// As getopt: of an option that is given twice the last one counts.
#[command(args_override_self = true)]
#[command(after_long_help = "\
Examples:
  lastwords load /boot/vmlinuz --initrd /var/lib/kdump/initrd.img \\
      --reuse-cmdline --append \"reset_devices nr_cpus=1\" \\
      --ipmi-handle-panic --output-cpu-ip
  lastwords load KERNEL --initrd FILE --append \"root=/dev/sda1 irqpoll\" \\
      --ipmi-handle-panic --ipmi-watchdog start=300
  lastwords load --no-dump-kernel --ipmi-handle-panic --output-cpu-ip

Exit status:
  0  loaded
  1  failed
  2  wrong usage

Files:
  /etc/lastwords.conf         [sign]: key and cert, or command
  /run/lastwords/loaded.json  what was loaded, for lastwords status
  /var/lib/lastwords          symbols of the running kernel, for lastwords read

Environment:
  LASTWORDS_KEXEC  path of the real kexec, under the name kexec
                   [default: kexec.real, kexec.distrib or kexec in PATH]")]
pub struct Load {
    #[command(flatten)]
    plan: PlanOptions,
    /// Dump kernel to load (a 64-bit bzImage, as in /boot)
    #[arg(required_unless_present_any = ["unload", "status", "no_dump_kernel"], conflicts_with = "no_dump_kernel")]
    kernel: Option<PathBuf>,
    /// Load no dump kernel: report a panic, then reset the machine
    ///
    /// Needs 1 to 2 MiB of reserved memory (crashkernel=2M). While it is loaded, a panic no longer runs Linux's own IPMI panic
    /// events, pstore dump and panic notifiers, as with any dump kernel.
    #[arg(long)]
    no_dump_kernel: bool,
    /// Load the initial RAM disk FILE for the dump kernel [default: none]
    #[arg(long, visible_alias = "ramdisk", value_name = "FILE", help_heading = HEADING, conflicts_with = "no_dump_kernel")]
    initrd: Option<PathBuf>,
    /// Set the dump kernel's command line [required without --reuse-cmdline]
    #[arg(
        long,
        visible_alias = "command-line",
        value_name = "STRING",
        allow_hyphen_values = true,
        help_heading = HEADING,
        required_unless_present_any = ["reuse_cmdline", "load_panic", "unload", "status", "no_dump_kernel"]
    )]
    append: Option<String>,
    /// Start the command line with the running kernel's
    ///
    /// Left out are crashkernel= and what belongs to this boot. What --append has comes behind it.
    #[arg(long, help_heading = HEADING)]
    reuse_cmdline: bool,
    /// Choose the loading method [default: purgatory if allowed, else wrap]
    #[arg(long, value_name = "METHOD", help_heading = HEADING)]
    via: Option<Via>,
    /// Choose the checksum of what is loaded, for the purgatory method
    ///
    /// Before the dump kernel starts, kernel, initial RAM disk and command line are compared with what was loaded.
    #[arg(long, value_name = "DIGEST", value_enum, default_value_t, help_heading = HEADING)]
    digest: Digest,
    /// Do not save the running kernel's symbols for `lastwords read`
    #[arg(long, help_heading = HEADING)]
    no_symbols: bool,
    /// Print segments, the command line and the machine's data
    #[arg(short, long, visible_alias = "debug", visible_short_alias = 'd', help_heading = HEADING)]
    verbose: bool,
    #[command(flatten)]
    sign: SignOptions,
    #[command(flatten)]
    kexec: KexecOptions,
}

/// Exit status of `--status` where nothing shows whether a dump kernel is loaded, as kexec has it.
const UNKNOWN: u8 = 255;

/// The heading of the options that are not about reporting, in help texts.
const HEADING: &str = "Loading options";

impl Load {
    /// Loads, or as kexec's options demand, unloads or checks whether a dump kernel is loaded.
    ///
    /// # Errors
    /// When a file cannot be used, or with a [`Refusal`] of the kernel.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        if self.kexec.status {
            return Ok(ExitCode::from(Kdump::read(root).crash_loaded.map_or(UNKNOWN, u8::from)));
        }
        let alone = self.no_dump_kernel.then_some(Path::new(alone::NAME));
        match self.kernel.as_deref().or(alone) {
            // With kexec it depends on the order which of the two counts.
            Some(_) if self.kexec.unload => bail!("--unload takes no KERNEL\nhint: leave one of the two out"),
            Some(kernel) => self.load(root, kernel)?,
            _ => unload::run(root)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn load(&self, root: &Path, path: &Path) -> Result<()> {
        let lock = busy::lock(root);
        let kdump = Kdump::read(root);
        Refusal::beforehand(&kdump).map_err(|refusal| match refusal {
            Refusal::NoReservation if self.no_dump_kernel => {
                alone::too_small(0, alone::needs(root, self.wanted().unwrap_or(Via::Wrap)))
            }
            refusal => refusal.into(),
        })?;
        let Done { method, lines: [embedded, line], alone } =
            anew(root, |take| self.load_files(root, &kdump, path, take))?;
        let plan = Plan::new(&embedded, &line);
        message::output(format_args!(
            "loaded: {} in {} of reserved memory",
            path.display(),
            amount(kdump.crash_size)
        ));
        if alone {
            message::output(alone::verdict(&plan));
            alone::announce(root);
        }
        if let Some(interface) = plan.interface.filter(|_| plan.talks_to_bmc()) {
            let found = discovery::interfaces(root);
            message::output(format_args!("BMC: {}", discovery::describe(&found, interface)));
            if let Presence::Nobody(why) = bmc::presence(root, interface) {
                message::warning(&anyhow!("now a report would not reach it: {why}\nhint: lastwords probe"));
            }
        }
        if !self.no_symbols {
            self.save_symbols(root);
        }
        // They tell where the kernel has its record of what is loaded.
        let lines = [embedded.as_str(), line.as_str()];
        loaded::announce(root, Some(Own { kernel: path, alone, method, lines }));
        drop(lock);
        Ok(())
    }

    /// Loads what the files have, where none of them turned out to have changed meanwhile.
    fn load_files(
        &self,
        root: &Path,
        kdump: &Kdump,
        path: &Path,
        take: Take,
    ) -> Result<Result<Done, Changed>> {
        let name = || path.display().to_string();
        // Before anything is read: what does not fit is not worth the memory.
        let fits = |bytes| Refusal::too_small(kdump, bytes);
        let source = if self.no_dump_kernel { None } else { Some(Source::open_complete(path)?) };
        // Of a unified kernel image only a part may be needed.
        if let Some(source) = source.as_ref().filter(|source| !file::begins(&source.file, boot::is_uki)) {
            fits(source.len)?;
        }
        let bytes = match &source {
            Some(source) => source.bytes(take)?,
            None => Bytes::Copied(boot::alone()),
        };
        let load = || {
            let uki = Uki::parse(&bytes).with_context(name)?;
            let kernel = uki.map_or(&bytes[..], |uki| uki.linux);
            let bz_image = BzImage::parse(kernel).with_context(name)?;
            let initrd = self.initrd(uki.as_ref(), path)?;
            let needs = u64::from(bz_image.init_size) + initrd.as_ref().map_or(0, Initrd::len);
            fits(needs)?;
            let guest = match encryption::find(root) {
                Encryption::Guest(guest) => Some(guest),
                Encryption::Memory | Encryption::None => None,
            };
            if bz_image.is_alone() {
                alone::check_files(guest, initrd.is_some()).with_context(name)?;
            }
            // Nothing that would be reported there.
            let embedded = match guest {
                Some(_) => String::new(),
                None => embedded(kernel).with_context(name)?,
            };
            if let Some(error) = loses_5_levels(root, &bz_image) {
                message::warning(&error);
            }

            let (via, reason) = self.choose(root, kdump, guest)?;
            if self.verbose {
                message::output(format_args!("loading method: {reason}"));
            }
            if via == Via::Purgatory && self.sign.is_given() {
                message::output("not signed: kexec_load(2) takes no signature (--via wrap does)");
            }
            let source = source.as_ref().filter(|_| uki.is_none());
            let dump =
                DumpKernel { root, path, take, source, kernel, bz_image, initrd, needs, guest, embedded };
            match via {
                Via::Purgatory => self.load_as_purgatory(kdump, &dump, || bytes.are_whole()),
                Via::Wrap => self.load_wrapped(kdump, &dump, || bytes.are_whole()),
            }
        };
        match load() {
            // Of zeros, where a part of it could not be read.
            Err(_) if !bytes.are_whole() => Ok(Err(Changed::Before)),
            result => result,
        }
    }

    /// The initial RAM disk: the one that is given, else that of a unified kernel image, as kexec does since 2.0.30.
    fn initrd<'a>(&'a self, uki: Option<&Uki<'a>>, path: &Path) -> Result<Option<Initrd<'a>>> {
        let given = self.initrd.as_deref().map(Source::open_complete).transpose()?.map(Initrd::File);
        let Some(uki) = uki else { return Ok(given) };
        let of_uki = uki.initrd.filter(|_| given.is_none());
        let used = if of_uki.is_some() { "kernel and initial RAM disk are used" } else { "kernel is used" };
        let cmdline = if uki.has_cmdline { ", its command line is not" } else { "" };
        let name = path.display();
        message::output(format_args!("{name} is a unified kernel image (UKI): its {used}{cmdline}"));
        Ok(given.or(of_uki.map(Initrd::Part)))
    }

    fn load_as_purgatory(
        &self,
        kdump: &Kdump,
        dump: &DumpKernel<'_>,
        is_whole: impl Fn() -> bool,
    ) -> Result<Result<Done, Changed>> {
        let name = || dump.path.display().to_string();
        let unwrapped = if dump.bz_image.is_wrapped() { Some(dump.unwrapped()?) } else { None };
        let kernel = unwrapped.as_ref().map_or(dump.kernel, |(bytes, len)| &bytes[..*len]);
        let Placed { cmdline, embedded, .. } = self.cmdline(dump, true)?;
        let file = dump.initrd.as_ref().map(|initrd| initrd.bytes(dump.take)).transpose()?.flatten();
        let initrd = match &dump.initrd {
            Some(Initrd::Part(bytes)) => Some(*bytes),
            _ => file.as_deref(),
        };
        let parts = Parts {
            kernel,
            bz_image: &BzImage::parse(kernel).with_context(name)?,
            initrd,
            cmdline: &cmdline,
            image: &IMAGE,
            parameters: &embedded,
            digest: self.digest,
            limits: &self.kexec.limits(),
            rng_seed: sys::random_bytes(),
            noefi: self.kexec.noefi,
        };
        let first = FirstKernel::read(dump.root)?;
        let purgatory = purgatory::build(&parts, &first).with_context(name)?;
        let is_whole = || {
            is_whole()
                && unwrapped.as_ref().is_none_or(|(bytes, _)| bytes.are_whole())
                && file.as_ref().is_none_or(Bytes::are_whole)
        };
        if !is_whole() {
            return Ok(Err(Changed::Before));
        }
        if self.verbose {
            // Line by line: what is no printable character within one is shown as a question mark.
            Verbose(&purgatory).to_string().lines().for_each(message::output);
        }
        let line = purgatory.cmdline.clone();
        let loading = Loading::Purgatory { purgatory, hotplug: first.hotplug_size.is_some() };
        let lines = dump.reads([&embedded, &line]);
        remember_watchdog(dump.root, lines);
        let result = loading.load(dump.root, kdump, self.verbose, || dump.is_safe());
        // Once more, whatever came of it: the kernel has read the files after us. What it holds may be right all the same.
        let is_changed = || !loading.holds() || !is_whole();
        if matches!(result, Ok(false)) {
            return Ok(Err(Changed::Before));
        }
        if is_changed() && !(result.is_ok() && loading.is_loaded(dump.root)) {
            return Ok(Err(Changed::After));
        }
        result?;
        Ok(Ok(dump.done("purgatory (kexec_load)", lines)))
    }

    fn load_wrapped(
        &self,
        kdump: &Kdump,
        dump: &DumpKernel<'_>,
        is_whole: impl Fn() -> bool,
    ) -> Result<Result<Done, Changed>> {
        let name = || dump.path.display().to_string();
        let (wrapped, was_signed) = (dump.bz_image.is_wrapped(), dump.bz_image.is_signed());
        let as_it_is = wrapped || dump.guest.is_some();
        Refusal::too_small(kdump, dump.needs)?;
        if dump.bz_image.is_alone() {
            alone::fits_with_kexec_file_load(dump.root, kdump.crash_size)?;
        }
        let Placed { cmdline, embedded, .. } = self.cmdline(dump, !as_it_is)?;
        let line = cmdline.finish()?;
        if self.verbose {
            message::output(format_args!("command line: {line}"));
        }
        let made = if dump.guest.is_some() && wrapped && !was_signed {
            Some(boot::unwrapped(dump.kernel).with_context(name)?)
        } else if as_it_is {
            None
        } else {
            Some(boot::wrapped(dump.kernel, &IMAGE, &embedded).with_context(name)?)
        };
        let in_memory = |parts: &[&[u8]]| {
            sys::memory_file(c"lastwords", parts).context("no memory for the dump kernel's file")
        };
        let made = made.map(|made| in_memory(&made.parts())).transpose()?;
        let mapped = made.as_ref().map(map).transpose().context("no memory for the dump kernel's file")?;
        let bytes = mapped.as_deref().unwrap_or(dump.kernel);
        let signed = self.signed(kdump, dump, bytes, made.is_some()).with_context(name)?;
        let is_signed = boot::signature(signed.as_deref().unwrap_or(bytes)).is_ok_and(|one| one.is_some());
        let made = signed.map(|signed| in_memory(&[&signed])).transpose()?.or(made);
        let kernel = match (made, dump.source) {
            (Some(file), _) => file,
            // The file itself: its signature may lie in its extended attributes (IMA).
            (None, Some(source)) => source.file.try_clone()?,
            (None, None) => in_memory(&[dump.kernel])?,
        };
        if !is_whole() {
            return Ok(Err(Changed::Before));
        }
        let situation = Situation { kdump, signed: is_signed, was_signed, needs: dump.needs };
        let files = kernel.metadata()?.len() + dump.initrd.as_ref().map_or(0, Initrd::len);
        let initrd = dump.initrd.as_ref().map(|initrd| initrd.file(dump.take)).transpose()?;
        let cmdline = CString::new(line.as_str())?;
        let loading = Loading::Wrap { kernel, initrd, cmdline, situation, files };
        let lines = dump.reads([&embedded, &line]);
        remember_watchdog(dump.root, lines);
        let result = loading.load(dump.root, kdump, self.verbose, || dump.is_safe());
        // The kernel has copied the files, and summed up its copies: those it read from disk must be what they were.
        let is_file = |initrd: &Initrd| dump.take == Take::Mapped && initrd.is_changed();
        if matches!(result, Ok(false)) {
            return Ok(Err(Changed::Before));
        }
        if dump.source.is_some_and(Source::is_changed) || dump.initrd.as_ref().is_some_and(is_file) {
            return Ok(Err(Changed::After));
        }
        result?;
        Ok(Ok(dump.done("wrap (kexec_file_load)", lines)))
    }

    /// The dump kernel signed: because that is asked for, or because the running kernel demands it. `None` where it is to be
    /// loaded as it is.
    ///
    /// What the kernel would certainly refuse is an error. Where it may accept it all the same, it is asked.
    fn signed(&self, kdump: &Kdump, dump: &DumpKernel, kernel: &[u8], made: bool) -> Result<Option<Vec<u8>>> {
        let asked = Signer::from(&self.sign.config())?;
        let demanded = via::demands_signatures(dump.root, kdump);
        let was_signed = made && dump.bz_image.is_signed();
        let signs = |signer: &Signer, whose: &str| {
            let signed = signer.sign(kernel)?;
            message::output(format_args!("signed with {whose}: {}", sign::signed_by(&signed)));
            Ok::<_, Error>(signed)
        };
        let mut signed = asked.map(|signer| signs(&signer, "the key that is given")).transpose()?;
        if !demanded {
            return Ok(signed);
        }
        let ima = dump.source.is_some_and(|file| !made && sys::has_attribute(&file.file, c"security.ima"));
        let is_certain = || kdump.lockdown.is_some() && !ima && sign::verdict::can_verify(dump.root);
        let mut refusal = sign::verdict::refusal(dump.root, signed.as_deref().unwrap_or(kernel), was_signed);
        if signed.is_none() && refusal.is_some() && !ima {
            match sign::at_hand(dump.root)
                .and_then(|found| found.map(|(signer, whose)| signs(&signer, whose)).transpose())
            {
                Ok(Some(bytes)) => {
                    refusal = sign::verdict::refusal(dump.root, &bytes, was_signed);
                    signed = Some(bytes);
                }
                Ok(None) => {}
                Err(error) if is_certain() => return Err(error),
                Err(error) => message::warning(&error),
            }
        }
        match refusal {
            Some(refusal) if is_certain() => {
                let mode = kdump.lockdown.as_deref().unwrap_or_default();
                Err(Error::new(refusal)
                    .context(format!("the kernel is locked down ({mode}, as with Secure Boot)")))
            }
            Some(refusal) => {
                message::warning(&Error::new(refusal).context("the kernel may refuse it"));
                Ok(signed)
            }
            None => {
                if let Some(error) = sign::verdict::doubt(dump.root, signed.as_deref().unwrap_or(kernel)) {
                    message::warning(&error);
                }
                Ok(signed)
            }
        }
    }

    /// Saves the running kernel's symbols. What is loaded is loaded, with them or without: they take most of the tool's
    /// memory, and a process of their own may be ended by that.
    fn save_symbols(&self, root: &Path) {
        sys::spare();
        let error = match sys::fork_and_wait(true) {
            Ok(Forked::Child) => {
                match store::save(root) {
                    Ok(path) if self.verbose => {
                        message::output(format_args!("symbols: {}", message::path(&path)));
                    }
                    Ok(_) => {}
                    Err(error) => message::warning(&error.context("symbols not saved")),
                }
                process::exit(0)
            }
            Ok(Forked::Parent(status)) if status.success() => return,
            Ok(Forked::Parent(status)) => anyhow!("the process was ended by {}", sys::end(status)),
            Err(error) => Error::new(error),
        };
        message::warning(&error.context("symbols not saved"));
    }

    /// The loading method that is asked for.
    fn wanted(&self) -> Option<Via> {
        self.via.or(self.kexec.via())
    }

    /// The loading method, and the reason for it.
    fn choose(&self, root: &Path, kdump: &Kdump, guest: Option<&str>) -> Result<(Via, String)> {
        let asked = self.wanted();
        if let (Some(guest), Some(Via::Wrap) | None) = (guest, asked) {
            // As any other loader would: whatever the image does there before the dump kernel, it does in vain.
            return Ok((Via::Wrap, format!("kexec_file_load(2) without panic reporting ({guest})")));
        }
        if asked == Some(Via::Wrap) {
            return Ok((Via::Wrap, "wrap, by option".to_owned()));
        }
        match via::obstacle(root, kdump) {
            None => Ok((Via::Purgatory, "purgatory (kexec_load(2) is allowed)".to_owned())),
            Some(obstacle) if asked == Some(Via::Purgatory) => Err(Refusal::Purgatory(obstacle).into()),
            Some(obstacle) => Ok((Via::Wrap, format!("wrap ({obstacle})"))),
        }
    }

    /// The command line, with what the SMBIOS and ACPI tables have; warns of what cannot work. What has no room on it goes
    /// into the image, where that can be.
    fn cmdline(&self, dump: &DumpKernel<'_>, can_embed: bool) -> Result<Placed> {
        let DumpKernel { root, embedded, bz_image, .. } = dump;
        let cmdline = self.whole_cmdline(root, embedded, bz_image.cmdline_size, bz_image.is_alone())?;
        if dump.guest.is_some() {
            return Ok(Placed { cmdline, embedded: String::new(), over: 0, left_out: Vec::new() });
        }
        let placed = cmdline.place(embedded, can_embed);
        let Placed { over, left_out, .. } = &placed;
        if !left_out.is_empty() {
            message::warning(&anyhow!(
                "the command line is {over} bytes too long with all parameters of lastwords: {} left out\n\
                 hint: shorten it (--append, --reuse-cmdline), or give fewer reporting options",
                left_out.join(" ")
            ));
        }
        if placed.embedded != *embedded {
            message::output(format_args!(
                "the command line has no room for the parameters of lastwords ({over} bytes too long): they are \
                 embedded in the image, and /proc/cmdline of the dump kernel does not show them"
            ));
        }
        Ok(placed)
    }

    /// The command line with all of our parameters.
    fn whole_cmdline(&self, root: &Path, embedded: &str, cmdline_size: u32, alone: bool) -> Result<Cmdline> {
        let mut cmdline = Cmdline::new(cmdline_size);
        if alone && !self.reuse_cmdline {
            // There is no other kernel whose console it could be.
            cmdline.append(&alone::console(root));
        }
        if self.reuse_cmdline {
            cmdline.reuse(&fs::read_to_string(root.join("proc/cmdline")).context("/proc/cmdline")?);
        }
        cmdline.append(self.append.as_deref().unwrap_or(""));
        let encryption = encryption::find(root);
        if let Encryption::Guest(guest) = encryption {
            message::warning(&anyhow!(
                "the next panic will be dumped but not reported: this is a confidential guest ({guest}), in which only a \
                 kernel reaches the BMC and the console"
            ));
            return Ok(cmdline);
        }
        cmdline.append(&self.plan.parameters());
        if self.kexec.no_checks && !cmdline.has("on_corrupt", embedded) {
            cmdline.append("lastwords.on_corrupt=boot");
        }

        if alone && !cmdline.has("output_pstore", embedded) {
            cmdline.append(pstore::in_place_of_linux(root).unwrap_or_default());
        }
        let plan = cmdline.plan(embedded)?;
        alone::check(&plan, alone)?;
        let (reports_something, talks_to_bmc) = (plan.reports_something(), plan.talks_to_bmc());
        let pvpanic = pvpanic::parameter(root, &plan);
        let no_pstore = pstore::warning(root, &plan);
        let all_cpus = plan.cpu_ip.sel || plan.cpu_ip.console;
        if !reports_something {
            message::warning(&anyhow!(
                "the next panic will {} not reported: no reporting option was given\n\
                 hint: --ipmi-handle-panic --output-cpu-ip report the cause and all CPUs",
                if alone { "be" } else { "be dumped but" }
            ));
            return Ok(cmdline);
        }
        // Before all other warnings: without a BMC there is not much of a report.
        let interface_asked = bmc::PARAMETERS.iter().any(|name| cmdline.has(name, embedded));
        let interface = if talks_to_bmc { self.interface(root, interface_asked) } else { None };
        if encryption == Encryption::Memory {
            message::warning(&anyhow!(
                "memory is encrypted (SME): at a panic the reason and the CPU locations cannot be read, and are not reported\n\
                 hint: boot with mem_encrypt=off for full reports"
            ));
        }
        if let Some(error) = watchdogs::too_short(&plan) {
            message::warning(&error);
        }
        let watchdogs = watchdogs::advice(&watchdogs::running(root), &plan, cmdline.has("budget", embedded));
        let add =
            |cmdline: &mut Cmdline, name, value: &str| cmdline.append_unless_given(embedded, name, value);
        if let Some((name, value)) = interface.map(bmc::named) {
            add(&mut cmdline, name, &value);
        }
        match watchdogs {
            Advice::None => {}
            Advice::Cut { budget, because } => {
                message::warning(&anyhow!("the report's total time limit is {budget} s: {because}"));
                add(&mut cmdline, "budget", &budget.to_string());
            }
            Advice::Warn(error) => message::warning(&error),
        }
        let cpus = Cpus::read(root);
        if let Some(apic_ids) = cpus.apic_ids() {
            add(&mut cmdline, "apic_ids", &apic_ids);
        }
        if let Some(numbers) = cpus.numbers() {
            add(&mut cmdline, "cpu_numbers", &numbers);
        }
        if let Some(mask) = Some(root).filter(|_| all_cpus).and_then(kallsyms::online_mask) {
            add(&mut cmdline, "cpu_online_mask", &mask);
        }
        if cpus.tsc_is_steady() {
            add(&mut cmdline, "tsc_khz", &sys::measure_tsc_khz().to_string());
        }
        match pvpanic {
            Some(Ok(parameter)) => cmdline.append(&parameter),
            Some(Err(error)) => message::warning(&error),
            None => {}
        }
        if let Some(error) = no_pstore {
            message::warning(&error);
        }
        registers(root, &mut cmdline, embedded, interface_asked)?;
        Ok(cmdline)
    }

    /// The BMC's interface, where none is asked for: the one that this machine has. Says what keeps from using it.
    fn interface(&self, root: &Path, asked: bool) -> Option<Interface> {
        let mut found = discovery::interfaces(root);
        if !asked {
            discovery::ask(root, &mut found);
        }
        for one in found.iter().filter(|_| self.verbose) {
            message::output(format_args!("BMC: {one}"));
        }
        if asked {
            return None;
        }
        let best = discovery::best(&found).map(|(_, interface)| interface);
        if best.is_none() {
            let why = found.first().map_or("no BMC interface was found".to_owned(), ToString::to_string);
            message::warning(&anyhow!(
                "the next panic will be reported to the console alone: {why}\n\
                 hint: name the BMC's interface with --ipmi-interface"
            ));
        }
        best
    }
}

/// Refuses registers that are another device's or RAM, where they were asked for; where they were found in tables or are
/// the dump kernel's own console, warns: that is no reason to be without a dump kernel.
fn registers(root: &Path, cmdline: &mut Cmdline, embedded: &str, interface_asked: bool) -> Result<()> {
    let (plan, console_asked) = (cmdline.plan(embedded)?, cmdline.has("console", embedded));
    let iomem = &IoMem::parse(&fs::read_to_string(root.join("proc/iomem")).unwrap_or_default());
    let bmc = plan.interface.filter(|_| plan.talks_to_bmc());
    if let Some(error) = in_ram(iomem, bmc.into_iter().flat_map(|interface| interface.registers())) {
        return Err(error);
    }
    let owners = Owners::read(root);
    for (error, asked) in
        [(owners.bmc_conflict(&plan), interface_asked), (owners.uart_conflict(&plan), console_asked)]
    {
        match error {
            Some(error) if !asked => message::warning(&error),
            Some(error) => return Err(error),
            None => {}
        }
    }
    if let Hypervisor::At(register, _) = plan.hypervisor
        && let Some(error) = in_ram(iomem, [register]).or_else(|| owners.pvpanic_conflict(register))
    {
        return Err(error);
    }
    if let Some(error) = console::silent(&plan, cmdline.line(), console_asked) {
        message::warning(&error);
    }
    match in_ram(iomem, plan.console.serial.map(|serial| serial.base)) {
        Some(error) if console_asked => Err(error),
        Some(error) => {
            message::warning(&error.context("nothing will be reported to the dump kernel's console"));
            cmdline.append_unless_given(embedded, "console", "none");
            Ok(())
        }
        None => Ok(()),
    }
}

/// The dump kernel that is to be loaded.
struct DumpKernel<'a> {
    /// The root of the running system's files.
    root: &'a Path,
    path: &'a Path,
    take: Take,
    /// Its file, unless the kernel is a part of it.
    source: Option<&'a Source<'a>>,
    kernel: &'a [u8],
    bz_image: BzImage,
    initrd: Option<Initrd<'a>>,
    /// Bytes of reserved memory that kernel and initial RAM disk take.
    needs: u64,
    /// The confidential guest that this is.
    guest: Option<&'static str>,
    /// Parameters that are embedded in it.
    embedded: String,
}

/// What was loaded.
#[derive(Debug)]
struct Done {
    /// There is no dump kernel in it.
    alone: bool,
    /// The loading method.
    method: &'static str,
    /// The lines with parameters that the image reads.
    lines: [String; 2],
}

/// A file was changed while it was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    /// Nothing was given to the kernel: what was loaded before still is.
    Before,
    /// The kernel may have taken something of both versions, or let what was loaded go and taken nothing.
    After,
}

/// Loads; where a file was changed meanwhile, anew, from copies, which nobody can change. A file that is written to while
/// it is copied is given a second chance.
fn anew<T>(root: &Path, load: impl Fn(Take) -> Result<Result<T, Changed>>) -> Result<T> {
    let first = match load(Take::Mapped)? {
        Ok(loaded) => return Ok(loaded),
        Err(changed) => changed,
    };
    message::warning(&anyhow!("a file was changed while it was loaded: loading it anew"));
    let touched = Cell::new(first == Changed::After);
    let copied = || match load(Take::Copied)? {
        Ok(loaded) => Ok(loaded),
        Err(changed) => {
            touched.set(touched.get() || changed == Changed::After);
            bail!("it was changed again\nhint: retry when it is complete")
        }
    };
    copied().or_else(|_| copied()).with_context(|| {
        let is_loaded = Kdump::read(root).crash_loaded == Some(true);
        let what = match (is_loaded, touched.get()) {
            (true, false) => "not loaded, the earlier dump kernel is still loaded",
            (true, true) => "the dump kernel that is loaded may not start",
            (false, _) => "no dump kernel is loaded now",
        };
        format!("{what}: a file was changed while it was loaded")
    })
}

impl DumpKernel<'_> {
    /// The file of a wrapped kernel as it was before, and its length.
    fn unwrapped(&self) -> Result<(Bytes, usize)> {
        let name = || self.path.display().to_string();
        let patched = boot::unwrapped(self.kernel).with_context(name)?;
        let Some(source) = self.source else {
            let whole = patched.concat();
            let len = whole.len();
            return Ok((Bytes::Copied(whole), len));
        };
        let mut bytes = source.bytes(self.take)?;
        bytes.begin_with(&patched.head).with_context(name)?;
        Ok((bytes, patched.head.len() + patched.body.len()))
    }

    /// What has been loaded by this method, with these lines of parameters.
    fn done(&self, method: &'static str, lines: [&str; 2]) -> Done {
        Done { alone: self.bz_image.is_alone(), method, lines: lines.map(str::to_owned) }
    }

    /// Can the files themselves be given to the kernel?
    fn is_safe(&self) -> bool {
        let initrd = match &self.initrd {
            Some(Initrd::File(source)) => Some(source),
            _ => None,
        };
        let is_safe = |source: &Source| self.take == Take::Copied || source.is_safe(self.root);
        self.source.is_none_or(is_safe) && initrd.is_none_or(is_safe)
    }

    /// Those lines of parameters that the image reads: the command line of a guest may have some, but no image there.
    fn reads<'a>(&self, lines: [&'a str; 2]) -> [&'a str; 2] {
        if self.guest.is_some() { [""; 2] } else { lines }
    }
}

/// All of a file's bytes.
fn map(file: &File) -> io::Result<sys::Mapping> {
    sys::Mapping::new(file, usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?)
}

/// Writes down which watchdog the plan starts. A dump kernel is worth more than that.
fn remember_watchdog(root: &Path, [embedded, line]: [&str; 2]) {
    if let Err(error) = watchdog::record(root, &Plan::new(embedded, line)) {
        message::warning(&error.context("nothing will stop the BMC's watchdog at the next boot"));
    }
}

/// Says that the dump kernel would have to leave 5-level paging, which the running kernel uses and it has not.
fn loses_5_levels(root: &Path, kernel: &BzImage) -> Option<Error> {
    let loses = kernel.knows_5_level() && !kernel.uses_5_level() && first_kernel::uses_5_level(root);
    loses.then(|| {
        anyhow!(
            "the next panic may not be dumped, whatever loads the dump kernel: the running kernel uses 5-level paging, and \
             KERNEL is built without it\n\
             hint: use a dump kernel with CONFIG_X86_5LEVEL=y, or boot the running one with no5lvl"
        )
    })
}

/// The parameters embedded in a kernel, as far as this version can read them.
fn embedded(kernel: &[u8]) -> Result<String, boot::Error> {
    match boot::embedded_parameters(kernel) {
        Err(error @ boot::Error::OtherVersion(_)) => {
            message::warning(&Error::new(error).context("the parameters embedded in KERNEL are not read"));
            Ok(String::new())
        }
        result => result,
    }
}

/// Finds a register that lies in RAM: what is written there at the panic would overwrite the crashed kernel, or the dump
/// kernel.
fn in_ram(iomem: &IoMem, registers: impl IntoIterator<Item = Register>) -> Option<Error> {
    iomem.has_in_ram(registers).map(|register| {
        anyhow!(
            "{register} lies in RAM (/proc/iomem)\nhint: give a device's address to --ipmi-interface, --serial or --notify-hypervisor"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arm::sign::tests::{Machine, signer},
        bmc::discovery::tests::{Root, spmi_table},
        config,
    };
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
        only.load.whole_cmdline(root.path(), embedded, 2047, false).unwrap().finish().unwrap()
    }

    #[test]
    fn under_lockdown_a_kernel_is_signed_or_refused_and_where_that_is_not_certain_tried() {
        let machine = Machine::new();
        let (ours, other) = (machine.key("ours", "rsa:2048", 9), machine.key("other", "rsa:2048", 9));
        let free = Kdump::default();
        let locked = Kdump { lockdown: Some("integrity".to_owned()), ..free.clone() };
        let plain = boot::synthetic::Kernel::default().build();
        let sign = |key: &config::Sign| signer(key).sign(&plain).unwrap();
        let path = |path: &Option<PathBuf>| path.as_ref().unwrap().to_str().unwrap().to_owned();
        let given = ["--sign-key".to_owned(), path(&ours.key), "--sign-cert".to_owned(), path(&ours.cert)];
        let signed = |options: &[String], kdump: &Kdump, kernel: &[u8]| {
            let words = ["test", "kernel", "--append", "a"].map(str::to_owned);
            let load = Only::try_parse_from(words.iter().chain(options)).unwrap().load;
            let dump = DumpKernel {
                root: machine.root(),
                path: Path::new("kernel"),
                take: Take::Mapped,
                source: None,
                kernel,
                bz_image: BzImage::parse(kernel).unwrap(),
                initrd: None,
                needs: 0,
                guest: None,
                embedded: String::new(),
            };
            load.signed(kdump, &dump, kernel, false)
        };
        machine.trusts(&[&ours]);
        // Signed because that is asked for, demanded or not.
        assert!(signed(&given, &locked, &plain).unwrap() == Some(sign(&ours)));
        // Nothing to be had to sign with: certainly refused.
        let error = format!("{:#}", signed(&[], &locked, &plain).unwrap_err());
        assert!(error.contains("integrity") && error.contains("there is none"), "{error}");
        assert!(signed(&[], &locked, &sign(&other)).is_err());
        // As it is, where nothing is known against it.
        assert_eq!(signed(&[], &locked, &sign(&ours)).unwrap(), None);
        // With the configured key, in the place of one that is not trusted, too.
        let [key, cert] = [&ours.key, &ours.cert].map(path);
        machine.file("etc/lastwords.conf", &format!("[sign]\nkey = '{key}'\ncert = '{cert}'\n"));
        for kernel in [&plain, &sign(&other)] {
            assert!(signed(&[], &locked, kernel).unwrap() == Some(sign(&ours)));
        }
        assert_eq!(signed(&[], &locked, &sign(&ours)).unwrap(), None);
        machine.file("etc/lastwords.conf", "[sign]\ncommand = 'false'\n");
        assert!(signed(&[], &locked, &plain).is_err());
        // A kernel that may not look at signatures is asked, whatever is wrong.
        machine.file("proc/kallsyms", "0000000000000000 T _text\n");
        for kernel in [&plain, &sign(&other)] {
            assert_eq!(signed(&[], &locked, kernel).unwrap(), None);
        }
    }

    #[test]
    fn what_was_changed_while_it_was_loaded_is_loaded_anew_from_a_copy_or_it_is_said_what_is_loaded() {
        type Answer = Result<Result<u8, Changed>, &'static str>;
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/kernel")).unwrap();
        let load = |loaded: &str, answers: [Answer; 3]| {
            fs::write(root.path().join("sys/kernel/kexec_crash_loaded"), loaded).unwrap();
            let (answers, takes) =
                (std::cell::RefCell::new(answers.into_iter()), std::cell::RefCell::default());
            let result = anew(root.path(), |take| {
                Vec::push(&mut *takes.borrow_mut(), take);
                answers.borrow_mut().next().unwrap().map_err(Error::msg)
            });
            (result.map_err(|error| format!("{error:#}")), takes.into_inner())
        };
        let (before, after, never) = (Ok(Err(Changed::Before)), Ok(Err(Changed::After)), Err("never asked"));
        assert_eq!(load("1", [Ok(Ok(1)), never, never]), (Ok(1), vec![Take::Mapped]));
        assert_eq!(
            load("1", [Err("refused"), never, never]),
            (Err("refused".to_owned()), vec![Take::Mapped])
        );
        let takes = vec![Take::Mapped, Take::Copied, Take::Copied];
        assert_eq!(load("1", [after, Ok(Ok(2)), never]), (Ok(2), takes[..2].to_vec()));
        for once in [before, after, Err("empty file")] {
            assert_eq!(load("1", [after, once, Ok(Ok(3))]), (Ok(3), takes.clone()));
            for (loaded, answers, what) in [
                ("1", [before, before, Err("empty file")], "not loaded, the earlier dump kernel is still"),
                ("1", [after, before, once], "the dump kernel that is loaded may not start"),
                ("1", [before, after, once], "the dump kernel that is loaded may not start"),
                ("0", [after, before, once], "no dump kernel is loaded now"),
                ("0", [before, before, once], "no dump kernel is loaded now"),
            ] {
                let (result, asked) = load(loaded, answers);
                let error = result.unwrap_err();
                assert!(error.starts_with(what) && asked == takes, "{error}");
            }
        }
    }

    #[test]
    fn a_dump_kernel_that_would_have_to_leave_5_level_paging_is_warned_of() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        // XLF_5LEVEL_ENABLED is bit 6, XLF_5LEVEL bit 5. A kernel without either is refused.
        for (xloadflags, flags, is_lost) in [
            (0x3f, "fpu la57 rdpid", true),
            (0x7f, "fpu la57 rdpid", false),
            (0x1f, "fpu la57 rdpid", false),
            // Booted with no5lvl, or a CPU without it.
            (0x3f, "fpu rdpid", false),
        ] {
            fs::write(root.path().join("proc/cpuinfo"), format!("processor : 0\nflags : {flags}\n")).unwrap();
            let kernel = boot::synthetic::Kernel { xloadflags, ..Default::default() }.build();
            let found = loses_5_levels(root.path(), &BzImage::parse(&kernel).unwrap());
            assert_eq!(found.is_some(), is_lost, "{xloadflags:#x} {flags}");
        }
    }

    #[test]
    fn registers_in_ram_are_found() {
        let iomem = IoMem::parse(
            "00100000-3fffffff : System RAM\n  2f000000-3effffff : Crash kernel\nfe000000-fe000fff : IPMI\n",
        );
        for (addr, is_ram) in [(0x3b30_0000, true), (0x2f00_0000, true), (0xfe00_0000, false)] {
            let registers = [Register::Port(0x3f8), Register::Memory(addr)];
            assert_eq!(in_ram(&iomem, registers).is_some(), is_ram, "{addr:#x}");
        }
        // Without privileges nothing is known.
        let hidden = IoMem::parse("00000000-00000000 : System RAM\n");
        assert!(in_ram(&hidden, [Register::Memory(0x3b30_0000)]).is_none());
    }

    #[test]
    fn the_dump_kernels_own_console_in_ram_is_left_alone_and_one_that_is_asked_for_is_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/iomem"), "00100000-3fffffff : System RAM\n").unwrap();
        let cmdline = |options: &[&str]| {
            let load = Only::try_parse_from([&["test", "kernel", "--output-cpu-ip"], options].concat())
                .unwrap()
                .load;
            load.whole_cmdline(root.path(), "", 2047, false).map(|cmdline| cmdline.finish().unwrap())
        };
        let line = cmdline(&["--append", "console=uart8250,mmio,0x3b300000"]).unwrap();
        assert!(line.contains(" lastwords.console=none"), "{line}");
        let line = cmdline(&["--append", "console=uart8250,mmio,0xfe000000"]).unwrap();
        assert!(!line.contains(" lastwords.console"), "{line}");
        let error = cmdline(&["--append", "quiet", "--serial", "mmio:0x3b300000"]).unwrap_err();
        assert!(error.to_string().contains("lies in RAM"), "{error}");
        assert!(
            cmdline(&["--append", "lastwords.ipmi_kcs_ports=mmio:0x3b300000 lastwords.output_cpu_ip"])
                .is_err()
        );
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
            assert_eq!(cmdline(options, "fpu", embedded), line, "{options:?}");
        }
    }

    #[test]
    fn what_is_found_is_passed_on_also_where_it_is_usual_and_what_cannot_be_used_is_not() {
        let root = Root::new();
        let cmdline = |options: &str| {
            let words = ["test", "kernel", "--append", "a"].into_iter().chain(options.split(' '));
            let load = Only::try_parse_from(words).unwrap().load;
            load.whole_cmdline(root.path(), "", 2047, false).unwrap().finish().unwrap()
        };
        let asked = "a lastwords.ipmi_handle_panic";
        assert_eq!(cmdline("--ipmi-handle-panic"), asked);
        // SSIF without a controller that the image can drive, and a PCI device that nobody can ask.
        let mut table = spmi_table(4, 8, 0x84);
        table[36] = 4;
        root.write("sys/firmware/acpi/tables/SPMI1", table);
        root.pci("0000:00:04.0", 0x0c_0701, (0x1b36, 0x000d), &[(0xc080, 8, true)]);
        assert_eq!(cmdline("--ipmi-handle-panic"), asked);
        root.write("sys/firmware/acpi/tables/SPMI2", spmi_table(1, 8, 0xca2));
        assert_eq!(cmdline("--ipmi-handle-panic"), format!("{asked} lastwords.ipmi_kcs_ports=0xca2,0xca3"));
        root.i801("0000:00:1f.3", 0x700);
        let ssif = format!("{asked} lastwords.ipmi_interface=ssif:i801:0x700,0x42");
        assert_eq!(cmdline("--ipmi-handle-panic"), ssif);
        // Either name for it keeps from adding one.
        for (option, parameter) in [
            ("--ipmi-kcs-ports 0xca8", "ipmi_kcs_ports=0xca8,0xca9"),
            ("--ipmi-interface bt:0xe4", "ipmi_interface=bt:0xe4"),
        ] {
            let line = format!("a lastwords.{parameter} lastwords.ipmi_handle_panic");
            assert_eq!(cmdline(&format!("--ipmi-handle-panic {option}")), line);
        }
    }

    #[test]
    fn cpu_numbers_with_holes_and_the_mask_of_online_cpus_are_passed_where_all_cpus_are_asked_for() {
        let root = tempfile::tempdir().unwrap();
        let notes =
            [&[4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0][..], b"GNU\0\x5f\x3e\x9a\x1b0123456789abcdef"].concat();
        for (path, bytes) in [
            ("sys/kernel/notes", &notes[..]),
            ("sys/devices/system/cpu/cpu0/crash_notes", b"3f0a000"),
            ("sys/devices/system/cpu/cpu2/crash_notes", b"3f0b000"),
            ("proc/kallsyms", b"ffffffffb7200000 T _stext\nffffffffb8e2f5a0 D __cpu_online_mask\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        for (options, line) in [
            (
                "--output-cpu-ip=sel",
                " lastwords.cpu_numbers=0,2 lastwords.cpu_online_mask=0x1c2f5a0,0x5f3e9a1b",
            ),
            ("--ipmi-handle-panic", " lastwords.cpu_numbers=0,2"),
        ] {
            let only = Only::try_parse_from(["test", "kernel", "--append", "a", options]).unwrap();
            let whole = only.load.whole_cmdline(root.path(), "", 2047, false).unwrap().finish().unwrap();
            assert!(whole.ends_with(line), "{whole}");
        }
    }

    #[test]
    fn without_a_dump_kernel_the_console_is_the_running_ones_and_a_watchdog_is_refused() {
        let root = Root::new();
        root.write("proc/cmdline", "root=/dev/sda1 console=ttyS1,9600 quiet crashkernel=2M\n");
        let line = |options: &str| {
            let words = ["test", "--no-dump-kernel"].into_iter().chain(options.split(' '));
            let load = Only::try_parse_from(words).unwrap().load;
            load.whole_cmdline(root.path(), "", 2047, true).map(|line| line.finish().unwrap())
        };
        let asked = "lastwords.output_cpu_ip=console";
        let cpu = "--output-cpu-ip=console";
        assert_eq!(line(cpu).unwrap(), format!("console=ttyS1,9600 {asked}"));
        assert_eq!(
            line(&format!("{cpu} --then power-off --append lastwords.budget=9")).unwrap(),
            format!("console=ttyS1,9600 lastwords.budget=9 {asked} lastwords.then=power-off")
        );
        let error = line("--ipmi-watchdog start=60").unwrap_err().to_string();
        assert!(error.contains("cut the next boot off"), "{error}");
        // Where Linux' own pstore would have written to ERST, the image does; not to another backend.
        for (backend, more) in [("erst", " lastwords.output_pstore"), ("efi_pstore", ""), ("(null)", "")] {
            root.write("sys/module/pstore/parameters/backend", format!("{backend}\n"));
            assert_eq!(line(cpu).unwrap(), format!("console=ttyS1,9600 {asked}{more}"));
        }
        root.write("sys/module/pstore/parameters/backend", "erst\n");
        let own = line(&format!("{cpu} --output-pstore=4096")).unwrap();
        assert_eq!(own, format!("console=ttyS1,9600 {asked} lastwords.output_pstore=4096"));
        let load = Only::try_parse_from(["test", "KERNEL", "--append", "a", cpu]).unwrap().load;
        let dumped = load.whole_cmdline(root.path(), "", 2047, false).unwrap().finish().unwrap();
        assert_eq!(dumped, format!("a {asked}"));
        for wrong in ["test --no-dump-kernel KERNEL", "test --then halt", "test --no-dump-kernel --initrd a"]
        {
            assert!(Only::try_parse_from(wrong.split(' ')).is_err(), "{wrong}");
        }
        let load = Only::try_parse_from("test KERNEL --append a --then halt".split(' ')).unwrap().load;
        assert!(load.whole_cmdline(root.path(), "", 2047, false).is_err());
    }

    #[test]
    fn a_steady_tsc_is_measured() {
        let line =
            cmdline(&["--append", "a", "--output-cpu-ip=console"], "rdtscp constant_tsc nonstop_tsc", "");
        assert!(line.contains(" lastwords.tsc_khz="), "{line}");
    }
}
