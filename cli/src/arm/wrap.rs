//! `lastwords wrap`: writes a dump kernel that any stock kexec loads.

use super::{
    alone,
    file::{self, Bytes, Source, Take},
    image::IMAGE,
    options::PlanOptions,
    pstore, pvpanic,
    registers::Owners,
    sign::{self, SignOptions, Signer},
    watchdogs,
};
use crate::{
    bmc::{self, discovery},
    message,
};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use lastwords_boot::{self as boot, Uki};
use lastwords_core::plan::{PREFIX, Plan};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Put panic reporting into a dump kernel for the stock kexec
///
/// OUT boots as KERNEL does. Started as a dump kernel (with elfcorehdr= on the command line), OUT first reports the panic
/// to the BMC (baseboard management controller) and to the console. The options are embedded in OUT; lastwords.
/// parameters on the command line win over them. Where no option names the BMC's system interface, this machine's is embedded,
/// too. KERNEL's signature would no longer be valid and is removed; for Secure Boot OUT is signed anew. The same KERNEL, options,
/// key and BMC interface make the same OUT.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords wrap /boot/vmlinuz -o /var/lib/kdump/vmlinuz --ipmi-handle-panic
  kexec -p /var/lib/kdump/vmlinuz --initrd=INITRD --append=\"...\"

  lastwords wrap KERNEL -o OUT --ipmi-handle-panic --output-cpu-ip \\
      --sign-key MOK.priv --sign-cert MOK.der
  lastwords wrap --no-dump-kernel -o OUT --ipmi-handle-panic --output-cpu-ip
  kexec -p -s OUT --command-line=console=ttyS0

  lastwords wrap KERNEL -o OUT --ipmi-handle-panic --output-cpu-ip \\
      --sign-command 'sbsign --key KEY --cert CERT --output \"$OUT\" \"$IN\"'

Exit status:
  0  OUT was written
  1  failed
  2  wrong usage")]
pub struct Wrap {
    /// Dump kernel to read (a 64-bit bzImage, as in /boot)
    #[arg(required_unless_present = "no_dump_kernel", conflicts_with = "no_dump_kernel")]
    kernel: Option<PathBuf>,
    /// Hold no dump kernel: OUT reports a panic, then resets the machine
    #[arg(long)]
    no_dump_kernel: bool,
    /// Write to OUT, completely or not at all
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Replace the reporting in a wrapped KERNEL, or KERNEL itself
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    plan: PlanOptions,
    #[command(flatten)]
    sign: SignOptions,
}

impl Wrap {
    /// Writes the wrapped kernel.
    ///
    /// # Errors
    /// When KERNEL cannot be wrapped, or OUT not written.
    pub fn run(&self, root: &Path) -> Result<()> {
        let path = self.kernel.as_deref().unwrap_or(Path::new(alone::NAME));
        let (file, permissions) = if self.no_dump_kernel {
            (Bytes::Copied(boot::alone()), Permissions::from_mode(0o644))
        } else {
            let source = Source::open(path)?;
            (source.bytes(Take::Mapped)?, source.file.metadata()?.permissions())
        };
        let uki = Uki::parse(&file).with_context(|| path.display().to_string())?;
        let kernel = uki.map_or(&file[..], |uki| uki.linux);
        // Before all work: a key that cannot be used.
        let signer = Signer::from(&self.sign.config())?;
        let (parameters, found) = self.parameters(root);
        let alone = boot::BzImage::parse(kernel).is_ok_and(|kernel| kernel.is_alone());
        alone::check(&Plan::new("", &parameters), alone)?;
        let mut wrapped = self.wrapped(kernel, &parameters).with_context(|| path.display().to_string())?;
        if let Some(signer) = &signer {
            wrapped = signer.sign(&wrapped)?;
        }
        file.check(path)?;
        let output = self.output().with_context(|| self.output.display().to_string())?;
        file::replace(&output, &wrapped, &permissions).with_context(|| self.output.display().to_string())?;

        let plan = Plan::new("", &parameters);
        if plan.talks_to_bmc() && plan.interface.is_none() {
            message::warning(&anyhow!(
                "no BMC interface that can be used was found on this machine, and none is embedded: OUT reports to the console \
                 alone, unless its command line names one\nhint: --ipmi-interface names it"
            ));
        }
        // It may be for another machine.
        if let Some(error) = Owners::read(root).bmc_conflict(&plan) {
            message::warning(&error.context("on this machine the BMC's commands would go to another device"));
        }
        if let Some(error) = watchdogs::too_short(&plan) {
            message::warning(&error);
        }
        if parameters.is_empty() {
            message::warning(&anyhow!(
                "it reports only what its command line will ask for: no reporting option was given\n\
                 hint: --ipmi-handle-panic --output-cpu-ip report the cause and all CPUs"
            ));
        }
        let was_signed = boot::BzImage::parse(kernel)?.is_signed();
        let (output, len) = (self.output.display(), wrapped.len());
        message::output(format_args!("wrapped: {output}, {len} bytes ({} before)", kernel.len()));
        if let Some(found) = found {
            message::output(format_args!("BMC: {found} (this machine's; --ipmi-interface names another)"));
        }
        if uki.is_some() {
            message::output(
                "KERNEL is a unified kernel image (UKI): OUT has its kernel alone, no initial RAM disk and no command line",
            );
        }
        if signer.is_some() {
            message::output(format_args!("signed: {}", sign::signed_by(&wrapped)));
        } else if was_signed {
            message::output(
                "signature removed; for Secure Boot sign it with --sign-key and --sign-cert, or --sign-command",
            );
        }
        Ok(())
    }

    fn wrapped(&self, kernel: &[u8], parameters: &str) -> Result<Vec<u8>, boot::Error> {
        if self.force {
            return boot::wrap(&boot::unwrap(kernel)?, &IMAGE, parameters);
        }
        boot::wrap(kernel, &IMAGE, parameters)
    }

    /// The parameters that are embedded, and what was found for them: where the BMC is to get something and nobody has said
    /// where it is, this machine's own interface.
    fn parameters(&self, root: &Path) -> (String, Option<discovery::Found>) {
        let mut given = self.plan.parameters();
        if self.no_dump_kernel
            && Plan::new("", &given).pstore == 0
            && let Some(parameter) = pstore::in_place_of_linux(root)
        {
            given = [&given, parameter].join(" ");
        }
        match pvpanic::parameter(root, &Plan::new("", &given)) {
            Some(Ok(parameter)) => given = format!("{given} {parameter}"),
            Some(Err(error)) => message::warning(&error),
            None => {}
        }
        let plan = Plan::new("", &given);
        if let Some(error) = pstore::warning(root, &plan) {
            message::warning(&error);
        }
        if !plan.talks_to_bmc() || plan.interface.is_some() {
            return (given, None);
        }
        let mut found = discovery::interfaces(root);
        discovery::ask(root, &mut found);
        let Some((at, interface)) = discovery::best(&found) else { return (given, None) };
        let (name, value) = bmc::named(interface);
        (format!("{given} {PREFIX}{name}={value}"), Some(found.swap_remove(at)))
    }

    /// The file to write: what a symbolic link points to, since renaming onto the link would replace the link.
    fn output(&self) -> Result<PathBuf> {
        let Ok(output) = fs::canonicalize(&self.output) else {
            if self.output.is_symlink() {
                bail!(
                    "a symbolic link that leads to no file, as /dev/stdout where it is a pipe\nhint: give a file's name"
                );
            }
            return Ok(self.output.clone());
        };
        if !output.is_file() {
            bail!("not a regular file");
        }
        let kernel = self.kernel.as_ref().and_then(|kernel| fs::canonicalize(kernel).ok());
        if !self.force && kernel == Some(output.clone()) {
            bail!("this is KERNEL itself\nhint: choose another OUT, or overwrite it with --force");
        }
        Ok(output)
    }
}
