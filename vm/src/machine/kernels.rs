//! Debian's kernels, unpacked but not installed: the three that the bench boots.

use crate::machine::packages::Apt;
use crate::machine::{cache, process};
use anyhow::{Context, Result, ensure};
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Debian 12's own kernel.
    V6_1,
    /// Debian 12's newer one, of the security suite.
    V6_12,
    /// The newest that Debian has, of its unstable suite: another one every few weeks. It shows what is to come.
    Newest,
}

impl Release {
    /// Every release, the oldest first.
    pub const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::Newest];

    /// The package that depends on the newest kernel of the release: the kernels' own names change with updates.
    fn metapackage(self) -> &'static str {
        match self {
            Self::V6_1 | Self::Newest => "linux-image-amd64",
            Self::V6_12 => "linux-image-6.12-amd64",
        }
    }

    /// Where apt finds it.
    fn apt(self) -> Result<Apt> {
        match self {
            Self::V6_1 | Self::V6_12 => Ok(Apt::own()),
            Self::Newest => Apt::suite("sid"),
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
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
        // Newer packages have everything in one folder.
        let modules = ["lib/modules", "usr/lib/modules"].map(|path| root.join(path));
        let modules = modules.iter().find(|path| path.exists()).context("a kernel without modules")?;
        let version = fs::read_dir(modules)?.next().context("no kernel")??.file_name();
        let version = version.to_str().context("a kernel with a strange name")?.to_owned();
        let modules = modules.join(&version);
        let images = [modules.join("vmlinuz"), root.join("boot").join(format!("vmlinuz-{version}"))];
        let image = images.into_iter().find(|path| path.exists());
        let image = image.with_context(|| format!("no kernel in {}", root.display()))?;
        Ok(Self { release, version, image, modules: modules.join("kernel") })
    }

    /// Its version's first two numbers, `7.2` of `7.2.13+deb14-amd64`.
    #[must_use]
    pub fn series(&self) -> String {
        self.version.split('.').take(2).collect::<Vec<_>>().join(".")
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
    let apt = release.apt()?;
    // The lists at hand may name a kernel that the mirror no longer has, or none at all.
    try_download(&apt, release, folder).or_else(|_| {
        apt.update()?;
        try_download(&apt, release, folder)
    })
}

fn try_download(apt: &Apt, release: Release, folder: &Path) -> Result<()> {
    let metapackage = release.metapackage();
    let depends = depends(apt, metapackage)?;
    let image = depends
        .iter()
        .find(|name| name.starts_with("linux-image-"))
        .with_context(|| format!("{metapackage} names no kernel: are Debian's lists complete?"))?;
    // Newer ones come in parts: linux-binary-VERSION, linux-modules-VERSION, linux-base-VERSION.
    let version = image.trim_start_matches("linux-image");
    let mut packages = self::depends(apt, image)?;
    packages.retain(|name| name.ends_with(version));
    packages.push(image.clone());
    let download = tempfile::tempdir()?;
    process::output(apt.get().arg("download").args(&packages).current_dir(&download))
        .with_context(|| format!("cannot download {}", packages.join(", ")))?;
    fs::create_dir_all(folder)?;
    let mut archives = 0;
    for entry in fs::read_dir(&download)? {
        process::output(Command::new("dpkg").arg("-x").arg(entry?.path()).arg(folder))?;
        archives += 1;
    }
    ensure!(archives == packages.len(), "apt-get download left {archives} of {} packages", packages.len());
    // Hundreds of megabytes of drivers for machines that the bench is not.
    keep_modules(folder)
}

/// What a package depends on.
///
/// # Errors
/// When apt does not know it.
pub fn depends(apt: &Apt, package: &str) -> Result<Vec<String>> {
    let listed = process::text(apt.cache().args(["depends", package]))?;
    Ok(listed.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect())
}

/// The modules that the guests load, by their path below the kernel's own folder. A kernel may have the disk's built in.
pub const MODULES: [&str; 14] = [
    "drivers/char/ipmi/ipmi_msghandler",
    "drivers/char/ipmi/ipmi_si",
    "drivers/char/ipmi/ipmi_ssif",
    "drivers/char/ipmi/ipmi_devintf",
    "drivers/char/ipmi/ipmi_watchdog",
    "drivers/i2c/i2c-smbus",
    "drivers/i2c/busses/i2c-i801",
    "drivers/i2c/i2c-dev",
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
