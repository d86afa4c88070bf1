//! The image: made by mmdebstrap from the mirror that this machine uses, and kept.

use crate::machine::packages::{self, Apt};
use crate::machine::{cache, kernels, process};
use anyhow::{Context, Result, ensure};
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::hash::{Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A release of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        })
    }
}

/// What is installed, besides what every Debian has.
const PACKAGES: [&str; 12] = [
    "dbus",
    "initramfs-tools",
    "ipmitool",
    "kdump-tools",
    "kmod",
    "less",
    "linux-image-amd64",
    "makedumpfile",
    "procps",
    "systemd-sysv",
    "udev",
    "zstd",
];

/// Drivers that this machine has no use for, and three quarters of a kernel's package. dpkg leaves them out of every
/// kernel, of the ones that a test installs, too.
const LEFT_OUT: [&str; 7] = [
    "drivers/gpu",
    "drivers/iio",
    "drivers/infiniband",
    "drivers/media",
    "drivers/net",
    "drivers/staging",
    "sound",
];

/// Units that would be at work in the middle of a test, and for which there is nothing to do.
const MASKED: [&str; 8] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "systemd-timesyncd.service",
];

const AGENT: &str = include_str!("../../../guest/debian/agent");
const AGENT_SERVICE: &str = include_str!("../../../guest/debian/agent.service");
const INITRAMFS_HOOK: &str = include_str!("../../../guest/debian/initramfs-hook");

/// The disk's size. Most of it is a hole in the file.
const SIZE: &str = "4G";

/// A disk with Debian on it, and what QEMU boots from it.
#[derive(Clone, Debug)]
pub struct Image {
    /// The disk, an ext4 file system.
    pub disk: PathBuf,
    /// Its kernel.
    pub kernel: PathBuf,
    /// The kernel's RAM disk.
    pub initrd: PathBuf,
}

impl Image {
    /// Makes it, or finds it made in the same way.
    ///
    /// # Errors
    /// When there is no such suite on the mirror, or this is not root.
    pub fn get(suite: Suite) -> Result<Self> {
        let mut hasher = DefaultHasher::new();
        [include_str!("image.rs"), AGENT, AGENT_SERVICE, INITRAMFS_HOOK].hash(&mut hasher);
        let folder = cache::entry(&format!("debian-{suite}-{:016x}", hasher.finish()), |folder| {
            ensure!(fs::metadata("/proc/self")?.uid() == 0, "only root can make the image of a Debian");
            fs::create_dir(folder)?;
            make(suite, folder).with_context(|| format!("cannot make the image of Debian's {suite}"))
        })?;
        Ok(Self { disk: folder.join("disk"), kernel: folder.join("vmlinuz"), initrd: folder.join("initrd") })
    }
}

/// Debian's packages of another kernel of the same suite, for an upgrade: a folder of them.
///
/// # Errors
/// When the mirror does not give them.
pub fn second_kernel(suite: Suite) -> Result<PathBuf> {
    cache::entry(&format!("debian-{suite}-kernel"), |folder| {
        let apt = Apt::suite(&suite.to_string())?;
        // Another flavour comes with every version, has the IPMI drivers, and Debian's name for it stays the same.
        let mut packages = kernels::depends(&apt, "linux-image-rt-amd64")?;
        packages.retain(|name| name.starts_with("linux-image-"));
        ensure!(!packages.is_empty(), "linux-image-rt-amd64 names no kernel");
        fs::create_dir(folder)?;
        process::output(apt.get().arg("download").args(&packages).current_dir(folder))?;
        Ok(())
    })
}

fn make(suite: Suite, folder: &Path) -> Result<()> {
    eprintln!("bench: making the image of Debian's {suite}");
    let work = tempfile::Builder::new().prefix("lastwords-debian-").tempdir_in(folder)?;
    let root = work.path().join("root");
    bootstrap(suite, work.path(), &root)?;
    configure(&root)?;
    let version = one(&root.join("lib/modules"))?;
    dump_ram_disk(&root, &version)?;
    fs::copy(root.join(format!("boot/vmlinuz-{version}")), folder.join("vmlinuz"))?;
    fs::copy(root.join(format!("boot/initrd.img-{version}")), folder.join("initrd"))?;
    let disk = folder.join("disk");
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-t", "ext4", "-E", "lazy_itable_init=1,root_owner=0:0", "-d"]);
    process::output(mke2fs.arg(&root).arg(&disk).arg(SIZE))?;
    Ok(())
}

/// Debian's packages, unpacked and set up.
fn bootstrap(suite: Suite, work: &Path, root: &Path) -> Result<()> {
    let hook = work.join("initramfs-hook");
    write(&hook, INITRAMFS_HOOK, 0o755)?;
    let (hook, conf) = (hook.display(), "etc/initramfs-tools");
    let before_packages = format!(
        "mkdir -p \"$1/{conf}/conf.d\" \"$1/{conf}/hooks\" && echo MODULES=list >\"$1/{conf}/conf.d/bench\" && \
         cp {hook} \"$1/{conf}/hooks/bench\""
    );
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.env("DEBIAN_FRONTEND", "noninteractive").args(["--quiet", "--mode=root", "--variant=minbase"]);
    mmdebstrap.arg(format!("--include={}", PACKAGES.join(",")));
    let excluded = LEFT_OUT.map(|folder| format!("/*lib/modules/*/kernel/{folder}/*"));
    let documents = ["/usr/share/doc/*/*".to_owned(), "/usr/share/locale/*".to_owned()];
    for path in excluded.iter().chain(&documents) {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    mmdebstrap.arg("--dpkgopt=force-unsafe-io").arg(format!("--essential-hook={before_packages}"));
    mmdebstrap.arg(suite.to_string()).arg(root).arg(packages::mirror()?);
    process::output(&mut mmdebstrap)?;
    Ok(())
}

/// The bench's agent, and what makes a machine of a root file system.
fn configure(root: &Path) -> Result<()> {
    write(&root.join("usr/local/sbin/bench-agent"), AGENT, 0o755)?;
    let units = root.join("etc/systemd/system");
    write(&units.join("bench-agent.service"), AGENT_SERVICE, 0o644)?;
    fs::create_dir_all(units.join("multi-user.target.wants"))?;
    symlink("../bench-agent.service", units.join("multi-user.target.wants/bench-agent.service"))?;
    for unit in MASKED {
        symlink("/dev/null", units.join(unit))?;
    }
    write(&root.join("etc/fstab"), "/dev/vda / ext4 defaults 0 1\n", 0o644)?;
    write(&root.join("etc/hostname"), "bench\n", 0o644)
}

/// The dump kernel's RAM disk. kdump-tools makes it when the machine boots, in minutes of an emulated CPU.
fn dump_ram_disk(root: &Path, version: &str) -> Result<()> {
    let made = "mount -t proc proc \"$1/proc\" && cp -a \"$1/etc/initramfs-tools\" \"$1/var/lib/kdump/\" && chroot \"$1\" \
         mkinitramfs -d /var/lib/kdump/initramfs-tools -o \"/var/lib/kdump/initrd.img-$2\" \"$2\" && \
         cp \"$1/etc/kdump/sysctl.conf\" \"$1/var/lib/kdump/latest_sysctls-$2\"";
    fs::create_dir_all(root.join("var/lib/kdump"))?;
    let _ = fs::remove_dir_all(root.join("var/lib/kdump/initramfs-tools"));
    process::output(Command::new("unshare").args(["-m", "sh", "-c", made, "sh"]).arg(root).arg(version))?;
    Ok(())
}

/// The name of a folder's only entry.
fn one(folder: &Path) -> Result<String> {
    let mut entries = fs::read_dir(folder)?;
    let entry = entries.next().with_context(|| format!("{} is empty", folder.display()))??;
    ensure!(entries.next().is_none(), "{} has several entries", folder.display());
    Ok(entry.file_name().to_string_lossy().into_owned())
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    File::open(path)?.set_permissions(Permissions::from_mode(mode))?;
    Ok(())
}
