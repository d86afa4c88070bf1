//! The kdump services of distributions: where their settings are, and the commands that load.
//!
//! All three read their settings as a shell script. So one line at its end is enough, which takes in a script of ours where
//! it is there: it names the wrapped kernel where `lastwords hook kdump-kernel` prints one. Whatever is missing then, the
//! script, the tool, or a wrapped kernel, kdump's own settings hold, and plain kdump is loaded.

use std::{fs, path::Path};

/// A distribution's kdump.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// What tells that it is there.
    pub files: &'static [&'static str],
    /// Its settings, a shell script.
    pub settings: &'static str,
    /// Our script for it.
    pub script: &'static str,
    /// Loads, from the settings as they are.
    pub reload: &'static [&'static str],
    /// The units that load at boot.
    pub units: &'static [&'static str],
}

/// All that are known, those of one distribution alone first.
pub static SERVICES: [Service; 3] = [
    Service {
        name: "kdump-tools",
        files: &["usr/sbin/kdump-config", "etc/default/kdump-tools"],
        settings: "etc/default/kdump-tools",
        script: "usr/share/lastwords/kdump-tools.sh",
        reload: &["kdump-config", "reload"],
        units: &["kdump-tools.service"],
    },
    Service {
        name: "kdumpctl",
        files: &["usr/bin/kdumpctl", "etc/sysconfig/kdump"],
        settings: "etc/sysconfig/kdump",
        script: "usr/share/lastwords/kdumpctl.sh",
        reload: &["kdumpctl", "restart"],
        units: &["kdump.service"],
    },
    Service {
        name: "SUSE's kdump",
        // Older ones read their settings in another way.
        files: &["usr/lib/kdump/load.sh", "usr/lib/kdump/kdump-read-config.sh", "etc/sysconfig/kdump"],
        settings: "etc/sysconfig/kdump",
        script: "usr/share/lastwords/suse-kdump.sh",
        reload: &["systemctl", "restart", "kdump.service"],
        units: &["kdump.service", "kdump-early.service"],
    },
];

impl Service {
    /// The one of this system.
    #[must_use]
    pub fn find(root: &Path) -> Option<&'static Self> {
        SERVICES.iter().find(|one| one.files.iter().all(|file| root.join(file).exists()))
    }

    /// The line in its settings. It has no `=`, so that systemd, which reads the settings of kdump-tools as variables, has
    /// nothing to complain of.
    #[must_use]
    pub fn line(&self) -> String {
        format!("[ ! -r /{0} ] || . /{0}", self.script)
    }

    /// Is kdump switched on? What cannot be found out is on.
    #[must_use]
    pub fn is_on(&self, root: &Path) -> bool {
        let wanted = |unit: &&str| {
            let targets = fs::read_dir(root.join("etc/systemd/system")).into_iter().flatten().flatten();
            targets.map(|target| target.path().join(unit)).any(|link| link.is_symlink())
        };
        let settings = fs::read_to_string(root.join(self.settings)).unwrap_or_default();
        let off =
            settings.lines().map(str::trim).filter_map(|line| line.strip_prefix("USE_KDUMP=")).next_back();
        let off = off.is_some_and(|value| value.trim_matches(['"', '\'']) == "0");
        !off && self.units.iter().any(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::super::wrapped;
    use crate::arm::kexec::call::{Call, read};
    use std::{ffi::OsString, path::Path};

    /// How each service calls kexec, plain and with our line in its settings: kdump-tools 1.8.1 on a server, the
    /// scripts of kdump-utils 1.0.61 and of SUSE's kdump 2.1.9 in a harness.
    const CALLS: &str = include_str!("kexec-calls.txt");

    #[test]
    fn each_service_names_the_wrapped_kernel_where_it_is_enabled_and_its_own_where_it_is_not() {
        let mut enabled = 0;
        for line in CALLS.lines().filter(|line| !line.starts_with('#')) {
            let [who, version, own, call] = line.split('|').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let (words, quoted) = (call.split('"').step_by(2), call.split('"').skip(1).step_by(2));
            let mut arguments: Vec<OsString> = Vec::new();
            for (words, quoted) in words.zip(quoted.map(Some).chain([None])) {
                arguments.extend(words.split_whitespace().map(OsString::from));
                if let Some(quoted) = quoted {
                    arguments.last_mut().unwrap().push(quoted);
                }
            }
            let Call::Ours { arguments, .. } = read(&arguments[1..], false).0 else { panic!("{line}") };
            let kernel = if own.is_empty() {
                enabled += 1;
                wrapped::path(Path::new("/"), version).into_os_string()
            } else {
                own.into()
            };
            assert_eq!(arguments.iter().filter(|word| **word == kernel).count(), 1, "{who}: {arguments:?}");
        }
        assert_eq!(enabled, 6);
    }
}
