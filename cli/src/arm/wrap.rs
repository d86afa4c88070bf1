//! `lastwords wrap`: writes a dump kernel that any stock kexec loads.

use super::{image::IMAGE, options::PlanOptions};
use anyhow::{Context, Result, bail};
use clap::Args;
use lastwords_boot as boot;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Puts last words into a dump kernel, for any stock kexec to load.
///
/// OUT boots as KERNEL does. Only when it is started as a dump kernel (its command line holds elfcorehdr=) it first
/// does what the options embedded in it say, or the lastwords. parameters on its command line, which win. A signature
/// is taken off, because it would no longer be true; sign OUT again with sbsign where that is needed.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords wrap /boot/vmlinuz-6.1.0-56-amd64 -o /var/lib/kdump/vmlinuz
  kexec -p /var/lib/kdump/vmlinuz --initrd=INITRD --append=\"... lastwords.ipmi_handle_panic\"

  lastwords wrap KERNEL -o OUT --ipmi-handle-panic --output-cpu-ip --ipmi-watchdog start=300
  sbsign --key KEY --cert CERT --output OUT.signed OUT")]
pub struct Wrap {
    /// The dump kernel (a 64-bit bzImage, as in /boot)
    kernel: PathBuf,
    /// File to write; it is there in full or not at all
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Replace what is in an already wrapped KERNEL, and let OUT be KERNEL itself
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    plan: PlanOptions,
}

impl Wrap {
    /// Does it.
    pub fn run(&self) -> Result<()> {
        let kernel = fs::read(&self.kernel).with_context(|| self.kernel.display().to_string())?;
        let wrapped = self.wrapped(&kernel).with_context(|| self.kernel.display().to_string())?;
        let output = self.output().with_context(|| self.output.display().to_string())?;
        write_whole(&output, &wrapped, &self.kernel).with_context(|| self.output.display().to_string())?;

        let signed = boot::BzImage::parse(&kernel)?.is_signed();
        println!(
            "{}: {} bytes, were {}{}",
            self.output.display(),
            wrapped.len(),
            kernel.len(),
            if signed {
                "; its signature is taken off, for Secure Boot sign it again with sbsign"
            } else {
                ""
            },
        );
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
        let Ok(output) = fs::canonicalize(&self.output) else { return Ok(self.output.clone()) };
        if !output.is_file() {
            bail!("not a regular file");
        }
        if !self.force && fs::canonicalize(&self.kernel).is_ok_and(|kernel| kernel == output) {
            bail!("this is KERNEL itself: choose another OUT, or say --force to overwrite it");
        }
        Ok(output)
    }
}

/// Writes a file beside its place and renames it there, so that at no time half of it is seen. It gets the permission
/// bits of `like`.
fn write_whole(path: &Path, bytes: &[u8], like: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::metadata(like)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
