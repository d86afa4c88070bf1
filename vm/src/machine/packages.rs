//! The Debian packages that the bench is made of, installed when they are missing; and packages of other suites, which
//! are only looked at.

use crate::machine::process;
use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use tempfile::TempDir;

/// Everything that a scenario runs, on the host or copied into the guest, and what makes our own packages.
const NEEDED: [&str; 26] = [
    "binutils",
    "busybox-static",
    "curl",
    "debhelper",
    "e2fsprogs",
    "freeipmi-tools",
    "gzip",
    "i2c-tools",
    "ipmitool",
    "kexec-tools",
    "lintian",
    "makedumpfile",
    "mmdebstrap",
    "openipmi",
    "openssl",
    "osslsigncode",
    "ovmf",
    "python3-venv",
    "qemu-system-x86",
    "qemu-utils",
    "rpm",
    "sbsigntool",
    "shellcheck",
    "valgrind",
    "xz-utils",
    "zstd",
];

/// Installs what is missing, as root; does nothing when all is there.
///
/// # Errors
/// When something is missing and cannot be installed: the error names the packages.
pub fn install() -> Result<()> {
    if missing()?.is_empty() {
        return Ok(());
    }
    // One at a time: apt-get does not wait for another's lists.
    let lock = fs::File::create(std::env::temp_dir().join("lastwords-vm-packages.lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    // What was there from another suite may have to go for what is installed, and is installed then.
    for _ in 0..2 {
        let missing = missing()?;
        if missing.is_empty() {
            return Ok(());
        }
        let list = missing.join(" ");
        if fs::metadata("/proc/self")?.uid() != 0 {
            bail!("packages are missing; install them as root: apt-get install {list}");
        }
        eprintln!("bench: installing {list}");
        Apt::own().update()?;
        let mut install = Apt::own().get();
        install.args(["install", "--yes", "--no-install-recommends"]).args(&missing);
        process::output(&mut install).with_context(|| format!("cannot install {list}"))?;
    }
    let missing = missing()?;
    ensure!(missing.is_empty(), "packages are missing though they were installed: {}", missing.join(" "));
    Ok(())
}

/// The keys that Debian signs its suites with: those to come, too.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt, and the suites that it looks at.
pub struct Apt {
    /// What it knows of another suite: its source, lists and downloads.
    folder: Option<TempDir>,
}

impl Apt {
    /// This machine's own.
    #[must_use]
    pub fn own() -> Self {
        Self { folder: None }
    }

    /// A suite of Debian's that this machine is not made of, and nothing else. It comes from the mirror that the machine
    /// uses; the machine's own sources and lists stay as they are.
    ///
    /// # Errors
    /// When the mirror has no such suite, or it is not signed by Debian.
    pub fn suite(name: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for below in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.path().join(below))?;
        }
        let source = format!(
            "Types: deb\nURIs: {}\nSuites: {name}\nComponents: main\nSigned-By: {KEYRING}\n",
            mirror()?
        );
        fs::write(folder.path().join("suite.sources"), source)?;
        let apt = Self { folder: Some(folder) };
        apt.update().with_context(|| {
            format!(
                "Debian's mirror does not give its suite {name}: is it in the middle of an update? Try again"
            )
        })?;
        Ok(apt)
    }

    /// Fetches the lists of packages anew.
    ///
    /// # Errors
    /// When apt-get fails.
    pub fn update(&self) -> Result<()> {
        process::output(self.get().arg("update")).context("cannot fetch Debian's package lists")?;
        Ok(())
    }

    /// apt-get.
    #[must_use]
    pub fn get(&self) -> Command {
        let mut command = self.command("apt-get");
        // Another apt may be at work: wait for it.
        command.args(["--quiet", "-o", "DPkg::Lock::Timeout=300"]).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// apt-cache.
    #[must_use]
    pub fn cache(&self) -> Command {
        self.command("apt-cache")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some(folder) = &self.folder {
            let folder = folder.path().display();
            for option in [
                format!("Dir::Etc::SourceList={folder}/suite.sources"),
                "Dir::Etc::SourceParts=/dev/null".to_owned(),
                format!("Dir::State::Lists={folder}/lists"),
                format!("Dir::Cache={folder}/cache"),
                // Its packages alone, in no language, and no half of them.
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
                "Acquire::Languages=none".to_owned(),
                "APT::Update::Error-Mode=any".to_owned(),
            ] {
                command.arg("-o").arg(option);
            }
        }
        command
    }
}

/// Where this machine gets Debian from.
///
/// # Errors
/// When apt does not know.
pub fn mirror() -> Result<String> {
    let known = || {
        let mut list = Apt::own().get();
        list.args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]);
        Ok::<_, anyhow::Error>(process::text(&mut list)?.lines().next().map(str::to_owned))
    };
    if let Some(uri) = known()? {
        return Ok(uri);
    }
    // There are no lists yet.
    Apt::own().update()?;
    known()?.context("apt knows no mirror of Debian: its sources must name one")
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
