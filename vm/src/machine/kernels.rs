//! Debian's kernels, unpacked but not installed: the two that the bench boots.

use crate::machine::{cache, packages, process};
use anyhow::{Context, Result, ensure};
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel release that Debian 12 has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The release's own kernel.
    V6_1,
    /// The newer one of the security suite.
    V6_12,
}

impl Release {
    /// The package that depends on the newest kernel of the release: the kernels' own names change with updates.
    fn metapackage(self) -> &'static str {
        match self {
            Self::V6_1 => "linux-image-amd64",
            Self::V6_12 => "linux-image-6.12-amd64",
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        })
    }
}

/// A kernel at hand.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Which one.
    pub release: Release,
    /// What `uname -r` says of it.
    pub version: String,
    /// The bzImage.
    pub image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// The newest kernel of the release, downloaded on first use.
    ///
    /// # Errors
    /// When it cannot be downloaded or unpacked.
    pub fn get(release: Release) -> Result<Self> {
        let mut modules = DefaultHasher::new();
        MODULES.hash(&mut modules);
        let root = cache::entry(&format!("linux-{release}-{:016x}", modules.finish()), |folder| {
            download(release, folder)
        })?;
        let boot = root.join("boot");
        let version = fs::read_dir(&boot)?
            .find_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("vmlinuz-").map(str::to_owned))
            .with_context(|| format!("no kernel in {}", boot.display()))?;
        Ok(Self {
            release,
            image: boot.join(format!("vmlinuz-{version}")),
            modules: root.join("lib/modules").join(&version).join("kernel"),
            version,
        })
    }

    /// A module of it, decompressed; `None` when the kernel has it built in. `path` is one of [`MODULES`].
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn module(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let plain = self.modules.join(format!("{path}.ko"));
        let packed = self.modules.join(format!("{path}.ko.xz"));
        if plain.exists() {
            return Ok(Some(fs::read(plain)?));
        }
        if packed.exists() {
            let bytes = process::output(Command::new("xz").args(["--decompress", "--stdout"]).arg(&packed))?;
            return Ok(Some(bytes));
        }
        let builtin = fs::read_to_string(self.modules.with_file_name("modules.builtin"))?;
        let built_in = builtin.lines().any(|line| line == format!("kernel/{path}.ko"));
        ensure!(built_in, "Linux {} has no module {path}", self.version);
        Ok(None)
    }
}

fn download(release: Release, folder: &Path) -> Result<()> {
    eprintln!("bench: downloading Debian's Linux {release}");
    // The lists at hand may name a kernel that the mirror no longer has, or none at all.
    try_download(release, folder).or_else(|_| {
        packages::update()?;
        try_download(release, folder)
    })
}

fn try_download(release: Release, folder: &Path) -> Result<()> {
    let metapackage = release.metapackage();
    let depends = process::text(Command::new("apt-cache").args(["depends", metapackage]))?;
    let package = depends
        .lines()
        .find_map(|line| {
            line.trim().strip_prefix("Depends: ").filter(|name| name.starts_with("linux-image-"))
        })
        .with_context(|| format!("{metapackage} names no kernel: are Debian's lists complete?"))?;
    let download = tempfile::tempdir()?;
    process::output(Command::new("apt-get").args(["download", package]).current_dir(&download))
        .with_context(|| format!("cannot download {package}"))?;
    let archive = fs::read_dir(&download)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download {package} left no package"))?;
    fs::create_dir_all(folder)?;
    process::output(Command::new("dpkg").arg("-x").arg(&archive).arg(folder))?;
    // Hundreds of megabytes of drivers for machines that the bench is not.
    keep_modules(folder)
}

/// The modules that the guests load, by their path below the kernel's own folder. A kernel may have the disk's built in.
pub const MODULES: [&str; 10] = [
    "drivers/char/ipmi/ipmi_msghandler",
    "drivers/char/ipmi/ipmi_si",
    "drivers/char/ipmi/ipmi_devintf",
    "drivers/char/ipmi/ipmi_watchdog",
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
];

/// Removes from a tree every module that is not one of [`MODULES`].
fn keep_modules(tree: &Path) -> Result<()> {
    for entry in fs::read_dir(tree)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            keep_modules(&path)?;
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        let kept = |module: &str| MODULES.iter().any(|path| path.rsplit('/').next() == Some(module));
        if let Some((module, "ko" | "ko.xz")) = name.split_once('.')
            && !kept(module)
        {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
