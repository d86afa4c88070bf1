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
    arm::{kdump::Kdump, sign},
    bmc::discovery,
    config::{self, Config},
    crashes::watchdog,
    message,
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
    path::Path,
    process::{Command, ExitCode},
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
        if plan.talks_to_bmc() && discovery::interfaces(root).is_empty() {
            message::warning(&anyhow!(
                "no BMC is in the SMBIOS and ACPI tables: reports may reach the console alone\nhint: lastwords probe"
            ));
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
    Ok(serde_json::from_str(&fs::read_to_string(root.join(ENABLED))?)?)
}

/// The text with the line at its end, once.
fn with_line(text: &str, line: &str) -> String {
    let text = without_line(text, line);
    // A text without an end of line keeps having none, so that taking the line out gives it back as it was.
    match text.ends_with('\n') || text.is_empty() {
        true => format!("{text}{line}\n"),
        false => format!("{text}\n{line}"),
    }
}

/// The text without the line.
fn without_line(text: &str, line: &str) -> String {
    let end = format!("\n{line}");
    let text = text.strip_suffix(&end).unwrap_or(text);
    text.split_inclusive('\n').filter(|one| one.trim_end() != line).collect()
}

/// The configuration file, made of the table of parameters.
fn configuration_text(given: &str) -> String {
    let mut text = "\
# What lastwords reports when the kernel panics. After a change run `lastwords enable`.
# Files in /etc/lastwords.conf.d/*.conf win over this one. lastwords(8) and docs/parameters.md have the details.

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
#command = \"sbsign --engine pkcs11 --key pkcs11:... --cert cert.pem --output $OUT $IN\"

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
        for service in &SERVICES {
            if let Some(text) = first.text(root, service.settings)? {
                first.write(root, service.settings, &without_line(&text, &service.line()))?;
            }
        }
        first.remove(root.join(ENABLED));
        let service = Service::find(root);
        let loaded = Kdump::read(root).crash_loaded == Some(true);
        let reload = service.filter(|_| loaded);
        let versions = wrapped::versions(root);
        if first.is_empty() && versions.is_empty() {
            message::output("not enabled: nothing to do");
            return Ok(());
        }
        if self.dry_run {
            first.show();
            if let Some(service) = reload {
                message::output(format_args!("would run {}", service.reload.join(" ")));
            }
            for version in versions {
                message::output(format_args!("would remove {}", wrapped::path(root, &version).display()));
            }
            return Ok(());
        }
        ensure!(wrapped::is_root(), "no permission\nhint: run it as root");
        first.make()?;
        let result = reload.map_or(Ok(()), |service| run(root, service.reload));
        for version in versions {
            wrapped::remove(root, &version)?;
        }
        // No crash starts a watchdog any more.
        watchdog::record(root, &Plan::default())?;
        // Nothing else is in it, or it stays.
        let _ = fs::remove_dir(root.join(wrapped::FOLDER));
        result.context("kdump has not been loaded anew")?;
        message::output("disabled: kdump loads the plain kernel, without panic reporting");
        Ok(())
    }
}
