//! `lastwords wrap`: writes a dump kernel that any stock kexec loads.

use super::{
    file::{self, Source, Take},
    image::IMAGE,
    options::PlanOptions,
    sign::{self, SignOptions, Signer},
    watchdogs,
};
use crate::message;
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use lastwords_boot::{self as boot, Uki};
use lastwords_core::plan::Plan;
use std::{fs, path::PathBuf};

/// Put panic reporting into a dump kernel for the stock kexec
///
/// OUT boots as KERNEL does. Started as a dump kernel (with elfcorehdr= on the command line), OUT first reports the panic
/// to the BMC (baseboard management controller) and to the console. The options are embedded in OUT; lastwords.
/// parameters on the command line win over them. KERNEL's signature would no longer be valid and is removed; for Secure
/// Boot OUT is signed anew. The same KERNEL, options and key make the same OUT.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords wrap /boot/vmlinuz -o /var/lib/kdump/vmlinuz --ipmi-handle-panic
  kexec -p /var/lib/kdump/vmlinuz --initrd=INITRD --append=\"...\"

  lastwords wrap KERNEL -o OUT --ipmi-handle-panic --output-cpu-ip \\
      --sign-key MOK.priv --sign-cert MOK.der
  lastwords wrap KERNEL -o OUT --ipmi-handle-panic --output-cpu-ip \\
      --sign-command 'sbsign --key KEY --cert CERT --output \"$OUT\" \"$IN\"'

Exit status:
  0  OUT was written
  1  failed
  2  wrong usage")]
pub struct Wrap {
    /// Dump kernel to read (a 64-bit bzImage, as in /boot)
    kernel: PathBuf,
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
    pub fn run(&self) -> Result<()> {
        let source = Source::open(&self.kernel)?;
        let permissions = source.file.metadata()?.permissions();
        let file = source.bytes(Take::Mapped)?;
        let uki = Uki::parse(&file).with_context(|| self.kernel.display().to_string())?;
        let kernel = uki.map_or(&file[..], |uki| uki.linux);
        // Before all work: a key that cannot be used.
        let signer = Signer::from(&self.sign.config())?;
        let mut wrapped = self.wrapped(kernel).with_context(|| self.kernel.display().to_string())?;
        if let Some(signer) = &signer {
            wrapped = signer.sign(&wrapped)?;
        }
        file.check(&self.kernel)?;
        let output = self.output().with_context(|| self.output.display().to_string())?;
        file::replace(&output, &wrapped, &permissions).with_context(|| self.output.display().to_string())?;

        let parameters = self.plan.parameters();
        if let Some(error) = watchdogs::too_short(&Plan::new("", &parameters)) {
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

    fn wrapped(&self, kernel: &[u8]) -> Result<Vec<u8>, boot::Error> {
        let parameters = self.plan.parameters();
        if self.force {
            return boot::wrap(&boot::unwrap(kernel)?, IMAGE, &parameters);
        }
        boot::wrap(kernel, IMAGE, &parameters)
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
        if !self.force && fs::canonicalize(&self.kernel).is_ok_and(|kernel| kernel == output) {
            bail!("this is KERNEL itself\nhint: choose another OUT, or overwrite it with --force");
        }
        Ok(output)
    }
}
