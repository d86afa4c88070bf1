//! The packages that dist/packages makes: what is in them, which systems the binary runs on, and what becomes of an
//! administrator's files at an upgrade and a removal, in a root folder of its own. Needs root.

use anyhow::{Context, Result, ensure};
use lastwords_vm::machine::lastwords::{self, Packages};
use lastwords_vm::machine::process;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A row of dist/files.
struct Row {
    package: String,
    mode: String,
    source: String,
    destination: String,
}

/// dist/files.
fn table() -> Result<Vec<Row>> {
    let text = fs::read_to_string(Path::new(TREE).join("dist/files"))?;
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let mut word = || words.next().with_context(|| line.to_owned());
            Ok(Row { package: word()?, mode: word()?, source: word()?, destination: word()? })
        })
        .collect()
}

/// The man pages that there have to be: one for each subcommand.
fn pages(program: &Path) -> Result<Vec<String>> {
    let help = process::text(Command::new(program).arg("--help"))?;
    let commands =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    Ok(names.map(|name| format!("lastwords-{name}.8")).chain(["lastwords.8".to_owned()]).collect())
}

/// What a package has to have: paths with their modes, `d` before that of a folder.
fn expected(package: &str) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for row in table()?.into_iter().filter(|row| [package, "both"].contains(&&*row.package)) {
        let destinations = if row.source.ends_with("/*.8") {
            let pages = pages(lastwords::program()?)?;
            pages.into_iter().map(|page| format!("{}/{page}", row.destination)).collect()
        } else {
            vec![row.destination]
        };
        for mut path in destinations {
            if path.starts_with("/usr/share/man/") || path.ends_with("/changelog") {
                path += ".gz";
            }
            let mode = if row.mode == "dir" { "d0755" } else { &row.mode };
            files.insert(path, mode.to_owned());
        }
    }
    Ok(files)
}

/// `drwxr-xr-x` as `d0755`.
fn octal(letters: &str) -> String {
    let bits = letters[1..10].chars().fold(0, |bits, letter| bits << 1 | u32::from(letter != '-'));
    format!("{}{bits:04o}", if letters.starts_with('d') { "d" } else { "" })
}

#[test]
fn the_debian_package_has_what_the_table_lists() -> Result<()> {
    let listed = process::text(Command::new("dpkg-deb").arg("-c").arg(&lastwords::packages()?.deb))?;
    let mut files = BTreeMap::new();
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        ensure!(words[1] == "root/root", "{line}");
        files.insert(words[5].trim_start_matches('.').to_owned(), octal(words[0]));
    }
    // Folders that something lies in are listed, too.
    let all: Vec<_> = files.keys().cloned().collect();
    files.retain(|path, _| {
        !path.ends_with('/') || !all.iter().any(|other| other != path && other.starts_with(path))
    });
    let files: BTreeMap<_, _> =
        files.into_iter().map(|(path, mode)| (path.trim_end_matches('/').to_owned(), mode)).collect();
    assert_eq!(files, with_overrides(expected("deb")?));
    Ok(())
}

/// What debhelper adds: what lintian is to leave alone.
fn with_overrides(mut files: BTreeMap<String, String>) -> BTreeMap<String, String> {
    files.insert("/usr/share/lintian/overrides/lastwords".to_owned(), "0644".to_owned());
    files
}

#[test]
fn the_rpm_has_what_the_table_lists() -> Result<()> {
    let form = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILEFLAGS:fflags}. %{FILENAMES}\n]";
    let listed =
        process::text(Command::new("rpm").args(["-qp", "--qf", form]).arg(&lastwords::packages()?.rpm))?;
    let mut files = BTreeMap::new();
    for line in listed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        ensure!(words[1] == "root/root", "{line}");
        // c: configuration, n: the administrator's is not replaced.
        let is_kept = words[2].contains('c') && words[2].contains('n');
        ensure!(is_kept == (words[3].starts_with("/etc/") && !words[0].starts_with('d')), "{line}");
        files.insert(words[3].to_owned(), octal(words[0]));
    }
    assert_eq!(files, expected("rpm")?);
    Ok(())
}

/// What is written for one distribution and forgotten in the table would be in no package.
#[test]
fn every_file_for_distributions_is_in_a_package() -> Result<()> {
    const OF_PACKAGING: [&str; 5] = ["debian", "files", "packages", "rpm", "stage"];
    let sources: BTreeSet<_> = table()?.into_iter().map(|row| Path::new(TREE).join(row.source)).collect();
    let mut folders = vec![Path::new(TREE).join("dist")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if OF_PACKAGING.contains(&&*name) || name == "requirements.txt" || name.ends_with(".md") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                ensure!(sources.contains(&path), "{} is in no row of dist/files", path.display());
            }
        }
    }
    Ok(())
}

/// Unpacks the Debian package.
fn unpacked() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    process::output(Command::new("dpkg-deb").arg("-x").arg(&lastwords::packages()?.deb).arg(folder.path()))?;
    Ok(folder)
}

/// RHEL 8 and Debian 10 have glibc 2.28. A RAM disk has what the binary names, and seldom libgcc_s.
#[test]
fn the_binary_needs_glibc_2_28_and_no_other_library() -> Result<()> {
    let folder = unpacked()?;
    let program = folder.path().join("usr/sbin/lastwords");
    let needed =
        process::text(Command::new("readelf").args(["--wide", "--dynamic", "--version-info"]).arg(&program))?;
    let libraries = needed.lines().filter(|line| line.contains("(NEEDED)"));
    let libraries: Vec<_> = libraries.filter_map(|line| line.split(['[', ']']).nth(1)).collect();
    ensure!(libraries.contains(&"libc.so.6"), "{libraries:?}");
    for library in libraries {
        // All of glibc.
        ensure!(["libc.so.6", "libdl.so.2", "libm.so.6", "libpthread.so.0"].contains(&library), "{library}");
    }
    let versions = needed.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_"));
    let versions: BTreeSet<Vec<u32>> =
        versions.map(|version| version.split('.').filter_map(|part| part.parse().ok()).collect()).collect();
    let newest = versions.last().context("no symbols of glibc")?;
    ensure!(*newest <= vec![2, 28], "glibc {newest:?}");
    Ok(())
}

/// It goes into the dump kernel's RAM disk, beside a kernel in 256 MiB.
#[test]
fn the_binary_is_small() -> Result<()> {
    let size = fs::metadata(unpacked()?.path().join("usr/sbin/lastwords"))?.len();
    ensure!(size <= 3 << 20, "{size} bytes");
    Ok(())
}

/// Others have signed kernels with it: the linker of the tool makes no other image.
#[test]
fn the_image_in_the_packages_is_that_of_any_build() -> Result<()> {
    let version = |program: &Path| process::text(Command::new(program).arg("--version"));
    let folder = unpacked()?;
    let packaged = version(&folder.path().join("usr/sbin/lastwords"))?;
    ensure!(packaged.contains("image SHA-256: "), "{packaged}");
    assert_eq!(packaged, version(lastwords::program()?)?);
    Ok(())
}

#[test]
fn lintian_finds_nothing() -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning,info"]);
    // Who uploads it to Debian files the bug that this asks for.
    lintian.args(["--suppress-tags", "initial-upload-closes-no-bugs"]);
    process::output(lintian.arg(&lastwords::packages()?.deb))?;
    Ok(())
}

/// A small system to install packages in: busybox, this system's C library, and no systemd.
struct Root(TempDir);

impl Root {
    fn new() -> Result<Self> {
        let root = Self(tempfile::tempdir()?);
        for folder in [
            "bin",
            "usr/bin",
            "dev",
            "proc",
            "tmp",
            "run/systemd/system",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "lib64",
        ] {
            fs::create_dir_all(root.path(folder))?;
        }
        fs::copy("/bin/busybox", root.path("bin/busybox"))?;
        for applet in ["cat", "grep", "rm", "rmdir", "sh", "uname"] {
            symlink("busybox", root.path("bin").join(applet))?;
        }
        fs::write(root.path("dev/null"), "")?;
        let libraries =
            process::text(Command::new("ldd").arg(unpacked()?.path().join("usr/sbin/lastwords")))?;
        for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            let path = root.path(library.trim_start_matches('/'));
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::copy(library, path)?;
        }
        fs::write(
            root.path("var/lib/dpkg/status"),
            "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.28-1\nMaintainer: none\nDescription: none\n",
        )?;
        Ok(root)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    /// Runs dpkg or rpm on this root.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(program);
        command.arg("--root").arg(self.0.path()).args(arguments).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        // Packages are installed without a terminal, too.
        process::text(command.env("DEBIAN_FRONTEND", "noninteractive"))
    }

    fn deb(&self, arguments: &[&str]) -> Result<String> {
        let log = format!("--log={}", self.path("dpkg.log").display());
        self.run("dpkg", &[&["--force-not-root", &*log], arguments].concat())
    }

    fn rpm(&self, arguments: &[&str]) -> Result<String> {
        // The rpm of Debian does not know Debian's C library.
        let nodeps = arguments.iter().any(|one| ["-i", "-U", "-e"].contains(one)).then_some("--nodeps");
        self.run("rpm", &[arguments, nodeps.as_slice()].concat())
    }

    fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        Ok(fs::write(path, text)?)
    }

    fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.path(path)).with_context(|| path.to_owned())
    }

    /// In the place of the program, one that notes its calls and fails.
    fn replace_program(&self) -> Result<()> {
        let path = self.path("usr/sbin/lastwords");
        fs::write(&path, "#!/bin/sh\necho \"$@\" >>/tmp/calls\nexit 1\n")?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
    }

    fn calls(&self) -> String {
        self.read("tmp/calls").unwrap_or_default()
    }

    /// All that is left of the package and of what the program writes.
    fn left(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let path = entry.path();
                if entry.file_type()?.is_dir() {
                    folders.push(path.clone());
                }
                let below = path.strip_prefix(self.0.path())?.display().to_string();
                if below.contains("lastwords") {
                    found.push(below);
                }
            }
        }
        Ok(found)
    }
}

/// What an administrator and the program write.
const WRITTEN: [&str; 4] = [
    "etc/lastwords.conf",
    "etc/lastwords.conf.d/10-site.conf",
    "var/lib/lastwords/enabled.json",
    "var/lib/lastwords/crashes/one.json",
];

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// The package of this version, and that of a later one.
fn two_versions() -> Result<(&'static Packages, TempDir, Packages)> {
    let folder = tempfile::tempdir()?;
    let next = lastwords::packages_of(folder.path(), "999.0.0")?;
    Ok((lastwords::packages()?, folder, next))
}

#[test]
fn an_upgrade_of_the_debian_package_keeps_the_configuration_and_a_purge_leaves_nothing() -> Result<()> {
    const HOOK: &str = "etc/kernel/postinst.d/zz-lastwords";
    let (this, _folder, next) = two_versions()?;
    let root = Root::new()?;
    root.deb(&["-i", path(&this.deb)])?;
    process::output(Command::new("chroot").arg(root.0.path()).args(["/usr/sbin/lastwords", "--version"]))?;
    for file in WRITTEN {
        root.write(file, "# mine\n")?;
    }
    let hook = root.read(HOOK)? + "# mine\n";
    root.write(HOOK, &hook)?;
    root.replace_program()?;

    root.deb(&["-i", path(&next.deb)])?;
    for file in WRITTEN {
        assert_eq!(root.read(file)?, "# mine\n", "{file}");
    }
    assert_eq!(root.read(HOOK)?, hook);
    ensure!(root.deb(&["-s", "lastwords"])?.contains("Version: 999.0.0"), "it was not upgraded");

    // It fails, and is no reason to fail.
    root.replace_program()?;
    root.write("var/lib/kdump/lastwords/vmlinuz-1", "")?;
    root.deb(&["-r", "lastwords"])?;
    assert_eq!(root.calls(), "disable\n");
    assert_eq!(root.read(WRITTEN[0])?, "# mine\n");
    root.deb(&["-P", "lastwords"])?;
    let left = root.left()?;
    ensure!(left.is_empty(), "after the purge: {left:?}");
    Ok(())
}

#[test]
fn an_upgrade_of_the_rpm_keeps_the_configuration_and_a_removal_disables() -> Result<()> {
    const HOOK: &str = "etc/kdump/post.d/lastwords";
    let (this, _folder, next) = two_versions()?;
    let root = Root::new()?;
    root.rpm(&["-i", path(&this.rpm)])?;
    for file in WRITTEN {
        root.write(file, "# mine\n")?;
    }
    let hook = root.read(HOOK)? + "# mine\n";
    root.write(HOOK, &hook)?;

    root.rpm(&["-U", path(&next.rpm)])?;
    for file in WRITTEN {
        assert_eq!(root.read(file)?, "# mine\n", "{file}");
    }
    assert_eq!(root.read(HOOK)?, hook);
    assert_eq!(root.rpm(&["-q", "lastwords"])?, "lastwords-999.0.0-1.x86_64\n");

    root.replace_program()?;
    root.rpm(&["-e", "lastwords"])?;
    assert_eq!(root.calls(), "disable\n");
    assert_eq!(root.read(WRITTEN[0])?, "# mine\n");
    ensure!(!root.path("usr/sbin/lastwords").exists(), "it was not removed");
    Ok(())
}

/// A machine that has nothing of what the scripts call: no systemctl, udevadm, nor kdump.
#[test]
fn an_installation_enables_nothing() -> Result<()> {
    let root = Root::new()?;
    root.deb(&["-i", path(&lastwords::packages()?.deb)])?;
    let links: Vec<_> = root.left()?.into_iter().filter(|path| path.starts_with("etc/systemd")).collect();
    ensure!(links.is_empty(), "{links:?}");
    ensure!(!root.path("etc/lastwords.conf").exists() && !root.path("var/lib/lastwords").exists());
    Ok(())
}

#[test]
fn the_scripts_have_no_fault_that_shellcheck_finds() -> Result<()> {
    let mut scripts: Vec<_> = [
        "packages",
        "stage",
        "debian/lastwords.postinst",
        "debian/lastwords.prerm",
        "debian/lastwords.postrm",
    ]
    .map(|name| Path::new(TREE).join("dist").join(name))
    .into();
    for row in table()?.iter().filter(|row| row.source.starts_with("dist/")) {
        let path = Path::new(TREE).join(&row.source);
        if row.mode == "0755" || path.extension().is_some_and(|extension| extension == "sh") {
            scripts.push(path);
        }
    }
    ensure!(scripts.len() > 10, "{scripts:?}");
    process::output(Command::new("shellcheck").args(scripts))?;
    Ok(())
}
