//! The Debian packages that the bench is made of, installed when they are missing.

use crate::machine::process;
use anyhow::{Context, Result, bail};
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Everything that a scenario runs, on the host or copied into the guest.
const NEEDED: [&str; 14] = [
    "binutils",
    "busybox-static",
    "freeipmi-tools",
    "gzip",
    "ipmitool",
    "kexec-tools",
    "makedumpfile",
    "openipmi",
    "openssl",
    "ovmf",
    "qemu-system-x86",
    "qemu-utils",
    "sbsigntool",
    "xz-utils",
];

/// Installs what is missing, as root; does nothing when all is there.
///
/// # Errors
/// When something is missing and cannot be installed: the error names the packages.
pub fn install() -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        bail!("packages are missing; install them as root: apt-get install {list}");
    }
    eprintln!("bench: installing {list}");
    update()?;
    let mut install = apt_get();
    install.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
    process::output(&mut install).with_context(|| format!("cannot install {list}"))?;
    Ok(())
}

/// Fetches Debian's lists of packages anew.
///
/// # Errors
/// When apt-get fails.
pub fn update() -> Result<()> {
    process::output(apt_get().arg("update")).context("cannot fetch Debian's package lists")?;
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    // Another apt may be at work: wait for it.
    command.args(["--quiet", "-o", "DPkg::Lock::Timeout=300"]).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn missing() -> Result<Vec<&'static str>> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Package} ${db:Status-Status}\n"]).args(NEEDED);
    // It fails when it does not know one of them, and still lists the others.
    let output = query.output().context("no dpkg-query: the bench runs on Debian")?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed = |package: &str| listed.lines().any(|line| line == format!("{package} installed"));
    Ok(NEEDED.into_iter().filter(|package| !installed(package)).collect())
}
