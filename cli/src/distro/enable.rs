//! `lastwords enable` and `lastwords disable`: panic reporting with the distribution's own kdump, and back to plain kdump.

use super::{
    ENABLED,
    changes::Changes,
    hook, is_dump_kernel,
    old::Old,
    program, run,
    service::{SERVICES, Service},
    wrapped,
};
use crate::{
    arm::{
        alone,
        held::{self, Kind, Seen},
        kdump::Kdump,
        registers::Owners,
        sign,
    },
    bmc::discovery,
    config::{self, Config},
    crashes::watchdog,
    message,
    symbols::store,
};
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use clap::Args;
use lastwords_core::{
    ipmi::watchdog::Watchdog,
    plan::{PARAMETERS, PREFIX, Parameter, Plan},
};
use serde::{Deserialize, Serialize};
use std::{
    fmt::Write,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

/// What is reported where nothing else is configured.
const DEFAULT: &str = "lastwords.ipmi_handle_panic lastwords.output_cpu_ip=sel,console";

/// Set up panic reporting with the distribution's kdump
///
/// From then on kdump loads the running kernel with panic reporting in it, after updates of the kernel, too. Where that is
/// not possible, kdump loads the plain kernel, and the journal has the reason. Supported are kdump-tools (Debian, Ubuntu),
/// kdumpctl (Fedora, RHEL) and SUSE's kdump.
///
/// What is reported is configured in /etc/lastwords.conf, which is written if it is not there. After a change of it run
/// lastwords enable again. What earlier versions had you set up by hand is taken over.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords enable --dry-run
  lastwords enable

Exit status:
  0  set up, and ready
  1  failed, or refused
  2  wrong usage
  3  set up, but not ready: the output has the reason

Files:
  /etc/lastwords.conf                 configuration
  /etc/lastwords.conf.d/*.conf        more of it, which wins
  /etc/default/kdump-tools            gets one line (Debian, Ubuntu)
  /etc/sysconfig/kdump                gets one line (Fedora, RHEL, SUSE)
  /var/lib/kdump/lastwords            kernels with panic reporting
  /var/lib/lastwords/enabled.json     what was set up")]
pub struct Enable {
    /// Print what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Load plain kdump again, without panic reporting
///
/// Takes back what lastwords enable has set up, deletes the kernels with panic reporting, and has kdump load the plain one.
/// /etc/lastwords.conf stays.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  lastwords disable --dry-run
  lastwords disable

Exit status:
  0  kdump is as it was without lastwords
  1  failed
  2  wrong usage

Files:
  /etc/default/kdump-tools         loses one line (Debian, Ubuntu)
  /etc/sysconfig/kdump             loses one line (Fedora, RHEL, SUSE)
  /var/lib/kdump/lastwords         removed
  /var/lib/lastwords/enabled.json  removed")]
pub struct Disable {
    /// Print what would be changed, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What was set up.
#[derive(Debug, Serialize, Deserialize)]
struct Enabled {
    /// The schema's version.
    schema: u32,
    /// The kdump service.
    service: String,
    /// Lines of its settings that were taken out.
    taken_over: Vec<String>,
}

impl Enable {
    /// Sets it up, and prints whether the next panic will be reported.
    ///
    /// # Errors
    /// When it is refused, or a file cannot be changed.
    pub fn run(&self, root: &Path) -> Result<ExitCode> {
        let mut setup = Setup::new(root)?;
        ensure!(self.dry_run || wrapped::is_root(), "no permission\nhint: run it as root");
        // It is there also where the rest is refused, to be completed.
        if self.dry_run {
            setup.configuration.show();
        } else {
            setup.configuration.make()?;
        }
        if let Some(refused) = setup.refused.take() {
            return Err(refused);
        }
        if self.dry_run {
            setup.show();
            return Ok(ExitCode::SUCCESS);
        }
        setup.make(root)?;
        status(root)
    }
}

/// All that is to be done.
struct Setup {
    service: &'static Service,
    /// A configuration to begin with.
    configuration: Changes,
    /// Why nothing else is done.
    refused: Option<Error>,
    /// Before kdump loads.
    first: Changes,
    /// After it.
    last: Changes,
    old: Old,
    parameters: String,
    reserved: bool,
}

impl Setup {
    /// Finds out what is there, and what is to be changed.
    fn new(root: &Path) -> Result<Self> {
        ensure!(!is_dump_kernel(root), "this is a dump kernel\nhint: run it after the next boot");
        ensure!(
            !root.join("run/ostree-booted").exists(),
            "on an OSTree system kdump takes its kernel from /boot/ostree alone: not supported\n\
             hint: lastwords load loads a dump kernel until the next boot"
        );
        if let Seen::Held(held) = held::look(root, None) {
            ensure!(
                !held.alone,
                "there is no dump kernel on purpose (lastwords load --no-dump-kernel), and kdump would load one in its place\n\
                 hint: lastwords unload, then lastwords enable"
            );
        }
        let service = Service::find(root).context(
            "no kdump that lastwords knows is installed\n\
             hint: install kdump-tools (Debian, Ubuntu), kdump-utils (Fedora, RHEL) or kdump (SUSE)",
        )?;
        ensure!(
            root.join(service.script).is_file(),
            "/{} is missing\nhint: install lastwords from its package, or by make install",
            service.script
        );
        ensure!(
            root.join("usr/sbin/lastwords").is_file(),
            "/usr/sbin/lastwords is missing, which kdump's scripts call\n\
             hint: install lastwords from its package, or by make install"
        );

        let (mut configuration, mut first, mut last) =
            (Changes::default(), Changes::default(), Changes::default());
        let settings = first.text(root, service.settings)?.unwrap_or_default();
        let old = Old::find(root, service, &settings);
        let asked = if old.parameters.is_empty() { DEFAULT } else { &old.parameters };
        if !root.join(config::FILE).exists() {
            configuration.write(root, config::FILE, &configuration_text(asked))?;
        }
        let parameters = parameters(root, asked)?;
        let refused = refuse(root, &Plan::new("", &parameters)).err();

        let line = service.line();
        first.write(root, service.settings, &with_line(&old.settings, &line))?;
        let mut enabled =
            Enabled { schema: 1, service: service.name.to_owned(), taken_over: old.taken_over.clone() };
        if let Ok(before) = enabled_before(root) {
            enabled.taken_over.splice(0..0, before.taken_over);
        }
        first.write(root, ENABLED, &(serde_json::to_string_pretty(&enabled)? + "\n"))?;
        old.files.iter().for_each(|path| last.remove(path.clone()));
        let kdump = Kdump::read(root);
        Ok(Self {
            service,
            configuration,
            refused,
            first,
            last,
            old,
            parameters,
            reserved: kdump.crash_size > 0 || kdump.busy,
        })
    }

    fn show(&self) {
        self.first.show();
        if let Some(path) = &self.old.diversion {
            message::output(format_args!(
                "would remove {path} and its diversion, so that it is kexec's again"
            ));
        }
        if self.reserved {
            message::output(format_args!("would run {}", self.service.reload.join(" ")));
        }
        self.last.show();
        self.old.kept.iter().for_each(|kept| message::output(format_args!("kept: {kept}")));
    }

    fn make(&self, root: &Path) -> Result<()> {
        self.first.make()?;
        if let Some(path) = &self.old.diversion {
            undivert(root, path)?;
        }
        hook::try_again(root)?;
        self.warn(root);
        if self.reserved {
            let version = wrapped::running(root)?;
            let config = Config::read(root)?;
            let wanted = wrapped::Wanted::new(root, &version, None, &config);
            if let Err(error) = wanted.and_then(|wanted| hook::refresh(root, &wanted)) {
                message::warning(&error.context("kdump loads the plain kernel, without panic reporting"));
            }
            if program(root, "restorecon").is_some() && root.join("sys/fs/selinux/enforce").exists() {
                let _ = run(root, &["restorecon", "-R", "/var/lib/kdump/lastwords"]);
            }
            if let Err(error) = run(root, self.service.reload) {
                message::warning(&error.context("kdump has not been loaded anew"));
            }
            // kdump's kexec saves none; after each boot `hook check` does.
            if let Err(error) = store::save(root) {
                message::warning(&error.context("symbols not saved"));
            }
        }
        self.last.make()
    }

    /// What does not keep from setting it up, but from what it is for.
    fn warn(&self, root: &Path) {
        let plan = Plan::new("", &self.parameters);
        if !self.service.is_on(root) {
            message::warning(&anyhow!(
                "{} is switched off: nothing is loaded at boot\nhint: systemctl enable {}; USE_KDUMP=1 in /etc/default/kdump-tools",
                self.service.name,
                self.service.units[0]
            ));
        }
        if !self.reserved {
            message::warning(&anyhow!(
                "no memory is reserved for a dump kernel: nothing is loaded before the next boot\n\
                 hint: boot with crashkernel=256M"
            ));
        }
        if plan.talks_to_bmc() && plan.interface.is_none() {
            let mut found = discovery::interfaces(root);
            discovery::ask(root, &mut found);
            if discovery::best(&found).is_none() {
                let why = found.first().map_or("no BMC interface was found".to_owned(), ToString::to_string);
                message::warning(&anyhow!(
                    "panics will be reported to the console alone: {why}\n\
                     hint: lastwords probe, or set ipmi-interface in /etc/lastwords.conf"
                ));
            }
        }
        if fs::read_to_string(root.join("sys/fs/selinux/enforce")).is_ok_and(|text| text.trim() == "1") {
            message::warning(&anyhow!(
                "SELinux is enforcing, with which lastwords has not been tried: where it stands in the way, kdump loads the \
                 plain kernel\nhint: ausearch -m avc -c lastwords"
            ));
        }
        for kept in &self.old.kept {
            message::warning(&anyhow!("kept: {kept}"));
        }
    }
}

/// What the configuration will have, with this for the file that is not there yet.
fn parameters(root: &Path, asked: &str) -> Result<String> {
    let config = Config::read(root)?;
    if root.join(config::FILE).exists() || !config.parameters.is_empty() {
        return Ok(config.parameters);
    }
    Ok(asked.to_owned())
}

/// Refuses what is not safe.
fn refuse(root: &Path, plan: &Plan) -> Result<()> {
    ensure!(
        plan.reports_something() || plan.watchdog != Watchdog::Leave,
        "nothing is to be reported\nhint: set ipmi-handle-panic = true in /etc/lastwords.conf"
    );
    alone::check(plan, false)?;
    if let Some(error) = Owners::read(root).bmc_conflict(plan) {
        return Err(error);
    }
    if let Watchdog::Start { .. } = plan.watchdog {
        let there = |folders: [&str; 3], name: &str| {
            folders.iter().any(|folder| root.join(folder).join(name).is_file())
        };
        let unit = there(
            ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"],
            "lastwords-report.service",
        );
        let rule =
            there(["etc/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d"], "60-lastwords.rules");
        if !unit || !rule {
            bail!(
                "the watchdog that a crash starts would reset the server after it has booted again: nothing stops it \
                 (lastwords-report.service and 60-lastwords.rules are not installed)\n\
                 hint: install them, or take ipmi-watchdog out of /etc/lastwords.conf"
            );
        }
    }
    let kdump = Kdump::read(root);
    let config = Config::read(root)?;
    if wrapped::demands_signature(root, &kdump)
        && config.sign == config::Sign::default()
        && sign::find(root).is_none()
    {
        let mode =
            kdump.lockdown.map_or_else(|| "Secure Boot".to_owned(), |mode| format!("lockdown: {mode}"));
        bail!(
            "the kernel accepts only signed kernels ({mode}), and there is no key that it trusts\n\
             hint: set key and cert, or command, in [sign] of /etc/lastwords.conf"
        );
    }
    Ok(())
}

fn enabled_before(root: &Path) -> Result<Enabled> {
    Ok(serde_json::from_slice(&fs::read(root.join(ENABLED))?)?)
}

/// The text with the line at its end, once.
fn with_line(text: &str, line: &str) -> String {
    let text = without_line(text, line);
    // A text without an end of line keeps having none, so that taking the line out gives it back as it was.
    if text.ends_with('\n') || text.is_empty() {
        format!("{text}{line}\n")
    } else {
        format!("{text}\n{line}")
    }
}

/// The text without the line.
fn without_line(text: &str, line: &str) -> String {
    let end = format!("\n{line}");
    let text = text.strip_suffix(&end).unwrap_or(text);
    text.split_inclusive('\n').filter(|one| one.trim() != line).collect()
}

/// The configuration file, made of the table of parameters.
fn configuration_text(given: &str) -> String {
    let mut text = "\
# What lastwords reports when the kernel panics. After a change run `lastwords enable`.
# Files in /etc/lastwords.conf.d/*.conf win over this one. lastwords.conf(5) has the details.

[report]
"
    .to_owned();
    let plan = Plan::new("", given).to_string();
    let value_of = |parameter: &Parameter| {
        plan.split(' ').find_map(|word| {
            let word = word.strip_prefix(PREFIX)?;
            let (name, value) =
                word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            (name == parameter.name).then(|| match value {
                None => "true".to_owned(),
                Some(value) if value.parse::<u32>().is_ok() => value.to_owned(),
                Some(value) => format!("\"{value}\""),
            })
        })
    };
    // Those without an option are measured by the tool, but for the console, which has several options.
    for parameter in PARAMETERS.iter().filter(|one| one.option.is_some() || one.name == "console") {
        let key = config::key(parameter);
        let line = match (value_of(parameter), parameter.value) {
            (Some(value), _) => format!("{key} = {value}"),
            (None, "") => format!("#{key} = true"),
            (None, value) => format!("#{key} = \"{value}\""),
        };
        // A String takes everything.
        let _ = writeln!(text, "# {} [default: {}]\n{line}\n", parameter.help, parameter.default);
    }
    text + "\
# With Secure Boot: how the kernels with panic reporting are signed.
[sign]
#key = \"/path/of/key.pem\"
#cert = \"/path/of/cert.pem\"
# Instead of a key, a shell command that signs $IN and writes $OUT:
#command = \"sbsign --engine pkcs11 --key pkcs11:... --cert cert.pem --output \\\"$OUT\\\" \\\"$IN\\\"\"

[next-boot]
# A line in the message of the day about a new crash, until `lastwords list --seen`.
#motd = true
"
}

/// Gives kexec its name back.
fn undivert(root: &Path, path: &str) -> Result<()> {
    fs::remove_file(root.join(path.trim_start_matches('/'))).with_context(|| path.to_owned())?;
    run(root, &["dpkg-divert", "--local", "--rename", "--remove", path])?;
    message::output(format_args!("removed: the diversion of {path}"));
    Ok(())
}

/// The verdict, as `lastwords status` has it.
fn status(root: &Path) -> Result<ExitCode> {
    let status =
        Command::new(root.join("proc/self/exe")).arg("status").status().context("lastwords status")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

impl Disable {
    /// Takes back what was set up.
    ///
    /// # Errors
    /// When a file cannot be changed, or kdump not be loaded.
    pub fn run(&self, root: &Path) -> Result<()> {
        let mut first = Changes::default();
        // Without it the scripts name no wrapped kernel, whatever becomes of the settings.
        first.remove(root.join(ENABLED));
        let mut settings = Changes::default();
        let mut result = Ok(());
        for service in &SERVICES {
            result = result.and(without(&mut settings, root, service));
        }
        let service = Service::find(root).or_else(|| named(&enabled_before(root).ok()?.service));
        let loaded = Kdump::read(root).crash_loaded == Some(true);
        let reload = service.filter(|_| loaded);
        let versions = wrapped::versions(root);
        if first.is_empty() && settings.is_empty() && versions.is_empty() {
            message::output("not enabled: nothing to do");
            return result;
        }
        if self.dry_run {
            first.show();
            settings.show();
            if let Some(service) = reload {
                message::output(format_args!("would run {}", service.reload.join(" ")));
            }
            for version in versions {
                message::output(format_args!("would remove {}", wrapped::path(root, &version).display()));
            }
            return result;
        }
        ensure!(wrapped::is_root(), "no permission\nhint: run it as root");
        // Each step is done, whatever becomes of those before it.
        let result = [
            first.make(),
            settings.make(),
            reload
                .map_or(Ok(()), |service| run(root, service.reload))
                .context("kdump has not been loaded anew"),
        ]
        .into_iter()
        .fold(result, Result::and);
        if let Seen::Held(held) = held::look(root, None)
            && held.kind != Kind::Plain
        {
            return result.and_then(|()| {
                bail!("a kernel with panic reporting is still loaded\nhint: load kdump anew, then lastwords disable")
            });
        }
        for version in versions {
            wrapped::remove(root, &version)?;
        }
        // No crash starts a watchdog any more.
        watchdog::record(root, &Plan::default())?;
        // Nothing else is in it, or it stays.
        let _ = fs::remove_dir(root.join(wrapped::FOLDER));
        result?;
        message::output("disabled: kdump loads the plain kernel, without panic reporting");
        Ok(())
    }
}

/// The service of this name.
fn named(name: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|service| service.name == name)
}

/// Takes our line out of a service's settings, so that they stay a script that can be read.
fn without(changes: &mut Changes, root: &Path, service: &Service) -> Result<()> {
    let Some(text) = changes.text(root, service.settings)? else { return Ok(()) };
    let line = service.line();
    let mut after = without_line(&text, &line);
    if after != text && is_script(&text) && !is_script(&after) {
        // The only command of an `if`.
        after = text.split_inclusive('\n').map(|one| if one.trim() == line { ":\n" } else { one }).collect();
    }
    changes.write(root, service.settings, &after)
}

/// Can a shell read it? What cannot be found out is one.
fn is_script(text: &str) -> bool {
    let check = || {
        let mut shell = Command::new("/bin/sh")
            .arg("-n")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let written = shell.stdin.take().map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
        shell.wait().and_then(|status| written.map(|()| status.success()))
    };
    check().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::{
        super::hook::tests::{VERSION, machine, program, put},
        *,
    };
    use lastwords_boot::synthetic;
    use std::{collections::BTreeMap, os::unix::fs::symlink, path::PathBuf};

    const DEBIAN: &str = "# kdump-tools\nUSE_KDUMP=1\nKDUMP_KERNEL=/var/lib/kdump/vmlinuz\n\
                          KDUMP_INITRD=/var/lib/kdump/initrd.img\nKDUMP_COREDIR=\"/var/crash\"\n";

    /// A stored machine with this kdump.
    fn with(service: &Service, settings: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        machine(path);
        for file in service.files {
            program(path, file, "");
        }
        put(path, service.settings, settings);
        put(path, service.script, "");
        program(path, "usr/sbin/lastwords", "");
        program(path, "usr/bin/systemctl", "");
        path.join("etc/systemd/system/multi-user.target.wants").symlink_metadata().unwrap_err();
        put(path, "etc/systemd/system/multi-user.target.wants/README", "");
        symlink("x", path.join("etc/systemd/system/multi-user.target.wants").join(service.units[0])).unwrap();
        root
    }

    fn debian(settings: &str) -> tempfile::TempDir {
        with(&SERVICES[0], settings)
    }

    fn enable(root: &Path) -> Result<()> {
        let mut setup = Setup::new(root)?;
        setup.configuration.make()?;
        setup.refused.take().map_or(Ok(()), Err)?;
        setup.make(root)
    }

    fn disable(root: &Path) {
        Disable { dry_run: false }.run(root).unwrap();
    }

    /// All files and what is in them, but for the lock.
    fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut folders, mut files) = (vec![root.to_owned()], BTreeMap::new());
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("run/lastwords/lock") {
                    files.insert(path.clone(), fs::read(path).unwrap_or_default());
                }
            }
        }
        files
    }

    /// The settings as packages have them: Debian 12 and 13, Fedora and RHEL, SUSE.
    fn stored() -> [(&'static Service, &'static str); 5] {
        let fedora = "KDUMP_KERNELVER=\"\"\nKDUMP_COMMANDLINE=\"\"\nKEXEC_ARGS=\"-s\"\n#KDUMP_BOOTDIR=\"/boot\"\n\
                      KDUMP_IMG=\"vmlinuz\"\nKDUMP_IMG_EXT=\"\"\n";
        let suse = "## Type: string\nKDUMP_KERNELVER=\"\"\nKDUMP_SAVEDIR=\"/var/crash\"\n";
        [
            (&SERVICES[0], DEBIAN),
            (&SERVICES[0], DEBIAN.trim_end()),
            (&SERVICES[0], ""),
            (&SERVICES[1], fedora),
            (&SERVICES[2], suse),
        ]
    }

    #[test]
    fn twice_is_once_and_disabling_gives_everything_back() {
        for (service, settings) in stored() {
            let root = with(service, settings);
            let root = root.path();
            let before = files(root);
            enable(root).unwrap();
            let text = fs::read_to_string(root.join(service.settings)).unwrap();
            assert!(text.starts_with(settings) && text.trim_end().ends_with(&service.line()), "{text}");
            assert!(wrapped::path(root, VERSION).exists());
            let once = files(root);
            enable(root).unwrap();
            assert!(files(root) == once, "{}", service.name);
            disable(root);
            disable(root);
            let mut after = files(root);
            assert!(after.remove(&root.join(config::FILE)).is_some());
            after.retain(|path, _| !path.ends_with("watchdog.json"));
            assert_eq!(after, before, "{}", service.name);
        }
    }

    #[test]
    fn settings_stay_a_script_when_the_line_goes_and_a_link_stays_a_link() {
        let root = with(&SERVICES[0], DEBIAN);
        let root = root.path();
        let settings = root.join(SERVICES[0].settings);
        fs::rename(&settings, root.join("etc/mine")).unwrap();
        symlink("../mine", &settings).unwrap();
        enable(root).unwrap();
        assert!(settings.is_symlink());
        let inside = |line: &str| format!("{DEBIAN}if [ -e /boot ]; then\n  {line}\nfi\n");
        fs::write(&settings, inside(&SERVICES[0].line())).unwrap();
        disable(root);
        assert!(settings.is_symlink());
        assert_eq!(fs::read_to_string(root.join("etc/mine")).unwrap(), inside(":").replace("  :", ":"));
    }

    #[test]
    fn where_the_settings_cannot_be_changed_plain_kdump_is_loaded_all_the_same() {
        for damage in [&b"# gr\xfc\xdfe\n"[..], b""] {
            let root = with(&SERVICES[0], DEBIAN);
            let root = root.path();
            enable(root).unwrap();
            let settings = root.join(SERVICES[0].settings);
            if damage.is_empty() {
                fs::remove_file(&settings).unwrap();
            } else {
                fs::write(&settings, [&fs::read(&settings).unwrap(), damage].concat()).unwrap();
            }
            program(
                root,
                "usr/sbin/kdump-config",
                &format!("echo $1 >> {}", root.join("reloaded").display()),
            );
            let result = Disable { dry_run: false }.run(root);
            assert_eq!(result.is_err(), !damage.is_empty());
            assert!(!super::super::is_enabled(root) && wrapped::versions(root).is_empty());
            assert_eq!(fs::read_to_string(root.join("reloaded")).unwrap(), "reload\n");
        }
    }

    #[test]
    fn a_dry_run_changes_nothing() {
        for (service, settings) in stored() {
            let root = with(service, settings);
            let before = files(root.path());
            Enable { dry_run: true }.run(root.path()).unwrap();
            assert_eq!(files(root.path()), before);
            enable(root.path()).unwrap();
            let enabled = files(root.path());
            Disable { dry_run: true }.run(root.path()).unwrap();
            assert_eq!(files(root.path()), enabled);
        }
    }

    #[test]
    fn the_configuration_that_is_written_reports_what_was_asked_for() {
        let root = tempfile::tempdir().unwrap();
        for asked in
            [DEFAULT, "lastwords.ipmi_watchdog=start=600 lastwords.output_log=4096 lastwords.budget=9"]
        {
            put(root.path(), config::FILE, configuration_text(asked));
            let config = Config::read(root.path()).unwrap();
            assert_eq!(Plan::new("", &config.parameters), Plan::new("", asked));
        }
        assert!(configuration_text(DEFAULT).lines().all(str::is_ascii));
    }

    #[test]
    fn a_configuration_that_is_there_stays_and_counts() {
        let root = debian(DEBIAN);
        put(root.path(), config::FILE, "[report]\nbudget = 9\noutput-log = true\n");
        enable(root.path()).unwrap();
        assert!(
            fs::read_to_string(root.path().join(config::FILE)).unwrap().starts_with("[report]\nbudget = 9")
        );
        let record = wrapped::record(root.path(), VERSION).unwrap();
        assert!(record.parameters.contains("lastwords.budget=9"), "{}", record.parameters);
    }

    #[test]
    fn what_cannot_be_set_up_safely_is_refused_and_kdump_left_alone() {
        let refusal = |change: &dyn Fn(&Path)| {
            let root = debian(DEBIAN);
            change(root.path());
            let text = format!("{:#}", enable(root.path()).unwrap_err());
            assert!(!super::super::is_enabled(root.path()), "{text}");
            let settings =
                fs::read_to_string(root.path().join("etc/default/kdump-tools")).unwrap_or_default();
            assert!(!settings.contains("lastwords"), "{text}");
            text
        };
        let remove = |path: &'static str| move |root: &Path| fs::remove_file(root.join(path)).unwrap();
        let add = |path: &'static str, text: &'static str| move |root: &Path| put(root, path, text);
        let watchdogs_ports = |root: &Path| {
            put(
                root,
                "etc/lastwords.conf",
                "[report]\nipmi-handle-panic = true\nipmi-interface = 'bt:0x430'\n",
            );
            put(root, "proc/ioports", "0430-0433 : iTCO_wdt\n");
        };
        for (text, part) in [
            (refusal(&add("run/ostree-booted", "")), "OSTree"),
            (refusal(&add("proc/vmcore", "")), "dump kernel"),
            (refusal(&remove("usr/sbin/kdump-config")), "install kdump-tools"),
            (refusal(&remove("usr/share/lastwords/kdump-tools.sh")), "kdump-tools.sh is missing"),
            (refusal(&remove("usr/sbin/lastwords")), "usr/sbin/lastwords is missing"),
            (refusal(&add("etc/lastwords.conf", "nonsense")), "etc/lastwords.conf"),
            (refusal(&add("etc/lastwords.conf", "")), "nothing is to be reported"),
            (
                refusal(&add("etc/lastwords.conf", "[report]\nipmi-watchdog = 'start=600'\n")),
                "nothing stops it",
            ),
            (
                refusal(&add("etc/lastwords.conf", "[report]\nnotify-hypervisor = 'panicked'\n")),
                "the dump would be lost",
            ),
            (refusal(&watchdogs_ports), "I/O port 0x430 belongs to iTCO_wdt"),
            (refusal(&add("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")), "[sign]"),
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_countdown_that_the_next_boot_stops_is_not_refused() {
        let root = debian(DEBIAN);
        put(root.path(), "etc/lastwords.conf", "[report]\nipmi-watchdog = 'start=600'\n");
        put(root.path(), "usr/lib/systemd/system/lastwords-report.service", "");
        put(root.path(), "usr/lib/udev/rules.d/60-lastwords.rules", "");
        enable(root.path()).unwrap();
        assert!(watchdog::planned(root.path()).is_some());
        disable(root.path());
        assert!(watchdog::planned(root.path()).is_none());
    }

    #[test]
    fn what_the_readme_had_is_taken_over() {
        let first = "USE_KDUMP=1\nKDUMP_KERNEL=/var/lib/kdump/vmlinuz-lastwords\n\
                     KDUMP_INITRD=/var/lib/kdump/initrd.img-6.1.0-56-amd64\n\
                     KDUMP_CMDLINE_APPEND=\"reset_devices systemd.unit=kdump-tools-dump.service nr_cpus=1 irqpoll nousb \
                     lastwords.ipmi_handle_panic lastwords.budget=20\"\n";
        let second = format!(
            "{DEBIAN}KDUMP_INITRD=/var/lib/kdump/initrd.img\n\
             [ ! -e \"/var/lib/kdump/vmlinuz-lastwords-$(uname -r)\" ] || \
             KDUMP_KERNEL=\"/var/lib/kdump/vmlinuz-lastwords-$(uname -r)\"\n"
        );
        let plain =
            "USE_KDUMP=1\nKDUMP_KERNEL=/var/lib/kdump/vmlinuz\nKDUMP_INITRD=/var/lib/kdump/initrd.img\n";
        for (settings, after, budget) in [(first, plain, 20), (&second, DEBIAN, 15)] {
            let root = debian(settings);
            let root = root.path();
            let image = &*crate::arm::image::IMAGE;
            let wrapped =
                lastwords_boot::wrap(&synthetic::Kernel::default().build(), image, "lastwords.output_log=64")
                    .unwrap();
            put(root, &format!("var/lib/kdump/vmlinuz-lastwords-{VERSION}"), &wrapped);
            put(root, "boot/vmlinuz-mine", &wrapped);
            let unit = "etc/systemd/system/kdump-tools-dump.service.d/lastwords.conf";
            put(root, unit, "ExecStartPre=-/usr/local/sbin/lastwords mark started");
            enable(root).unwrap();
            let line = SERVICES[0].line();
            assert_eq!(
                fs::read_to_string(root.join(SERVICES[0].settings)).unwrap(),
                format!("{after}{line}\n")
            );
            let config = Config::read(root).unwrap();
            let plan = Plan::new("", &config.parameters);
            assert_eq!((plan.budget, plan.output_log), (budget, 64));
            assert!(!root.join(unit).exists());
            assert!(!root.join(format!("var/lib/kdump/vmlinuz-lastwords-{VERSION}")).exists());
            assert!(root.join("boot/vmlinuz-mine").exists());
            disable(root);
            assert_eq!(fs::read_to_string(root.join(SERVICES[0].settings)).unwrap(), after);
        }
    }

    #[test]
    fn settings_of_the_administrators_own_stay() {
        let settings = format!(
            "{DEBIAN}KDUMP_CMDLINE_APPEND=\"irqpoll mine lastwords.budget=9\"\n#KDUMP_KERNEL=/x/vmlinuz-lastwords\n"
        );
        let old = Old::find(Path::new("/nonexistent"), &SERVICES[0], &settings);
        let after = settings.replace(" lastwords.budget=9", "");
        assert_eq!((old.settings, old.parameters.as_str()), (after, "lastwords.budget=9"));
    }
}
