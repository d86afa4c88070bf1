//! What people have set up by hand, as the README had it before there was `lastwords enable`: it is found and taken over.
//! What is ours goes, what is the administrator's stays and is named.

use super::service::Service;
use crate::sort;
use lastwords_boot::{self as boot, BzImage};
use lastwords_core::{
    cmdline,
    plan::{PREFIX, Plan},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The name of wrapped kernels in the README.
const WRAPPED: &str = "vmlinuz-lastwords";
/// What the README's `KDUMP_CMDLINE_APPEND` had beside our parameters: kdump-tools' default of some version.
const DEFAULT_APPEND: [&str; 2] = [
    "reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll nousb",
    "reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll usbcore.nousb",
];
/// Settings that kdump-tools needs, and that the README's lines may have replaced.
const NEEDED: [(&str, &str); 2] =
    [("KDUMP_KERNEL", "/var/lib/kdump/vmlinuz"), ("KDUMP_INITRD", "/var/lib/kdump/initrd.img")];

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Old {
    /// The settings without our lines.
    pub settings: String,
    /// What they, and wrapped kernels, have asked for.
    pub parameters: String,
    /// Lines that are taken out or changed, for the record.
    pub taken_over: Vec<String>,
    /// Files to delete once kdump no longer uses them.
    pub files: Vec<PathBuf>,
    /// A diversion of kexec to lastwords: the path that is diverted.
    pub diversion: Option<String>,
    /// What is kept, and what to do about it.
    pub kept: Vec<String>,
}

/// The name and value of an assignment of a shell script, without its quotes: `NAME=VALUE`, also behind `||`.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let line = line.rsplit_once("|| ").map_or(line, |(_, assignment)| assignment);
    let (name, value) = line.split_once('=')?;
    name.starts_with("KDUMP_").then(|| (name, value.trim().trim_matches(['"', '\''])))
}

impl Old {
    /// Looks at settings, and at what lies about.
    pub fn find(root: &Path, service: &Service, settings: &str) -> Self {
        let mut old = Self { settings: settings.to_owned(), ..Self::default() };
        let embedded = old.wrapped_kernels(root);
        let line = old.read_settings(root, service, settings);
        old.parameters = Plan::new(&embedded, &line).to_string();
        old.diversion(root);
        old.units(root);
        old.kdump_conf(root);
        old
    }

    /// Takes our lines out of the settings, and returns the parameters that they had.
    fn read_settings(&mut self, root: &Path, service: &Service, settings: &str) -> String {
        let mut parameters = Vec::new();
        let is_ours = |line: &str| match assignment(line) {
            Some(("KDUMP_KERNEL", value)) => {
                value.contains(WRAPPED) || is_wrapped(&root.join(value.trim_start_matches('/')))
            }
            Some(("KDUMP_IMG", value)) => value.contains(WRAPPED),
            _ => false,
        };
        let any = settings.lines().any(is_ours);
        let mut kept: Vec<String> = Vec::new();
        for line in settings.split_inclusive('\n') {
            let text = line.trim_end();
            let again =
                |name: &str| kept.iter().any(|line| assignment(line).is_some_and(|(other, _)| other == name));
            match assignment(line) {
                _ if is_ours(line) => self.taken_over.push(text.to_owned()),
                Some((name @ "KDUMP_INITRD", value))
                    if any && (value.starts_with("/var/lib/kdump/initrd.img-") || again(name)) =>
                {
                    self.taken_over.push(text.to_owned());
                }
                Some((name @ ("KDUMP_CMDLINE_APPEND" | "KDUMP_COMMANDLINE_APPEND"), value))
                    if value.contains(PREFIX) =>
                {
                    let (ours, others): (Vec<_>, Vec<_>) =
                        cmdline::words(value).partition(|word| word.starts_with(PREFIX));
                    parameters.extend(ours.into_iter().map(str::to_owned));
                    self.taken_over.push(text.to_owned());
                    let others = others.join(" ");
                    if !DEFAULT_APPEND.contains(&&*others) {
                        kept.push(format!("{name}=\"{others}\"\n"));
                    }
                }
                _ => kept.push(line.to_owned()),
            }
        }
        if any {
            let needed: &[_] = match service.name {
                "kdump-tools" => &NEEDED,
                _ => &[("KDUMP_IMG", "vmlinuz")],
            };
            for (name, value) in needed {
                if !kept.iter().any(|line| assignment(line).is_some_and(|(other, _)| other == *name)) {
                    kept.push(format!("{name}={value}\n"));
                }
            }
        }
        self.settings = kept.concat();
        parameters.join(" ")
    }

    /// Wrapped kernels under the README's names are ours; one under another name is named. Returns what they report.
    fn wrapped_kernels(&mut self, root: &Path) -> String {
        let mut parameters = String::new();
        for folder in ["var/lib/kdump", "boot"] {
            let entries = fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
            let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
            sort::all(&mut paths);
            for path in paths {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !name.starts_with("vmlinuz") || path.is_symlink() {
                    continue;
                }
                let Some(embedded) = embedded(&path) else { continue };
                if name.starts_with(WRAPPED) {
                    parameters = embedded;
                    self.files.push(path);
                } else {
                    self.kept.push(format!("{}: a wrapped kernel under a name of your own", path.display()));
                }
            }
        }
        parameters
    }

    /// lastwords in the place of kexec, by dpkg-divert(1): three lines for each diversion, of which the first is the path.
    fn diversion(&mut self, root: &Path) {
        let diversions = fs::read_to_string(root.join("var/lib/dpkg/diversions")).unwrap_or_default();
        let lines: Vec<_> = diversions.lines().collect();
        for diversion in lines.chunks_exact(3) {
            let [path, ..] = diversion else { continue };
            let whole = root.join(path.trim_start_matches('/'));
            if path.ends_with("/kexec") && is_lastwords(&whole) {
                self.diversion = Some((*path).to_owned());
            }
        }
    }

    /// The units and scripts of the page on boot stages. Their names are ours; their content tells whether they still are.
    fn units(&mut self, root: &Path) {
        const FILES: [&str; 5] = [
            "etc/systemd/system/lastwords-watchdog-stop.service",
            "etc/systemd/system/kdump-tools-dump.service.d/lastwords.conf",
            "usr/local/sbin/lastwords-dump",
            "etc/kdump/lastwords-pre",
            "etc/kdump/lastwords-post",
        ];
        const LINK: &str = "etc/systemd/system/multi-user.target.wants/lastwords-watchdog-stop.service";
        for file in FILES {
            let path = root.join(file);
            let Ok(text) = fs::read_to_string(&path) else { continue };
            if text.contains("lastwords mark") || text.contains("/lastwords-dump") {
                self.files.push(path);
            } else {
                self.kept.push(format!("{}: it does not call lastwords mark", path.display()));
            }
        }
        let link = root.join(LINK);
        if self.files.contains(&root.join(FILES[0])) && link.is_symlink() {
            self.files.push(link);
        }
    }

    /// Lines of kdump.conf that only the administrator can tell apart.
    fn kdump_conf(&mut self, root: &Path) {
        let text = fs::read_to_string(root.join("etc/kdump.conf")).unwrap_or_default();
        for line in
            text.lines().filter(|line| !line.trim_start().starts_with('#') && line.contains("lastwords"))
        {
            self.kept.push(format!("/etc/kdump.conf: delete the line {:?}", line.trim()));
        }
    }
}

fn embedded(path: &Path) -> Option<String> {
    let kernel = fs::read(path).ok()?;
    BzImage::parse(&kernel).ok()?.is_wrapped().then(|| boot::embedded_parameters(&kernel).unwrap_or_default())
}

fn is_wrapped(path: &Path) -> bool {
    embedded(path).is_some()
}

/// Is this file our tool, of whatever version? It is a link to it, or has the name of our variable in it.
pub fn is_lastwords(path: &Path) -> bool {
    const MARK: &[u8] = b"LASTWORDS_KEXEC";
    let named =
        fs::canonicalize(path).is_ok_and(|path| path.file_name().is_some_and(|name| name == "lastwords"));
    named || fs::read(path).is_ok_and(|bytes| bytes.windows(MARK.len()).any(|part| part == MARK))
}
