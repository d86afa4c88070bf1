//! The guests' root file systems: busybox, the tools that judge, the IPMI modules, and the scenario's script.
//!
//! The large part is the same for every scenario of a kernel and is kept; a scenario adds a small archive of its
//! own, because the kernel unpacks archives that follow each other. The first kernel gets it plain, the fastest to
//! unpack. The dump kernel's copy is compressed, because it is hashed twice on its way, which costs more in an
//! emulated CPU than to unpack it; with zstd, which takes a third of gzip's time for that.

use crate::machine::cpio::Archive;
use crate::machine::kernels::{Kernel, MODULES};
use crate::machine::{cache, crash_module, process, user_programs};
use anyhow::{Context, Result};
use std::collections::{BTreeSet, hash_map::DefaultHasher};
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What runs in the guests, besides busybox.
const TOOLS: [&str; 6] = [
    "/usr/bin/ipmitool",
    "/usr/bin/makedumpfile",
    "/usr/bin/readelf",
    "/usr/sbin/i2cdump",
    "/usr/sbin/kexec",
    "/usr/sbin/vmcore-dmesg",
];

const BUSYBOX: &str = "/bin/busybox";
const INIT: &[u8] = include_bytes!("../../guest/init");
const GUEST: &[u8] = include_bytes!("../../guest/guest.sh");

/// The part of the file systems that every scenario of a kernel shares.
#[derive(Clone, Debug)]
pub struct Base {
    /// As it is.
    pub plain: PathBuf,
    /// Compressed with zstd, to a multiple of four bytes, so that an archive may follow it.
    pub compressed: PathBuf,
}

impl Base {
    /// Makes it, or finds it made from the same files.
    ///
    /// # Errors
    /// When a tool or a module is missing.
    pub fn get(kernel: &Kernel) -> Result<Self> {
        let libraries = libraries(&TOOLS.map(Path::new))?;
        let key = key(kernel, &libraries)?;
        let name = format!("root-{}-{key:016x}", kernel.release);
        let plain =
            cache::entry(&format!("{name}.cpio"), |path| Ok(fs::write(path, base(kernel, &libraries)?)?))?;
        let compressed = cache::entry(&format!("{name}.cpio.zst"), |path| {
            let mut bytes = zstd(&plain)?;
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            Ok(fs::write(path, bytes)?)
        })?;
        Ok(Self { plain, compressed })
    }
}

/// The shared libraries of these programs, the dynamic loader among them.
///
/// # Errors
/// When ldd does not know them.
pub fn libraries(programs: &[&Path]) -> Result<BTreeSet<PathBuf>> {
    let listed = process::text(Command::new("ldd").args(programs))?;
    Ok(listed
        .split_whitespace()
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect())
}

/// What the base is made from: when a file or a script changes, it is made anew.
fn key(kernel: &Kernel, libraries: &BTreeSet<PathBuf>) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    kernel.version.hash(&mut hasher);
    INIT.hash(&mut hasher);
    GUEST.hash(&mut hasher);
    [
        include_str!("initramfs.rs"),
        include_str!("kernels.rs"),
        include_str!("crash_module.rs"),
        include_str!("user_programs.rs"),
        include_str!("../../guest/crash.s"),
        include_str!("../../guest/user.s"),
    ]
    .hash(&mut hasher);
    for path in TOOLS.iter().map(Path::new).chain(libraries.iter().map(PathBuf::as_path)) {
        let metadata = fs::metadata(path).with_context(|| format!("no {}", path.display()))?;
        (path, metadata.len(), metadata.modified()?).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn base(kernel: &Kernel, libraries: &BTreeSet<PathBuf>) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in [
        "bin",
        "boot",
        "dev",
        "lib",
        "lib/x86_64-linux-gnu",
        "lib64",
        "modules",
        "proc",
        "sys",
        "tmp",
        "usr",
        "usr/share",
        "usr/share/misc",
    ] {
        archive.folder(folder);
    }
    // ipmitool complains when it has no list of makers, and refuses an empty one.
    archive.file("usr/share/misc/enterprise-numbers.txt", 0o644, b"0\n  Reserved\n    -\n      -\n");
    archive.file("init", 0o755, INIT);
    archive.file("guest.sh", 0o644, GUEST);
    for tool in TOOLS.iter().chain(&[BUSYBOX]) {
        add_program(&mut archive, Path::new(tool))?;
    }
    for program in user_programs::PROGRAMS {
        archive.file(&format!("bin/{program}"), 0o755, &user_programs::build(program)?);
    }
    for library in libraries {
        add_library(&mut archive, library)?;
    }
    for path in MODULES {
        if let Some(bytes) = kernel.module(path)? {
            let name = path.rsplit('/').next().unwrap_or(path);
            archive.file(&format!("modules/{name}.ko"), 0o644, &bytes);
        }
    }
    let other = kernel.module("drivers/char/ipmi/ipmi_msghandler")?.context("a module is built in")?;
    for way in crash_module::WAYS {
        archive.file(&format!("modules/{way}.ko"), 0o644, &crash_module::crash(way, &other)?);
    }
    Ok(archive.finish())
}

/// Adds a program to the guest's `/bin`.
///
/// # Errors
/// When it cannot be read.
pub fn add_program(archive: &mut Archive, path: &Path) -> Result<()> {
    let name = path.file_name().context("a program has a name")?.to_string_lossy().into_owned();
    let bytes = fs::read(path).with_context(|| format!("no {}", path.display()))?;
    archive.file(&format!("bin/{name}"), 0o755, &bytes);
    Ok(())
}

/// Adds a shared library where the guest's loader looks for it.
///
/// # Errors
/// When it cannot be read.
pub fn add_library(archive: &mut Archive, path: &Path) -> Result<()> {
    let name = path.file_name().context("a library has a name")?.to_string_lossy().into_owned();
    let folder = if name.starts_with("ld-") { "lib64" } else { "lib/x86_64-linux-gnu" };
    let bytes = fs::read(path).with_context(|| format!("no {}", path.display()))?;
    archive.file(&format!("{folder}/{name}"), 0o755, &bytes);
    Ok(())
}

fn zstd(path: &Path) -> Result<Vec<u8>> {
    process::output(Command::new("zstd").args(["-9", "--quiet", "--stdout"]).arg(path))
}
