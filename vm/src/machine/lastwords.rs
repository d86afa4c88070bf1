//! The `lastwords` program under test, built by cargo in the same target folder; and one of the bench's own for the guest.

use crate::machine::{cache, process};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Builds the program, once in a process, and returns its path.
///
/// # Errors
/// When it does not build.
pub fn program() -> Result<&'static Path> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build("lastwords", "lastwords").map_err(|error| format!("{error:#}")));
    built.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Makes the packages as users get them, once in a process, and returns Debian's. `LASTWORDS_VM_PACKAGE` names one that
/// is there already.
///
/// # Errors
/// When one cannot be made.
pub fn package() -> Result<&'static Path> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| make_packages().map_err(|error| format!("{error:#}")));
    made.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn make_packages() -> Result<PathBuf> {
    if let Some(package) = std::env::var_os("LASTWORDS_VM_PACKAGE") {
        return Ok(package.into());
    }
    let tree = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    process::output(&mut Command::new(tree.join("dist/packages"))).context("the packages cannot be made")?;
    let packages = std::fs::read_dir(tree.join("target/packages"))?;
    let mut debs = packages.filter_map(|entry| {
        let path = entry.ok()?.path();
        (path.extension()? == "deb").then_some(path)
    });
    let package = debs.next().context("no package of Debian's was made")?;
    ensure!(debs.next().is_none(), "several packages of Debian's were made");
    Ok(package)
}

/// Builds the program that prints a dump's log, and returns its path.
///
/// # Errors
/// When it does not build.
pub fn vmcore_log() -> Result<PathBuf> {
    build(env!("CARGO_PKG_NAME"), "vmcore-log")
}

fn build(package: &str, program: &str) -> Result<PathBuf> {
    let target = cache::target()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", package, "--bin", program, "--manifest-path"]);
    cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml")).arg("--target-dir").arg(&target);
    process::output(&mut cargo).with_context(|| format!("{program} does not build"))?;
    Ok(target.join("debug").join(program))
}

/// The image's ELF file, from which the program's own build has made the flat one.
///
/// # Errors
/// When the program does not build.
pub fn image_elf() -> Result<PathBuf> {
    program()?;
    let builds = std::fs::read_dir(cache::target()?.join("debug/build"))?;
    let built = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    builds
        .filter_map(|entry| {
            Some(entry.ok()?.path().join("out/image/x86_64-unknown-linux-gnu/purgatory/purgatory"))
        })
        .filter(|path| path.is_file())
        .max_by_key(built)
        .context("the program's build has left no image")
}

/// `lastwords wrap`: the kernel with the image in front of it, written to `out`.
///
/// # Errors
/// When it refuses.
pub fn wrap(kernel: &Path, out: &Path, options: &str) -> Result<()> {
    let mut wrap = Command::new(program()?);
    wrap.arg("wrap").arg(kernel).arg("-o").arg(out).args(options.split_whitespace());
    process::output(&mut wrap)?;
    Ok(())
}
