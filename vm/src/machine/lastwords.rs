//! The `lastwords` program under test, built by cargo in the same target folder; and one of the bench's own for the guest.

use crate::machine::{cache, packages, process};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Builds the program, once in a process, and returns its path. Without what debuggers want, which is nine tenths of it: a
/// guest has it in its memory, and a dump of that has to fit into the dump kernel's.
///
/// # Errors
/// When it does not build.
pub fn program() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let make = || -> Result<PathBuf> {
        let folder = cache::target()?.join("vm/program");
        fs::create_dir_all(&folder)?;
        // With one of its tests, which is small: so it is the one that `make unit` has built. Alone it would be another one,
        // whose dependencies lack what tests want of them.
        let built = build("lastwords", "lastwords", "dev", &["--test", "cli"])?;
        let path = folder.join("lastwords");
        let new = folder.join(format!("lastwords-{}", std::process::id()));
        process::output(Command::new("objcopy").arg("--strip-debug").arg(built).arg(&new))?;
        fs::rename(new, &path)?;
        Ok(path)
    };
    let built = BUILT.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// The program as users have it, which is that of the packages.
///
/// # Errors
/// When they cannot be made.
pub fn release() -> Result<PathBuf> {
    packages()?;
    Ok(cache::target()?.join("x86_64-unknown-linux-gnu/release/lastwords"))
}

/// The program's packages.
pub struct Packages {
    /// Debian's.
    pub deb: PathBuf,
    /// Fedora's and SUSE's.
    pub rpm: PathBuf,
}

/// Makes the program's packages by dist/packages, once in a process.
///
/// # Errors
/// When they cannot be made.
pub fn packages() -> Result<&'static Packages> {
    static MADE: OnceLock<Result<Packages, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let make = || packages_of(&cache::target()?.join("packages"), env!("CARGO_PKG_VERSION"));
        make().map_err(|error| format!("{error:#}"))
    });
    made.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Makes packages of this version in this folder, from the same program.
///
/// # Errors
/// When they cannot be made.
pub fn packages_of(folder: &Path, version: &str) -> Result<Packages> {
    packages::install()?;
    let mut make = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../dist/packages"));
    process::output(make.arg(folder).arg(version)).context("the packages cannot be made")?;
    Ok(Packages {
        deb: folder.join(format!("lastwords_{version}_amd64.deb")),
        rpm: folder.join(format!("lastwords-{version}-1.x86_64.rpm")),
    })
}

/// Builds the program that prints a dump's log, and returns its path.
///
/// # Errors
/// When it does not build.
pub fn vmcore_log() -> Result<PathBuf> {
    build(env!("CARGO_PKG_NAME"), "vmcore-log", "dev", &[])
}

/// Builds the BMC on the LAN that has quirks, and returns its path.
///
/// # Errors
/// When it does not build.
pub fn lan_bmc() -> Result<PathBuf> {
    build("lastwords-sim", "lan-bmc", "dev", &[])
}

fn build(package: &str, program: &str, profile: &str, more: &[&str]) -> Result<PathBuf> {
    let target = cache::target()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", package, "--bin", program, "--profile", profile])
        .args(more)
        .arg("--manifest-path");
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).arg("--target-dir").arg(&target);
    process::output(&mut cargo).with_context(|| format!("{program} does not build"))?;
    Ok(target.join(if profile == "dev" { "debug" } else { profile }).join(program))
}

/// The image's ELF file, from which the program's own build has made the flat one.
///
/// # Errors
/// When the program does not build.
pub fn image_elf() -> Result<PathBuf> {
    program()?;
    let builds = fs::read_dir(cache::target()?.join("debug/build"))?;
    let built = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    builds
        .filter_map(|entry| {
            Some(entry.ok()?.path().join("out/image/x86_64-unknown-linux-gnu/purgatory/purgatory"))
        })
        .filter(|path| path.is_file())
        .max_by_key(built)
        .context("the program's build has left no image")
}

/// `lastwords wrap`: the kernel with the image in front of it, written to `out`. It runs on the host, whose BMC, or none, is not
/// the guest's: that is named, unless the options name another interface.
///
/// # Errors
/// When it refuses.
pub fn wrap(kernel: &Path, out: &Path, options: &str) -> Result<()> {
    let mut wrap = Command::new(program()?);
    wrap.arg("wrap").arg(kernel).arg("-o").arg(out).args(options.split_whitespace());
    if !["--ipmi-interface", "--ipmi-kcs-ports"].iter().any(|option| options.contains(option)) {
        wrap.arg("--ipmi-kcs-ports=0xca2,0xca3");
    }
    process::output(&mut wrap)?;
    Ok(())
}
