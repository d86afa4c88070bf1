//! `lastwords hook`: what the scripts and units of distributions call. Nothing that goes wrong here may keep kdump from
//! loading, or a kernel from being installed: it always ends with 0, and soon. What went wrong is in the journal.

use super::{is_dump_kernel, is_enabled, run, service::Service, wrapped};
use crate::{
    arm::kdump::Kdump,
    config::Config,
    journal::{self, Priority},
    message, sys,
};
use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, Subcommand};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Duration,
};
use wrapped::Wanted;

/// No wrapped kernel is used until the next boot, where none can be put aside in its record: /var may be read-only.
const PLAIN: &str = "run/lastwords/plain";
/// Seconds after which a hook ends. udev gives a rule 180.
const TIME: u32 = 120;
/// Another program may be between unloading and loading: so many seconds.
const PATIENCE: u32 = 5;

/// Run as a hook of kdump, of package managers and of systemd
///
/// For scripts. The exit status is always 0: errors are in the journal, and on standard error.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords hook kdump-kernel

Exit status:
  0  always, but for wrong usage")]
pub struct Hook {
    #[command(subcommand)]
    call: Call,
}

#[derive(Debug, Subcommand)]
enum Call {
    /// Print the wrapped kernel for kdump, or nothing where it is to load a plain one
    KdumpKernel {
        /// Take the kernel of this version [default: the running one]
        #[arg(id = "kernel", value_name = "VERSION")]
        version: Option<String>,
    },
    /// Wrap a kernel that has been installed
    KernelInstalled {
        /// Take the kernel of this version
        #[arg(id = "kernel", value_name = "VERSION")]
        version: String,
        /// Take this file where the kernel is in none of the usual places
        image: Option<PathBuf>,
    },
    /// Delete the wrapped kernel of a kernel that has been removed
    KernelRemoved {
        /// Take the kernel of this version
        #[arg(id = "kernel", value_name = "VERSION")]
        version: String,
    },
    /// Load plain kdump where no dump kernel is loaded
    Check,
    /// Write to the journal what kdump has loaded
    Loaded {
        /// Take this kernel as the one that was loaded
        kernel: Option<PathBuf>,
    },
}

impl Hook {
    /// Does what is asked for, where lastwords is enabled.
    pub fn run(&self, root: &Path) -> ExitCode {
        if is_enabled(root) && !is_dump_kernel(root) {
            if !matches!(self.call, Call::Check) {
                sys::end_after(TIME);
            }
            if let Err(error) = self.call.run(root) {
                report(root, Priority::Error, &error);
            }
        }
        ExitCode::SUCCESS
    }
}

impl Call {
    fn run(&self, root: &Path) -> Result<()> {
        match self {
            Self::KdumpKernel { version } => {
                if let Some(path) = kdump_kernel(root, version.as_deref()).context(PLAIN_IS_USED)? {
                    message::output(message::path(&path));
                }
                Ok(())
            }
            Self::KernelInstalled { version, image } => installed(root, version, image.as_deref()),
            Self::KernelRemoved { version } => wrapped::remove(root, version),
            Self::Check => check(root),
            Self::Loaded { kernel } => {
                loaded(root, kernel.as_deref());
                Ok(())
            }
        }
    }
}

const PLAIN_IS_USED: &str = "kdump loads the plain kernel, without panic reporting";

/// Writes an error or a warning to the journal and to standard error. Only root's: others have only looked.
fn report(root: &Path, priority: Priority, error: &anyhow::Error) {
    if wrapped::is_root() {
        let _ = journal::send(root, priority, message::fact(&message::chain(error)), &[]);
    }
    match priority {
        Priority::Error | Priority::Emergency => message::error(error),
        Priority::Warning | Priority::Info => message::warning(error),
    }
}

/// The wrapped kernel that kdump is to load; none where a plain one is wanted.
fn kdump_kernel(root: &Path, version: Option<&str>) -> Result<Option<PathBuf>> {
    let version = version.map_or_else(|| wrapped::running(root), |version| Ok(version.to_owned()))?;
    if root.join(PLAIN).exists() {
        return Ok(None);
    }
    let Some(wanted) = wanted(root, &version, None)? else { return Ok(None) };
    if let Some(fresh) = wanted.fresh() {
        return Ok(Some(fresh.path));
    }
    // It was reported when it was put aside. And who may not write gets what there is.
    if wanted.refused().is_some() || !wrapped::is_root() {
        return Ok(None);
    }
    refresh(root, &wanted).map(Some)
}

/// What is configured for this kernel; none where nothing is to be reported. A configuration that cannot be read leaves a
/// wrapped kernel as it is.
fn wanted<'a>(root: &'a Path, version: &'a str, image: Option<&Path>) -> Result<Option<Wanted<'a>>> {
    match Config::read(root) {
        Ok(config) if config.parameters.is_empty() => Ok(None),
        Ok(config) => Wanted::new(root, version, image, &config).map(Some),
        Err(error) => {
            report(root, Priority::Error, &error.context("the configuration is not used"));
            Wanted::as_before(root, version).map(Some)
        }
    }
}

/// The wrapped kernel, made anew where it is stale.
fn refresh(root: &Path, wanted: &Wanted) -> Result<PathBuf> {
    let made = wanted.refresh()?;
    if made.new {
        let record = made.record;
        let text = format!("wrapped {} for kdump: {}", record.source.display(), record.parameters);
        let fields =
            [("LASTWORDS_IMAGE_SHA256", &*record.image_sha256), ("LASTWORDS_PLAN", &*record.parameters)];
        let _ = journal::send(root, Priority::Info, &text, &fields);
    }
    Ok(made.path)
}

/// Wraps a new kernel, so that its first boot need not, and deletes what belongs to kernels that are gone.
fn installed(root: &Path, version: &str, image: Option<&Path>) -> Result<()> {
    for other in wrapped::versions(root) {
        if wrapped::source(root, &other, None).is_none()
            && wrapped::running(root).ok().as_ref() != Some(&other)
        {
            wrapped::remove(root, &other)?;
        }
    }
    if let Some(wanted) = wanted(root, wrapped::check(version)?, image)? {
        refresh(root, &wanted).context("kdump will load the plain kernel, without panic reporting")?;
    }
    Ok(())
}

/// The net below kdump's own script: where it has loaded nothing with a wrapped kernel, it gets none.
fn check(root: &Path) -> Result<()> {
    let Some(service) = Service::find(root).filter(|service| service.is_on(root)) else { return Ok(()) };
    let mut kdump = Kdump::read(root);
    for _ in 0..PATIENCE {
        if kdump.crash_loaded != Some(false) {
            return Ok(());
        }
        thread::sleep(Duration::from_secs(1));
        kdump = Kdump::read(root);
    }
    let possible = kdump.crash_size > 0 || kdump.busy;
    if kdump.crash_loaded != Some(false) || !possible || kdump.load_disabled || kdump.limit_panic == Some(0) {
        return Ok(());
    }
    let why = format!("{} did not load it", service.name);
    let mut was_used = false;
    for version in in_use(root) {
        let Ok(record) = wrapped::record(root, &version) else { continue };
        if record.refused.is_none() && !root.join(PLAIN).exists() {
            was_used = true;
            put_aside(root, &version, &why);
        }
    }
    if !was_used {
        bail!(
            "no dump kernel is loaded, although memory is reserved for one\nhint: {}",
            service.reload.join(" ")
        );
    }
    let result = run(root, service.reload);
    if Kdump::read(root).crash_loaded != Some(true) {
        result?;
        bail!("no dump kernel is loaded: {why}, nor the plain one");
    }
    let error = anyhow!(
        "plain kdump is loaded, without panic reporting: {why}\nhint: lastwords enable tries it again"
    );
    report(root, Priority::Warning, &error);
    Ok(())
}

/// The versions that kdump may load: the running kernel's, and SUSE's the one that the RAM disk was made for.
fn in_use(root: &Path) -> Vec<String> {
    let of_ram_disk = fs::read_to_string(root.join("var/lib/kdump/kernel-version")).ok();
    let mut versions: Vec<_> = wrapped::running(root).into_iter().collect();
    versions.extend(of_ram_disk.map(|version| version.trim().to_owned()));
    versions
}

/// In its record, or else for this boot.
fn put_aside(root: &Path, version: &str, why: &str) {
    if let Err(error) = wrapped::put_aside(root, version, why) {
        report(root, Priority::Warning, &error.context("put aside for this boot only"));
        let path = root.join(PLAIN);
        let _ = path.parent().map(fs::create_dir_all);
        let _ = fs::write(path, "");
    }
}

/// Wrapped kernels that were put aside are tried again.
pub fn try_again(root: &Path) -> Result<()> {
    let _ = fs::remove_file(root.join(PLAIN));
    for version in wrapped::versions(root) {
        if wrapped::record(root, &version).is_ok_and(|record| record.refused.is_some()) {
            wrapped::remove(root, &version)?;
        }
    }
    Ok(())
}

/// One line of what kdump has loaded.
fn loaded(root: &Path, kernel: Option<&Path>) {
    if Kdump::read(root).crash_loaded != Some(true) {
        return;
    }
    let record = kernel.and_then(|kernel| {
        let version = kernel.file_name()?.to_str()?.strip_prefix("vmlinuz-")?;
        let record = wrapped::record(root, version).ok()?;
        (wrapped::path(root, version) == kernel).then_some(record)
    });
    let _ = match record {
        Some(record) => journal::send(
            root,
            Priority::Info,
            &format!("kdump has loaded the kernel {} with panic reporting", record.version),
            &[("LASTWORDS_IMAGE_SHA256", &record.image_sha256), ("LASTWORDS_PLAN", &record.parameters)],
        ),
        None => {
            journal::send(root, Priority::Warning, "kdump has loaded a kernel without panic reporting", &[])
        }
    };
}
